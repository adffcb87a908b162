"""The command line: ``tvm-mpq compile | run | profile | tune | report | flash``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tvm_mpq.commands.emulate import emulate
from tvm_mpq.errors import MpqError, message_of
from tvm_mpq.toolchain import require_cross_compiler, require_packages, require_tool

_CALIBRATION_LIMIT = 512


class _Group(click.Group):
    """Turns the user's mistakes into one message on stderr and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (MpqError, OSError) as error:  # OSError: no space, no permission, no folder
            click.echo(f"tvm-mpq: {message_of(error)}", err=True)
            sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tvm_mpq")
def main() -> None:
    """Mixed 8/4/2-bit, integer-only CNNs for Cortex-M7 microcontrollers."""


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_out = click.argument("out", type=click.Path(path_type=Path))


@main.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", default="stm32h7", show_default=True, help="stm32h7 or host.")
@click.option("--flash", help="Flash budget, for example 2MB.  [default: all of the chip's]")
@click.option("--ram", help="RAM budget, for example 512kB.  [default: all of the chip's]")
@click.option("--calibration", required=True, type=click.Path(path_type=Path), help="Image folder.")
@click.option(
    "--input-range",
    help="Real range of images: -1,1, 0,1 or 0,255.  [default: found by the first batch norm]",
)
@click.option("--resize", default="whole", show_default=True, help="whole or crop:FRACTION.")
@click.option("--policy", default="paper", show_default=True, help="paper or sensitivity.")
@click.option("--widths", help="Of weights: 8,4,2 or 8,4,3,2.  [default: the policy's]")
@click.option("--multipliers", help="Bits of M0: 32, 16 or 32,16.  [default: the policy's]")
@click.option("--latency", type=int, help="Budget of cycles, for policy sensitivity.")
@click.option("--quantization", type=click.Path(path_type=Path), help="quantization.npz to use.")
@click.option("--reconstruct", is_flag=True, help="Recover accuracy from the calibration images.")
@click.option("--rounding", default="nearest", show_default=True, help="nearest or floor.")
@click.option("--range-method", default="mse", show_default=True, help="mse or max.")
@click.option("--input-buffer", default="arena", show_default=True, help="arena, caller or rows.")
@click.option("--minimize", default="streaming", show_default=True, help="streaming or ram.")
@click.option("--name", default="default", show_default=True, help="Of the module, in C.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="New folder.")
@_as_json
def compile_command(
    model: Path,
    target: str,
    flash: str | None,
    ram: str | None,
    calibration: Path,
    input_range: str | None,
    resize: str,
    policy: str,
    widths: str | None,
    multipliers: str | None,
    latency: int | None,
    quantization: Path | None,
    reconstruct: bool,
    rounding: str,
    range_method: str,
    input_buffer: str,
    minimize: str,
    name: str,
    output: Path,
    as_json: bool,
) -> None:
    """Compile MODEL.pt2 (torch.export.save) to firmware in a new folder."""
    from tvm_mpq.names import check_module_name
    from tvm_mpq.specs import InputSpec
    from tvm_mpq.target import Target

    spec = InputSpec.from_range(input_range, resize) if input_range else None
    chosen = Target(target, flash=flash, ram=ram)
    check_module_name(name)
    if output.exists():
        raise click.UsageError(f"{output} exists; give a new folder, or remove it first")
    if not chosen.is_host:
        require_cross_compiler()
    from relay_passes.canonicalize import check_parameters
    from relay_passes.graph import shape_of
    from tvm_mpq.builder import build
    from tvm_mpq.frontends import load_exported_program
    from tvm_mpq.images import load_folder
    from tvm_mpq.pipeline import calibrate

    found = _quantization(quantization)
    mod = load_exported_program(model)
    check_parameters(mod)
    _, channels, height, width = shape_of(mod["main"].params[0])
    images = load_folder(calibration, (height, width, channels), resize, _CALIBRATION_LIMIT)
    calibrated = calibrate(mod, images, spec, range_method).with_resize(resize)
    deployment = build(
        calibrated,
        chosen,
        calibration=images,
        policy=policy,
        widths=_integers("--widths", widths, "8,4,2 and 8,4,3,2"),
        multipliers=_integers("--multipliers", multipliers, "32, 16 and 32,16"),
        latency=latency,
        quantization=found,
        reconstruct=reconstruct,
        rounding=rounding,
        input_buffer=input_buffer,
        minimize=minimize,
        name=name,
    ).save(output)
    _print_report(deployment, as_json)


def _quantization(path: Path | None) -> Any:
    from tvm_mpq.quant.result import QuantizationResult

    return None if path is None else QuantizationResult.load(path)


def _integers(option: str, text: str | None, allowed: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"{option} {text!r}: allowed are {allowed}") from None


@main.command()
@_out
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--on", default="host", show_default=True, help="host, emulator or board.")
@click.option(
    "--top", default=5, type=click.IntRange(1), show_default=True, help="Classes to show per image."
)
@_as_json
def run(out: Path, images: tuple[Path, ...], on: str, top: int, as_json: bool) -> None:
    """Classify IMAGES with the network compiled to OUT."""
    if on == "host":
        require_tool("cc")
    elif on in ("emulator", "board"):
        require_packages(on)
    import numpy as np

    from tvm_mpq.deployment import Deployment
    from tvm_mpq.images import load_image

    deployment = Deployment.load(out)
    height, width, channels = deployment.description.input_shape
    resize = deployment.input_spec.resize
    batch = np.stack([load_image(path, (height, width, channels), resize) for path in images])
    logits = deployment.run(batch, on=on)
    scale = deployment.description.logits_scale
    results: list[dict[str, Any]] = []
    for path, row in zip(images, logits, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        ranked = [{"class": int(c), "logit": float(row[c] * scale)} for c in best]
        results.append({"image": str(path), "top": ranked})
    if as_json:
        click.echo(json.dumps({"on": on, "results": results}))
        return
    for result in results:
        text = ", ".join(f"{entry['class']} ({entry['logit']:.2f})" for entry in result["top"])
        click.echo(f"{result['image']}: {text}")


@main.command()
@_out
@_as_json
def report(out: Path, as_json: bool) -> None:
    """Show bits, bytes and MACs per layer of the network compiled to OUT."""
    from tvm_mpq.deployment import Deployment

    _print_report(Deployment.load(out), as_json)


@main.command()
@_out
@click.option("--clock", "clock_mhz", default=400, show_default=True, help="400 or 480 MHz.")
@click.option("--annotate", metavar="LAYER", help="One layer instruction by instruction.")
@_as_json
def profile(out: Path, clock_mhz: int, annotate: str | None, as_json: bool) -> None:
    """Model the cycles of one inference, layer by layer, on the emulated STM32H743."""
    require_packages("emulator")
    from dataclasses import asdict

    from tvm_mpq.deployment import Deployment
    from tvm_mpq.report.profile import annotation_text, profile_text

    deployment = Deployment.load(out)
    if annotate is not None:
        functions = deployment.annotate(annotate)
        content = json.dumps([asdict(function) for function in functions])
        click.echo(content if as_json else annotation_text(functions))
        return
    found = deployment.profile(clock_mhz=clock_mhz)
    click.echo(json.dumps(found.to_json()) if as_json else profile_text(found))


@main.command()
@_out
@click.option(
    "--trials",
    default=8,
    type=click.IntRange(1),
    show_default=True,
    help="Kernels to measure for each layer; all of them where it has no more.",
)
@click.option("--on", default="emulator", show_default=True, help="emulator or board.")
@click.option("--tracker", metavar="HOST:PORT", help="TVM RPC tracker of several boards.")
@_as_json
def tune(out: Path, trials: int, on: str, tracker: str | None, as_json: bool) -> None:
    """Find the fastest kernels for the network compiled to OUT, and build it again with them."""
    require_cross_compiler()
    require_packages("tracker" if tracker else "emulator")
    from tvm_mpq.deployment import Deployment

    found = Deployment.load(out).tune(trials, on, tracker)
    click.echo(json.dumps(found.to_json()) if as_json else str(found))


@main.command()
@_out
@click.option("--tool", default="pyocd", show_default=True, help="pyocd, openocd or st-flash.")
@click.option("--serial", "serial_number", help="ST-LINK serial number, with several boards.")
@_as_json
def flash(out: Path, tool: str, serial_number: str | None, as_json: bool) -> None:
    """Write the firmware in OUT to a Nucleo-H743ZI."""
    from tvm_mpq.deployment import Deployment
    from tvm_mpq.micro import flash as flash_firmware

    firmware = Deployment.load(out).firmware
    flash_firmware(firmware.elf, tool=tool, serial_number=serial_number)
    content = {"flashed": str(out), "tool": tool, "bytes": firmware.flash_bytes}
    click.echo(json.dumps(content) if as_json else f"flashed {out}")


main.add_command(emulate)


def _print_report(deployment: Any, as_json: bool) -> None:
    content = deployment.report()
    click.echo(json.dumps(content.to_json()) if as_json else str(content))


if __name__ == "__main__":
    main()
