"""Linear attention over a prompt: the chunked scan of Mamba-2 and gated delta nets. Its decode step only moves a state,
as pointwise kernels do. No measurements stand behind it yet: rates are those of attention on the same chip.

Engines run the scan as five kernels (sums of the decay, state of each chunk, states passed on from chunk to chunk,
scores, output; Mamba-2, arXiv:2405.21060, section 6). Passing the states on is the part that can't be parallel.
"""

import numpy as np

KERNELS_OF_A_SCAN = 5


def scan(op, chip, fit) -> dict[str, np.ndarray]:
    """Seconds by cause of one scan (dims chunks): launches + a walk over the chunks + max(MMAs, DRAM)."""
    dram_s = op.bytes / (chip.dram_read_bytes_per_s * fit.dram_efficiency)
    ideal_s = op.flops / chip.tensor_flops_per_s(op.dtype)
    tensor_s = ideal_s / fit.mma_efficiency
    by_dram = dram_s >= tensor_s
    kernels_s = (fit.launch_clocks + (KERNELS_OF_A_SCAN - 1) * fit.kernel_clocks) / chip.clock_hz
    return {
        "tensor": ideal_s * (1 - by_dram),
        "tensor_overhead": (tensor_s - ideal_s) * (1 - by_dram),
        "dram": dram_s * by_dram,
        "latency": np.ceil(op.dims["chunks"]) * chip.l2_latency_s + 0.0 * dram_s,
        "launch": kernels_s + 0.0 * dram_s,
    }
