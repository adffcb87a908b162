"""The micro-kernels: which there are, what they call, and their sources.

A C file has text that its functions share, and lines that each define some of them, such as
``DEFINE_STORES(8)``. ``_DEFINED`` says which, and what these call. Every function that assembly
stands in for on a Cortex-M7 has its portable twin there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tvm_mpq.kernels.asm import assembly_sources

MICRO_KERNEL_DIR = Path(__file__).parent / "c"
_HASH_DIGITS = 8

# (file, macro of a line) -> names it defines, names they call; {0} is the line's first argument.
_DEFINED = {
    ("add", "ADD"): ("mpq_add_x{0}x{1}y{2}", ""),
    ("core_smlad", "BOTH"): (
        "mpq_channels_w{0} mpq_channels_w{0}_m16",
        "mpq_expand_w{0} mpq_core_smlad_k8 mpq_core_smlad_k16",
    ),
    ("core_smlad", "CORE"): ("mpq_core_smlad_k{0}", ""),
    ("core_smlad", "EXPAND"): ("mpq_expand_w{0}", ""),
    ("depthwise", "TAPS"): (
        "mpq_planar_taps_w{0}{1} mpq_lane_taps_w{0}{1} mpq_halves_taps_w{0}{1}",
        "",
    ),
    ("depthwise", "LINES_PACKED"): ("mpq_lines_packed_{0}", ""),
    ("depthwise_twins", "LINES"): ("mpq_lines_x{0}_l{1}_{2} mpq_lines_x{0}_l{1}_apart_{2}", ""),
    ("depthwise_twins", "CORE"): ("mpq_dw3x3s{0}_y{1}_{2}", ""),
    ("depthwise_twins", "LANES"): ("mpq_dwlanes3x3s{0}_y{1}_{2}", ""),
    ("depthwise_twins", "HALVES"): ("mpq_dwhalves3x3s2_x{0}_l{1}_y{2}_{3}", ""),
    ("lanes", "BOTH"): (
        "mpq_channels_{0} mpq_channels_{0}_m16",
        "mpq_expand_lanes_w{5} mpq_core_{0}_a2 mpq_core_{0}_a1",
    ),
    ("lanes", "CORE"): ("mpq_core_{0}_a2 mpq_core_{0}_a1", ""),
    ("lanes", "EXPAND"): ("mpq_expand_lanes_w{0}", ""),
    ("micro_kernels", "GEMM"): ("mpq_gemm_x8w{0}_p4c2", ""),
    ("micro_kernels", "DENSE"): ("mpq_dense_w{0}", ""),
    ("pack_lanes", "PACK"): ("mpq_pack_{0}_x{1}", ""),
    ("pack_pairs", "PACK"): ("mpq_pack_pairs_pw{0}", ""),
    ("pool", "POOL"): ("mpq_pool_x{0} mpq_pool_rows_x{0}", ""),
    ("store", "STORES"): ("mpq_store{0} mpq_store{0}_m16", "mpq_store_y{0} mpq_store_y{0}_low"),
    ("store", "BOTH"): (
        "mpq_store_lanes{0} mpq_store_lanes{0}_m16",
        "mpq_store_block_y{0} mpq_store_block_y{0}_m16 mpq_store_sums_y{0}_low",
    ),
}
_LINE = re.compile(r"^(?:DEFINE_(\w+)\((.*)\)|(MPQ_FOR_\w+)\(DEFINE_(\w+)\))$")
_FUNCTION = re.compile(r"^void (mpq_\w+)\(", re.MULTILINE)
_DEPTHWISE = re.compile(r"\bMPQ_DW_(\w+)\(([^;]*?)\);")


@dataclass(frozen=True)
class Line:
    """A line of a C file that is left out where nobody calls what it defines, or shared text.

    ``symbols``: the functions it defines. ``calls``: the micro-kernels that these call.
    """

    text: str
    symbols: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    is_shared: bool = False


class MicroKernels:
    """All micro-kernels of one version of this package.

    Parameters: ``sources`` are headers, C and assembly by file name. The file of an assembly
    function is named after it.

    Attributes
    ----------
    headers: by name. files: lines of each C file. assembly: text by symbol.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.headers = {n: text for n, text in sources.items() if n.endswith(".h")}
        self.assembly = {n[:-2]: text for n, text in sources.items() if n.endswith(".S")}
        macros = _macros("\n".join(self.headers.values()))
        self.files = {
            name: tuple(_lines(name, text, macros))
            for name, text in sources.items()
            if name.endswith(".c")
        }
        self._place = {
            symbol: (name, line)
            for name, lines in self.files.items()
            for line in lines
            for symbol in line.symbols
        }
        self._hashes: dict[tuple[str, bool], str] = {}

    def called_by(self, source: str) -> set[str]:
        """The micro-kernels that C ``source`` calls, and those that these call in turn."""
        words = set(re.findall(r"\w+", source)) | _named_by_macros(source)
        found = self._place.keys() & words
        left = list(found)
        while left:
            _, line = self._place.get(left.pop(), ("", Line("")))  # some are assembly only
            # A line defines its functions together.
            siblings = () if line.is_shared else line.symbols
            new = {*line.calls, *siblings} - found
            found |= new
            left += new
        return found

    def is_portable(self, symbol: str) -> bool:
        """Whether C defines ``symbol``; a few functions are assembly only."""
        return symbol in self._place

    def selected(self, called: set[str]) -> dict[str, list[Line]]:
        """The C files that define any of ``called``, without the lines that define none."""
        files = {}
        for name, lines in self.files.items():
            if called & {symbol for line in lines for symbol in line.symbols}:
                files[name] = [line for line in lines if line.is_shared or called & {*line.symbols}]
        return files

    def versioned(self, symbol: str, assembly: bool) -> str:
        """The name of ``symbol`` in a library: two libraries that have it mean the same code.

        It carries a hash of the sources of the function and of all it calls, ``assembly`` telling
        whether assembly stands in for the twins.
        """
        key = (symbol, assembly)
        if key not in self._hashes:
            self._hashes[key] = self._hash(symbol, assembly)
        return f"{symbol}_{self._hashes[key]}"

    def _hash(self, symbol: str, assembly: bool) -> str:
        if assembly and symbol in self.assembly:
            texts = [self.assembly[symbol]]
        else:
            name, own = self._place[symbol]
            shared = [line.text for line in self.files[name] if line.is_shared or line is own]
            called = [c for c in own.calls if assembly or self.is_portable(c)]
            callees = [self.versioned(callee, assembly) for callee in called]
            texts = [*self.headers.values(), *shared, *callees]
        text = "\n".join([f"assembly {assembly}", *texts])
        return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]


