"""Scheduled Thumb-2 assembly for the Cortex-M7: instructions, scheduler, micro-kernels."""

from tvm_mpq.kernels.asm.library import assembly_sources

__all__ = ["assembly_sources"]
