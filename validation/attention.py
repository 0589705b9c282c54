"""Measured attention: over a cache, over latents, over the keys that an indexer chooses."""

from pathlib import Path

import numpy as np

from ridgepoint import ops
from ridgepoint.hardware import CHIPS
from ridgepoint.kernels.architectures import architecture_of
from ridgepoint.kernels.gemm import resident_fraction
from ridgepoint.kernels.roofline import roofline_s
from ridgepoint.layers.formats import KV_FORMATS
from ridgepoint.serving.engines import TENSORRT_LLM, TRTLLM_GROUP, VLLM, with_query
from ridgepoint.validation.package import medians, perf_table
from ridgepoint.validation.rows import Rows, select, without
from ridgepoint.validation.sets import H100, REFITTED, SPARSE_FITTED, SPARSE_PARTS, DataSet, Gpu

TABLES = {"prefill": "context", "decode": "generation"}  # of a phase, in the package


def attention_rows(data: DataSet, folder: Path, phase: str, stored: str = "bfloat16", *, wide: bool = False) -> Rows:
    """bf16 attention over a cache of bfloat16 or fp8 (kv_cache_dtype `stored`), full causal window, the engine's main
    kernel (no Triton fallback). wide: decode by TensorRT-LLM's other kernel, above TRTLLM_GROUP query heads a KV head,
    which the rows are without otherwise.
    """
    table = perf_table(data, folder, "attention", f"{TABLES[phase]}_attention")
    if "window_size" not in table:
        table["window_size"] = 0
    plain = (table.attn_dtype == "bfloat16") & (table.kv_cache_dtype == stored)
    plain &= (table.window_size == 0) & ~table.kernel_source.str.contains("triton")
    if phase == "prefill":
        plain &= table.isl > 1
    if data.engine is TENSORRT_LLM and phase == "decode":
        plain &= (table.num_heads > TRTLLM_GROUP * table.num_key_value_heads) == wide
    sizes = ["batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim"]
    (batch, isl, step, heads, kv_heads, head_dim), measured_s = medians(table[plain], sizes)
    q_len = isl if phase == "prefill" else 1
    number = ops.Tail(dtype="bf16", elem_bytes=2)
    cached: ops.Cached = {**number, "kv_elem_bytes": 1 if stored == "fp8" else None}
    op = ops.attention(
        "attention",
        batch=batch,
        q_len=q_len,
        kv_len=isl + step,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        **cached,
    )
    chip = CHIPS[data.hardware]
    arch = architecture_of(chip)
    append = ops.kv_write("append", tokens=batch * q_len, kv_heads=kv_heads, head_dim=head_dim, **cached)
    cycle_bytes = op.bytes + append.in_bytes  # what it writes is what attention reads
    cold = resident_fraction(cycle_bytes, chip, arch) == 0
    keep = ~cold | (measured_s >= roofline_s(op, chip))  # nothing explains the others
    if data.engine.append_rotates(op):
        append = with_query(append, op)
    extra_s: ops.Seconds = 0.0
    if stored == "fp8" and arch.narrows_query and data.engine.narrows_query:
        width, form = heads * head_dim, KV_FORMATS["fp8"]
        query = ops.quantize("query", tokens=batch * q_len, width=width, form=form, **number)
        extra_s = sum(data.engine.causes(query, chip, arch).values())
    return Rows(
        label=data.label,
        kind=f"{phase} attention" + (", fp8 cache" if stored == "fp8" else "") + (", many heads" if wide else ""),
        chip=chip,
        op=select(op, keep),
        append=select(append, keep),
        measured_s=measured_s[keep],
        chosen_after=data.engine is TENSORRT_LLM and phase == "decode",
        cycle_bytes=np.asarray(cycle_bytes)[keep],
        left_out=int((~keep).sum()),
        engine=data.engine,
        extra_s=np.broadcast_to(extra_s, keep.shape)[keep],
        fitted=data.fitted,
        refitted=data.hardware in REFITTED and data.engine is VLLM and stored != "fp8",
    )


