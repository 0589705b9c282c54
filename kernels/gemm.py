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
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from ridgepoint.kernels.architectures import Architecture, GemmFit, NarrowFit, Tile
from ridgepoint.ops import Causes, Floats, Number, Op

if TYPE_CHECKING:
    from ridgepoint.hardware import Chip

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


class Sizes(NamedTuple):
    """Of products y[m, n] = x[m, k] @ W[k, n], `batch` of them in one launch; arrays that broadcast."""

    m: Floats
    n: Floats
    k: Floats
    batch: Floats
    resident: Floats  # part of all operands that is in the L2 already


class Operands(NamedTuple):
    """Of products: what their elements take, and what is done to weights that are narrower than the MMAs' operands."""

    a_bytes: Number  # of an element of x, W and y in memory
    b_bytes: Number
    c_bytes: Number
    shared: tuple[float, Number]  # bytes of an element of x and W in shared memory
    dequant_ops: Number  # CUDA-core instructions that widen one weight; 0: none is widened
    dequant_clocks: float  # that a k-step waits longer for it


class Rates(NamedTuple):
    """What the kernels of products reach on a chip, beside what Chip and Architecture say."""

    fma: float  # per clock, of the MMAs of one SM
    power_fma: float  # of those of an SM where all work, within the power limit
    weights_resident: Number = 0.0  # part of the weights that is in the L2 already
    turns: float = 0.0  # part of the operands' way into registers that a CTA's MMAs wait for; 0: they run side by side


Wave = tuple[Floats, Floats, Floats]  # how many, CTAs on an SM, clocks of the main loop


class Step(TypedDict):
    """Clocks of one k-step of one CTA."""

    mma: Floats
    reach: Floats  # part of the tensor cores that the warps of one CTA reach
    reached: Floats  # MMAs on those, and widening
    dequant: Floats
    operands: Floats  # shared memory or the port to the L2, whichever is slower
    by_port: np.ndarray  # the port is
    turns: float  # see Rates
    barrier: float
    load: Floats  # wait for one
    busy: Floats  # of what the CTAs of an SM share
    alone: Floats  # where none hides its waits


class Parts(TypedDict):
    """Seconds of the parts of a product, and what _by_cause splits them by."""

    total: Floats  # without launch
    weights: dict[str, Floats]  # of on_chip, l2 and dram in the p-norm
    on_chip: Floats
    limited: np.ndarray  # on-chip time is that of the power limit
    ramp: Floats  # part of DRAM's time that fills and drains the pipeline
    start: Number
    step: Step
    steps: Floats
    waves: tuple[Wave, Wave]  # full ones and the last
    even: Floats  # part of the busiest SM's work that an SM has on average
    behind: Number  # clocks of a CTA's stores, beside the main loop
    store: Floats
    split_k: Floats
    reduce: Floats


def gemm(op: Op, chip: "Chip", arch: Architecture, *, resident: Number = 0.0, weights_resident: Number = 0.0) -> Causes:
    """Seconds by cause of one launch of `op` (dims m, n, k and maybe batch), broadcasting.

    resident: the part of all operands that is in the L2 already, as in a benchmark that repeats one product (see
    resident_fraction); weights_resident: the same for the weights alone. With both 0, as in a model's run, the time
    is never below the roofline.
    """
    dims, narrow = op.dims, arch.narrow
    given = (dims["m"], dims["n"], dims["k"], dims.get("batch", 1), resident)
    sizes = Sizes(*np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in given)))
    widths, efficiency = operands(op, arch, arch.gemm.tensor_efficiency)
    operand_bytes, weight_only = OPERAND_BYTES[op.dtype], widths.dequant_ops > 0
    fma = chip.fma_per_clock(op.dtype) * chip.tensor_cores_per_sm
    rates = Rates(fma * efficiency, fma * power_share(op.dtype, arch), weights_resident)
    most_splits = narrow.splits if operand_bytes < 2 else max(SPLITS)
    tiles, allowed = (WEIGHT_ONLY_TILES, WEIGHT_ONLY_SPLITS) if weight_only else (arch.gemm_tiles, SPLITS)
    if operand_bytes < 2 and most_splits == 1:
        tiles = arch.narrow_tiles or tiles
    splits = tuple(split for split in allowed if split <= most_splits)
    candidates = _candidates(tiles, splits, sm_limits(chip), widths.shared)
    every = _parts(candidates, Sizes(*(x[..., None] for x in sizes)), widths, rates, chip, arch)
    if operand_bytes < 2:
        rows, columns, most_rows, m = candidates[0], candidates[1], candidates[-1], sizes.m[..., None]
        too_small = ((rows < SMALL_SIDE) | (columns < SMALL_SIDE)) & (m > narrow.small_tiles_m)
        left_out = too_small | (m > most_rows) | (columns > narrow.most_columns)
        every["total"] = np.where(left_out, np.inf, every["total"])
    best = np.argmin(every["total"], axis=-1)
    parts = _parts(candidates[:, best], sizes, widths, rates, chip, arch) if best.ndim else _of_one(every, int(best))
    ideal_s = sizes.m * sizes.n * sizes.k * sizes.batch / (chip.sm_count * fma * chip.clock_hz)
    return _by_cause(parts, ideal_s, chip.clock_hz, arch.gemm.launch_clocks / chip.clock_hz)