@cache
def micro_kernels() -> MicroKernels:
    """The micro-kernels of this version."""
    return MicroKernels(micro_kernel_sources())


def micro_kernel_sources() -> dict[str, str]:
    """Headers, portable C and generated assembly of every micro-kernel, by file name.

    The linker drops what a network does not call: each function has a section of its own.
    """
    paths = sorted(MICRO_KERNEL_DIR.glob("*.[ch]"))
    return {path.name: path.read_text() for path in paths} | assembly_sources()


def _lines(file: str, text: str, macros: dict[str, tuple[list[str], str]]) -> Iterator[Line]:
    """Runs of shared text, and between them the lines that define functions."""
    stem = file.removeprefix("mpq_").removesuffix(".c")
    shared: list[str] = []
    for text_line in text.splitlines():
        match = _LINE.match(text_line)
        macro = (match[1] or match[4]) if match else ""
        if match is None or (stem, macro) not in _DEFINED:
            shared.append(text_line)
            continue
        yield _shared(shared)
        shared = []
        for arguments in _expanded(match[3], macros) if match[3] else [match[2]]:
            yield _defining(stem, macro, arguments)
    yield _shared(shared)


def _shared(lines: list[str]) -> Line:
    text = "\n".join(lines)
    return Line(text, tuple(_FUNCTION.findall(text)), (), True)


def _defining(stem: str, macro: str, arguments: str) -> Line:
    values = [value.strip() for value in arguments.split(",")]
    defined, called = (names.format(*values).split() for names in _DEFINED[stem, macro])
    return Line(f"DEFINE_{macro}({arguments})", tuple(defined), tuple(called))


def _macros(header: str) -> dict[str, tuple[list[str], str]]:
    """Parameters and text of the header's lists, such as MPQ_FOR_ADDS."""
    joined = header.replace("\\\n", " ")
    found = re.findall(r"^#define (MPQ_FOR_\w+)\(([^)]*)\) (.*)$", joined, re.MULTILINE)
    return {name: (parameters.split(", "), text) for name, parameters, text in found}


def _expanded(name: str, macros: dict[str, tuple[list[str], str]], *given: str) -> Iterator[str]:
    """The arguments of each DO of a list."""
    parameters, text = macros[name]
    values = dict(zip(parameters[1:], given, strict=True))
    for call, inside in re.findall(r"(\w+)\(([^)]*)\)", text):
        arguments = [values.get(value, value) for value in inside.split(", ")]
        if call == parameters[0]:
            yield ", ".join(arguments)
        else:
            yield from _expanded(call, macros, *arguments[1:])


def _named_by_macros(source: str) -> set[str]:
    """What MPQ_DW_* of the header name, from their literal arguments."""
    found = set()
    for macro, arguments in _DEPTHWISE.findall(source):
        stride, x, w, y, unit, left, words = arguments.split(", ")[:7]
        form = "_m16" * macro.endswith("_M16")
        found.add("mpq_depthwise")
        if macro.startswith("HALVES"):
            found.add(f"mpq_lines_packed_{words}")
            found.add(f"mpq_halves_taps_w{w}{form}")
            found.add(f"mpq_dwhalves3x3s{stride}_x{x}_l{left}_y{y}_{unit}")
            continue
        taps, core = ("lane", "dwlanes") if macro.startswith("LANES") else ("planar", "dw")
        apart, whole = "apart_" * ("_APART" in macro), "of" * ("_OF" in macro)
        found.add(f"mpq_lines_x{x}_l{left}_{apart}{whole}{words}")
        found.add(f"mpq_{taps}_taps_w{w}{form}")
        found.add(f"mpq_{core}3x3s{stride}_y{y}_{unit}")
    return found
