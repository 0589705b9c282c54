"""The measured kernels of the package aiconfigurator-core, read into Rows."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from ridgepoint import ops
from ridgepoint.hardware import CHIPS
from ridgepoint.kernels.architectures import architecture_of
from ridgepoint.kernels.gemm import resident_fraction
from ridgepoint.kernels.moe import HEIGHTS
from ridgepoint.kernels.roofline import roofline_s
from ridgepoint.layers.formats import FORMATS, KV_FORMATS, precision_of
from ridgepoint.serving.engines import SGLANG, TENSORRT_LLM, TRTLLM_GROUP, VLLM, with_query
from ridgepoint.validation.loads import drawn_loads
from ridgepoint.validation.rows import Rows, chosen, halves, select
from ridgepoint.validation.sets import (
    ATOMIC_CLOCKS,
    B200,
    DATA_SETS,
    H100,
    H200,
    LATENT_SETS,
    LAYER_EVENTS_S,
    MIXTURE_SETS,
    NARROW_FITTED,
    NARROW_MIXTURES,
    NARROW_SETS,
    PACKAGE_NAMES,
    PROFILED,
    RECURRENT_SETS,
    REFITTED,
    SPARSE_FITTED,
    SPARSE_PARTS,
    UNGATED,
    DataSet,
    MixtureSet,
    RecurrentSet,
)


def data_folder() -> Path | None:
    """Where the package keeps its measurements, or None if it isn't installed."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    return Path(spec.submodule_search_locations[0]) / "systems" / "data" if spec else None


def kernel_sets(folder: Path, hardware: str | None = None) -> Iterator[Rows]:
    """All data sets of the package, the fitted one first, or those of one GPU."""

    def own(sets):
        return [data for data in sets if hardware in (None, data.hardware)]

    for data in own(DATA_SETS):
        yield gemm_rows(data, folder)
    for phase in ("prefill", "decode"):
        for data in own(DATA_SETS):
            yield attention_rows(data, folder, phase)
    for data in own(DATA_SETS):
        if data.engine is TENSORRT_LLM:
            yield attention_rows(data, folder, "decode", wide=True)
    for _, name, _, sets in NARROW_SETS:
        for data in own(DATA_SETS):
            if (data.hardware, data.engine) in sets:
                rows = narrow_rows(name, data, folder)
                yield from halves(rows) if rows.refitted else (rows,)
    yield from (rows for rows in further_sets(folder, own) if rows is not None and rows.measured_s.size)


def further_sets(folder: Path, own: Callable) -> Iterator[Rows | None]:
    """The sets beyond products and attention over a bf16 cache; `own` chooses. Some are empty: the A100 has no fp8
    cache, SGLang's prefill over one is Triton's.
    """
    for phase in ("prefill", "decode"):
        for data in own(DATA_SETS):
            yield attention_rows(data, folder, phase, "fp8")
    for data in own(DATA_SETS):
        if data.engine is VLLM and not data.hardware.startswith("a100"):
            yield quantize_rows(data, folder)
    for stored in ("bfloat16", *NARROW_MIXTURES):
        for data in own(MIXTURE_SETS):
            if stored in mixture_formats(data, folder):
                yield mixture_rows(data, folder, stored)
    for phase in ("prefill", "decode"):
        for data in own(LATENT_SETS):
            yield latent_rows(data, folder, phase)
    measured_on = {data.hardware for data in own(DATA_SETS)}
    for number in range(len(SPARSE_PARTS)):
        for gpu in (H100, H200, B200):
            if gpu["hardware"] in measured_on:
                yield sparse_rows(number, gpu, folder)
    for part in ("mla_gen_pre", "mla_gen_post"):
        for data in own(DATA_SETS):
            yield absorbed_rows(data, folder, part)
    for data in own(DATA_SETS):
        yield stream_rows(data, folder)
    for part in RECURRENT_PARTS:
        for data in own(RECURRENT_SETS):
            yield recurrent_rows(data, folder, part)


def label(data) -> str:
    """What the tables call a set."""
    return f"{data.hardware} {data.engine.family} {data.version}"


def perf_path(data, folder: Path, kind: str, name: str) -> Path:
    """The file of a set's measurements of this kind."""
    return folder / data.folder / kind / PACKAGE_NAMES[data.engine.family] / data.version / f"{name}_perf.parquet"


