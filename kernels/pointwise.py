"""Norms, RoPE, SwiGLU, residual add, embedding, softmax, sampling, quantisation: they move bytes, hardly compute.

Engines give each row (token) of a norm, RoPE, SwiGLU or embedding to one CTA, whose threads walk the row with one
element each in flight: such a kernel is bound by how fast an SM walks rows, long before DRAM is (Little's law). The
rows of the busiest SM follow one another, so the time steps with every sm_count tokens. Of the walk, DRAM and the
arithmetic only the longest is a cause: the others are hidden, and cost nothing.
"""

from typing import TYPE_CHECKING

import numpy as np

from ridgepoint.kernels.architectures import Architecture
from ridgepoint.ops import Causes, Op

if TYPE_CHECKING:
    from ridgepoint.hardware import Chip


def pointwise(op: Op, chip: "Chip", arch: Architecture) -> Causes:
    """Seconds by cause of one launch of `op` (dims rows, width): launch + start + max(rows on the busiest SM, DRAM,
    arithmetic). Kinds that share a row among CTAs have no entry in elements_per_clock. Data that the kernel before
    left in the L2 is charged to DRAM all the same.
    """
    fit = arch.pointwise
    dram_s = op.bytes / (chip.dram_read_bytes_per_s * fit.dram_efficiency)
    vector_s = op.flops / chip.vector_flops_per_s
    per_clock = fit.elements_per_clock.get(op.kind, np.inf)
    rows = np.ceil(op.dims["rows"] / chip.sm_count)
    width = op.dims["width"] + fit.chosen_walks * op.dims.get("chosen", 0)
    walk_s = rows * (width / per_clock / chip.clock_hz)
    by_walk = walk_s > np.maximum(dram_s, vector_s)
    by_dram = (dram_s >= vector_s) & ~by_walk
    return {
        "dram": dram_s * by_dram,
        "vector": vector_s * ~(by_dram | by_walk),
        "latency": fit.start_s + walk_s * by_walk,
        "launch": fit.launch_s + 0.0 * dram_s,
    }
