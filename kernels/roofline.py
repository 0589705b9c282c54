"""The bound: what no kernel on this chip can beat (Williams, Waterman, Patterson, CACM 52(4), 2009).

Reads the `Op` and `Chip` records; imports neither.
"""

import numpy as np


def peak_flops_per_s(op, chip) -> float:
    """Peak of the unit that `op` computes on, in its dtype. Raises ValueError for a rate the chip lacks."""
    return chip.tensor_flops_per_s(op.dtype) if op.unit == "tensor" else chip.vector_flops_per_s


def compute_s(op, chip):
    """Seconds of one launch if only arithmetic took time."""
    return op.flops / peak_flops_per_s(op, chip)


def memory_s(op, chip, weights_resident: float = 0.0):
    """Seconds of one launch if only DRAM traffic took time. weights_resident: the part of its weights that a product
    finds in the L2 instead.
    """
    resident_bytes = weights_resident * op.weight_bytes if op.kind == "gemm" else 0.0
    return (op.bytes - resident_bytes) / chip.dram_bytes_per_s


def roofline_s(op, chip, weights_resident: float = 0.0):
    """Seconds of one launch of `op`: the larger of the two times above. Shape: that of the op's sizes."""
    return np.maximum(compute_s(op, chip), memory_s(op, chip, weights_resident))


def roofline_causes(op, chip, weights_resident: float = 0.0) -> dict[str, np.ndarray]:
    """roofline_s by what binds: {"tensor" or "vector": seconds, "dram": seconds}, one of them 0."""
    compute, memory = compute_s(op, chip), memory_s(op, chip, weights_resident)
    compute_bound = compute >= memory
    return {op.unit: compute * compute_bound, "dram": memory * (1 - compute_bound)}


def ridge_point_flops_per_byte(chip, dtype: str) -> float:
    """Arithmetic intensity at which the tensor cores, not DRAM, become the limit.
    Source: peak FLOP/s over DRAM byte/s; 311.9e12 / 1.935e12 = 161 on the A100 80GB PCIe.
    """
    return chip.tensor_flops_per_s(dtype) / chip.dram_bytes_per_s
