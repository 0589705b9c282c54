"""The kernels of a mixture of experts: grouped products, routing around them, combining the results.

A grouped GEMM is one launch for all experts. Each expert's rows (the tokens that chose it) are padded to whole tiles,
so a call is a batch of as many tile-high products as there are tiles, and kernels/gemm.py times it: waves over the
tiles of all experts; every tile reads its expert's weights from the L2, the first of an expert from DRAM. The tile's
height goes by the rows of an expert, few or many, which the library chooses: we take the fastest.
On Ampere the MMAs of such a kernel wait for their operands: gathered rows go through index loads, and few warps share
an SM. Sources: vLLM's and SGLang's fused_moe Triton kernel and TensorRT-LLM's CUTLASS one, whose tiles these are.
"""

from dataclasses import replace

import numpy as np

from ridgepoint.kernels.architectures import AMPERE_MOE_TILES
from ridgepoint.kernels.gemm import _by_cause, _candidates, _parts, operands, power_share

HEIGHTS = (8, 16, 32, 64, 128, 256)  # tile heights for which dims["tiles"] may give known counts


def grouped_gemm(op, chip, arch, *, resident=0.0) -> dict[str, np.ndarray]:
    """Seconds by cause of one launch of `op`: m pairs of token and expert, n, k, `active` experts expected to be used;
    the tiles follow from tokens, experts, top_k and imbalance, or are known: dims["tiles"], [..., HEIGHTS].

    resident: as in kernels/gemm.py. dims["untuned"]: True where an engine has no tuned tile for these experts and runs
    Triton's default: 16 rows if tokens <= experts, else 64, the first two of AMPERE_MOE_TILES. Ampere and Ada only.
    """
    names = ("m", "n", "k", "active", "tokens", "experts")
    given = (*(op.dims[name] for name in names), resident, op.dims.get("untuned", False))
    sizes = [np.asarray(x, dtype=float) for x in given]
    m, n, k, active, tokens, experts, resident, untuned = np.broadcast_arrays(*sizes)
    widths, stored, efficiency = operands(op, chip, arch, arch.moe.tensor_efficiency)
    # Narrow weights: mma.sync kernels on every architecture, since asynchronous MMAs can't widen them. Marlin's
    # pipeline keeps its operands ahead of the MMAs (arXiv:2408.11743, section 3.2).
    weight_only = stored[0] > stored[1]
    tiles, turns = (AMPERE_MOE_TILES, 0.0) if weight_only else (arch.moe_tiles, arch.moe.turns)
    limits = (chip.shared_bytes_per_sm, chip.registers_per_sm, chip.ctas_per_sm)
    candidates = _candidates(tiles, (1,), *limits, *stored)
    counts = _tile_counts(op, candidates[0])
    counts = np.broadcast_to(counts, m.shape + counts.shape[-1:])
    rate = chip.fma_per_clock(op.dtype) * chip.tensor_cores_per_sm
    power_fma = rate * power_share(op.dtype, arch)
    changes = {"dram_efficiency": arch.moe.dram_efficiency, "step_clocks": 0.0, "overlap": arch.moe.overlap}
    grouped = replace(arch, gemm=replace(arch.gemm, **changes))

    def parts(candidates, counts, m, n, k, active, resident):
        mean_rows = np.minimum(m / counts, candidates[0])
        rates = (widths, chip, grouped, rate * efficiency, power_fma, 1 - active / counts, turns)
        return _parts(candidates, mean_rows, n, k, counts, resident, *rates)

    each = (m, n, k, active, resident)
    total_s = parts(candidates, counts, *(x[..., None] for x in each))["total"]
    best = np.where(untuned > 0, np.where(tokens <= experts, 0, 1), np.argmin(total_s, axis=-1))
    chosen = np.take_along_axis(counts, best[..., None], axis=-1)[..., 0]
    ideal_s = m * n * k / (chip.sm_count * rate * chip.clock_hz)
    found = parts(candidates[:, best], chosen, *each)
    return _by_cause(found, ideal_s, chip.clock_hz, arch.gemm.launch_clocks / chip.clock_hz)


def _tile_counts(op, heights) -> np.ndarray:
    """[..., candidates]: tiles of all experts together."""
    if "tiles" in op.dims:
        return np.asarray(op.dims["tiles"])[..., [HEIGHTS.index(int(height)) for height in heights]]
    by_height = {int(x): op.expert_tiles(int(x)) for x in set(heights)}
    return np.stack([by_height[int(height)] for height in heights], axis=-1)


def route(op, chip, arch) -> dict[str, np.ndarray]:
    """Seconds by cause of what routes tokens to experts: softmax, top-k, counting, sorting, aligning to tiles. Several
    small kernels, of which only their number shows: one constant time for all.
    """
    dram_s, vector_s = op.bytes / chip.dram_read_bytes_per_s, op.flops / chip.vector_flops_per_s
    streamed = _streamed(dram_s, vector_s)
    if not np.any(streamed["vector"]):  # as on any chip with a usual number of CUDA cores
        del streamed["vector"]
    return streamed | {"launch": arch.moe.layer_clocks / chip.clock_hz + 0.0 * dram_s}


def combine(op, chip, arch) -> dict[str, np.ndarray]:
    """Seconds by cause of summing each token's results, weighted: a stream. Its launch is in that of `route`."""
    dram_s, vector_s = op.bytes / chip.dram_read_bytes_per_s, op.flops / chip.vector_flops_per_s
    return _streamed(dram_s, vector_s) | {"launch": 0.0 * dram_s}


def _streamed(dram_s, vector_s) -> dict[str, np.ndarray]:
    """The longer of the two, under its name."""
    by_dram = dram_s >= vector_s
    return {"dram": dram_s * by_dram, "vector": vector_s * (1 - by_dram)}