def gemm_rows(data: DataSet, folder: Path) -> Rows:
    """bf16 products; repeated shapes reduced to their median."""
    import pandas

    path = perf_path(data, folder, "gemm", "gemm")
    table = pandas.read_parquet(path, columns=["gemm_dtype", "m", "n", "k", "latency"])
    table = table[table.gemm_dtype == "bfloat16"].groupby(["m", "n", "k"], as_index=False).latency.median()
    m, n, k = (table[name].to_numpy(dtype=float) for name in "mnk")
    op = ops.linear("gemm", tokens=m, d_in=k, d_out=n, dtype="bf16", elem_bytes=2)
    chip = CHIPS[data.hardware]
    copies = data.weight_copies
    if copies == "l2":
        copies = np.clip(np.ceil(chip.l2_bytes / op.weight_bytes), 1, 5)
    cycle_bytes = copies * op.weight_bytes + data.x_copies * op.in_bytes + op.out_bytes
    return Rows(
        label=label(data),
        kind="gemm",
        chip=chip,
        op=op,
        measured_s=table.latency.to_numpy() * 1e-3,
        cycle_bytes=cycle_bytes,
        fitted=data.fitted,
        refitted=data.hardware in REFITTED,
    )


def narrow_rows(name: str, data: DataSet, folder: Path) -> Rows:
    """Products with narrow operands: an entry of NARROW_SETS."""
    import pandas

    stored, _, formats, _ = next(entry for entry in NARROW_SETS if entry[1] == name)
    path = perf_path(data, folder, "gemm", "gemm")
    table = pandas.read_parquet(path, columns=["gemm_dtype", "m", "n", "k", "latency"])
    table = table[table.gemm_dtype == stored].groupby(["m", "n", "k"], as_index=False).latency.median()
    m, n, k = (table[size].to_numpy(dtype=float) for size in "mnk")
    chip, wanted = CHIPS[data.hardware], precision_of("bf16", *formats)
    if stored == "int4_wo":  # the package's are per channel
        wanted = replace(wanted, weights=replace(wanted.weights, group=0))
    block = {"scale_group": 128} if name == "fp8_block" else {}
    op = ops.linear(name, tokens=m, d_in=k, d_out=n, dtype="bf16", elem_bytes=2, precision=wanted)
    # one width for all rows: the kernel takes one, and a scale per row is nothing at k = 4096
    widths = {"a_bytes": wanted.activations.element_bytes(4096), "b_bytes": wanted.weights.element_bytes(4096)}
    op = replace(op, dims=dict(op.dims) | widths | block)
    measured_s = table.latency.to_numpy() * 1e-3
    extra_s, cycle_bytes = LAYER_EVENTS_S, np.full(m.shape, np.inf)
    if stored not in PROFILED:
        copies = 1 if name == "nvfp4" and data.engine is VLLM else data.weight_copies
        if copies == "l2":
            copies = np.clip(np.ceil(chip.l2_bytes / op.weight_bytes), 1, 5)
        cycle_bytes = copies * op.weight_bytes + data.x_copies * 2 * m * k + op.in_bytes + op.out_bytes
        extra_s = quantize_s(
            name, data, folder, m, k, wanted, resident_fraction(cycle_bytes, chip, architecture_of(chip))
        )
    return Rows(
        label=label(data),
        kind=f"gemm {name}",
        chip=chip,
        op=op,
        measured_s=measured_s,
        cycle_bytes=cycle_bytes,
        extra_s=extra_s,
        engine=data.engine,
        refitted=(name, data.hardware, data.engine) in NARROW_FITTED,
    )


def quantize_s(name: str, data: DataSet, folder: Path, m, k, wanted, resident) -> np.ndarray:
    """Seconds of the kernels that narrow x [m, k], of which the L2 holds the part `resident`, before the product in a
    benchmark's rows.
    """
    chip = CHIPS[data.hardware]
    arch = architecture_of(chip)
    if name == "fp8" and data.engine is TENSORRT_LLM:
        import pandas

        total = 0.0
        for part in ("scale_matrix", "computescale"):
            path = perf_path(data, folder, "quantize", part)
            table = pandas.read_parquet(path).groupby(["m", "k"]).latency.median() * 1e-3
            total = total + table.reindex(pandas.MultiIndex.from_arrays([m, k])).to_numpy()
        return total + arch.pointwise.launch_s
    op = ops.quantize(name, tokens=m, width=k, dtype="bf16", elem_bytes=2, form=wanted.activations)
    op = replace(op, in_bytes=(1 - resident) * op.in_bytes, out_bytes=(1 - resident) * op.out_bytes)
    seconds = sum(data.engine.causes(op, chip, arch).values())
    if name == "fp8" and data.engine is VLLM:
        read_s = op.in_bytes / chip.dram_read_bytes_per_s
        seconds = seconds + np.maximum(read_s, m * ATOMIC_CLOCKS / chip.clock_hz)
    return seconds


