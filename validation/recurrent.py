"""Measured kernels of linear attention: scans, state updates, convolutions."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ridgepoint import ops
from ridgepoint.hardware import CHIPS
from ridgepoint.kernels.roofline import roofline_s
from ridgepoint.serving.engines import VLLM
from ridgepoint.validation.package import perf_table
from ridgepoint.validation.rows import Rows, without
from ridgepoint.validation.sets import RecurrentSet

if TYPE_CHECKING:
    import pandas

# The kernels of linear attention: what the package calls them in a row's kernel_source.
RECURRENT_PARTS = {
    "scan": "chunk_gated_delta_rule|chunk_kda|flashkda_fwd",
    "state update": "fused_recurrent",
    "conv": "causal_conv1d_fn",
    "conv update": "causal_conv1d_update",
}
DISTURBED = 1.25  # times the H100's time: a row of the H200, the same chip with more bandwidth, that is not used


def recurrent_table(data: RecurrentSet, folder: Path, part: str) -> "pandas.Series":
    """Latency in ms by (batch_size, seq_len, num_k_heads, num_v_heads), repeated shapes reduced to their median."""
    kind = "linear_attention" if data.model == "gdn" else data.model
    table = perf_table(data, folder, kind, data.model)
    table = table[table.kernel_source.str.contains(RECURRENT_PARTS[part]) & (table.phase != "verify")]
    return table.groupby(["batch_size", "seq_len", "num_k_heads", "num_v_heads"]).latency.median()


def recurrent_rows(data: RecurrentSet, folder: Path, part: str) -> Rows:
    """One of RECURRENT_PARTS, bf16 with a state in fp32, of which a repeated update finds in the L2 what fits there.

    The benchmarks of TensorRT-LLM and of SGLang 0.5.10 give a scan no state, and an update a bf16 state of which it
    makes an fp32 one.
    """
    latency = recurrent_table(data, folder, part)
    table, slower = latency.reset_index(), np.zeros(latency.size, dtype=bool)
    if data.hardware == "h200-sxm":
        on_h100 = recurrent_table(replace(data, folder="h100_sxm"), folder, part)
        slower = latency > DISTURBED * on_h100.reindex(latency.index)
    batch, seq_len, key_heads, heads = (table[size].to_numpy(dtype=float) for size in latency.index.names)
    chip, dim, number = CHIPS[data.hardware], 128, ops.Tail(dtype="bf16", elem_bytes=2)
    q_len = 1 if "update" in part else seq_len
    launches = 1
    if "conv" in part:
        channels = dim * (2 * key_heads + heads if data.packed else key_heads)
        launches = 3 if data.model == "kda" and part == "conv" else 1  # q, k and v one after another
        op = ops.causal_conv(part, batch=batch, q_len=q_len, channels=channels / launches, taps=4, **number)
    else:
        op = ops.recurrence(
            part,
            batch=batch,
            q_len=q_len,
            key_heads=key_heads,
            value_heads=heads,
            key_dim=dim,
            value_dim=dim,
            chunk=64,
            delta_rule=True,
            state_elem_bytes=4,
            decays=1 if data.model == "gdn" else dim,
            weights=0,
            **number,
        )
        given = {"scan": (0.0, 2.0), "state update": (1.5, 2.0)}[part][data.packed]  # states of fp32 read and written
        op = replace(op, kv_bytes=given * 4 * heads * dim * dim * batch)
    every = np.ones(latency.size, dtype=bool)
    kda_on_host = part == "conv" and data.model == "kda" and data.engine is VLLM
    reasons = {
        "channel by channel, a CTA for each of a sequence": every & (part == "conv" and not data.packed),
        "without a CUDA graph: the host's time": every & kda_on_host,
        f"over {DISTURBED} times the H100's time, which has less bandwidth": np.asarray(slower),
    }
    rows = Rows(
        label=data.label,
        kind=f"{data.model} {part}",
        chip=chip,
        op=op,
        measured_s=table.latency.to_numpy() * 1e-3 / launches,
        cycle_bytes=op.bytes - op.kv_bytes / 2 if part == "state update" else np.inf,
        engine=data.engine,
        chosen_after=bool(np.any(slower)),
        fitted=part in data.fits,
    )
    if part != "state update":  # which may find its states in the L2
        reasons["beats the roofline"] = rows.measured_s < roofline_s(rows.op, rows.chip)
    return without(rows, reasons)
