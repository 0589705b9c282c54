"""The kernels of a mixture of experts: grouped products, routing around them, combining the results.

A grouped GEMM is one launch for all experts. Each expert's rows (the tokens that chose it) are padded to whole tiles,
so a call is a batch of as many tile-high products as there are tiles, and kernels/gemm.py times it: waves over the
tiles of all experts; every tile reads its expert's weights from the L2, the first of an expert from DRAM. The tile's
height goes by the rows of an expert, few or many, which the library chooses: we take the fastest.
On Ampere the MMAs of such a kernel wait for their operands: gathered rows go through index loads, and few warps share
an SM. Sources: vLLM's and SGLang's fused_moe Triton kernel and TensorRT-LLM's CUTLASS one, whose tiles these are.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ridgepoint.kernels.architectures import AMPERE_MOE_TILES, Architecture
from ridgepoint.kernels.gemm import (
    Parts,
    Rates,
    Sizes,
    _by_cause,
    _candidates,
    _parts,
    operands,
    power_share,
    sm_limits,
)
from ridgepoint.ops import Causes, Floats, Number, Op, Seconds

if TYPE_CHECKING:
    from ridgepoint.hardware import Chip

HEIGHTS = (8, 16, 32, 64, 128, 256)  # tile heights for which dims["tiles"] may give known counts


def grouped_gemm(op: Op, chip: "Chip", arch: Architecture, *, resident: Number = 0.0) -> Causes:
    """Seconds by cause of one launch of `op`: m pairs of token and expert, n, k, `active` experts expected to be used;
    the tiles follow from tokens, experts, top_k and imbalance, or are known: dims["tiles"], [..., HEIGHTS].

    resident: as in kernels/gemm.py. dims["untuned"]: True where an engine has no tuned tile for these experts and runs
    Triton's default: 16 rows if tokens <= experts, else 64, the first two of AMPERE_MOE_TILES. Ampere and Ada only.
    """
    dims = op.dims
    given = (dims["m"], dims["n"], dims["k"], dims["active"], resident, dims["tokens"], dims["experts"])
    sizes = [np.asarray(x, dtype=float) for x in (*given, dims.get("untuned", False))]
    m, n, k, active, cached, tokens, experts, untuned = np.broadcast_arrays(*sizes)
    widths, efficiency = operands(op, arch, arch.moe.tensor_efficiency)
    # Narrow weights: mma.sync kernels on every architecture, since asynchronous MMAs can't widen them. Marlin's
    # pipeline keeps its operands ahead of the MMAs (arXiv:2408.11743, section 3.2).
    weight_only = widths.shared[0] > widths.shared[1]
    tiles, turns = (AMPERE_MOE_TILES, 0.0) if weight_only else (arch.moe_tiles, arch.moe.turns)
    candidates = _candidates(tiles, (1,), sm_limits(chip), widths.shared)
    counts = _tile_counts(op, candidates[0])
    counts = np.broadcast_to(counts, m.shape + counts.shape[-1:])
    fma = chip.fma_per_clock(op.dtype) * chip.tensor_cores_per_sm
    fit = replace(arch.gemm, dram_efficiency=arch.moe.dram_efficiency, step_clocks=0.0, overlap=arch.moe.overlap)
    grouped = replace(arch, gemm=fit)

    def parts(
        candidates: Floats, counts: Floats, m: Floats, n: Floats, k: Floats, active: Floats, cached: Floats
    ) -> Parts:
        tile = Sizes(m=np.minimum(m / counts, candidates[0]), n=n, k=k, batch=counts, resident=cached)
        power_fma, read_again = fma * power_share(op.dtype, arch), 1 - active / counts
        rates = Rates(fma * efficiency, power_fma, weights_resident=read_again, turns=turns)
        return _parts(candidates, tile, widths, rates, chip, grouped)

    each = (m, n, k, active, cached)
    total_s = parts(candidates, counts, *(x[..., None] for x in each))["total"]
    best = np.where(untuned > 0, np.where(tokens <= experts, 0, 1), np.argmin(total_s, axis=-1))
    chosen = np.take_along_axis(counts, best[..., None], axis=-1)[..., 0]
    ideal_s = m * n * k / (chip.sm_count * fma * chip.clock_hz)
    found = parts(candidates[:, best], chosen, *each)
    return _by_cause(found, ideal_s, chip.clock_hz, arch.gemm.launch_clocks / chip.clock_hz)


def _tile_counts(op: Op, heights: Floats) -> Floats:
    """[..., candidates]: tiles of all experts together."""
    if "tiles" in op.dims:
        return np.asarray(op.dims["tiles"])[..., [HEIGHTS.index(int(height)) for height in heights]]
    by_height = {int(x): op.expert_tiles(int(x)) for x in set(heights)}
    return np.stack([by_height[int(height)] for height in heights], axis=-1)


def route(op: Op, chip: "Chip", arch: Architecture) -> Causes:
    """Seconds by cause of what routes tokens to experts: softmax, top-k, counting, sorting, aligning to tiles. Several
    small kernels, of which only their number shows: one constant time for all.
    """
    dram_s, vector_s = op.bytes / chip.dram_read_bytes_per_s, op.flops / chip.vector_flops_per_s
    streamed = _streamed(dram_s, vector_s)
    if not np.any(streamed["vector"]):  # as on any chip with a usual number of CUDA cores
        del streamed["vector"]
    return streamed | {"launch": arch.moe.layer_clocks / chip.clock_hz + 0.0 * dram_s}


def combine(op: Op, chip: "Chip", arch: Architecture) -> Causes:
    """Seconds by cause of summing each token's results, weighted: a stream. Its launch is in that of `route`."""
    dram_s, vector_s = op.bytes / chip.dram_read_bytes_per_s, op.flops / chip.vector_flops_per_s
    return _streamed(dram_s, vector_s) | {"launch": 0.0 * dram_s}


def _streamed(dram_s: Seconds, vector_s: Seconds) -> Causes:
    """The longer of the two, under its name."""
    by_dram = dram_s >= vector_s
    return {"dram": dram_s * by_dram, "vector": vector_s * (1 - by_dram)}
