"""Linear attention: the chunked scan of a prompt, the update of a state by one token.

A scan is one kernel, two, or several.
One (gated delta rule, FlashInfer): a CTA for each sequence and value head walks the chunks with the state on the chip.
Of its products four wait for one another: K K^T, the triangular system, what the state holds already, the new state.
Two (a decay for each row of the state, FlashKDA): one prepares all chunks, so that only the last two are left to walk.
Several (flash-linear-attention; Mamba-2's state-space dual, arXiv:2405.21060, section 6): every step by itself. What
kernels pass on goes through DRAM. The walk over chunks is the part that can't be parallel.
"""

from typing import TYPE_CHECKING

import numpy as np

from ridgepoint.kernels.architectures import Architecture
from ridgepoint.ops import Causes, Number, Op, Seconds

if TYPE_CHECKING:
    from ridgepoint.hardware import Chip


CASTS = 2  # elementwise kernels before the walk: decay, step and state, cast or transposed
WHOLE_CHAIN = 4  # products of a chunk that wait for one another where one kernel does all
WALK_CHAIN = 2  # where they are prepared
PREPARED_CHUNK = 16  # tokens; FlashKDA's
STAGES = {True: 7, False: 5}  # kernels where they are several, with the delta rule and without


def scan(op: Op, chip: "Chip", arch: Architecture) -> Causes:
    """Seconds by cause of one scan (dims of ops.recurrence)."""
    if not (arch.recurrent.fused_delta_rule and op.dims["delta_rule"]):
        return _staged(op, chip, arch)
    return (_prepared if op.dims["decays"] > 1 else _fused)(op, chip, arch)


def _fused(op: Op, chip: "Chip", arch: Architecture) -> Causes:
    """launch + states + waves * (waits + chunks * chain), or the stream of q, k, v and output where that is longer."""
    rate = chip.dram_read_bytes_per_s * arch.gemm.dram_efficiency
    causes = _walk(op, chip, arch, op.dims["chunk"], WHOLE_CHAIN, (op.bytes - op.kv_bytes) / rate)
    return causes | {
        "dram": causes["dram"] + op.kv_bytes / rate,
        "launch": _launch_s(1, arch) + 0.0 * causes["dram"],
    }


def _prepared(op: Op, chip: "Chip", arch: Architecture) -> Causes:
    """As `_fused`, after a kernel that writes for each token q, k twice and two rows of chunk-wide matrices in 2-byte
    elements, and for each chunk its decays in fp32, all of which the walk reads.
    Source: MoonshotAI/FlashKDA, get_workspace_size.
    """
    rate = chip.dram_read_bytes_per_s * arch.gemm.dram_efficiency
    each = 2 * (3 * op.dims["key_dim"] + 2 * PREPARED_CHUNK) + 4 * op.dims["decays"] / PREPARED_CHUNK
    written_s = each * op.dims["walks"] * op.dims["q_len"] / rate
    walked_s = 2 * op.out_bytes / rate  # v and the output
    first_s = (op.bytes - op.kv_bytes) / rate - walked_s + written_s
    causes = _walk(op, chip, arch, PREPARED_CHUNK, WALK_CHAIN, walked_s + written_s)
    return causes | {
        "dram": causes["dram"] + first_s + op.kv_bytes / rate,
        "latency": causes["latency"] + arch.recurrent.waits * chip.dram_latency_s,
        "launch": _launch_s(2, arch) + 0.0 * causes["dram"],
    }


def _launch_s(kernels: int, arch: Architecture) -> float:
    """Of the kernels of a scan and the small ones before."""
    return kernels * arch.pointwise.launch_s + CASTS * (arch.pointwise.launch_s + arch.pointwise.start_s)


def _walk(op: Op, chip: "Chip", arch: Architecture, chunk: Number, chain: int, stream_s: Seconds) -> Causes:
    """Waves of CTAs that wait, then walk chunk by chunk; the stream, where that is longer. A chunk takes `chain`
    products in a row (latency), or its MMAs where those are longer: a larger MMA rate then shortens the whole walk, the
    padding of the last chunk and the SMs without a head included.
    """
    walks, steps = op.dims["walks"], np.ceil(op.dims["q_len"] / chunk)
    waves = np.ceil(walks / chip.sm_count)
    ideal_s = op.flops / chip.tensor_flops_per_s(op.dtype)
    mma_s = ideal_s * chip.sm_count / (walks * op.dims["q_len"]) * chunk  # of one step of one head on one SM
    chain_s = chain * arch.recurrent.product_clocks / chip.clock_hz
    walk_s = waves * steps * np.maximum(chain_s, mma_s)
    wait_s = waves * arch.recurrent.waits * chip.dram_latency_s
    by_dram = stream_s > walk_s
    by_chain = (mma_s < chain_s) & ~by_dram
    by_mma = ~(by_chain | by_dram)
    even_s = walks / chip.sm_count * steps * mma_s  # if every SM had as many heads
    return {
        "tensor": ideal_s * by_mma,
        "tensor_overhead": (even_s - ideal_s) * by_mma,
        "wave_tail": (walk_s - even_s) * by_mma,
        "dram": stream_s * by_dram,
        "latency": wait_s + walk_s * by_chain,
    }


def _staged(op: Op, chip: "Chip", arch: Architecture) -> Causes:
    """kernels * (launch + waits) + chunks * chain + what they move through DRAM, or their MMAs where those are longer.
    Chunks of many heads walk side by side, hidden behind the stream. Without the delta rule states only add up.
    """
    delta_rule, chunks = bool(op.dims["delta_rule"]), np.ceil(op.dims["q_len"] / op.dims["chunk"])
    rate = chip.dram_read_bytes_per_s * arch.gemm.dram_efficiency * arch.recurrent.stage_efficiency
    moved_s = (op.bytes + op.dims["passed_bytes"] + chunks * op.dims["passed_states"]) / rate
    ideal_s = op.flops / chip.tensor_flops_per_s(op.dtype)
    by_dram = moved_s >= ideal_s
    step_s = WALK_CHAIN * arch.recurrent.product_clocks / chip.clock_hz if delta_rule else chip.l2_latency_s
    return {
        "tensor": ideal_s * (1 - by_dram),
        "dram": moved_s * by_dram,
        "latency": chunks * step_s + STAGES[delta_rule] * arch.recurrent.waits * chip.dram_latency_s,
        "launch": STAGES[delta_rule] * arch.pointwise.launch_s + 0.0 * moved_s,
    }


def state_update(op: Op, chip: "Chip", arch: Architecture, *, resident: Number = 0.0) -> Causes:
    """Seconds by cause of one token's update of every state: launch + waits + the states through DRAM, read and
    written. resident: the part of them in the L2, as in a benchmark that repeats one update.
    """
    rate = chip.dram_read_bytes_per_s * arch.gemm.dram_efficiency
    dram_s = (1 - resident) * op.bytes / rate
    l2_s = resident * op.bytes / chip.l2_bytes_per_s
    vector_s = op.flops / chip.vector_flops_per_s
    by_vector = vector_s > dram_s + l2_s
    return {
        "dram": dram_s * (1 - by_vector),
        "l2": l2_s * (1 - by_vector),
        "vector": vector_s * by_vector,
        "latency": arch.recurrent.waits * chip.dram_latency_s + 0.0 * dram_s,
        "launch": arch.pointwise.launch_s + 0.0 * dram_s,
    }
