"""Every error a user can meet. Each message names the node, the value, what is allowed and the fix."""


class MpqError(ValueError):
    """Base of all errors caused by the user's input or environment; the CLI prints it and exits 2."""


class InvalidValueError(MpqError):
    """A value that is out of range, of the wrong type, or inconsistent with another one."""


class UnsupportedOperatorError(MpqError):
    """The model holds an operator, or a form of one, that has no integer counterpart."""


class CalibrationError(MpqError):
    """Calibration data is missing, has the wrong shape or dtype, or yields no usable range."""


class DoesNotFitError(MpqError):
    """The network does not fit the flash, RAM, scratch or stack it was given."""


class AccumulatorOverflowError(MpqError):
    """An accumulator cannot be proven to stay inside 32 bits."""


class EnvironmentVersionError(MpqError, ImportError):
    """An installed package has a version that is known not to work."""


class ToolError(MpqError):
    """An external program (compiler, linker, flasher) is missing, failed or timed out."""


class BoardFaultError(MpqError):
    """The firmware faulted, hung or broke the protocol, on the emulated or the real board."""