def quantize_rows(data: DataSet, folder: Path) -> Rows:
    """vLLM's kernel that narrows x to fp8 with a scale per token: in the package as static plus what dynamic adds."""
    import pandas

    names = ("scale_matrix", "computescale")
    parts = [pandas.read_parquet(perf_path(data, folder, "quantize", name)) for name in names]
    static, dynamic = (table.groupby(["m", "k"]).latency.median() for table in parts)
    total = (static + dynamic).dropna().reset_index()
    m, k = (total[size].to_numpy(dtype=float) for size in "mk")
    number = {"dtype": "bf16", "elem_bytes": 2, "form": FORMATS["fp8"]}
    op, chip = ops.quantize("quantize", tokens=m, width=k, **number), CHIPS[data.hardware]
    measured_s = total.latency.to_numpy() * 1e-3
    keep = measured_s >= roofline_s(op, chip)  # the others found x in the L2
    return Rows(
        label=label(data),
        kind="quantize",
        chip=chip,
        op=select(op, keep),
        measured_s=measured_s[keep],
        left_out=int((~keep).sum()),
        refitted=data.hardware == "h100-sxm",
    )


def attention_rows(data: DataSet, folder: Path, phase: str, cache: str = "bfloat16", *, wide: bool = False) -> Rows:
    """bf16 attention over a cache of bfloat16 or fp8, full causal window, the engine's main kernel (no Triton
    fallback). wide: decode by TensorRT-LLM's other kernel, above TRTLLM_GROUP query heads a KV head, which the rows
    are without otherwise.
    """
    import pandas

    name = {"prefill": "context", "decode": "generation"}[phase]
    path = perf_path(data, folder, "attention", f"{name}_attention")
    table = pandas.read_parquet(path)
    if "window_size" not in table:
        table["window_size"] = 0
    plain = (table.attn_dtype == "bfloat16") & (table.kv_cache_dtype == cache)
    plain &= (table.window_size == 0) & ~table.kernel_source.str.contains("triton")
    if phase == "prefill":
        plain &= table.isl > 1
    sizes = ["batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim"]
    if data.engine is TENSORRT_LLM and phase == "decode":
        plain &= (table.num_heads > TRTLLM_GROUP * table.num_key_value_heads) == wide
    table = table[plain].groupby(sizes, as_index=False).latency.median()
    batch, isl, step, heads, kv_heads, head_dim = (table[size].to_numpy(dtype=float) for size in sizes)
    q_len = isl if phase == "prefill" else 1
    number = {"dtype": "bf16", "elem_bytes": 2}
    shape = {"kv_heads": kv_heads, "head_dim": head_dim, "kv_elem_bytes": 1 if cache == "fp8" else None}
    op = ops.attention("attention", batch=batch, q_len=q_len, kv_len=isl + step, heads=heads, **shape, **number)
    chip, measured_s = CHIPS[data.hardware], table.latency.to_numpy() * 1e-3
    append = ops.kv_write("append", tokens=batch * q_len, **shape, **number)
    cycle_bytes = op.bytes + append.in_bytes  # what it writes is what attention reads
    cold = resident_fraction(cycle_bytes, chip, architecture_of(chip)) == 0
    keep = ~cold | (measured_s >= roofline_s(op, chip))  # nothing explains the others
    arch = architecture_of(chip)
    if data.engine.append_rotates(op):
        append = with_query(append, op)
    extra_s = np.zeros(op.dims["kv_len"].shape)
    if cache == "fp8" and arch.narrows_query and data.engine.narrows_query:
        query = {"tokens": batch * q_len, "width": heads * head_dim, "form": KV_FORMATS["fp8"], **number}
        extra_s = sum(data.engine.causes(ops.quantize("query", **query), chip, arch).values())
    return Rows(
        label=label(data),
        kind=f"{phase} attention" + (", fp8 cache" if cache == "fp8" else "") + (", many heads" if wide else ""),
        chip=chip,
        op=select(op, keep),
        append=select(append, keep),
        measured_s=measured_s[keep],
        chosen_after=data.engine is TENSORRT_LLM and phase == "decode",
        cycle_bytes=cycle_bytes[keep],
        left_out=int((~keep).sum()),
        engine=data.engine,
        extra_s=extra_s[keep],
        fitted=data.fitted,
        refitted=data.hardware in REFITTED and data.engine is VLLM and cache != "fp8",
    )


