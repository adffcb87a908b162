"""Bit assignment under memory budgets: Algorithms 1 and 2 of arXiv 1905.13082.

Widths only ever halve (8 -> 4 -> 2): activations until every layer's inputs and output fit the RAM
budget, then weights until all read-only bytes fit the flash budget. The rule sees bytes only: no
loss, no code, no scratch. It is the published baseline; other policies give the same BitPlan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.quant.bit_plan import UNLIMITED, BitPlan, Cut
from tvm_mpq.specs import WIDTHS, LayerSpec, check_width, weight_widths

MAX_BITS = max(WIDTHS)
MIN_BITS = min(WIDTHS)
# Algorithm 2 prefers the earliest layer whose share of the weight bytes is this near the largest.
SHARE_MARGIN_PERCENT = 5
# Widths of the activations -> (bytes of RAM, bytes by tensor where the memory is fullest).
RamModel = Callable[[Mapping[str, int]], tuple[int, Mapping[str, int]]]
# The classifier reads the pooled vector under the map's name, so pooling adds no tensor of its own.
_NOT_A_LAYER = "global_avg_pool"


class Variant(str, Enum):
    """How outputs are requantized; decides the read-only bytes beside the weights."""

    PL_FB = "pl+fb"
    PL_ICN = "pl+icn"
    PC_ICN = "pc+icn"
    PC_THRESHOLDS = "pc+thresholds"


# (bytes a channel, bytes a layer), of an inner layer and of the last one.
_SIDE_BYTES = {
    Variant.PL_FB: ((4, 20), (4, 20)),
    Variant.PL_ICN: ((9, 12), (4, 20)),
    Variant.PC_ICN: ((10, 8), (7, 4)),
    Variant.PC_THRESHOLDS: ((0, 0), (7, 4)),  # inner layers depend on the output's width
}


def side_bytes(
    variant: Variant,
    channels: int,
    is_last: bool,
    y_bits: int = MAX_BITS,
    threshold_bytes: int = 2,
) -> int:
    """Read-only bytes of a layer beside its weights, in the paper's accounting.

    Parameters
    ----------
    channels: output channels. is_last: the layer gives the logits.
    y_bits: bits of the output; only thresholds depend on it.
    threshold_bytes: 2, or 4 where an accumulator can reach 2^15.

    Raises
    ------
    InvalidValueError: thresholds for an 8-bit output (255 compares a value; not defined).
    """
    if variant is Variant.PC_THRESHOLDS and not is_last:
        if y_bits not in (4, 2):
            raise InvalidValueError(
                f"variant {variant.value}: output of {y_bits} bits; thresholds serve 4 and 2 bits;"
                f" use {Variant.PC_ICN.value} or narrower activations"
            )
        return channels * 2**y_bits * threshold_bytes + channels
    per_channel, per_layer = _SIDE_BYTES[variant][is_last]
    return per_channel * channels + per_layer


def multiplier_saving(layers: Sequence[LayerSpec], bits: int = 16) -> int:
    """Read-only bytes that multipliers M0 of ``bits`` in all layers save."""
    return (32 - bits) // 8 * sum(layer.out_channels for layer in _weight_layers(layers))


def with_narrow_multipliers(plan: BitPlan, layers: Sequence[LayerSpec]) -> BitPlan:
    """``plan`` with 16-bit multipliers in all layers."""
    names = [layer.name for layer in _weight_layers(layers)]
    saved = multiplier_saving(layers)
    return replace(plan, multipliers=dict.fromkeys(names, 16), ro_bytes=plan.ro_bytes - saved)


def tensor_bytes(elements: int, bits: int) -> int:
    """Bytes of ``elements`` codes of ``bits`` bits, packed without padding."""
    return -(-elements * bits // 8)


def layer_rw_bytes(layer: LayerSpec, activations: Mapping[str, int]) -> int:
    """Bytes that are alive while ``layer`` runs: all its inputs and its output."""
    tensors = (*_inputs(layer).items(), (layer.y, layer.y_elements))
    return sum(tensor_bytes(elements, activations[name]) for name, elements in tensors)


def rw_bytes(layers: Sequence[LayerSpec], activations: Mapping[str, int]) -> int:
    """The largest ``layer_rw_bytes``: what the RAM budget limits."""
    return max(layer_rw_bytes(layer, activations) for layer in _counted(layers))


def ro_bytes(
    layers: Sequence[LayerSpec],
    activations: Mapping[str, int],
    weights: Mapping[str, int],
    variant: Variant = Variant.PC_ICN,
) -> int:
    """Bytes of all weights and of the constants beside them: what the flash budget limits."""
    logits = layers[-1].y
    total = 0
    for layer in _weight_layers(layers):
        total += tensor_bytes(layer.weight_elements, weights[layer.name])
        total += side_bytes(variant, layer.out_channels, layer.y == logits, activations[layer.y])
    return total


def minimum_ram_budget(layers: Sequence[LayerSpec]) -> int:
    """The smallest RAM budget in bytes for which Algorithm 1 succeeds.

    It always cuts the widest tensor of a layer that does not fit, so it fails exactly when some
    layer does not fit with everything that may be cut at the smallest width.
    """
    _check_layers(layers)
    return rw_bytes(layers, _activations(layers, MIN_BITS))


def minimum_flash_budget(
    layers: Sequence[LayerSpec],
    activations: Mapping[str, int],
    variant: Variant = Variant.PC_ICN,
) -> int:
    """The smallest flash budget in bytes for which Algorithm 2 succeeds: all weights at 2 bits."""
    return ro_bytes(layers, activations, _weights(layers, MIN_BITS), variant)


def paper_bit_plan(
    layers: Sequence[LayerSpec],
    flash_budget: int,
    ram_budget: int,
    variant: Variant = Variant.PC_ICN,
    ram_model: RamModel | None = None,
    widths: Sequence[int] = WIDTHS,
) -> BitPlan:
    """Widths by Algorithms 1 and 2 of arXiv 1905.13082.

    Parameters
    ----------
    layers: in execution order; the last one gives the logits. Tensors that no layer writes are the
        network's inputs. Inputs and logits keep 8 bits.
    flash_budget, ram_budget: bytes.
    variant: the requantization whose constants count as read-only bytes.
    ram_model: what the RAM budget limits in the place of input + output of a layer. Then the widest
        (of these the largest) tensor is cut that is alive where the memory is fullest.
    widths: of weights; with 3 among them, weights of pointwise and dense layers stop there on the
        way to 2. Not the published rule.

    Raises
    ------
    DoesNotFitError: a budget is too small; names the layer, its tensors and the smallest budget.
    InvalidValueError: ``layers`` is not a network, or a budget is not a positive number.
    """
    _check_layers(layers)
    _check_budgets(flash_budget, ram_budget)
    if ram_model is None:
        activations, rw_cuts = _cut_activations(layers, ram_budget)
    else:
        activations, rw_cuts = _cut_fullest(layers, ram_budget, ram_model)
    weights, ro_cuts = _cut_weights(layers, activations, flash_budget, variant, widths)
    return BitPlan(
        activations=activations,
        weights=weights,
        cuts=(*rw_cuts, *ro_cuts),
        ro_bytes=ro_bytes(layers, activations, weights, variant),
        rw_bytes=rw_bytes(layers, activations),
        flash_budget=flash_budget,
        ram_budget=ram_budget,
        policy="paper",
        memory_model="paper" if ram_model is None else "streamed",
        variant=variant.value,
    )


def uniform_bit_plan(
    layers: Sequence[LayerSpec],
    bits_activation: int,
    bits_weight: int,
    flash_budget: int = UNLIMITED,
    ram_budget: int = UNLIMITED,
    variant: Variant = Variant.PC_ICN,
) -> BitPlan:
    """One width for all activations (but inputs and logits: 8) and one for all weights.

    Raises
    ------
    DoesNotFitError: the widths given do not fit a budget that was given.
    InvalidValueError: as ``paper_bit_plan``, or a width other than 8, 4 and 2.
    """
    _check_layers(layers)
    _check_budgets(flash_budget, ram_budget)
    activations = _activations(layers, check_width("bits_activation", bits_activation))
    weights = _weights(layers, check_width("bits_weight", bits_weight))
    plan = BitPlan(
        activations=activations,
        weights=weights,
        cuts=(),
        ro_bytes=ro_bytes(layers, activations, weights, variant),
        rw_bytes=rw_bytes(layers, activations),
        flash_budget=flash_budget,
        ram_budget=ram_budget,
        policy="uniform",
        memory_model="paper",
        variant=variant.value,
    )
    if plan.rw_bytes > ram_budget:
        raise _ram_error(layers, activations, ram_budget)
    if plan.ro_bytes > flash_budget:
        raise _flash_error(layers, activations, weights, flash_budget, variant)
    return plan


def _cut_activations(layers: Sequence[LayerSpec], budget: int) -> tuple[dict[str, int], list[Cut]]:
    """Algorithm 1: forward and backward sweeps in turn until every layer fits."""
    counted = _counted(layers)
    fixed = _fixed_tensors(layers)
    bits = _activations(layers, MAX_BITS)
    cuts: list[Cut] = []
    while any(layer_rw_bytes(layer, bits) > budget for layer in counted):
        made = _sweep(counted, bits, fixed, budget, forward=True)
        made += _sweep(counted[::-1], bits, fixed, budget, forward=False)
        # The published code loops for ever here.
        if not made:
            raise _ram_error(layers, bits, budget)
        cuts += made
    return bits, cuts


def _cut_fullest(
    layers: Sequence[LayerSpec], budget: int, ram_model: RamModel
) -> tuple[dict[str, int], list[Cut]]:
    """Halve the widest tensor of where the memory is fullest until the model's bytes fit."""
    fixed = _fixed_tensors(layers)
    bits = _activations(layers, MAX_BITS)
    cuts: list[Cut] = []
    while True:
        need, alive = ram_model(bits)
        if need <= budget:
            return bits, cuts
        free = [(bits[n], size, n) for n, size in alive.items() if n not in fixed]
        free = [item for item in free if item[0] > MIN_BITS]
        if not free:
            tensors = ", ".join(f"{name} ({size} bytes)" for name, size in alive.items())
            raise DoesNotFitError(
                f"the activations do not fit the RAM: row by row, and with these tensors at their"
                f" narrowest: {tensors}, {need} bytes are needed; the RAM budget leaves"
                f" {budget} bytes for them, {need - budget} bytes too few; take a network with a"
                " lower resolution or fewer channels"
            )
        name = max(free, key=lambda item: item[:2])[2]
        cuts.append(_cut(bits, name, "rw", name))


