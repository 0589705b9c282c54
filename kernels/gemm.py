"""One dense matrix product y[m, n] = x[m, k] @ W[k, n] (or `batch` of them in one launch), by cause.

A tensor-core GEMM cuts y into tiles; a thread block (CTA) makes one tile, walking k in steps through a pipeline of
stages in shared memory. The library chooses the tile, and how many CTAs share one tile's k range (split-K); we take
the fastest candidate. For each candidate
    on-chip = start of waves + main loop of the busiest SM + epilogue + split-K reduction   (one after another)
    total   = launch + p-norm(on-chip, L2 traffic, DRAM traffic)                            (overlapped, imperfectly)
Where all SMs are busy, the power limit lowers the clock: on-chip time is then at least that of the MMAs at the share of
the tensor peak that the power limit leaves.
Every term is non-decreasing in m, n, k and non-increasing in clock, SM count, L2 and DRAM bandwidth; so are the
p-norm and the minimum over candidates. A p-norm is never below its largest term, hence never below the roofline.

Operands may be narrower than 2 bytes: `op.dtype` is what the MMAs multiply (fp16, bf16, int8, fp8, fp4), the dims
a_bytes, b_bytes and c_bytes (2 by default) are what an element of x, W and y takes in memory, scales included. A step
along k is then as many bytes as with 2-byte operands. Weights narrower than the MMA's operands (weight-only formats)
are widened on the CUDA cores, tile by tile, by kernels of their own: WEIGHT_ONLY_TILES.
"""

from functools import lru_cache

import numpy as np

from kernels.architectures import Tile

# TensorRT-LLM's fpA_intB (CUTLASS, CtaShape{16,32,64,128}x128x64, a warp as high as its tile, so that a CTA widens each
# weight once; 16x256x64 too) and Marlin: mma.sync kernels on every architecture.
WEIGHT_ONLY_TILES = (
    Tile(16, 128, 64, 4, 16, 32, 4),
    Tile(16, 256, 64, 4, 16, 64, 4),
    Tile(32, 128, 64, 4, 32, 32, 4),
    Tile(64, 128, 64, 3, 64, 32, 4),
    Tile(128, 128, 64, 3, 128, 32, 4),
)
OPERAND_BYTES = {"fp16": 2, "bf16": 2, "int8": 1, "fp8": 1, "fp4": 0.5}  # of an element as the MMAs read it
# MMAs on operands half as wide are twice as many, but take more than half the energy each: what sustains 794.5 TFLOP/s
# in bf16 sustains 1,400 in fp8 [MAMF, H100 SXM; see hardware.py], 0.88 as much of its peak.
HALF_WIDTH_POWER = 1400 / 794.5 / 2
ISSUE_PER_CLOCK = 128  # CUDA-core instructions of one SM: 4 schedulers, 32 lanes each
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # CTAs that may share one tile's k range
WEIGHT_ONLY_SPLITS = (1, 2, 4)  # TensorRT-LLM: at most 7 (SPLIT_K_LIMIT), and whole k-steps for each
# Of an L2 of one partition: the cycle that is found whole when it is touched again, and the one of which nothing is. On
# an L40 the rate is full at 94 of 101 MB, 96 % are found at 103 MB, 25 % at 113 MB [GPU-BENCHES, gpu-l2-cache].
SINGLE_L2 = (0.93, 1.15)
REDUCE_BYTES = 8  # of an element and split: an fp32 partial sum written and read
# Scales add to an element's bytes: it is as wide as another from 0.9 of its bytes up, and one of 8 bits above 0.75.
AS_WIDE, EIGHT_BITS_FROM = 0.9, 0.75
SMALL_SIDE = 128  # of a tile, below which NarrowFit.small_tiles_m limits it
BARRIER_BYTES = 1024  # of shared memory besides the operands: barriers, alignment
WARP = 32  # threads
MOST_REGISTERS = 255  # of a thread [CUDA C++ Programming Guide]
OTHER_REGISTERS = 90  # of a thread, besides its accumulators: fragments, addresses; a judgement
QUARTERS = 4  # of an SM; each has a tensor core, which serves the warps of its quarter


