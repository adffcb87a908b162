"""``python -m tvm_mpq.emulator run FILE``: runs firmware and prints one JSON object."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tvm_mpq.emulator import MODEL_ERROR
from tvm_mpq.errors import InvalidValueError, MpqError

if TYPE_CHECKING:
    from tvm_mpq.emulator import Board, RunResult

_ERROR_EXIT = 2


@click.group()
def main() -> None:
    """Emulates STM32 boards."""


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--base", default="0x08000000", show_default=True, help="Address of a raw image.")
@click.option("--target", default="stm32h743", show_default=True, help="Chip.")
@click.option("--clock", type=int, help="Core clock in MHz (selects the memory stalls).")
@click.option("--profile", is_flag=True, help="Add cycles and stalls per function.")
@click.option("--annotate", help="Add the instructions of this function with their cycles.")
@click.option("--uart-in", default="", help=r"Text sent to the firmware; \n, \r, \xNN are read.")
@click.option("--from", "start", help="Count from where this text was printed.")
@click.option("--until", help="Stop when this text was printed.")
@click.option("--max-instructions", type=int, help="Stop after so many instructions.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds on this machine.")
@click.option("--functional", is_flag=True, help="Count instructions only; faster.")
def run(file: str, target: str, clock: int | None, profile: bool, **options: Any) -> None:
    """Runs FILE (ELF or raw) and prints cycles, instructions, stalls, uart and stopped_by."""
    try:
        from tvm_mpq.emulator import Board

        board = Board(file, target, base=_address(options["base"]), clock_mhz=clock)
        result = _run(board, options)
        lines = board.annotate(options["annotate"]) if options["annotate"] else None
    except MpqError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(_ERROR_EXIT)
    report = _report(result, profile)
    if lines is not None:
        report["annotate"] = [asdict(line) for line in lines]
    click.echo(json.dumps(report))


def _run(board: Board, options: dict[str, Any]) -> RunResult:
    arguments: dict[str, Any] = {
        "max_instructions": options["max_instructions"],
        "timeout_seconds": options["timeout"],
        "cycles": not options["functional"],
        "count_instructions": True,
    }
    uart_in = _bytes(options["uart_in"])
    if options["start"]:
        first = board.run(uart_in, until=_bytes(options["start"]), **arguments)
        if first.stopped_by != "until":
            raise InvalidValueError(
                f"--from {options['start']!r}: never printed; the run ended by"
                f" {first.stopped_by!r} after printing {first.uart[-200:]!r}"
            )
        uart_in = b""
    until = _bytes(options["until"]) if options["until"] else None
    return board.run(uart_in, until=until, **arguments)


def _address(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError as error:
        raise InvalidValueError(f"--base {text!r}: expected an address like 0x08000000") from error


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


def _report(result: RunResult, with_profile: bool) -> dict[str, Any]:
    report: dict[str, Any] = {
        "stopped_by": result.stopped_by,
        "cycles": result.cycles,
        "instructions": result.instructions,
        "stalls": result.stalls,
        "uart": result.uart.decode("latin-1"),
        "seconds": round(result.seconds, 3),
    }
    if result.cycles is not None:
        report["note"] = MODEL_ERROR
    if with_profile and result.profile is not None:
        report["profile"] = result.profile.to_json()
    return report


if __name__ == "__main__":
    main()