def _of_one(parts: Any, index: int) -> Any:
    """Of the parts of all candidates those of one, where the sizes are single: what has an axis is read there. Quicker
    than to reckon them again.
    """
    if isinstance(parts, dict):
        return {name: _of_one(part, index) for name, part in parts.items()}
    if isinstance(parts, tuple):
        inner = [_of_one(part, index) for part in parts]
        return type(parts)(*inner) if hasattr(parts, "_fields") else tuple(inner)
    if np.ndim(parts):
        return parts[index if len(parts) > 1 else 0]
    return parts


def operands(op: Op, arch: Architecture, tensor_efficiency: float) -> tuple[Operands, float]:
    """Of a product with operands of any width: what they are, and the share of the tensor peak that its MMAs keep up,
    which is tensor_efficiency where they have 16 bits and all are as wide.
    """
    dims, operand_bytes = op.dims, OPERAND_BYTES[op.dtype]
    a_bytes, b_bytes, c_bytes = dims.get("a_bytes", 2), dims.get("b_bytes", 2), dims.get("c_bytes", 2)
    if op.dtype in ("fp8", "fp4"):
        tensor_efficiency = arch.narrow.tensor_efficiency
    if b_bytes >= AS_WIDE * operand_bytes:
        return Operands(a_bytes, b_bytes, c_bytes, (operand_bytes, operand_bytes), 0.0, 0.0), tensor_efficiency
    dequant_ops, shared = widening_ops(b_bytes, arch.narrow), (operand_bytes, b_bytes)
    widths = Operands(a_bytes, b_bytes, c_bytes, shared, dequant_ops, arch.narrow.dequant_clocks)
    return widths, tensor_efficiency * arch.mma_sync_share


def widening_ops(elem_bytes: Number, narrow: NarrowFit) -> Floats:
    """CUDA-core instructions that make one stored element of 8 or 4 bits an operand of 16."""
    return np.where(np.asarray(elem_bytes) > EIGHT_BITS_FROM, narrow.dequant8_ops, narrow.dequant4_ops)


def power_share(dtype: str, arch: Architecture) -> float:
    """Part of the peak of `dtype` that the power limit leaves."""
    share: float = arch.gemm.power_share * HALF_WIDTH_POWER ** np.log2(2 / OPERAND_BYTES[dtype])
    return share


def sm_limits(chip: "Chip") -> tuple[int, int, int]:
    """What bounds the CTAs of an SM: bytes of shared memory, registers, CTAs."""
    return chip.shared_bytes_per_sm, chip.registers_per_sm, chip.ctas_per_sm


@lru_cache(maxsize=64)
def _candidates(
    tiles: tuple[Tile, ...], splits: tuple[int, ...], limits: tuple[int, int, int], elem_bytes: tuple[float, Number]
) -> Floats:
    """[11, tiles x splits]: rows, columns, k-step, stages, warp rows, warp columns, part of the tensor cores that the
    warps of one CTA reach, pair, CTAs per SM, split, most rows of a product.
    limits: of `sm_limits`. elem_bytes: of an element of x and W in shared memory.
    """
    (shared_bytes_per_sm, registers_per_sm, ctas_per_sm), (a_bytes, b_bytes) = limits, elem_bytes
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


