"""One dense matrix product y[m, n] = x[m, k] @ W[k, n] (or `batch` of them in one launch), by cause.

A tensor-core GEMM cuts y into tiles; a thread block (CTA) makes one tile, walking k in steps through a pipeline of
stages in shared memory. The library chooses the tile, and how many CTAs share one tile's k range (split-K); we take
the fastest candidate. For each candidate
    on-chip = start of waves + main loop of the busiest SM + epilogue + split-K reduction   (one after another)
    total   = launch + p-norm(on-chip, L2 traffic, DRAM traffic)                            (overlapped, imperfectly)
Where all SMs are busy, the power limit lowers the clock: on-chip time is then at least that of the MMAs at the share of
the tensor peak that the power limit leaves.
The causes of the total are what a higher rate of each would save: on-chip, L2 and DRAM their weight in the p-norm; of
the main loop what binds its k-steps (MMAs, shared memory, the port to the L2, widening; waits, where a CTA is alone);
where the power limit binds, of all on the chip the MMAs alone.
Every term is non-decreasing in m, n, k and non-increasing in clock, SM count, L2 and DRAM bandwidth; so are the
p-norm and the minimum over candidates. A p-norm is never below its largest term, hence never below the roofline.

Operands may be narrower than 2 bytes: `op.dtype` is what the MMAs multiply (fp16, bf16, int8, fp8, fp4), the dims
a_bytes, b_bytes and c_bytes (2 by default) are what an element of x, W and y takes in memory, scales included. A step
along k is then as many bytes as with 2-byte operands. Weights narrower than the MMA's operands (weight-only formats)
are widened on the CUDA cores, tile by tile, by kernels of their own: WEIGHT_ONLY_TILES.
"""

from functools import lru_cache, reduce

import numpy as np

from ridgepoint.kernels.architectures import Tile

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
    return _by_cause(parts, ideal_s, chip.clock_hz, arch.gemm.launch_clocks / chip.clock_hz)


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
    """Seconds of each part (and what _by_cause splits them by) for the given candidates, all broadcast; "total" is
    without launch.
    fma_per_clock: of the MMAs of one SM; power_fma: of those of an SM where all work, within the power limit.
    turns: the part of its operands' way into registers that a CTA's MMAs wait for; 0, where they run side by side.
    """
    rows, columns, k_step, *_, pair, per_sm, split, _ = candidates
    a_width, b_width, c_width, dequant_ops, _ = widths
    fit, specialised = arch.gemm, arch.specialised and not dequant_ops
    tiles_m, tiles_n = np.ceil(m / (rows * pair)), np.ceil(n / columns)
    ctas = tiles_m * pair * tiles_n * split * batch
    steps = np.ceil(np.ceil(k / k_step) / split)
    real_rows, real_columns = np.minimum(m, rows), np.minimum(n, columns)  # loads and stores skip the padding
    step = _step(candidates, real_rows, real_columns, resident, widths, chip, arch, fma_per_clock, turns)
    store = c_width * real_rows * real_columns / fit.epilogue_bytes_per_clock  # clocks of one tile
    start_s, store_s, waves, deepest = _waves(ctas, per_sm, steps, step, store, specialised, chip, fit)
    loop_s = sum(count * clocks for count, _, clocks in waves) / chip.clock_hz

    a_bytes, b_bytes, c_bytes = a_width * m * k * batch, b_width * k * n * batch, c_width * m * n * batch
    reduce_s = (split > 1) * (fit.split_k_s + split * m * n * batch * REDUCE_BYTES / chip.l2_bytes_per_s)
    cluster = arch.cluster if specialised else 1
    l2_s = (a_bytes * tiles_n + b_bytes * np.ceil(tiles_m / cluster) + c_bytes) / chip.l2_bytes_per_s
    dram_bytes = a_bytes + b_bytes * (1 - weights_resident) + c_bytes
    stream_s = dram_bytes / (chip.dram_read_bytes_per_s * fit.dram_efficiency)
    dram_s = (1 - resident) * (stream_s + fit.dram_ramp_s)
    unlimited_s = start_s + loop_s + store_s + reduce_s
    on_chip_s = np.maximum(unlimited_s, m * n * k * batch / (chip.sm_count * power_fma * chip.clock_hz))
    total_s, weights = _overlapped(fit.overlap, on_chip=on_chip_s, l2=l2_s, dram=dram_s)
    return {
        "total": total_s,
        "weights": weights,
        "on_chip": on_chip_s,
        "limited": on_chip_s > unlimited_s,  # by the power limit
        "ramp": fit.dram_ramp_s / (stream_s + fit.dram_ramp_s),
        "start": start_s,
        "step": step,
        "steps": steps,
        "waves": waves,
        "even": ctas / (chip.sm_count * deepest),  # part of the busiest SM's work that an SM has on average
        "behind": store if specialised else 0.0,  # clocks of a CTA's stores, beside the main loop
        "store": store_s,
        "split_k": (split > 1) * fit.split_k_s,
        "reduce": reduce_s,
    }