def _sweep(
    layers: Sequence[LayerSpec],
    bits: dict[str, int],
    fixed: Collection[str],
    budget: int,
    forward: bool,
) -> list[Cut]:
    """Cut outputs (forward) or inputs (backward) in place, where the rule asks for that one."""
    cuts = []
    for layer in layers:
        while layer_rw_bytes(layer, bits) > budget:
            name = _tensor_to_cut(layer, bits, fixed)
            if name is None or (name == layer.y) != forward:
                break  # nothing left, or the other sweep's business
            cuts.append(_cut(bits, name, "rw", layer.name))
    return cuts


def _tensor_to_cut(layer: LayerSpec, bits: Mapping[str, int], fixed: Collection[str]) -> str | None:
    """The widest tensor; of equally wide ones the largest; of equally large ones the output.

    None if even that one is at the smallest width.
    """
    tensors = ((layer.y, layer.y_elements), *_inputs(layer).items())  # max() keeps the first
    free = [
        (bits[name], tensor_bytes(elements, bits[name]), name)
        for name, elements in tensors
        if name not in fixed and bits[name] > MIN_BITS
    ]
    return max(free, key=lambda item: item[:2])[2] if free else None


def _cut_weights(
    layers: Sequence[LayerSpec],
    activations: Mapping[str, int],
    budget: int,
    variant: Variant,
    widths: Sequence[int],
) -> tuple[dict[str, int], list[Cut]]:
    """Algorithm 2: cut the earliest of the layers with about the largest share of the bytes."""
    owners = _weight_layers(layers)
    bits = _weights(layers, MAX_BITS)
    cuts: list[Cut] = []
    while ro_bytes(layers, activations, bits, variant) > budget:
        sizes = {o.name: tensor_bytes(o.weight_elements, bits[o.name]) for o in owners}
        uncut = {name: size for name, size in sizes.items() if bits[name] > MIN_BITS}
        if not uncut:
            raise _flash_error(layers, activations, bits, budget, variant)
        # size / total > largest / total - 5 %, in integers: no rounding decides a tie.
        threshold = 100 * max(uncut.values()) - SHARE_MARGIN_PERCENT * sum(sizes.values())
        first = next(name for name, size in uncut.items() if 100 * size > threshold)
        allowed = weight_widths(next(o.op for o in owners if o.name == first), widths)
        cuts.append(_cut(bits, first, "ro", first, allowed))
    return bits, cuts


