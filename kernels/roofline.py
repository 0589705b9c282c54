"""The bound: what no kernel on this chip can beat (Williams, Waterman, Patterson, CACM 52(4), 2009).

Reads the `Op` and `Chip` records.
"""

from typing import Protocol

import numpy as np

from ridgepoint.ops import Causes, Number, Op, Seconds


class Peaks(Protocol):
    """What is asked of a `Chip` here; the earlier estimator's constants (explain/seed.py) answer it too."""

    @property
    def vector_flops_per_s(self) -> float: ...

    @property
    def dram_bytes_per_s(self) -> float: ...

    def tensor_flops_per_s(self, dtype: str) -> float: ...


def peak_flops_per_s(op: Op, chip: Peaks) -> float:
    """Peak of the unit that `op` computes on, in its dtype. Raises ValueError for a rate the chip lacks."""
    return chip.tensor_flops_per_s(op.dtype) if op.unit == "tensor" else chip.vector_flops_per_s


def compute_s(op: Op, chip: Peaks) -> Seconds:
    """Seconds of one launch if only arithmetic took time."""
    return op.flops / peak_flops_per_s(op, chip)


def memory_s(op: Op, chip: Peaks, weights_resident: Number = 0.0) -> Seconds:
    """Seconds of one launch if only DRAM traffic took time. weights_resident: the part of its weights that a product
    finds in the L2 instead.
    """
    resident_bytes = weights_resident * op.weight_bytes if op.kind == "gemm" else 0.0
    return (op.bytes - resident_bytes) / chip.dram_bytes_per_s


def roofline_s(op: Op, chip: Peaks, weights_resident: Number = 0.0) -> Seconds:
    """Seconds of one launch of `op`: the larger of the two times above. Shape: that of the op's sizes."""
    return np.maximum(compute_s(op, chip), memory_s(op, chip, weights_resident))


def roofline_causes(op: Op, chip: Peaks, weights_resident: Number = 0.0) -> Causes:
    """roofline_s by what binds: {"tensor" or "vector": seconds, "dram": seconds}, one of them 0."""
    compute, memory = compute_s(op, chip), memory_s(op, chip, weights_resident)
    compute_bound = compute >= memory
    return {op.unit: compute * compute_bound, "dram": memory * (1 - compute_bound)}


def ridge_point_flops_per_byte(chip: Peaks, dtype: str) -> float:
    """Arithmetic intensity at which the tensor cores, not DRAM, become the limit.
    Source: peak FLOP/s over DRAM byte/s; 311.9e12 / 1.935e12 = 161 on the A100 80GB PCIe.
    """
    return chip.tensor_flops_per_s(dtype) / chip.dram_bytes_per_s