def _waves(ctas, per_sm, steps, step, store, specialised, chip, fit) -> tuple:
    """Seconds of the starts and of the stores that show; (how many, CTAs on an SM, clocks of the main loop) of the full
    waves and of the last; CTAs of the busiest SM. step: of `_step`; store: clocks of storing one tile.

    The first CTAs spread over the SMs one each; those of a partial last wave start where slots fall free, and the slots
    of one SM fall free together: so a partial wave lasts about as long as a full one.
    """
    full = np.floor(ctas / (chip.sm_count * per_sm))
    rest = ctas - full * chip.sm_count * per_sm
    last = np.where(full > 0, np.minimum(rest, per_sm), np.ceil(rest / chip.sm_count))
    loop_full, loop_last = (steps * np.maximum(some * step["busy"], step["alone"]) for some in (per_sm, last))
    waves, deepest = ((full, per_sm, loop_full), (1.0 * (last > 0), last, loop_last)), full * per_sm + last
    if not specialised:
        return (full + (last > 0)) * fit.wave_clocks / chip.clock_hz, deepest * store / chip.clock_hz, waves, deepest
    # one start and one store show; the other stores only where they outlast the main loop
    outlast = sum(count * np.maximum(some * store - loop, 0.0) for count, some, loop in waves)
    return fit.wave_clocks / chip.clock_hz, (outlast + store) / chip.clock_hz, waves, deepest


def _overlapped(exponent, **seconds) -> tuple:
    """(their p-norm, each one's term in it over that of the largest)."""
    largest = reduce(np.maximum, seconds.values())
    weights = {name: (each / largest) ** exponent for name, each in seconds.items()}
    return largest * sum(weights.values()) ** (1 / exponent), weights


def _step(candidates, real_rows, real_columns, resident, widths, chip, arch, fma_per_clock, turns) -> dict:
    """Clocks of one k-step of one CTA: "busy" of what the CTAs of an SM share, "alone" where none hides its waits."""
    rows, columns, k_step, stages, warp_rows, warp_columns, reach, pair, *_ = candidates
    a_width, b_width, _, dequant_ops, dequant_clocks = widths
    specialised = arch.specialised and not dequant_ops
    # MMAs (on the padding too), shared memory, the SM's port to the L2
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
    load = load_s * chip.clock_hz / (stages - 1)
    barrier = 0 if specialised else arch.gemm.step_clocks + dequant_clocks
    reached = mma / reach + dequant  # by the tensor cores that one CTA's warps reach
    return {
        "mma": mma,
        "reach": reach,
        "reached": reached,
        "dequant": dequant,
        "operands": operands,
        "by_port": port >= shared,
        "turns": turns,
        "busy": busy,
        "barrier": barrier,
        "load": load,
        "alone": np.maximum(np.maximum(busy, reached) + barrier, load),
    }


def _loop_by_cause(parts) -> dict:
    """Clocks of the busiest SM's main loop by what binds its k-steps ("operands": shared memory or the port), and
    "store", of waves whose stores, beside the loop, outlast it.
    """
    step, behind = parts["step"], parts["behind"]
    busy, alone, load = step["busy"], step["alone"], step["load"]
    together = by_itself = hidden = 0.0
    for count, ctas, loop in parts["waves"]:
        shown = count * (loop >= ctas * behind)
        shares = ctas * busy >= alone
        together, by_itself = together + shown * ctas * shares, by_itself + shown * ~shares
        hidden = hidden + (count - shown) * loop
    waits, reaches_few = load >= alone, step["reached"] > busy
    multiplies = by_itself * ~waits
    few, together = multiplies * reaches_few, together + multiplies * ~reaches_few
    # What binds counts in full; of the other, the part that waits for its turn.
    by_mma = step["mma"] + step["dequant"] >= step["operands"]
    steps, by_operands = parts["steps"], ~by_mma
    return {
        "tensor": steps * step["mma"] * (together * (by_mma + step["turns"] * by_operands) + few / step["reach"]),
        "vector": steps * step["dequant"] * (together * by_mma + few),
        "operands": steps * step["operands"] * together * (by_operands + step["turns"] * by_mma),
        "latency": steps * (by_itself * waits * load + multiplies * step["barrier"]),
        "store": hidden,
    }


def _by_cause(parts, ideal_s, clock_hz, launch_s) -> dict[str, np.ndarray]:
    """Seconds that a cause is worth. Of the total, phases that overlap are worth their weight in the p-norm; of the
    on-chip phase the parts that follow one another what they take, or the MMAs all of it, where the power limit binds.
    """
    weights, limited, by_port = parts["weights"], parts["limited"], parts["step"]["by_port"]
    unit = parts["total"] / sum(weights.values())
    l2_s, dram_s = unit * weights["l2"], unit * weights["dram"]
    on_chip = unit * weights["on_chip"] / parts["on_chip"]
    unlimited = on_chip * ~limited
    loop = _loop_by_cause(parts)
    even = parts["even"] / clock_hz  # of what the busiest SM does; the rest is what makes it the busiest
    mma_s = limited * parts["on_chip"] + ~limited * even * loop["tensor"]
    tensor_s = np.minimum(ideal_s, mma_s)
    operands_s = unlimited * even * loop["operands"]
    return {
        "tensor": on_chip * tensor_s,
        "tensor_overhead": on_chip * (mma_s - tensor_s),
        "dram": dram_s * (1 - parts["ramp"]),
        "vector": unlimited * even * loop["vector"],
        "l2": l2_s + operands_s * by_port + unlimited * (parts["reduce"] - parts["split_k"]),
        "shared": operands_s * ~by_port,
        "wave_tail": unlimited * (1 / clock_hz - even) * (loop["tensor"] + loop["vector"] + loop["operands"]),
        "epilogue": unlimited * (parts["store"] + loop["store"] / clock_hz + parts["split_k"]),
        "latency": unlimited * (parts["start"] + loop["latency"] / clock_hz) + dram_s * parts["ramp"],
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
