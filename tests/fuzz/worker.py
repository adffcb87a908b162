"""``python -m tests.fuzz.worker EXAMPLES``: reads ``format number`` lines, answers one line each.

A process of its own, because a reader may crash.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import traceback
from pathlib import Path

from tests.fuzz.formats import FORMATS, Format
from tests.fuzz.mutate import mutated
from tvm_mpq.errors import MpqError, message_of

_MEMORY = 6 << 30


def trial(form: Format, examples: Path, number: int) -> str:
    """``read``, ``refused``, or what went wrong, as one line."""
    path = examples / form.file
    whole = path.read_bytes()
    rng = random.Random(f"{form.name} {number}")
    path.write_bytes(mutated(whole, form.kind, rng))
    before = _listing(examples)
    try:
        form.read(examples)
        outcome = "read"
    except (MpqError, OSError) as error:
        told = message_of(error)
        outcome = "refused" if len(told) < 3000 else f"too long: {told[:100]}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"{type(error).__name__} {str(error)[:150]!r} in {place.name}:{place.lineno}"
    finally:
        path.write_bytes(whole)
    if _listing(examples) - {str(path)} != before - {str(path)}:
        outcome = "partial output: " + ", ".join(sorted(_listing(examples) ^ before))[:200]
    return outcome.replace("\n", " ")


def _listing(folder: Path) -> set[str]:
    """What lies there, without the sources and objects that no reader comes near."""
    found: set[str] = set()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("codegen", "build", "src")]
        found |= {f"{place}/{name}" for name in (*folders, *files)}
    return found


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    forms = {form.name: form for form in FORMATS}
    print("ready", file=answers)
    for line in sys.stdin:
        name, _, number = line.rstrip("\n").rpartition("\t")
        print(trial(forms[name], Path(sys.argv[1]), int(number)), file=answers)


if __name__ == "__main__":
    main()
