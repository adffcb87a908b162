"""Graph passes on Relax, in pipeline order. Each is ``IRModule -> IRModule`` and usable alone."""

from relay_passes.annotate_bitwidths import AnnotateBitwidths, layer_specs
from relay_passes.annotate_ranges import AnnotateRanges
from relay_passes.canonicalize import Canonicalize
from relay_passes.fold_constant_channels import FoldConstantChannels
from relay_passes.fold_flattened import FoldFlattened
from relay_passes.fuse_blocks import FuseBlocks
from relay_passes.legalize import LegalizeToTir
from relay_passes.normalize_scales import NormalizeScales
from relay_passes.pack_operands import PackOperands
from relay_passes.rewrite_to_icn import RewriteToIcn
from relay_passes.select_kernels import SelectKernels
from relay_passes.split_channels import SplitChannels

__all__ = [
    "AnnotateBitwidths",
    "AnnotateRanges",
    "Canonicalize",
    "FoldConstantChannels",
    "FoldFlattened",
    "FuseBlocks",
    "LegalizeToTir",
    "NormalizeScales",
    "PackOperands",
    "RewriteToIcn",
    "SelectKernels",
    "SplitChannels",
    "layer_specs",
]