def gemm(op, chip, arch, *, resident=0.0, weights_resident=0.0) -> dict[str, np.ndarray]:
    """Seconds by cause of one launch of `op` (dims m, n, k and maybe batch), broadcasting.

    resident: the part of all operands that is in the L2 already, as in a benchmark that repeats one product (see
    resident_fraction); weights_resident: the same for the weights alone. With both 0, as in a model's run, the time
    is never below the roofline.
    """
    m, n, k, batch, resident = np.broadcast_arrays(
        *(
            np.asarray(x, dtype=float)
            for x in (op.dims["m"], op.dims["n"], op.dims["k"], op.dims.get("batch", 1), resident)
        )
    )
    narrow = arch.narrow
    widths, stored, efficiency = operands(op, chip, arch, arch.gemm.tensor_efficiency)
    operand_bytes, weight_only = OPERAND_BYTES[op.dtype], widths[3] > 0
    fma_per_clock = chip.fma_per_clock(op.dtype) * chip.tensor_cores_per_sm
    power_fma = fma_per_clock * power_share(op.dtype, arch)
    rates = (widths, chip, arch, fma_per_clock * efficiency, power_fma, weights_resident)
    most_splits = narrow.splits if operand_bytes < 2 else max(SPLITS)
    tiles, splits = (WEIGHT_ONLY_TILES, WEIGHT_ONLY_SPLITS) if weight_only else (arch.gemm_tiles, SPLITS)
    if operand_bytes < 2 and most_splits == 1:
        tiles = arch.narrow_tiles or tiles
    limits = (chip.shared_bytes_per_sm, chip.registers_per_sm, chip.ctas_per_sm)
    candidates = _candidates(tiles, tuple(split for split in splits if split <= most_splits), *limits, *stored)
    every = _parts(candidates, *(x[..., None] for x in (m, n, k, batch, resident)), *rates)
    if operand_bytes < 2:
        rows, columns, most_rows = candidates[0], candidates[1], candidates[-1]
        too_small = ((rows < SMALL_SIDE) | (columns < SMALL_SIDE)) & (m[..., None] > narrow.small_tiles_m)
        left_out = too_small | (m[..., None] > most_rows) | (columns > narrow.most_columns)
        every["total"] = np.where(left_out, np.inf, every["total"])
    best = np.argmin(every["total"], axis=-1)
    parts = _parts(candidates[:, best], m, n, k, batch, resident, *rates)
    ideal_s = m * n * k * batch / (chip.sm_count * fma_per_clock * chip.clock_hz)
    return _by_cause(parts, ideal_s, arch.gemm.launch_clocks / chip.clock_hz)


def operands(op, chip, arch, tensor_efficiency) -> tuple[tuple, tuple, float]:
    """Of a product with operands of any width: ((bytes of an element of x, W and y in memory, CUDA-core instructions
    per widened weight, clocks per step for it), bytes of an element of x and W in shared memory, share of the tensor
    peak that its MMAs keep up).
    """
    a_bytes, b_bytes, c_bytes = (op.dims.get(name, 2) for name in ("a_bytes", "b_bytes", "c_bytes"))
    operand_bytes = OPERAND_BYTES[op.dtype]
    if op.dtype in ("fp8", "fp4"):
        tensor_efficiency = arch.narrow.tensor_efficiency
    if b_bytes >= AS_WIDE * operand_bytes:
        return (a_bytes, b_bytes, c_bytes, 0.0, 0.0), (operand_bytes, operand_bytes), tensor_efficiency
    dequant = (widening_ops(b_bytes, arch.narrow), arch.narrow.dequant_clocks)
    share = tensor_efficiency * arch.mma_sync_share
    return (a_bytes, b_bytes, c_bytes, *dequant), (operand_bytes, b_bytes), share


def widening_ops(elem_bytes, narrow):
    """CUDA-core instructions that make one stored element of 8 or 4 bits an operand of 16."""
    return np.where(np.asarray(elem_bytes) > EIGHT_BITS_FROM, narrow.dequant8_ops, narrow.dequant4_ops)


def power_share(dtype: str, arch) -> float:
    """Part of the peak of `dtype` that the power limit leaves."""
    return arch.gemm.power_share * HALF_WIDTH_POWER ** np.log2(2 / OPERAND_BYTES[dtype])


