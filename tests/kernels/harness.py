"""Random layers, their numpy reference, and the same layers as C on the host."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tvm_mpq.codegen.plain_c import kernel_includes, kernel_signature, kernel_source
from tvm_mpq.kernels import reference
from tvm_mpq.kernels.choose import choose
from tvm_mpq.kernels.layout import pack_map, unpack_map
from tvm_mpq.kernels.micro import micro_kernel_sources
from tvm_mpq.kernels.pack import pack_add, pack_concat, pack_icn, pack_weights
from tvm_mpq.kernels.primfunc import primfunc
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.quant.icn import IcnParams
from tvm_mpq.schedule.apply import schedule
from tvm_mpq.specs import TensorSpec
from tvm_mpq.target import Target

TARGET = Target("stm32h7")


@dataclass
class Case:
    """One layer with operands: canonical codes and packed buffers."""

    spec: KernelSpec
    inputs: list[np.ndarray]
    weights: np.ndarray
    icn: np.ndarray
    expected: np.ndarray


def conv_spec(
    op: str,
    x: TensorSpec,
    channels: int,
    y_bits: int,
    w_bits: int,
    kernel: tuple[int, int] = (1, 1),
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    zy: int = 0,
) -> KernelSpec:
    """A convolution whose output shape follows from its window."""
    height = (x.height + padding[0] + padding[2] - kernel[0]) // strides[0] + 1
    width = (x.width + padding[1] + padding[3] - kernel[1]) // strides[1] + 1
    y = TensorSpec.of_map(channels, height, width, y_bits, zy)
    return choose(KernelSpec(op, (x,), y, w_bits, kernel, strides, padding), TARGET)


def random_codes(rng: np.random.Generator, tensor: TensorSpec) -> np.ndarray:
    """Codes [C, H, W], the extreme ones more often than by chance."""
    codes = rng.integers(0, 1 << tensor.bits, (tensor.channels, tensor.height, tensor.width))
    extreme = rng.random(codes.shape) < 0.2
    return np.where(extreme, rng.choice([0, tensor.max_code], codes.shape), codes).astype(np.uint8)


def weighted_case(
    spec: KernelSpec,
    seed: int,
    codes: str = "",
    n0: int | None = None,
    zw: np.ndarray | None = None,
) -> Case:
    """A convolution or dense layer, randomly requantized to span the codes.

    codes: "all max" or "all zero" for inputs and weights alike. n0: the exponent of all scales.
    zw: the zero point of each channel's weights.
    """
    rng = np.random.default_rng(seed)
    x = random_codes(rng, spec.x)
    depthwise = spec.op == "depthwise_conv2d"
    channels = spec.output.channels
    shape = (channels, 1 if depthwise else spec.x.channels, *spec.kernel)
    weights = rng.integers(0, 1 << spec.w_bits, shape).astype(np.uint8)
    random_zw = rng.integers(0, 1 << spec.w_bits, channels).astype(np.uint8)
    zw = random_zw if zw is None else zw.astype(np.uint8)
    if codes:
        x[:] = spec.x.max_code if codes == "all max" else 0
        weights[:] = (1 << spec.w_bits) - 1 if codes == "all max" else 0
    phi_of = reference.depthwise_conv2d_phi if depthwise else reference.conv2d_phi
    phi = phi_of(x, weights, spec.x.zero_point, zw, spec.strides, spec.padding)
    icn = _random_icn(rng, phi, zw, spec.output.bits)
    if spec.multiplier_bits == 16:
        icn = replace(icn, m0=icn.m0 & np.int32(-65536))
    if n0 is not None:
        small = rng.integers(-300, 300, channels).astype(np.int32)
        icn = IcnParams(icn.m0, np.full(channels, n0, np.int8), small - phi[:, 0, 0], zw)
    expected = reference.layer(phi, icn, spec.output.zero_point, spec.output.bits)
    packed = pack_weights(spec, weights)
    return Case(spec, [x], packed, pack_icn(spec, icn, weights), np.asarray(expected))


def _random_icn(
    rng: np.random.Generator, phi: np.ndarray, zw: np.ndarray, y_bits: int
) -> IcnParams:
    channels = len(zw)
    m0 = rng.integers(2**30, 2**31, channels) * rng.choice([-1, 1], channels)
    spread = max(1.0, float(np.abs(phi).max()))
    exponent = (min(y_bits, 20) - np.ceil(np.log2(spread))).astype(np.int64)
    n0 = exponent + rng.integers(-1, 3 if y_bits < 32 else 1, channels)
    bq = rng.integers(-int(spread), int(spread) + 1, channels)
    return IcnParams(m0.astype(np.int32), n0.astype(np.int8), bq.astype(np.int32), zw)


def add_case(spec: KernelSpec, seed: int, params: reference.AddParams | None = None) -> Case:
    """A requantized add, with random multipliers unless ``params`` has them."""
    rng = np.random.default_rng(seed)
    a, b = (random_codes(rng, tensor) for tensor in spec.inputs)
    shift = int(rng.integers(30, 36))
    first, second = (int(v) for v in rng.integers(-(2**31) + 1, 2**31, 2))
    chance = reference.AddParams((first, second), shift, int(rng.integers(0, 2)))
    params = params or chance
    zeros = (spec.inputs[0].zero_point, spec.inputs[1].zero_point)
    y = spec.output
    expected = reference.add(a, b, params, zeros, y.zero_point, y.bits)
    return Case(spec, [a, b], np.zeros(0, np.uint32), pack_add(params), expected)


def concat_case(spec: KernelSpec, seed: int) -> Case:
    """A concatenation whose inputs are rescaled."""
    rng = np.random.default_rng(seed)
    maps = [random_codes(rng, tensor) for tensor in spec.inputs]
    params = [
        reference.RescaleParams(int(rng.integers(2**30, 2**31)), int(rng.integers(29, 33)), n)
        for n in (0, 1)
    ]
    y = spec.output
    parts = [
        reference.rescale(m, p, t.zero_point, y.zero_point, y.bits)
        for m, p, t in zip(maps, params, spec.inputs, strict=True)
    ]
    packed = pack_concat((params[0], params[1]))
    return Case(spec, maps, np.zeros(0, np.uint32), packed, np.concatenate(parts))


def global_avg_pool_case(spec: KernelSpec, seed: int) -> Case:
    """A mean with a random requantization."""
    rng = np.random.default_rng(seed)
    x = random_codes(rng, spec.x)
    m0 = int(rng.integers(2**30, 2**31))
    shift = 31 + int(np.log2(spec.x.height * spec.x.width)) + int(rng.integers(0, 3))
    icn = np.array([int(rng.integers(-50, 50)), m0, shift], np.int32)
    y = spec.output
    expected = reference.global_avg_pool(
        x, spec.x.zero_point, int(icn[0]), m0, shift, y.zero_point, y.bits
    )
    return Case(spec, [x], np.zeros(0, np.uint32), icn, expected)


def max_pool_case(spec: KernelSpec, seed: int) -> Case:
    """A max pool on codes."""
    x = random_codes(np.random.default_rng(seed), spec.x)
    expected = reference.max_pool2d(x, spec.kernel, spec.strides, spec.padding)
    return Case(spec, [x], np.zeros(0, np.uint32), np.zeros(0, np.int32), expected)


def c_source(specs: list[KernelSpec]) -> str:
    """One C file with every distinct kernel of ``specs``."""
    parts = [kernel_includes()]
    for spec in {spec.symbol: spec for spec in specs}.values():
        parts.append(kernel_signature(spec) + ";\n")
        parts.append(kernel_source(spec, schedule(spec, primfunc(spec))))
    return "\n".join(parts)


def build_host(specs: list[KernelSpec], folder: Path) -> ctypes.CDLL:
    """The kernels as a shared library for this machine."""
    (folder / "kernels.c").write_text(c_source(specs))
    sources = [str(folder / "kernels.c")]
    for name, text in micro_kernel_sources().items():
        (folder / name).write_text(text)
        sources += [str(folder / name)] if name.endswith(".c") else []
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    flags += ["-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan"]
    output = folder / "kernels.so"
    command = ["cc", *flags, *sources, "-o", str(output)]
    subprocess.run(command, check=True, timeout=300)
    return ctypes.CDLL(str(output))


@dataclass(frozen=True)
class Band:
    """One call of a kernel: rows [y0, y0 + rows) of the output."""

    y0: int
    rows: int


def run_host(library: ctypes.CDLL, case: Case) -> np.ndarray:
    """Outputs of the C kernel on whole tensors on the host, as canonical codes or logits."""
    spec = case.spec
    output = np.full(spec.output.buffer[0], 0xA5, spec.output.buffer[1])
    buffers = [pack_map(stored(c, t), t) for c, t in zip(case.inputs, spec.inputs, strict=True)]
    call(library, case, buffers, output, Band(0, spec.output.height))
    return unpack_map(output, spec.output)


def run_in_bands(library: ctypes.CDLL, case: Case, band_rows: int) -> np.ndarray:
    """The same in bands, each from rings that hold exactly the rows the band needs.

    Rows that do not belong to the band hold 0xA5: reading one would change the result.
    """
    spec = case.spec
    maps = [pack_map(stored(c, t), t) for c, t in zip(case.inputs, spec.inputs, strict=True)]
    output = np.zeros(spec.output.buffer[0], spec.output.buffer[1])
    need = (band_rows - 1) * spec.strides[0] + spec.kernel[0]
    for y0 in range(0, spec.output.height, band_rows):
        rows = min(band_rows, spec.output.height - y0)
        first = y0 * spec.strides[0] - spec.padding[0]
        wanted = range(max(first, 0), min(first + need, spec.x.height))
        rings = [_ring(buffer, need, wanted) for buffer in maps]
        # One slot more than the band has rows, so that a band may start in any slot.
        band = np.full((band_rows + 1, *output.shape[1:]), 0xA5, output.dtype)
        call(library, case, rings, band, Band(y0, rows))
        for row in range(y0, y0 + rows):
            output[row] = band[row % (band_rows + 1)]
    return unpack_map(output, spec.output)


def _ring(buffer: np.ndarray, slots: int, rows: range) -> np.ndarray:
    ring = np.full((slots, *buffer.shape[1:]), 0xA5, buffer.dtype)
    for row in rows:
        ring[row % slots] = buffer[row]
    return ring


def call(
    library: ctypes.CDLL, case: Case, rings: list[np.ndarray], output: np.ndarray, band: Band
) -> None:
    """One call by the calling convention; the scratch behind its end must stay as it was."""
    spec = case.spec
    scratch = np.full(spec.scratch_bytes // 4 + 1, 0x5A5A5A5A, np.uint32)
    arguments: list[object] = []
    for buffer in (*rings, output):
        arguments += [buffer.ctypes.data_as(ctypes.c_void_p), ctypes.c_int32(buffer.shape[0])]
    arguments += [ctypes.c_int32(band.y0), ctypes.c_int32(band.rows)]
    arguments += [a.ctypes.data_as(ctypes.c_void_p) for a in (case.weights, case.icn, scratch)]
    getattr(library, spec.symbol)(*arguments)
    assert scratch[-1] == 0x5A5A5A5A, f"{spec.symbol} wrote past its scratch"


def stored(codes: np.ndarray, tensor: TensorSpec) -> np.ndarray:
    """Codes [C, H, W] in the order of axes in which ``tensor`` is stored."""
    return codes.transpose(1, 2, 0) if tensor.layout == "hwc8" else codes
