"""One file a command of ``tvm-mpq``."""
