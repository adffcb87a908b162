"""``tvm-mpq emulate FILE``: runs any firmware for a Cortex-M7 STM32 and models its cycles."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tvm_mpq.errors import InvalidValueError, MpqError

if TYPE_CHECKING:
    from tvm_mpq.emulator import Board, RunResult
    from tvm_mpq.emulator.annotate import AnnotatedInstruction

_ERROR_EXIT, _LIMIT_EXIT = 2, 3
_LIMITS = ("instruction limit", "time limit")
_TALK = "tvm_mpq.talk"
_SHOWN_FUNCTIONS = 20


class _InOrder(click.Command):
    """Keeps the order in which --send and --send-after were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        names = [str(p.name) for p in order if p.name in ("send", "send_after")]
        given = {name: iter(values.get(name, ())) for name in names}
        ctx.meta[_TALK] = [(name, next(given[name])) for name in names]
        return super().parse_args(ctx, args)


@click.command(cls=_InOrder)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--target", default="stm32h743", show_default=True, help="Chip.")
@click.option("--clock", type=int, help="Core clock in MHz.  [default: the chip's]")
@click.option("--base", default="0x08000000", show_default=True, help="Address of a raw image.")
@click.option(
    "--send",
    "--uart-in",
    multiple=True,
    metavar="TEXT",
    help=r"Say TEXT when the firmware reads; knows \n, \r, \t, \0, \\, \xNN. May be repeated.",
)
@click.option(
    "--send-after",
    multiple=True,
    metavar="TEXT",
    help="Wait until TEXT was printed before the next --send. May be repeated.",
)
@click.option("--uart", type=int, help="Number of the USART to talk to.  [default: all]")
@click.option("--from", "start", help="Count from where this text was printed.")
@click.option("--until", help="Stop when this text was printed.")
@click.option("--max-instructions", type=click.IntRange(1), help="Stop after so many.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds on this machine.")
@click.option("--functional", is_flag=True, help="Count instructions only; faster.")
@click.option("--profile", is_flag=True, help="Add cycles and stalls per function.")
@click.option("--annotate", help="Add the instructions of this function, a name or 0x08001234.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def emulate(ctx: click.Context, file: str, as_json: bool, **options: Any) -> None:
    """Run FILE (ELF, Intel HEX, UF2 or raw image) on an emulated STM32 and model its cycles.

    The exit status is 0 when the program ended, waits or --until was printed, 2 for a fault or a
    mistake, 3 when --timeout or --max-instructions ended the run.
    """
    try:
        report, lines = _emulate(file, options, ctx.meta[_TALK])
    except MpqError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(_ERROR_EXIT)
    click.echo(json.dumps(report) if as_json else _text(report, lines))
    if report["stopped_by"] in _LIMITS:
        heard = "" if report["uart"] else ", and printed nothing"
        click.echo(
            f"the {report['stopped_by']} ended the run{heard}; it is at {report['location']}",
            err=True,
        )
        sys.exit(_LIMIT_EXIT)


def _emulate(
    file: str, options: dict[str, Any], talk: list[tuple[str, str]]
) -> tuple[dict[str, Any], list[AnnotatedInstruction]]:
    from tvm_mpq.emulator import Board
    from tvm_mpq.emulator.talk import Step, Talk, unescape

    flag = {"send": "--send", "send_after": "--send-after"}
    steps = [Step(name == "send", unescape(flag[name], text)) for name, text in talk]
    base, clock, uart = _address(options["base"]), options["clock"], options["uart"]
    with Board(file, options["target"], base=base, clock_mhz=clock, uart=uart) as board:
        conversation = Talk(board, steps)
        result = _run(board, options)
        missed = conversation.left
        if missed is not None and result.stopped_by not in (*_LIMITS, "until"):
            what = "never read" if missed.is_send else "never printed"
            raise InvalidValueError(
                f"{'--send' if missed.is_send else '--send-after'} {missed.text!r}: {what}; the run"
                f" ended by {result.stopped_by!r} after printing {result.uart[-200:]!r}"
            )
        lines = board.annotate(options["annotate"]) if options["annotate"] else []
        report = _report(result, board, options["profile"])
    if options["annotate"]:
        report["annotate"] = [asdict(line) for line in lines]
    return report, lines


def _run(board: Board, options: dict[str, Any]) -> RunResult:
    from tvm_mpq.emulator.talk import unescape

    arguments: dict[str, Any] = {
        "max_instructions": options["max_instructions"],
        "timeout_seconds": options["timeout"],
        "cycles": not options["functional"],
        "count_instructions": True,
    }
    if options["start"]:
        first = board.run(until=unescape("--from", options["start"]), **arguments)
        if first.stopped_by != "until":
            raise InvalidValueError(
                f"--from {options['start']!r}: never printed; the run ended by"
                f" {first.stopped_by!r} at {board.location} after printing {first.uart[-200:]!r}"
            )
    until = unescape("--until", options["until"]) if options["until"] else None
    return board.run(until=until, **arguments)


def _address(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError as error:
        raise InvalidValueError(f"--base {text!r}: expected an address like 0x08000000") from error


def _report(result: RunResult, board: Board, with_profile: bool) -> dict[str, Any]:
    report: dict[str, Any] = {
        "stopped_by": result.stopped_by,
        "location": board.location,
        "target": board.chip.name,
        "clock_mhz": board.clock_mhz,
        "cycles": result.cycles,
        "instructions": result.instructions,
        "stalls": result.stalls,
        "uart": result.uart.decode("latin-1"),
        "bauds": board.bauds,
        "seconds": round(result.seconds, 3),
    }
    if result.error is not None:
        report["note"] = result.error
    if with_profile and result.profile is not None:
        report["profile"] = result.profile.to_json()
    return report


def _text(report: dict[str, Any], lines: list[AnnotatedInstruction]) -> str:
    """The report for people."""
    bauds = report["bauds"].items()
    said = ", ".join(name + (f" at {baud:,} baud" if baud else "") for name, baud in bauds)
    parts = [f"{said}:\n{report['uart'].rstrip()}\n"] if said else ["nothing printed"]
    parts.append(f"stopped by: {report['stopped_by']}, at {report['location']}")
    if report["cycles"] is None:
        parts.append(f"{report['instructions']:,} instructions")
    else:
        milliseconds = report["cycles"] / report["clock_mhz"] / 1000
        parts.append(
            f"{report['cycles']:,} cycles, {milliseconds:,.3f} ms at {report['clock_mhz']} MHz,"
            f" {report['instructions']:,} instructions; {report['note']}"
        )
        stalls = ", ".join(f"{cause} {cycles:,}" for cause, cycles in report["stalls"].items())
        parts.append(f"of these lost: {stalls}")
    for function in report.get("profile", {}).get("functions", [])[:_SHOWN_FUNCTIONS]:
        parts.append(
            f"{function['cycles']:>14,} cycles {function['instructions']:>14,} instructions "
            f" {function['name']}"
        )
    if lines:
        from tvm_mpq.emulator.annotate import format_annotation

        parts.append(format_annotation(lines))
    return "\n".join(parts)
