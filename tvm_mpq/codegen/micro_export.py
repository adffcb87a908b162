"""The micro-kernels of one library as files of its own, which other libraries can share.

Every file has the module's prefix; every function carries the hash of its sources and is weak, so
that a linker keeps one of equal ones, wherever they come from: objects or archives of other
libraries, C or assembly. Only what the network calls is there.
"""

from __future__ import annotations

import re

from tvm_mpq.kernels.micro import Line, MicroKernels

_INCLUDE = re.compile(r'^#include "mpq_\w+\.h"\n', re.MULTILINE)
_DECLARATIONS = '#ifdef __cplusplus\nextern "C" {\n#endif\n'
# The condition of the header's MPQ_ASSEMBLY: elsewhere the twins are in use.
_IF_ASSEMBLY = "#if defined(__thumb2__) && defined(__ARM_FEATURE_DSP)"

# Without this section some linkers take the stack for executable.
_OTHERWISE = ("#else", '.section .note.GNU-stack, "", %progbits', "#endif")


def kernel_header(name: str) -> str:
    """The file name of the header that all sources of module ``name`` include."""
    return f"{name}_kernels.h"


def micro_kernel_files(name: str, source: str, kernels: MicroKernels) -> dict[str, str]:
    """Header, C and assembly of the micro-kernels that C ``source`` of module ``name`` calls."""
    called = kernels.called_by(source)
    chosen = kernels.selected(called)
    defined = {symbol for lines in chosen.values() for line in lines for symbol in line.symbols}
    in_assembly = sorted(called & kernels.assembly.keys())
    files = {kernel_header(name): _header(name, defined | called, kernels)}
    for file, lines in chosen.items():
        files[f"{name}_{file}"] = _c_file(name, lines, kernels)
    if in_assembly:
        parts = [_function(symbol, kernels) for symbol in in_assembly]
        files[f"{name}_kernels.S"] = "\n".join([_IF_ASSEMBLY, "", *parts, *_OTHERWISE, ""])
    return files


def _header(name: str, symbols: set[str], kernels: MicroKernels) -> str:
    """Versioned names, then the declarations under these names."""
    names = ["/* The same name is the same code: see the hash. Assembly has hashes of its own. */"]
    for assembly in (True, False):
        names.append("#ifdef MPQ_ASSEMBLY" if assembly else "#else")
        for symbol in sorted(symbols):
            if assembly or kernels.is_portable(symbol):
                names.append(f"#define {symbol} {kernels.versioned(symbol, assembly)}")
    names += ["#endif", "", ""]
    main = kernels.headers["mpq_micro_kernels.h"]
    others = [text for file, text in kernels.headers.items() if file != "mpq_micro_kernels.h"]
    guard = f"{name.upper()}_KERNELS_H_"
    main = main.replace("MPQ_MICRO_KERNELS_H_", guard)
    assert main.count(_DECLARATIONS) == 1
    return "\n".join([main.replace(_DECLARATIONS, "\n".join(names) + _DECLARATIONS), *others])


def _c_file(name: str, lines: list[Line], kernels: MicroKernels) -> str:
    symbols = [symbol for line in lines for symbol in line.symbols]
    twins = [symbol for symbol in symbols if symbol in kernels.assembly]
    text = "\n".join(line.text for line in lines)
    first, rest = text.split("*/\n", 1)
    rest, count = _INCLUDE.subn("", rest)
    assert count
    weak = ["#ifdef MPQ_ASSEMBLY"]
    weak += [f"#pragma weak {kernels.versioned(s, True)}" for s in symbols if s not in twins]
    weak += ["#else", *(f"#pragma weak {kernels.versioned(s, False)}" for s in symbols), "#endif"]
    head = [
        f'{first}*/\n#include "{kernel_header(name)}"\n',
        "/* What is called only is here, with the text that all functions of its kind share. */",
        '#pragma GCC diagnostic ignored "-Wunused-function"',
        *weak,
    ]
    return "\n".join(head) + "\n" + rest.rstrip() + "\n"


def _function(symbol: str, kernels: MicroKernels) -> str:
    """Assembly under its versioned name, in a group of which linkers keep one."""
    new = kernels.versioned(symbol, True)
    text = re.sub(rf"\b{symbol}\b", new, kernels.assembly[symbol])
    text = re.sub(r"\.L(\w+)", rf".L{new}_\1", text)
    section = f'.section .text.{new}, "ax", %progbits'
    assert section in text and f".global {new}\n" in text
    text = text.replace(section, f'.section .text.{new}, "axG", %progbits, {new}, comdat')
    return text.replace(f".global {new}\n", f".weak {new}\n")