def _cut(
    bits: dict[str, int], name: str, constraint: str, layer: str, widths: Sequence[int] = WIDTHS
) -> Cut:
    """To the next narrower of ``widths``."""
    to_bits = max(width for width in widths if width < bits[name])
    cut = Cut(name, bits[name], to_bits, constraint, layer)
    bits[name] = cut.to_bits
    return cut


def _inputs(layer: LayerSpec) -> dict[str, int]:
    """Elements of each input, once for each tensor: add(x, x) reads one buffer."""
    return dict(zip(layer.x, layer.x_elements, strict=True))


def _counted(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    return [layer for layer in layers if layer.op != _NOT_A_LAYER]


def _weight_layers(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    return [layer for layer in layers if layer.weight_elements]


def _network_inputs(layers: Sequence[LayerSpec]) -> dict[str, None]:
    written: set[str] = set()
    inputs: dict[str, None] = {}
    for layer in layers:
        inputs |= dict.fromkeys(name for name in layer.x if name not in written)
        written.add(layer.y)
    return inputs


def _fixed_tensors(layers: Sequence[LayerSpec]) -> set[str]:
    return {*_network_inputs(layers), layers[-1].y}


def _activations(layers: Sequence[LayerSpec], bits: int) -> dict[str, int]:
    """``bits`` for every tensor, 8 for the inputs and the logits; in execution order."""
    fixed = _fixed_tensors(layers)
    names = [*_network_inputs(layers), *(layer.y for layer in layers)]
    return {name: MAX_BITS if name in fixed else bits for name in names}


def _weights(layers: Sequence[LayerSpec], bits: int) -> dict[str, int]:
    return {layer.name: bits for layer in _weight_layers(layers)}


def _check_layers(layers: Sequence[LayerSpec]) -> None:
    if not _counted(layers):
        raise InvalidValueError("bit search: no layers; expected at least one")
    names: set[str] = set()
    ready = set(_network_inputs(layers))
    for layer in layers:
        if layer.name in names:
            raise InvalidValueError(f"layer {layer.name}: the name occurs twice; make names unique")
        keeps_name = layer.y in layer.x and not layer.weight_elements
        if layer.y in ready and not keeps_name:
            raise InvalidValueError(
                f"layer {layer.name}: writes {layer.y!r}, which an earlier layer writes or reads;"
                " give every output a name of its own, and the layers in execution order"
            )
        _check_layer(layer)
        names.add(layer.name)
        ready.add(layer.y)


def _check_layer(layer: LayerSpec) -> None:
    if layer.op == _NOT_A_LAYER and layer.x != (layer.y,):
        raise InvalidValueError(
            f"layer {layer.name} ({layer.op}): reads {layer.x[0]!r} and writes {layer.y!r};"
            " expected one name for both, since the pooled vector has the width of its map"
        )
    if layer.weight_elements and layer.out_channels <= 0:
        raise InvalidValueError(
            f"layer {layer.name} ({layer.op}): out_channels {layer.out_channels} of a layer with"
            " weights; expected a positive number"
        )


def _check_budgets(flash_budget: int, ram_budget: int) -> None:
    for field, size in (("flash_budget", flash_budget), ("ram_budget", ram_budget)):
        if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
            raise InvalidValueError(f"{field}: {size!r}; expected a positive number of bytes")


def _ram_error(
    layers: Sequence[LayerSpec], bits: Mapping[str, int], budget: int
) -> DoesNotFitError:
    worst = max(_counted(layers), key=lambda layer: layer_rw_bytes(layer, bits))
    need = layer_rw_bytes(worst, bits)
    reads = ", ".join(_tensor_text(n, size, bits[n]) for n, size in _inputs(worst).items())
    return DoesNotFitError(
        f"layer {worst.name} ({worst.op}) does not fit the RAM: it reads {reads} and writes"
        f" {_tensor_text(worst.y, worst.y_elements, bits[worst.y])}, {need} bytes together;"
        f" the RAM budget is {budget} bytes, {need - budget} bytes too few. The smallest RAM budget"
        f" for which the search finds widths is {minimum_ram_budget(layers)} bytes;"
        " or take a network with a lower resolution or fewer channels"
    )


def _flash_error(
    layers: Sequence[LayerSpec],
    activations: Mapping[str, int],
    weights: Mapping[str, int],
    budget: int,
    variant: Variant,
) -> DoesNotFitError:
    owners = _weight_layers(layers)
    total = ro_bytes(layers, activations, weights, variant)
    data = sum(tensor_bytes(o.weight_elements, weights[o.name]) for o in owners)
    largest = max(owners, key=lambda o: tensor_bytes(o.weight_elements, weights[o.name]))
    text = _tensor_text("weights", largest.weight_elements, weights[largest.name])
    return DoesNotFitError(
        f"the weights do not fit the flash: {data} bytes of weights and {total - data} bytes of"
        f" {variant.value} constants, {total} bytes together; the flash budget is {budget} bytes,"
        f" {total - budget} bytes too few. The largest layer is {largest.name} ({largest.op}),"
        f" {text}. The smallest flash budget for which the search finds widths is"
        f" {minimum_flash_budget(layers, activations, variant)} bytes;"
        " or take a network with fewer channels"
    )


def _tensor_text(name: str, elements: int, bits: int) -> str:
    return f"{name} ({elements} x {bits} bits = {tensor_bytes(elements, bits)} bytes)"