@cache
def mixture_formats(data: MixtureSet, folder: Path) -> set[str]:
    """The moe_dtype that a set has rows of."""
    import pandas

    path = perf_path(data, folder, "moe", "moe")
    return set(pandas.read_parquet(path, columns=["moe_dtype"]).moe_dtype)


def mixture_rows(data: MixtureSet, folder: Path, stored: str = "bfloat16") -> Rows:
    """Layers of gated mixtures in bf16, or in the formats of NARROW_MIXTURES (moe_dtype `stored`). The timings start
    from router logits (TensorRT-LLM) or from the chosen experts (vLLM, SGLang). Width / tp columns and the experts of
    one rank are on the GPU, but all tokens.
    """
    import pandas

    path = perf_path(data, folder, "moe", "moe")
    table = pandas.read_parquet(path)
    table = table[table.moe_dtype == stored]
    table = table[~table.kernel_source.str.contains("nongated|sglang_flashinfer")]
    sizes = ["num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"]
    table = table.groupby([*sizes, "distribution"], as_index=False).latency.median()
    width, shapes = table.inter_size // table.moe_tp_size, zip(table.hidden_size, table.inter_size, strict=True)
    ungated = data.engine is VLLM and data.hardware != "a100-80gb-sxm"
    reasons = {
        "width not a multiple of 16": (width % 16 > 0).to_numpy(),
        "no gate": np.array([ungated and shape in UNGATED for shape in shapes]),
        "expert parallelism in SGLang, which places tokens otherwise": (table.moe_ep_size > 1).to_numpy()
        & (data.engine is SGLANG),
    }
    table = table[~np.any(list(reasons.values()), axis=0)]
    alpha = table.distribution.str.extract(r"power_law_(.*)", expand=False).astype(float).fillna(0.0)
    spreads = zip(table.num_tokens, table.num_experts, table.topk, table.moe_ep_size, alpha, strict=True)
    loads = [load_summary(*map(int, spread[:-1]), spread[-1], data.remainder) for spread in spreads]
    pairs, active, touched, *tiles = np.array(loads).reshape(len(loads), 3 + len(HEIGHTS)).T
    tokens, hidden, inter, top_k, experts, tp, ep = (table[size].to_numpy(dtype=float) for size in sizes)
    width, local = inter // tp, experts // ep
    chip, number = CHIPS[data.hardware], {"dtype": "bf16", "elem_bytes": 2}
    formats = None if stored == "bfloat16" else precision_of("bf16", *NARROW_MIXTURES[stored])
    # one width for all rows, as for GEMMs
    x, w = (2, 2) if formats is None else (f.element_bytes(4096) for f in (formats.activations, formats.weights))
    widths = {"a_bytes": x, "b_bytes": w}
    dims = {"m": pairs, "active": active, "experts": local, "tiles": np.array(tiles).T}

    def product(name, d_in, d_out):
        shape = {"tokens": tokens, "experts": experts, "top_k": top_k, "d_in": d_in, "d_out": d_out}
        op = ops.grouped_linear(name, **shape, precision=formats, width=width, **number)
        sizes = {"flops": 2 * d_in * d_out * pairs, "weight_bytes": widths["b_bytes"] * d_in * d_out * active}
        sizes |= {"in_bytes": widths["a_bytes"] * d_in * pairs, "out_bytes": 2 * d_out * pairs}
        return replace(op, dims=dict(op.dims) | dims | widths, **sizes)

    def narrowed(name, rows, width):
        if formats is None or not formats.quantized_activations:
            return ()
        return (ops.quantize(name, tokens=rows, width=width, form=formats.activations, **number),)

    # Triton's kernels read rows in place, but work on all pairs, and write zeros where the expert is elsewhere
    arch = architecture_of(chip)
    here = pairs if arch.compute_capability >= data.engine.copies_experts_from else top_k * tokens
    sum_up = ops.combine("combine", tokens=tokens, top_k=1, hidden=hidden, **number)
    zeros = 2 * (2 * width + hidden) * (here - pairs)
    sizes = {"flops": 2 * hidden * here, "in_bytes": 2 * hidden * here + zeros}
    layer = (
        ops.route("route", tokens=tokens, experts=experts, top_k=top_k, **number),
        *narrowed("gate_up_quant", tokens, hidden),
        product("gate_up", hidden, 2 * width),
        ops.swiglu("swiglu", tokens=here, intermediate=width, **number),
        *narrowed("down_quant", here, width),
        product("down", width, hidden),
        replace(sum_up, dims=dict(sum_up.dims) | {"rows": pairs}, **sizes),
    )
    layer = tuple(data.engine.launched(layer, arch, decode=False))
    products = tuple(op for op in layer if op.kind == "grouped_gemm")
    total = replace(
        products[0],
        flops=sum(op.flops for op in products),
        weight_bytes=sum(op.weight_bytes for op in products),
        out_bytes=products[1].out_bytes + products[0].out_bytes,
    )
    rows = Rows(
        label=label(data),
        kind="moe layer" if formats is None else f"moe layer {stored}",
        chip=chip,
        op=total,
        layer=layer,
        measured_s=table.latency.to_numpy() * 1e-3,
        cycle_bytes=3 * w * hidden * width * touched + 2 * (2 * hidden + 3 * width) * pairs,
        engine=data.engine,
        chosen_after=arch.compute_capability <= data.engine.untuned_until,
        fitted=data.fitted and formats is None,
    )
    beaten = rows.measured_s < roofline_s(rows.op, rows.chip)
    rows = chosen(rows, ~beaten)
    reasons["beats the roofline"] = beaten
    left_out = {reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()}
    why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return replace(rows, left_out=sum(left_out.values()), reasons=why)


