"""The rows of ``benchmarks.accuracy``: networks, budgets, policies, stages of retraining."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm_mpq.quant.training import Recipe, cosine_rates

# Distillation on views of the calibration images. A thousand images, one a class, are learned by
# heart unless the layers' outputs are matched too and the classifier stays as it is.
_RETRAINING = Recipe(
    distillation=1.0,
    temperature=4.0,
    matching=20.0,
    rate_unit="steps",
    save_every=50,
)
_PIXELS_A_STEP = 10 * 192 * 192


@dataclass(frozen=True)
class Stage:
    """Retraining of the first layers in front of the float rest, or of all.

    Attributes
    ----------
    until: the last layer, empty for all but the classifier. rate, epochs: of the recipe, along a
        cosine. side: of the square views. The last maps are a 32nd of it, too small a part of a
        whole image's for the last layers; the first layers have as much to see in half of it.
    """

    until: str = ""
    rate: float = 0.01
    epochs: int = 8
    side: int = 192

    @property
    def recipe(self) -> Recipe:
        """The 8-bit weights of the first layers are trained too: they are few."""
        return replace(
            _RETRAINING,
            batch=_PIXELS_A_STEP // self.side**2,
            epochs=self.epochs,
            rates=cosine_rates(self.rate, self.epochs),
            trained="all" if self.until else "features",
        )


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    network: file in models/ without suffix, or the two halves of 1.0/224.
    flash, ram: budgets, empty for none.
    policy: "paper", "sensitivity", "int8", "all4", "all4out4" or "pointwise4"; "all4" keeps the
        first layer at 8 bits, its weights and its output, "all4out4" its weights alone.
    stages: of retraining, one after the other. The layers after those of a stage stay float
        meanwhile; then they are reconstructed for what the retrained ones give.
    nearest: plain rounding, without reconstruction.
    copies: of important channels that the plan makes narrow (SplitChannels).
    images: of imagenet_calib, for reconstruction and retraining.
    """

    network: str
    flash: str = ""
    ram: str = ""
    policy: str = "paper"
    stages: tuple[Stage, ...] = ()
    nearest: bool = False
    copies: bool = False
    images: int = 1000

    @property
    def method(self) -> str:
        """How codes and ranges come about."""
        if self.stages:
            return "qat"
        return "nearest" if self.nearest else "reconstruct"


_M75, _M25, VWW = "mobilenet_v1_0.75_224", "mobilenet_v1_0.25_128", "vww_96"
M100 = "mobilenet_v1_1.0_224_quant"  # two files, see mobilenet_v1_tflite
_FRONT = Stage("conv2d_10", 0.03, 15, 128)
_MIDDLE = Stage("conv2d_22", 0.01, 40, 160)
ROWS = {
    "0.75_224-int8-nearest": Row(_M75, policy="int8", nearest=True),
    "0.75_224-2MB-512kB-paper-nearest": Row(_M75, "2MB", "512kB", nearest=True),
    "0.75_224-2MB-512kB-paper": Row(_M75, "2MB", "512kB"),
    "0.75_224-2MB-512kB-paper-qat": Row(_M75, "2MB", "512kB", stages=(_FRONT,)),
    "0.75_224-2MB-512kB-sensitivity": Row(_M75, "2MB", "512kB", "sensitivity"),
    "0.75_224-1MB-512kB-sensitivity": Row(_M75, "1MB", "512kB", "sensitivity"),
    "0.75_224-1MB-512kB-sensitivity-qat": Row(_M75, "1MB", "512kB", "sensitivity", (Stage(),)),
    "0.75_224-all4": Row(_M75, policy="all4", copies=True),
    "0.75_224-all4-qat": Row(
        _M75, "", "", "all4", (replace(_FRONT, rate=0.01), _MIDDLE), copies=True
    ),
    "0.75_224-all4out4": Row(_M75, policy="all4out4", copies=True),
    "0.75_224-all4out4-qat": Row(_M75, "", "", "all4out4", (_FRONT, _MIDDLE), copies=True),
    "0.75_224-pointwise4": Row(_M75, policy="pointwise4"),
    "1.0_224-2MB-512kB-sensitivity": Row(M100, "2MB", "512kB", "sensitivity"),
    "1.0_224-2MB-512kB-sensitivity-qat": Row(
        M100, "2MB", "512kB", "sensitivity", (Stage(rate=0.003, epochs=12),)
    ),
    "0.25_128-256kB-76kB-sensitivity": Row(_M25, "256kB", "76kB", "sensitivity"),
    "0.25_128-256kB-76kB-paper": Row(_M25, "256kB", "76kB"),
    "vww_96-192kB-64kB-sensitivity": Row(VWW, "192kB", "64kB", "sensitivity"),
    "vww_96-128kB-64kB-sensitivity": Row(VWW, "128kB", "64kB", "sensitivity"),
}
