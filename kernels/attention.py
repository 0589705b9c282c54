"""Attention: prefill (FlashAttention tiles), decode (split-KV flash-decoding), and the KV append before them.

Closed form and vectorised: the sizes broadcast, nothing loops over shapes. A call takes
    launch + max(compute, memory) + combine
where compute is the busiest SM's: KV blocks of MMAs with the softmax that they don't hide, prologues and epilogues,
the ragged end; and memory the slower of DRAM and L2. What is hidden is no cause: the time has those of the side that
binds, of the launch and of the combine kernel, whose start and walk over the splits are latency (an engine that closes
the gaps between kernels keeps it) and whose partial results go through DRAM.
Sources: FlashAttention-2 (arXiv:2307.08691) for the tiling, the causal skip and the split rule; FlashAttention-3
(arXiv:2407.08608, section 3.1) for softmax competing with the MMAs; Flash-Decoding
(crfm.stanford.edu/2023/10/12/flashdecoding.html) for split-KV and its combine kernel; Graham, SIAM J. Appl. Math. 17
(1969) for the list-scheduling bound behind the tail.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ridgepoint.kernels.architectures import Architecture, AttentionFit
from ridgepoint.kernels.gemm import AS_WIDE, EIGHT_BITS_FROM, ISSUE_PER_CLOCK, widening_ops
from ridgepoint.ops import Causes, Floats, Number, Op, Seconds

if TYPE_CHECKING:
    from ridgepoint.hardware import Chip

# Parts into which the KV range may be split; FlashAttention-2 and 3 stop at 128.
SPLITS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128], dtype=float)
EXP_PER_CLOCK = 16  # exp2 per clock and SM [CUDA C++ Programming Guide, arithmetic instructions, cc 8.0 to 10.0]
INDEX_ROWS = 128  # heads times queries of a CTA that scores keys (DeepGEMM's fp8_mqa_logits)
PARTIAL_BYTES = 4  # of a split's partial output, fp32
TILE_ELEM_BYTES = 2  # of an element of the tiles in shared memory, fp16 or bf16
TILE_HEAD_DIM = 128  # for which AttentionFit.tile_n is
MMA_ROWS = 64  # of one MMA of a warpgroup
ENOUGH_CTAS = 0.8  # of the slots: FlashAttention-2 doesn't split the KV range from there on (num_splits_heuristic)
APPEND_THREADS = 512  # of a CTA of the KV append, at most [vLLM, reshape_and_cache_flash]


Combine = tuple[Floats, Floats]  # seconds of the kernel that merges splits: launches and a walk, partials through DRAM


class Block(NamedTuple):
    """A tile of queries against a block of keys: what a CTA works on at a time."""

    rows: int  # of the tile: queries, times heads that share it
    keys: Floats
    head_dim: Floats
    v_head_dim: Floats
    kv_width: Floats  # elements of a key and its value together


def prefill_attention(op: Op, chip: "Chip", arch: Architecture, *, resident: Number = 0.0) -> Causes:
    """Seconds by cause of one causal call: q_len new tokens of each sequence, which end a context of kv_len.
    resident: the part of its data that is in the L2 already.
    """
    fit, (b, q, kv, h, k, d, v, kv_width, kv_bytes, io_bytes) = arch.attention, _columns(op)
    group: Number = h / k if fit.pack_prefill else 1.0  # query heads in a tile: it then spans tile_m / group queries
    tile_m, splits = fit.tile_m, SPLITS if fit.split_prefill else SPLITS[:1]
    keys, sparse = _block_keys(kv_width / 2, fit), op.dims.get("own_keys", False)
    seen = op.dims.get("window")  # the most keys that a query sees
    window = None if seen is None else np.asarray(seen, dtype=float)[..., None]
    if sparse and window is not None:
        # a tile has one query, whose list of keys is as long for all: indices beyond the context skip late
        tile_m, splits = arch.sparse_rows, SPLITS[:1]
        group, tiles, longest = np.minimum(h / k, tile_m), q, np.ceil(window / keys)
        blocks = q * longest
    else:
        blocks, longest, tiles = _causal_blocks(q, kv, tile_m / group, keys, window)
    ctas, blocks = b * h / group * tiles, b * h / group * blocks
    block = Block(tile_m, keys, d, v, kv_width)
    mma, softmax = _block_clocks(block, op, chip, arch)
    sm_hz, per_sm = chip.sm_count * chip.clock_hz, _ctas_per_sm(block, chip, fit)
    cta_s = fit.cta_waits * chip.dram_latency_s
    mma_s, softmax_s = blocks * mma / sm_hz, blocks * softmax / sm_hz
    wait_s = 0.0 if sparse else 2 * chip.l2_latency_s  # a warp of its own gathers keys, two blocks ahead
    # q, k, v and out go through DRAM once; every tile reads its K and V again from the L2.
    dram_rate = chip.dram_read_bytes_per_s * fit.dram_efficiency
    cold = 1 - np.asarray(resident, dtype=float)[..., None]
    dram_s = cold * (b * q * h * (d + v) * io_bytes + b * k * kv_width * kv * kv_bytes) / dram_rate
    l2_s = blocks * keys * kv_width * kv_bytes / _l2_rate(chip, fit)

    def split(splits: Floats) -> tuple[Floats, Floats, Floats, Floats, Combine]:
        """(CTAs in series on busy SMs, the longest CTA by itself, its blocks, the ends of CTAs, combine kernel)."""
        # Throughput, all SMs busy. CTAs on one SM hide each other's prologue and epilogue.
        ends_s = splits * ctas * cta_s / (chip.sm_count * per_sm)
        # The longest CTA by itself: its blocks in series, each waiting for its K and then its V.
        steps = np.ceil(longest / splits)
        chain_s = steps * ((mma + softmax) / chip.clock_hz + wait_s) + cta_s
        busy_s = mma_s + softmax_s + ends_s + fit.tail * chain_s
        return busy_s, chain_s, steps, ends_s, _combine_s(splits, b * q * h * v, chip, fit)

    busy_s, chain_s, *_, combine_s = split(splits)
    total_s = np.maximum(np.maximum(chain_s, busy_s), np.maximum(dram_s, l2_s)) + sum(combine_s)
    busy_s, chain_s, steps, ends_s, combine_s = split(_fastest(splits, total_s))
    # Where the longest CTA binds, what its blocks take beyond an even share of all blocks is idle SMs.
    alone = chain_s > busy_s
    mma_s = np.where(alone, np.minimum(steps * mma / chip.clock_hz, mma_s), mma_s)
    softmax_s = np.where(alone, np.minimum(steps * softmax / chip.clock_hz, softmax_s), softmax_s)
    latency_s = np.where(alone, steps * wait_s + cta_s, ends_s)
    compute_s = np.maximum(chain_s, busy_s)
    causes = _causes(op, chip, compute_s, (mma_s, softmax_s, latency_s), (dram_s, l2_s, 0.0), combine_s)
    launch_s = (fit.launch_clocks + fit.extra_kernels * fit.kernel_clocks) / chip.clock_hz
    return causes | {"launch": np.full_like(causes["tensor"], launch_s)}


def decode_attention(op: Op, chip: "Chip", arch: Architecture, *, resident: Number = 0.0) -> Causes:
    """Seconds by cause of one call with q_len (1, or a few) new tokens of each sequence against kv_len keys.
    resident: the part of its data that is in the L2 already.
    """
    fit, (b, q, kv, h, k, d, v, kv_width, kv_bytes, io_bytes) = arch.attention, _columns(op)
    keys, group = _block_keys(kv_width / 2, fit), h / k
    tiles = np.ceil(group * q / fit.decode_tile_m)  # of a KV head: one, if its query heads fit in it
    whole_ctas = b * k * tiles
    block = Block(fit.decode_tile_m, keys, d, v, kv_width)
    per_sm = _ctas_per_sm(block, chip, fit)
    sm_hz, slots = chip.sm_count * chip.clock_hz, chip.sm_count * per_sm
    may_split = (whole_ctas < ENOUGH_CTAS * slots) & (fit.split_mha | (group > 1)) & fit.split_decode
    mma, softmax = _block_clocks(block, op, chip, arch)
    ends_s = fit.cta_waits * chip.dram_latency_s / per_sm
    dram_rate = chip.dram_read_bytes_per_s * fit.dram_efficiency
    io, kv_read = b * q * h * (d + v) * io_bytes, b * k * kv * kv_width * kv_bytes
    dram_s = (1 - np.asarray(resident, dtype=float)[..., None]) * (io + kv_read) / dram_rate
    l2_s = (io + kv_read * tiles) / _l2_rate(chip, fit)  # every tile reads its K and V

    def split(splits: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Combine]:
        """(compute, the idle end of a call bound by memory, CTAs, blocks of each, waits, combine kernel)."""
        # Waves of CTAs. Those on one SM share its pipes: two take twice as long but wait at the same time.
        ctas, blocks = whole_ctas * splits, np.ceil(np.ceil(kv / keys) / splits)  # of the longest CTA
        cta_s = blocks * (mma + softmax) / chip.clock_hz + ends_s
        wait_s = blocks * 2 * chip.l2_latency_s
        compute_s = np.ceil(ctas / chip.sm_count) * cta_s + wait_s
        tail_s = np.where(ctas > slots, fit.tail * (cta_s + wait_s), 0.0)
        return compute_s, tail_s, ctas, blocks, wait_s, _combine_s(splits, b * q * h * v, chip, fit)

    splits = np.where(may_split, SPLITS, 1.0)
    compute_s, tail_s, *_, combine_s = split(splits)
    total_s = np.maximum(compute_s, np.maximum(dram_s, l2_s) + tail_s) + sum(combine_s)
    compute_s, tail_s, ctas, blocks, wait_s, combine_s = split(_fastest(splits, total_s))
    even = ctas * blocks / sm_hz  # seconds of a clock a block, were all SMs as busy
    parts = (even * mma, even * softmax, ctas * ends_s / chip.sm_count + wait_s)
    causes = _causes(op, chip, compute_s, parts, (dram_s, l2_s, tail_s), combine_s)
    # Packing a group into a tile copies the output; with several sequences and KV heads, q and more.
    copies = np.where(group > 1, 1 + fit.pack_copies * ((b > 1) & (k > 1)), 0.0) * (fit.pack_copies > 0)
    launch_s = (fit.launch_clocks + (fit.extra_kernels + copies) * fit.kernel_clocks) / chip.clock_hz
    return causes | {
        "dram": causes["dram"] + (copies * io / dram_rate)[..., 0],
        "launch": launch_s[..., 0] + 0.0 * causes["tensor"],
    }


def index_scores(op: Op, chip: "Chip", arch: Architecture) -> Causes:
    """Seconds by cause of an indexer's scores: launch + max(MMAs, DRAM). A CTA walks the keys of as many queries as fit
    with all their heads in INDEX_ROWS; only kernels that split the keys of a query balance their SMs.
    """
    fit = arch.attention
    dims = op.dims
    b, q, heads = (np.asarray(size, dtype=float) for size in (dims["batch"], dims["q_len"], dims["heads"]))
    mean_keys = dims["pairs"] / q
    queries = 1.0 if dims["split"] else np.maximum(np.floor(INDEX_ROWS / heads), 1.0)
    rows = np.ceil(heads * queries / MMA_ROWS) * MMA_ROWS
    tiles = b * np.ceil(q / queries)
    rate = chip.tensor_cores_per_sm * chip.fma_per_clock(op.dtype) * chip.clock_hz * fit.index_scores
    waves = tiles / chip.sm_count if op.dims["split"] else np.ceil(tiles / chip.sm_count)
    mma_s = waves * mean_keys * rows * op.dims["dim"] / rate
    dram_s = op.bytes / (chip.dram_read_bytes_per_s * fit.dram_efficiency)
    ideal_s = op.flops / chip.tensor_flops_per_s(op.dtype)
    even_s = tiles / chip.sm_count * mean_keys * rows * op.dims["dim"] / rate
    by_dram = dram_s > mma_s
    return {
        "tensor": ideal_s * (1 - by_dram),
        "tensor_overhead": (even_s - ideal_s) * (1 - by_dram),
        "wave_tail": (mma_s - even_s) * (1 - by_dram),
        "dram": dram_s * by_dram,
        "launch": fit.launch_clocks / chip.clock_hz + 0.0 * mma_s,
    }


def kv_append(op: Op, chip: "Chip", arch: Architecture, *, resident: Number = 0.0) -> Causes:
    """Seconds by cause of the kernel that writes new K and V to the cache: the longer of DRAM and what its CTAs wait.
    One CTA a token with a thread an element, up to APPEND_THREADS; the threads of an SM bound the tokens in flight.
    """
    fit = arch.attention
    dram_s = (1 - resident) * op.bytes / (chip.dram_read_bytes_per_s * fit.dram_efficiency)
    threads = np.minimum(op.dims["width"] / 2, APPEND_THREADS)
    waves = op.dims["rows"] * threads / (chip.threads_per_sm * chip.sm_count)
    wait_s = waves * fit.append_waits * chip.dram_latency_s
    by_dram = dram_s >= wait_s
    return {
        "dram": dram_s * by_dram,
        "latency": wait_s * (1 - by_dram),
        "launch": fit.kernel_clocks / chip.clock_hz + 0.0 * dram_s,
    }


def _columns(op: Op) -> list[Floats]:
    """The sizes as float arrays that broadcast, with a last axis for the split candidates. v_head_dim (head_dim): of a
    value; kv_width (their sum): elements of a key and its value together, fewer where the one is part of the other.
    """
    dims = op.dims
    head_dim = dims["head_dim"]
    v_head_dim = dims.get("v_head_dim", head_dim)
    sizes = [dims["batch"], dims["q_len"], dims["kv_len"], dims["heads"], dims["kv_heads"]]
    sizes += [head_dim, v_head_dim, dims.get("kv_width", head_dim + v_head_dim)]
    sizes += [dims["kv_elem_bytes"], dims["io_elem_bytes"]]
    return [np.asarray(size, dtype=float)[..., None] for size in sizes]


def _block_keys(head_dim: Floats, fit: AttentionFit) -> Floats:
    """Keys of a KV block: a fixed number of bytes of shared memory, so fewer for a larger head."""
    keys: Floats = 2.0 ** np.floor(np.log2(fit.tile_n * TILE_HEAD_DIM / head_dim))
    return keys


def _ctas_per_sm(block: Block, chip: "Chip", fit: AttentionFit) -> Floats:
    elements = block.head_dim * block.rows + block.kv_width * fit.stages * block.keys  # Q, and stages of K and V
    return np.maximum(np.floor(chip.shared_bytes_per_sm / (TILE_ELEM_BYTES * elements)), 1.0)


def _block_clocks(block: Block, op: Op, chip: "Chip", arch: Architecture) -> tuple[Floats, Floats]:
    """SM clocks that a block costs: (its MMAs at the sustained rate, softmax and widening that they don't hide)."""
    fit, efficiency, dims = arch.attention, arch.attention.mma_efficiency, op.dims
    if "kv_width" in dims:  # keys wider than values; or one is part of the other
        shared = dims["kv_width"] < dims["head_dim"] + dims["v_head_dim"]
        efficiency = min(efficiency, fit.latent_absorbed if shared else fit.latent_expanded)
    pairs, rate = block.rows * block.keys, chip.tensor_cores_per_sm * chip.fma_per_clock(op.dtype) * efficiency
    mma = pairs * (block.head_dim + block.v_head_dim) / rate
    vector = pairs * (1 / EXP_PER_CLOCK + fit.vector_ops / chip.fp32_cores_per_sm)
    return mma, vector + block.keys * block.kv_width * _widening(op, arch) / ISSUE_PER_CLOCK


def _widening(op: Op, arch: Architecture) -> Floats:
    """CUDA-core instructions that make an element of a narrow cache one that MMAs take, as for narrow weights."""
    elem_bytes = np.asarray(op.dims["kv_elem_bytes"], dtype=float)[..., None]
    ops = widening_ops(elem_bytes, arch.narrow)
    if arch.multiplies_8_bit_cache:
        ops = np.where(elem_bytes > EIGHT_BITS_FROM, 0.0, ops)
    return np.where(elem_bytes < AS_WIDE * op.dims["io_elem_bytes"], ops, 0.0)


def _causal_blocks(
    q_len: Floats, kv_len: Floats, rows: Number, keys: Floats, window: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """(KV blocks that all query tiles of a head visit, those of the longest tile, query tiles).
    Tile j (from the start of the context) visits ceil(j * rows / keys) blocks: an exact sum for whole ratios. A
    window caps the blocks of a tile.
    """
    ends, tiles = np.ceil(kv_len / rows), np.ceil(q_len / rows)
    ratio = np.maximum(keys / rows, 1.0)  # query tiles per KV block
    per = np.maximum(rows / keys, 1.0)  # KV blocks per query tile, where tiles are the taller
    cap = np.inf if window is None else np.ceil((window + rows - 1) / (keys * per))

    def up_to(tile: Floats) -> Floats:
        rising = tile if window is None else np.minimum(tile, ratio * cap)
        whole = np.floor(rising / ratio)
        blocks: Floats = per * (ratio * whole * (whole + 1) / 2 + (rising - ratio * whole) * (whole + 1))
        return blocks if window is None else blocks + per * cap * (tile - rising)

    return up_to(ends) - up_to(ends - tiles), per * np.minimum(np.ceil(ends / ratio), cap), tiles


def _l2_rate(chip: "Chip", fit: AttentionFit) -> float:
    """Bytes per second from the L2: its own limit, or that of all SMs together."""
    return min(chip.l2_bytes_per_s, chip.sm_count * fit.sm_bytes_per_clock * chip.clock_hz)


def _combine_s(splits: Floats, out_elements: Floats, chip: "Chip", fit: AttentionFit) -> Combine:
    """The kernel that merges the splits: (two launches' worth and a walk over them, partials written and read)."""
    walk_s = 2 * fit.kernel_clocks / chip.clock_hz + splits * fit.combine_reads * chip.l2_latency_s
    partial_bytes = 2 * splits * PARTIAL_BYTES * out_elements
    merged = splits > 1
    return walk_s * merged, partial_bytes / (chip.dram_read_bytes_per_s * fit.dram_efficiency) * merged


def _fastest(splits: Floats, total_s: Floats) -> Floats:
    """[..., 1]: of the candidates on the last axis the one that takes least."""
    best = np.argmin(total_s, axis=-1)[..., None]
    return np.take_along_axis(np.broadcast_to(splits, total_s.shape), best, axis=-1)


def _causes(
    op: Op,
    chip: "Chip",
    compute_s: Floats,
    parts: tuple[Floats, Floats, Floats],
    memory: tuple[Floats, Floats, Seconds],
    combine_s: Combine,
) -> Causes:
    """Seconds by cause, but for the launch, of the side that binds. parts: MMAs, softmax and waits of compute_s, whose
    rest is idle SMs. memory: DRAM, L2, and idle SMs at the end. All have a last axis of one, which is dropped.
    """
    (mma_s, softmax_s, latency_s), (dram_s, l2_s, tail_s), (walk_s, partials_s) = parts, memory, combine_s
    ideal_s = np.asarray(op.flops / chip.tensor_flops_per_s(op.dtype))[..., None]
    by_compute = compute_s >= np.maximum(dram_s, l2_s) + tail_s
    by_dram = (dram_s >= l2_s) & ~by_compute
    idle_s = np.maximum(compute_s - mma_s - softmax_s - latency_s, 0.0)
    tensor_s = np.minimum(ideal_s, mma_s)
    causes = {
        "tensor": tensor_s * by_compute,
        "tensor_overhead": (mma_s - tensor_s) * by_compute,
        "softmax": softmax_s * by_compute,
        "wave_tail": np.where(by_compute, idle_s, tail_s),
        "dram": dram_s * by_dram + partials_s,
        "l2": l2_s * ~(by_compute | by_dram),
        "latency": latency_s * by_compute + walk_s,
    }
    return {cause: seconds[..., 0] for cause, seconds in causes.items()}