@lru_cache(maxsize=64)
def _candidates(tiles, splits, shared_bytes_per_sm, registers_per_sm, ctas_per_sm, a_bytes=2, b_bytes=2) -> np.ndarray:
    """[11, tiles x splits]: rows, columns, k-step, stages, warp rows, warp columns, part of the tensor cores that the
    warps of one CTA reach, pair, CTAs per SM, split, most rows of a product.
    a_bytes, b_bytes: of an element of x and W in shared memory.
    """
    names = ("rows", "columns", "k_step", "stages", "warp_rows", "warp_columns", "warps", "pair", "most_rows")
    columns_of = [[getattr(tile, name) for name in names] + [split] for tile in tiles for split in splits]
    rows, columns, k_step, stages, warp_rows, warp_columns, warps, pair, most_rows, split = np.array(
        columns_of, dtype=float
    ).T
    k_step = k_step * 2 / a_bytes
    shared_bytes = stages * (rows * a_bytes + columns / pair * b_bytes) * k_step + BARRIER_BYTES
    threads = WARP * warps
    registers = threads * np.minimum(MOST_REGISTERS, rows * columns / threads + OTHER_REGISTERS)
    per_sm = np.minimum(shared_bytes_per_sm // shared_bytes, registers_per_sm // registers)
    per_sm = np.maximum(np.minimum(per_sm, ctas_per_sm), 1)
    reach = np.minimum(warps / QUARTERS, 1)
    return np.array((rows, columns, k_step, stages, warp_rows, warp_columns, reach, pair, per_sm, split, most_rows))


def _parts(
    candidates, m, n, k, batch, resident, widths, chip, arch, fma_per_clock, power_fma, weights_resident, turns=0.0
) -> dict:
    """Seconds (and a few clocks) of each part for the given candidates, all broadcast; "total" is without launch.
    fma_per_clock: of the MMAs of one SM; power_fma: of those of an SM where all work, within the power limit.
    turns: the part of its operands' way into registers that a CTA's MMAs wait for; 0, where they run side by side.
    """
    rows, columns, k_step, stages, warp_rows, warp_columns, reach, pair, per_sm, split, _ = candidates
    a_width, b_width, c_width, dequant_ops, dequant_clocks = widths
    clock, fit, specialised = chip.clock_hz, arch.gemm, arch.specialised and not dequant_ops
    tiles_m, tiles_n = np.ceil(m / (rows * pair)), np.ceil(n / columns)
    ctas = tiles_m * pair * tiles_n * split * batch
    steps = np.ceil(np.ceil(k / k_step) / split)
    real_rows, real_columns = np.minimum(m, rows), np.minimum(n, columns)  # loads and stores skip the padding

    # Clocks of one k-step of one CTA: MMAs (on the padding too), shared memory, the SM's port to the L2.
    mma = rows * columns * k_step / fma_per_clock
    panel_bytes = (a_width * real_rows + b_width * real_columns / pair) * k_step
    read_bytes = rows * columns * k_step * (a_width / warp_columns + b_width / (pair * warp_rows))  # by every warp tile
    shared = (read_bytes + (0 if specialised else panel_bytes)) / chip.shared_bytes_per_clock
    port = panel_bytes / arch.port_bytes_per_clock
    dequant = columns * k_step * dequant_ops / ISSUE_PER_CLOCK  # on the CUDA cores, not hidden by the same warp's MMAs
    operands = np.maximum(shared, port)
    busy = np.maximum(operands, mma + dequant) + turns * np.minimum(operands, mma)
    # A CTA alone on its SM also waits at barriers, and for loads: stages - 1 steps are in flight (Little's law).
    load_s = chip.dram_latency_s * (1 - resident) + chip.l2_latency_s * resident
    step_clocks = 0 if specialised else fit.step_clocks + dequant_clocks
    alone = np.maximum(np.maximum(busy, mma / reach + dequant) + step_clocks, load_s * clock / (stages - 1))

    store = c_width * real_rows * real_columns / fit.epilogue_bytes_per_clock  # clocks of one tile
    start_s, loop_s, store_s, deepest = _waves(ctas, per_sm, steps, busy, alone, store, specialised, chip, fit)

    a_bytes, b_bytes, c_bytes = a_width * m * k * batch, b_width * k * n * batch, c_width * m * n * batch
    reduce_s = (split > 1) * (fit.split_k_s + split * m * n * batch * REDUCE_BYTES / chip.l2_bytes_per_s)
    cluster = arch.cluster if specialised else 1
    l2_s = (a_bytes * tiles_n + b_bytes * np.ceil(tiles_m / cluster) + c_bytes) / chip.l2_bytes_per_s
    dram_bytes = a_bytes + b_bytes * (1 - weights_resident) + c_bytes
    dram_s = (1 - resident) * (dram_bytes / (chip.dram_read_bytes_per_s * fit.dram_efficiency) + fit.dram_ramp_s)
    unlimited_s = start_s + loop_s + store_s + reduce_s
    on_chip_s = np.maximum(unlimited_s, m * n * k * batch / (chip.sm_count * power_fma * clock))
    largest = np.maximum(np.maximum(on_chip_s, l2_s), dram_s)
    weights = {
        "on_chip": (on_chip_s / largest) ** fit.overlap,
        "l2": (l2_s / largest) ** fit.overlap,
        "dram": (dram_s / largest) ** fit.overlap,
    }
    return {
        "total": largest * sum(weights.values()) ** (1 / fit.overlap),
        "weights": weights,
        "on_chip": on_chip_s,
        "held_back": on_chip_s - unlimited_s,  # by the power limit
        "even_dequant": steps * ctas / chip.sm_count * np.minimum(dequant, busy - mma) / clock,
        "even_mma": steps * ctas / chip.sm_count * mma / clock,  # if every SM had the same number of k-steps
        "even_busy": steps * ctas / chip.sm_count * busy / clock,
        "busiest": steps * deepest * busy / clock,
        "by_port": port >= shared,
        "start": start_s,
        "loop": loop_s,
        "store": store_s + reduce_s,
    }


def _waves(ctas, per_sm, steps, busy, alone, store, specialised, chip, fit) -> tuple[np.ndarray, ...]:
    """Seconds of the starts, main loops and stores of all waves that show, and the CTAs of the busiest SM. busy, alone:
    clocks of a k-step of one CTA, among others and by itself; store: of storing one tile.

    The first CTAs spread over the SMs one each; those of a partial last wave start where slots fall free, and the slots
    of one SM fall free together: so a partial wave lasts about as long as a full one.
    """
    full = np.floor(ctas / (chip.sm_count * per_sm))
    rest = ctas - full * chip.sm_count * per_sm
    last = np.where(full > 0, np.minimum(rest, per_sm), np.ceil(rest / chip.sm_count))
    deepest = full * per_sm + last
    loop_full = steps * np.maximum(per_sm * busy, alone)
    loop_last = steps * np.maximum(last * busy, alone) * (last > 0)
    loop_s = (full * loop_full + loop_last) / chip.clock_hz
    if not specialised:
        starts = full + (last > 0)
        return starts * fit.wave_clocks / chip.clock_hz, loop_s, deepest * store / chip.clock_hz, deepest
    # one start and one store show; the other stores only where they outlast the main loop
    behind = full * np.maximum(loop_full, per_sm * store) + np.maximum(loop_last, last * store)
    store_s = behind / chip.clock_hz - loop_s + store / chip.clock_hz
    return fit.wave_clocks / chip.clock_hz, loop_s, store_s, deepest


def _by_cause(parts, ideal_s, launch_s) -> dict[str, np.ndarray]:
    """Overlapped phases share the time by their weight in the p-norm; the on-chip share is cut in proportion."""
    weights = parts["weights"]
    unit = parts["total"] / sum(weights.values())
    on_chip = unit * weights["on_chip"] / parts["on_chip"]
    starved = parts["even_busy"] - parts["even_mma"] - parts["even_dequant"]  # MMAs waiting for operands
    return {
        "tensor": on_chip * ideal_s,
        "tensor_overhead": on_chip * (parts["even_mma"] - ideal_s + parts["held_back"]),
        "dram": unit * weights["dram"],
        "vector": on_chip * parts["even_dequant"],
        "l2": unit * weights["l2"] + on_chip * starved * parts["by_port"],
        "shared": on_chip * starved * ~parts["by_port"],
        "wave_tail": on_chip * (parts["busiest"] - parts["even_busy"]),
        "epilogue": on_chip * parts["store"],
        "latency": on_chip * (parts["start"] + parts["loop"] - parts["busiest"]),
        "launch": np.full_like(parts["total"], launch_s),
    }


def usable_l2_bytes(chip, arch) -> float:
    """L2 that keeps data between kernels: each of two partitions has its own copy of lines that belong to the other."""
    return (arch.gemm.l2_usable if chip.l2_partitions > 1 else SINGLE_L2[0]) * chip.l2_bytes / chip.l2_partitions


def resident_fraction(cycle_bytes, chip, arch):
    """Part of its operands that a benchmark finds in the L2 when it cycles through `cycle_bytes` of distinct data: all
    while the cycle fits in the usable L2; none once it is twice that, or outgrows a single partition; linear between.
    """
    usable_bytes = usable_l2_bytes(chip, arch)
    none_bytes = 2 * usable_bytes if chip.l2_partitions > 1 else SINGLE_L2[1] * chip.l2_bytes
    return np.clip((none_bytes - cycle_bytes) / (none_bytes - usable_bytes), 0.0, 1.0)