def latent_rows(data: DataSet, folder: Path, phase: str) -> Rows:
    """bf16 latent attention (MLA, DeepSeek's sizes) over a bf16 cache, with the kernel before it that rotates and
    writes the cache. SGLang's prefill seems to run absorbed, too: its rates, if not, would be a third of the others'.
    """
    prefill = phase == "prefill"
    table = perf_table(data, folder, "mla", f"{TABLES[phase]}_mla")
    plain = (table.mla_dtype == "bfloat16") & (table.kv_cache_dtype == "bfloat16")
    if prefill:
        plain &= table.isl > 1
    (heads, batch, isl, step), measured_s = medians(table[plain], ["num_heads", "batch_size", "isl", "step"])
    q_len, number = isl if prefill else 1, ops.Tail(dtype="bf16", elem_bytes=2)
    absorbed = not prefill or data.engine.absorbs_prompts
    op = ops.latent_attention(
        "mla", batch=batch, q_len=q_len, kv_len=isl + step, heads=heads, absorbed=absorbed, **number
    )
    append = ops.kv_write("append", tokens=batch * q_len, kv_heads=1, head_dim=576 // 2, **number)
    if data.engine.append_rotates(op):
        append = with_query(append, op)
    chip = CHIPS[data.hardware]
    rows = Rows(
        label=data.label,
        kind=f"mla {phase}",
        chip=chip,
        op=op,
        append=append,
        measured_s=measured_s,
        engine=data.engine,
        chosen_after=prefill and data.engine.absorbs_prompts,
        fitted=data.fitted,
    )
    return without(rows, {"beats the roofline": measured_s < roofline_s(op, chip)})


def sparse_rows(entry: int, gpu: Gpu, folder: Path) -> Rows:
    """The kernels of sparse attention: an entry of SPARSE_PARTS on one GPU (an entry of sets.py)."""
    engine, name, part = SPARSE_PARTS[entry]
    data = DataSet(**gpu, engine=engine)
    chip = CHIPS[data.hardware]
    table = perf_table(data, folder, "sparse_attention", name)
    if part == "top-k":
        table = table[table.score_mode == "top_last"]
    (batch, q_len, step), measured_s = medians(table, ["batch_size", "isl", "step"])
    rows = Rows(
        label=data.label,
        kind=part,
        chip=chip,
        op=sparse_op(part, batch, q_len, step),
        measured_s=measured_s,
        engine=engine,
        fitted=gpu is H100 and part in SPARSE_FITTED,
    )
    reasons = {"no more scores than are chosen": measured_s == 0}
    return without(rows, reasons | {"beats the roofline": measured_s < roofline_s(rows.op, chip)})


def sparse_op(part: str, batch: np.ndarray, q_len: np.ndarray, step: np.ndarray) -> ops.Op:
    """A part of SPARSE_PARTS at these sizes; step: the keys before the queries."""
    tokens = batch * q_len
    if part.startswith("index scores"):
        paged = part.endswith("paged")
        ratio, heads = (4, 64) if paged else (1, 32)
        new, sequences = (tokens, 1) if paged else (q_len, batch)
        return ops.index_scores(
            part,
            batch=sequences,
            q_len=new,
            keys=(new + step) / ratio,
            pairs=ops.visible_keys(new, new + step) / ratio,
            heads=heads,
            dim=128,
            split=paged,
            dtype="fp8",
            elem_bytes=1,
        )
    if part == "top-k":
        return ops.choose(part, rows=tokens, width=q_len + step, top_k=2048, dtype="fp32", elem_bytes=4)
    heavy = part == "heavy attention"
    read = 128 + np.maximum((tokens + step) // 128, 1) if heavy else np.full(tokens.shape, 2048.0)
    dim, value = (512, 512) if heavy else (576, 512)
    return ops.attention_over(
        part,
        batch=1,
        q_len=tokens,
        keys=read if heavy else batch * np.minimum(q_len + step, 2048),
        pairs=tokens * read,
        heads=64,
        kv_heads=1,
        head_dim=dim,
        v_head_dim=value,
        key_elems=dim,
        window=read,
        own_keys=True,
        kv_elem_bytes=584 / 512 if heavy else None,
        dtype="bf16",
        elem_bytes=2,
    )