def _parts(candidates: Floats, sizes: Sizes, widths: Operands, rates: Rates, chip: "Chip", arch: Architecture) -> Parts:
    """Of the given candidates, which broadcast with the sizes."""
    m, n, k, batch, resident = sizes
    rows, columns, k_step, *_, pair, per_sm, split, _ = candidates
    fit, specialised = arch.gemm, arch.specialised and not widths.dequant_ops
    tiles_m, tiles_n = np.ceil(m / (rows * pair)), np.ceil(n / columns)
    ctas = tiles_m * pair * tiles_n * split * batch
    steps = np.ceil(np.ceil(k / k_step) / split)
    real_rows, real_columns = np.minimum(m, rows), np.minimum(n, columns)  # loads and stores skip the padding
    step = _step(candidates, (real_rows, real_columns), resident, widths, rates, chip, arch)
    store = widths.c_bytes * real_rows * real_columns / fit.epilogue_bytes_per_clock  # clocks of one tile
    waves = _waves(ctas, per_sm, steps, step, chip)
    start_s, store_s = _ends_s(waves, store, specialised, chip, fit)
    loop_s = sum(count * clocks for count, _, clocks in waves) / chip.clock_hz

    a_bytes, b_bytes = widths.a_bytes * m * k * batch, widths.b_bytes * k * n * batch
    c_bytes = widths.c_bytes * m * n * batch
    reduce_s = (split > 1) * (fit.split_k_s + split * m * n * batch * REDUCE_BYTES / chip.l2_bytes_per_s)
    cluster = arch.cluster if specialised else 1
    l2_s = (a_bytes * tiles_n + b_bytes * np.ceil(tiles_m / cluster) + c_bytes) / chip.l2_bytes_per_s
    dram_bytes = a_bytes + b_bytes * (1 - rates.weights_resident) + c_bytes
    stream_s = dram_bytes / (chip.dram_read_bytes_per_s * fit.dram_efficiency)
    dram_s = (1 - resident) * (stream_s + fit.dram_ramp_s)
    unlimited_s = start_s + loop_s + store_s + reduce_s
    on_chip_s = np.maximum(unlimited_s, m * n * k * batch / (chip.sm_count * rates.power_fma * chip.clock_hz))
    total_s, weights = _overlapped(fit.overlap, on_chip=on_chip_s, l2=l2_s, dram=dram_s)
    return {
        "total": total_s,
        "weights": weights,
        "on_chip": on_chip_s,
        "limited": on_chip_s > unlimited_s,
        "ramp": fit.dram_ramp_s / (stream_s + fit.dram_ramp_s),
        "start": start_s,
        "step": step,
        "steps": steps,
        "waves": waves,
        "even": ctas / (chip.sm_count * _deepest(waves)),
        "behind": store if specialised else 0.0,
        "store": store_s,
        "split_k": (split > 1) * fit.split_k_s,
        "reduce": reduce_s,
    }


def _waves(ctas: Floats, per_sm: Floats, steps: Floats, step: Step, chip: "Chip") -> tuple[Wave, Wave]:
    """The full waves and the last.

    The first CTAs spread over the SMs one each; those of a partial last wave start where slots fall free, and the slots
    of one SM fall free together: so a partial wave lasts about as long as a full one.
    """
    full = np.floor(ctas / (chip.sm_count * per_sm))
    rest = ctas - full * chip.sm_count * per_sm
    last = np.where(full > 0, np.minimum(rest, per_sm), np.ceil(rest / chip.sm_count))
    loop_full, loop_last = (steps * np.maximum(some * step["busy"], step["alone"]) for some in (per_sm, last))
    return (full, per_sm, loop_full), (1.0 * (last > 0), last, loop_last)


def _deepest(waves: tuple[Wave, Wave]) -> Floats:
    """CTAs of the busiest SM."""
    (full, per_sm, _), (_, last, _) = waves
    return full * per_sm + last


