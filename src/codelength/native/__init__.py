"""Kernels in C for element-wise work, compiled when first needed; without a compiler, formulas in PyTorch do the same."""

from codelength.native.library import library, missing, parallel, state

__all__ = ["library", "missing", "parallel", "state"]