@cache
def load_summary(tokens: int, experts: int, top_k: int, ranks: int, alpha: float, remainder: str) -> tuple:
    """Means over a benchmark's routings: pairs on the timed rank, experts used, experts used by any routing, and tiles
    of each height.
    """
    loads = drawn_loads(tokens, experts, top_k, ranks, alpha, remainder)
    any_used = experts // ranks * np.mean(np.sum([rows > 0 for rows in loads], axis=0) > 0)
    means = [np.mean([rows.sum() for rows in loads]), np.mean([(rows > 0).sum() for rows in loads])]
    tiles = [np.mean([np.ceil(rows / height).sum() for rows in loads]) for height in HEIGHTS]
    return (*means, any_used, *tiles)


def latent_rows(data: DataSet, folder: Path, phase: str) -> Rows:
    """bf16 latent attention (MLA, DeepSeek's sizes) over a bf16 cache, with the kernel before it that rotates and
    writes the cache. SGLang's prefill seems to run absorbed, too: its rates, if not, would be a third of the others'.
    """
    import pandas

    prefill = phase == "prefill"
    name = "context" if prefill else "generation"
    table = pandas.read_parquet(perf_path(data, folder, "mla", f"{name}_mla"))
    plain = (table.mla_dtype == "bfloat16") & (table.kv_cache_dtype == "bfloat16")
    if prefill:
        plain &= table.isl > 1
    sizes = ["num_heads", "batch_size", "isl", "step"]
    table = table[plain].groupby(sizes, as_index=False).latency.median()
    heads, batch, isl, step = (table[size].to_numpy(dtype=float) for size in sizes)
    q_len, number = isl if prefill else 1, {"dtype": "bf16", "elem_bytes": 2}
    absorbed = not prefill or data.engine.absorbs_prompts
    lengths = {"batch": batch, "q_len": q_len, "kv_len": isl + step}
    op = ops.latent_attention("mla", heads=heads, absorbed=absorbed, **lengths, **number)
    append = ops.kv_write("append", tokens=batch * q_len, kv_heads=1, head_dim=576 // 2, **number)
    if data.engine.append_rotates(op):
        append = with_query(append, op)
    chip = CHIPS[data.hardware]
    rows = Rows(
        label=label(data),
        kind=f"mla {phase}",
        chip=chip,
        op=op,
        append=append,
        measured_s=table.latency.to_numpy() * 1e-3,
        engine=data.engine,
        chosen_after=prefill and data.engine.absorbs_prompts,
        fitted=data.fitted,
    )
    beaten = rows.measured_s < roofline_s(op, chip)
    why = f"{beaten.sum()} beats the roofline" if beaten.any() else ""
    return replace(chosen(rows, ~beaten), left_out=int(beaten.sum()), reasons=why)


# The kernels of linear attention: what the package calls them in a row's kernel_source.
RECURRENT_PARTS = {
    "scan": "chunk_gated_delta_rule|chunk_kda|flashkda_fwd",
    "state update": "fused_recurrent",
    "conv": "causal_conv1d_fn",
    "conv update": "causal_conv1d_update",
}
DISTURBED = 1.25  # times the H100's time: a row of the H200, the same chip with more bandwidth, that is not used


def recurrent_table(data: RecurrentSet, folder: Path, part: str):
    """Latency in ms by (batch_size, seq_len, num_k_heads, num_v_heads), repeated shapes reduced to their median."""
    import pandas

    kind = "linear_attention" if data.model == "gdn" else data.model
    path = perf_path(data, folder, kind, data.model)
    table = pandas.read_parquet(path)
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
    chip, dim, number = CHIPS[data.hardware], 128, {"dtype": "bf16", "elem_bytes": 2}
    lengths = {"batch": batch, "q_len": 1 if "update" in part else seq_len}
    launches = 1
    if "conv" in part:
        channels = dim * (2 * key_heads + heads if data.packed else key_heads)
        launches = 3 if data.model == "kda" and part == "conv" else 1  # q, k and v one after another
        op = ops.causal_conv(part, channels=channels / launches, taps=4, **lengths, **number)
    else:
        shape = {"key_heads": key_heads, "value_heads": heads, "key_dim": dim, "value_dim": dim, "chunk": 64}
        shape |= {"delta_rule": True, "decays": 1 if data.model == "gdn" else dim, "state_elem_bytes": 4}
        op = ops.recurrence(part, weights=0, **shape, **lengths, **number)
        given = {"scan": (0.0, 2.0), "state update": (1.5, 2.0)}[part][data.packed]  # states of fp32 read and written
        op = replace(op, kv_bytes=given * 4 * heads * dim * dim * batch)
    every = np.ones(latency.size, dtype=bool)
    kda_on_host = part == "conv" and data.model == "kda" and data.engine is VLLM
    reasons = {
        "channel by channel, a CTA for each of a sequence": every & (part == "conv" and not data.packed),
        "without a CUDA graph: the host's time": every & kda_on_host,
        "over 1.25 times the H100's time, which has less bandwidth": np.asarray(slower),
    }
    rows = Rows(
        label=label(data),
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


def without(rows: Rows, reasons: dict[str, np.ndarray]) -> Rows:
    """The rows that no mask in `reasons` names; each other row is counted under the first reason that names it."""
    keep, counts = np.ones(rows.measured_s.size, dtype=bool), {}
    for reason, mask in reasons.items():
        counts[reason] = int((keep & mask).sum())
        keep &= ~mask
    why = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    return replace(chosen(rows, keep), left_out=int((~keep).sum()), reasons=why)


def sparse_rows(number: int, gpu: dict, folder: Path) -> Rows:
    """The kernels of sparse attention: an entry of SPARSE_PARTS on one GPU (an entry of sets.py)."""
    import pandas

    engine, name, part = SPARSE_PARTS[number]
    version = engine.kernels_measured[gpu["hardware"]]
    chip = CHIPS[gpu["hardware"]]
    path = folder / gpu["folder"] / "sparse_attention" / PACKAGE_NAMES[engine.family] / version / f"{name}_perf.parquet"
    table = pandas.read_parquet(path)
    if part == "top-k":
        table = table[table.score_mode == "top_last"]
    sizes = ["batch_size", "isl", "step"]
    table = table.groupby(sizes, as_index=False).latency.median()
    batch, q_len, step = (table[size].to_numpy(dtype=float) for size in sizes)
    tokens, number = batch * q_len, {"dtype": "bf16", "elem_bytes": 2}
    if part.startswith("index scores"):
        paged, narrow = part.endswith("paged"), {"dtype": "fp8", "elem_bytes": 1}
        ratio, heads = (4, 64) if paged else (1, 32)
        new, sequences = (tokens, 1) if paged else (q_len, batch)
        lengths = {"batch": sequences, "q_len": new, "keys": (new + step) / ratio, "heads": heads, "dim": 128}
        op = ops.index_scores(part, pairs=ops.visible_keys(new, new + step) / ratio, split=paged, **lengths, **narrow)
    elif part == "top-k":
        op = ops.choose(part, rows=tokens, width=q_len + step, top_k=2048, dtype="fp32", elem_bytes=4)
    else:
        heavy = part == "heavy attention"
        seen = 128 + np.maximum((tokens + step) // 128, 1) if heavy else np.full(tokens.shape, 2048.0)
        dim, value = (512, 512) if heavy else (576, 512)
        shape = {"heads": 64, "kv_heads": 1, "head_dim": dim, "v_head_dim": value, "key_elems": dim}
        lengths = {"batch": 1, "q_len": tokens, "keys": seen if heavy else batch * np.minimum(q_len + step, 2048)}
        lengths |= {"pairs": tokens * seen, "window": seen, "own_keys": True}
        op = ops.attention_over(part, kv_elem_bytes=584 / 512 if heavy else None, **lengths, **shape, **number)
    rows = Rows(
        label=f"{gpu['hardware']} {engine.family} {version}",
        kind=part,
        chip=chip,
        op=op,
        measured_s=table.latency.to_numpy() * 1e-3,
        engine=engine,
        fitted=gpu is H100 and part in SPARSE_FITTED,
    )
    reasons = {"no more scores than are chosen": rows.measured_s == 0}
    return without(rows, reasons | {"beats the roofline": rows.measured_s < roofline_s(op, chip)})


def absorbed_rows(data: DataSet, folder: Path, part: str) -> Rows | None:
    """bf16 products of latent attention's absorbed projections, one a head, which a benchmark repeats on the same
    operands: of q with the key's expansion (mla_gen_pre), of the output with the value's (mla_gen_post).
    """
    import pandas

    path = perf_path(data, folder, "mla_bmm", "mla_bmm")
    if not path.exists():
        return None
    table = pandas.read_parquet(path)
    table = table[(table.bmm_dtype == "bfloat16") & (table.op_name == part)]
    table = table.groupby(["num_tokens", "num_heads"], as_index=False).latency.median()
    tokens, heads = (table[size].to_numpy(dtype=float) for size in ("num_tokens", "num_heads"))
    d_in, d_out = (128, 512) if part == "mla_gen_pre" else (512, 128)
    op = ops.batched_linear(part, tokens=tokens, parts=heads, d_in=d_in, d_out=d_out, dtype="bf16", elem_bytes=2)
    return Rows(
        label=label(data),
        kind={"mla_gen_pre": "gemm a head, k = 128", "mla_gen_post": "gemm a head, k = 512"}[part],
        chip=CHIPS[data.hardware],
        op=op,
        measured_s=table.latency.to_numpy() * 1e-3,
        cycle_bytes=op.bytes,
    )


def stream_rows(data: DataSet, folder: Path) -> Rows | None:
    """What surrounds a part in a model with four residual streams (hyper-connections, DeepSeek-V4): the maps from the
    streams, and their mix. A row of the package sums up the two parts of a layer.
    """
    import pandas

    path = perf_path(data, folder, "mhc", "mhc_module")
    if not path.exists():
        return None
    table = pandas.read_parquet(path)
    both = (
        table[(table.hc_mult == 4) & (table.num_sites == 2)]
        .groupby(["num_tokens", "hidden_size", "op_name"])
        .latency.median()
        .unstack()
        .dropna()
    )
    tokens, hidden = (both.index.get_level_values(name).to_numpy(dtype=float) for name in both.index.names)
    number = {"dtype": "bf16", "elem_bytes": 2}
    maps = ops.linear("maps", tokens=tokens, d_in=4 * hidden, d_out=24, **number)
    mix = ops.residual_add("mix", tokens=tokens, hidden=4 * hidden, **number)
    return Rows(
        label=label(data),
        kind="residual streams",
        chip=CHIPS[data.hardware],
        op=replace(mix, flops=maps.flops, weight_bytes=maps.weight_bytes, unit="tensor", dtype="bf16"),
        layer=(maps, mix),
        measured_s=both.sum(axis=1).to_numpy() * 1e-3 / 2,
    )
