"""Names that people give, as C and C++ can take them."""

from __future__ import annotations

import re
import unicodedata

from tvm_mpq.errors import InvalidValueError

_MODULE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# The longest file name of a library is this and 24 more; file systems take 255.
MAX_MODULE_NAME = 64

# Keywords of C89 to C23 and of C++98 to C++23, and macros that the headers around a library define.
_WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
constinit continue decltype default delete do double dynamic_cast else enum explicit export extern
false float for fortran friend goto if inline int long mutable namespace new noexcept not not_eq
nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
return short signed sizeof static static_assert static_cast struct switch template this
thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned using
virtual void volatile wchar_t while xor xor_eq NULL EOF BUFSIZ FILENAME_MAX L_tmpnam RAND_MAX
EXIT_FAILURE EXIT_SUCCESS CLOCKS_PER_SEC HUGE_VAL INFINITY NAN MB_CUR_MAX CHAR_BIT I complex
imaginary offsetof assert errno stdin stdout stderr setjmp va_arg va_copy va_end va_start near far
huge interrupt unix linux i386 arm sparc vax mips m68k SIZE_MAX PTRDIFF_MAX WCHAR_MAX WCHAR_MIN
WINT_MAX WINT_MIN LEAST FEED
"""
_RESERVED = frozenset(_WORDS.split())
# The macros and types of stdint.h, limits.h and float.h.
_RESERVED_PATTERN = re.compile(
    r"(u?int(_least|_fast)?\d+_t|u?intptr_t|u?intmax_t|size_t|ptrdiff_t)"
    r"|U?INT\w*_(MAX|MIN|C)|U?(CHAR|SCHAR|SHRT|INT|LONG|LLONG)_(MAX|MIN)|(FLT|DBL|LDBL)_\w+"
)
_OURS = re.compile(r"(tvmgen|mpq)(_|$)", re.IGNORECASE)
# Whatever the input is called, a header has a macro for the size of each of these.
_SIZES = ("output", "workspace", "scratch", "row")


def c_name(name: str) -> str:
    """``name`` as an identifier that C and C++ accept.

    Accents are dropped and each other character becomes ``_``, as in microTVM. What then begins
    with no letter, or as our own symbols do, gets ``t_`` in front; a word that means something else
    already gets ``_`` behind.
    """
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    # C++ keeps names with two underscores to itself.
    text = re.sub("_+", "_", re.sub(r"[^A-Za-z0-9]", "_", plain))
    if not re.match("[A-Za-z]", text) or _OURS.match(text):
        text = f"t_{text.lstrip('_')}"
    if text in _RESERVED or _RESERVED_PATTERN.fullmatch(text):
        text += "_"
    return text


def input_c_name(name: str) -> str:
    """``c_name`` of an input, which also gives its name to a macro of the header."""
    text = c_name(name)
    return f"{text}_" if text.lower() in _SIZES else text


def check_module_name(name: str) -> str:
    """``name`` if it is a lower-case C identifier, as microTVM's names must be.

    It is only ever a part of a longer name, so keywords are allowed.
    """
    if not _MODULE.fullmatch(name) or len(name) > MAX_MODULE_NAME:
        raise InvalidValueError(
            f"module name {name[:80]!r}: expected a lower-case C identifier of at most"
            f" {MAX_MODULE_NAME} characters, without two underscores side by side or one at the"
            " end, for example 'mobilenet'"
        )
    return name