def _ends_s(
    waves: tuple[Wave, Wave], store: Floats, specialised: bool, chip: "Chip", fit: GemmFit
) -> tuple[Number, Floats]:
    """Seconds of the starts, and of the stores that show. store: clocks of storing one tile."""
    if not specialised:
        starts = waves[0][0] + waves[1][0]
        return starts * fit.wave_clocks / chip.clock_hz, _deepest(waves) * store / chip.clock_hz
    # one start and one store show; the other stores only where they outlast the main loop
    outlast = sum(count * np.maximum(some * store - loop, 0.0) for count, some, loop in waves)
    return fit.wave_clocks / chip.clock_hz, (outlast + store) / chip.clock_hz


def _overlapped(exponent: float, **seconds: Floats) -> tuple[Floats, dict[str, Floats]]:
    """(their p-norm, each one's term in it over that of the largest)."""
    largest = reduce(np.maximum, seconds.values())
    weights: dict[str, Floats] = {name: (each / largest) ** exponent for name, each in seconds.items()}
    return largest * sum(weights.values()) ** (1 / exponent), weights


def _step(
    candidates: Floats,
    real: tuple[Floats, Floats],
    resident: Floats,
    widths: Operands,
    rates: Rates,
    chip: "Chip",
    arch: Architecture,
) -> Step:
    """Of each candidate. real: rows and columns of a tile that are not padding."""
    rows, columns, k_step, stages, warp_rows, warp_columns, reach, pair, *_ = candidates
    (real_rows, real_columns), a_width, b_width, turns = real, widths.a_bytes, widths.b_bytes, rates.turns
    specialised = arch.specialised and not widths.dequant_ops
    # MMAs (on the padding too), shared memory, the SM's port to the L2
    mma = rows * columns * k_step / rates.fma
    panel_bytes = (a_width * real_rows + b_width * real_columns / pair) * k_step
    read_bytes = rows * columns * k_step * (a_width / warp_columns + b_width / (pair * warp_rows))  # by every warp tile
    shared = (read_bytes + (0 if specialised else panel_bytes)) / chip.shared_bytes_per_clock
    port = panel_bytes / arch.port_bytes_per_clock
    # on the CUDA cores, not hidden by the same warp's MMAs
    dequant = columns * k_step * widths.dequant_ops / ISSUE_PER_CLOCK
    operands = np.maximum(shared, port)
    busy = np.maximum(operands, mma + dequant) + turns * np.minimum(operands, mma)
    # A CTA alone on its SM also waits at barriers, and for loads: stages - 1 steps are in flight (Little's law).
    load_s = chip.dram_latency_s * (1 - resident) + chip.l2_latency_s * resident
    load = load_s * chip.clock_hz / (stages - 1)
    barrier = 0 if specialised else arch.gemm.step_clocks + widths.dequant_clocks
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


def _loop_by_cause(parts: Parts) -> dict[str, Floats]:
    """Clocks of the busiest SM's main loop by what binds its k-steps ("operands": shared memory or the port), and
    "store", of waves whose stores, beside the loop, outlast it.
    """
    step, behind = parts["step"], parts["behind"]
    busy, alone, load = step["busy"], step["alone"], step["load"]
    together = by_itself = hidden = np.zeros(())
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


def _by_cause(parts: Parts, ideal_s: Floats, clock_hz: float, launch_s: float) -> Causes:
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


def usable_l2_bytes(chip: "Chip", arch: Architecture) -> float:
    """L2 that keeps data between kernels: each of two partitions has its own copy of lines that belong to the other."""
    return (arch.gemm.l2_usable if chip.l2_partitions > 1 else SINGLE_L2[0]) * chip.l2_bytes / chip.l2_partitions


def resident_fraction(cycle_bytes: Number, chip: "Chip", arch: Architecture) -> Floats:
    """Part of its operands that a benchmark finds in the L2 when it cycles through `cycle_bytes` of distinct data: all
    while the cycle fits in the usable L2; none once it is twice that, or outgrows a single partition; linear between.
    """
    usable_bytes = usable_l2_bytes(chip, arch)
    none_bytes = 2 * usable_bytes if chip.l2_partitions > 1 else SINGLE_L2[1] * chip.l2_bytes
    return np.clip((none_bytes - cycle_bytes) / (none_bytes - usable_bytes), 0.0, 1.0)
