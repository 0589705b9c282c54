"""How far the estimates are from measured GPUs: python validate.py [--fit] [--plot FILE] [--measured FILE.csv].

Kernel timings come from the package aiconfigurator-core (development requirement, Linux x86-64); end-to-end and
pointwise timings from validation/*.csv, each row with its source. Without the package the rest still runs.
"""

import csv
import importlib.util
import json
import sys
import textwrap
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from tabulate import tabulate

import ops
from cycles import cycle_causes, cycle_s
from estimator import Case, estimate, guarded, line_parser
from hardware import AMPERE, ARCHITECTURES, CHIPS, NARROW, QUANTIZE_PER_CLOCK, Chip
from inputs import InputError, check_size, pick
from intervals import spread
from kernels.gemm import gemm, resident_fraction
from kernels.moe import HEIGHTS, grouped_gemm
from kernels.pointwise import pointwise
from loads import drawn_loads
from precision import FORMATS, KV_FORMATS, precision
from roofline import compute_s, memory_s, roofline_s
from runtimes import RUNTIMES

FOLDER = Path(__file__).resolve().parent / "validation"
PACKAGE = "aiconfigurator-core==0.12.0"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Measured kernels of one GPU and engine. `weight_copies`: how many copies of its weights the benchmark cycles
    through, which decides what it finds in the L2 (aiconfigurator's collectors); "l2": min(5, ceil(L2 / weights)).
    """

    hardware: str
    folder: str
    engine: str
    version: str
    weight_copies: int | str = 6
    x_copies: int = 1
    fitted: bool = False


DATA_SETS = (
    DataSet(hardware="a100-80gb-sxm", folder="a100_sxm", engine="vllm", version="0.14.0", fitted=True),
    DataSet(hardware="a100-80gb-sxm", folder="a100_sxm", engine="trtllm", version="1.0.0"),
    DataSet(hardware="a100-80gb-sxm", folder="a100_sxm", engine="sglang", version="0.5.10", x_copies=6),
    DataSet(hardware="h100-sxm", folder="h100_sxm", engine="vllm", version="0.24.0"),
    DataSet(hardware="h100-sxm", folder="h100_sxm", engine="trtllm", version="1.3.0rc20", weight_copies="l2"),
    DataSet(hardware="h100-sxm", folder="h100_sxm", engine="sglang", version="0.5.14", x_copies=6),
    DataSet(hardware="h200-sxm", folder="h200_sxm", engine="vllm", version="0.24.0"),
    DataSet(hardware="h200-sxm", folder="h200_sxm", engine="trtllm", version="1.3.0rc20", weight_copies="l2"),
    DataSet(hardware="h200-sxm", folder="h200_sxm", engine="sglang", version="0.5.14", x_copies=6),
    DataSet(hardware="l40s", folder="l40s", engine="vllm", version="0.24.0"),
    DataSet(hardware="l40s", folder="l40s", engine="trtllm", version="1.3.0rc20", weight_copies="l2"),
    DataSet(hardware="l40s", folder="l40s", engine="sglang", version="0.5.14", x_copies=6),
    DataSet(hardware="b200-sxm", folder="b200_sxm", engine="vllm", version="0.24.0"),
    DataSet(hardware="b200-sxm", folder="b200_sxm", engine="trtllm", version="1.3.0rc20", weight_copies="l2"),
    DataSet(hardware="b200-sxm", folder="b200_sxm", engine="sglang", version="0.5.14", x_copies=6),
)
# Products with narrow operands: gemm_dtype in the package, its name here, formats of weights and activations, and the
# data sets (hardware, engine) that have it. Weight-only and int8 rows are single runs under TensorRT's layer profiler,
# weights and scales cold (the layers before it sweep 0.3 GB), the product alone, in steps of 1.024 us. The others are
# CUDA graphs as above and include the kernels that narrow x. vLLM's fp8_block rows ran without a graph: left out.
NARROW_SETS = (
    ("int8_wo", "int8_wo", ("int8", None), (("a100-80gb-sxm", "trtllm"),)),
    ("int4_wo", "int4_wo", ("int4", None), (("a100-80gb-sxm", "trtllm"),)),
    ("sq", "int8", ("int8", "int8"), (("a100-80gb-sxm", "trtllm"),)),
    ("fp8", "fp8", ("fp8", "fp8"), [(d.hardware, d.engine) for d in DATA_SETS if not d.hardware.startswith("a100")]),
    (
        "fp8_block",
        "fp8_block",
        ("fp8", "fp8"),
        [(hardware, engine) for hardware in ("h100-sxm", "h200-sxm", "b200-sxm") for engine in ("trtllm", "sglang")],
    ),
    ("nvfp4", "nvfp4", ("nvfp4", "nvfp4"), [("b200-sxm", engine) for engine in ("vllm", "trtllm", "sglang")]),
)
PROFILED = ("int8_wo", "int4_wo", "sq")
LAYER_EVENTS_S = 5.353e-6  # fitted: what TensorRT's profiler adds to a layer, beyond the gap in a CUDA graph
# How x is narrowed in the fp8 rows. SGLang: one kernel, a scale per token. vLLM: a kernel that finds the largest
# magnitude of the tensor, with one atomic per row on one address, then one that narrows: read off the rows with
# n = k = 32, where the time grows by 6.3 ns a row on the H100, 5.0 on the L40S. TensorRT-LLM: several kernels, whose
# time the package has by itself (quantize/).
ATOMIC_CLOCKS = 12.0
# How the attention of the engines that the fit never saw differs from vLLM's: facts of their kernels, not fitted.
OTHER_ENGINE = {
    "append_waits": 0.0,
    "pack_copies": 0,
    "split_mha": True,
}  # vectorised append, packing in the kernel
ENGINE_ATTENTION = {
    "vllm": {},
    "trtllm": OTHER_ENGINE | {"pack_prefill": False, "split_prefill": False},
    "sglang": OTHER_ENGINE,
}
# On the A100, SGLang 0.5 runs FlashAttention-3's sm80 kernels: 128 x 64 tiles with packed heads, a metadata kernel.
SGLANG_A100 = {"tile_m": 128, "tile_n": 64, "decode_tile_m": 128, "pack_prefill": True, "extra_kernels": 1}


@dataclass(frozen=True, kw_only=True)
class MixtureSet:
    """Measured layers of a mixture of experts: routed, gated, two grouped products, combined."""

    hardware: str
    folder: str
    engine: str
    version: str
    remainder: str = "each rank"  # of the benchmark's routing (loads.py)
    tuned: tuple[tuple[int, int], ...] | None = None  # (experts, width) with a tuned tile; None: all
    fitted: bool = False


# Experts and width for which vLLM 0.14 runs tiles tuned on an A100: read off the measured rates, which are 1.2 to 2
# times those of like shapes; vLLM's folder of tuned configurations names E=8,N=3584, the others weren't looked up.
TUNED_ON_A100 = ((8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (128, 192))
EARLIER = {"remainder": "smallest", "tuned": TUNED_ON_A100}
A100, H100, H200, B200, L40S = (
    {"hardware": hardware, "folder": folder}
    for hardware, folder in (
        ("a100-80gb-sxm", "a100_sxm"),
        ("h100-sxm", "h100_sxm"),
        ("h200-sxm", "h200_sxm"),
        ("b200-sxm", "b200_sxm"),
        ("l40s", "l40s"),
    )
)
MIXTURE_SETS = (
    MixtureSet(**A100, engine="vllm", version="0.14.0", **EARLIER, fitted=True),
    MixtureSet(**A100, engine="trtllm", version="1.0.0", remainder="largest"),
    MixtureSet(**A100, engine="sglang", version="0.5.10", **EARLIER),
    *(
        MixtureSet(**gpu, engine=engine, version=version)
        for gpu in (H100, H200, L40S, B200)
        for engine, version in (("vllm", "0.24.0"), ("trtllm", "1.3.0rc20"), ("sglang", "0.5.14"))
    ),
)
# Hidden size and width of models without a gate, which vLLM 0.24 measures with one product less.
UNGATED = ((1024, 2688), (2048, 5120), (2688, 1856), (4096, 2688), (8192, 5120))


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Measured launches of one kind on one chip: one Op whose sizes are arrays, and a time for each."""

    label: str
    kind: str  # gemm, prefill attention, decode attention, norm, ...
    chip: Chip
    op: ops.Op
    measured_s: np.ndarray
    left_out: int = 0  # rows that no kernel could have reached, and so don't measure what they say
    reasons: str = ""  # why they were
    layer: tuple[ops.Op, ...] = ()  # the kernels of a mixture's layer; `op` then sums them up
    untuned: np.ndarray | bool = False  # products that run with a default tile
    append: ops.Op | None = None  # the KV append that the attention timings include
    cycle_bytes: np.ndarray | float = np.inf  # distinct bytes that the benchmark touches before a GEMM's come again
    attention: dict | None = None  # fields of AttentionFit that the engine's kernels change
    fitted: bool = False  # the constants of the A100, or of pointwise kernels, were fitted on (a sample of) these
    refitted: bool = False  # the two or three constants of another architecture were
    extra_s: np.ndarray | float = 0.0  # what the timings include besides: kernels that narrow x or Q, the profiler
    narrow: dict | None = None  # fields of NarrowFit that the engine's kernels change

    def estimate_s(self, fit=None) -> np.ndarray:
        """Seconds [rows] by the cycle model, with the chip's constants or those of `fit`."""
        fit = fit or self.chip.fit
        if self.attention:
            fit = replace(fit, attention=replace(fit.attention, **self.attention))
        if self.layer:
            return mixture_s(self, fit)
        if self.kind.startswith("gemm"):
            narrow = replace(fit.narrow, **self.narrow) if self.narrow else fit.narrow
            return gemm_s(self, fit.gemm, narrow) + self.extra_s
        seconds = sum(cycle_causes(self.op, self.chip, fit).values()) + self.extra_s
        if self.append:
            seconds = seconds + sum(cycle_causes(self.append, self.chip, fit).values())
        return seconds


def gemm_s(rows: Rows, fit, narrow=None, block: int = 4096) -> np.ndarray:
    """The GEMM model over many rows, a block at a time so that its candidates stay in cache."""
    parts = []
    for start in range(0, rows.measured_s.size, block):
        piece = slice(start, start + block)
        dims = {name: size[piece] if np.ndim(size) else size for name, size in rows.op.dims.items()}
        resident = resident_fraction(rows.cycle_bytes[piece], rows.chip, fit)
        causes = gemm(replace(rows.op, dims=dims), rows.chip, fit, narrow=narrow, resident=resident)
        parts.append(sum(causes.values()))
    return np.concatenate(parts)


def mixture_s(rows: Rows, fit) -> np.ndarray:
    """A mixture's layer, whose weights a benchmark that repeats it may find in the L2."""
    resident = resident_fraction(rows.cycle_bytes, rows.chip, fit.gemm)
    seconds = 0.0
    for op in rows.layer:
        if op.kind == "grouped_gemm":
            causes = grouped_gemm(op, rows.chip, fit, resident=resident, untuned=rows.untuned)
        else:
            causes = cycle_causes(op, rows.chip, fit)
        seconds = seconds + sum(causes.values())
    return seconds


def data_folder() -> Path | None:
    """Where the package keeps its measurements, or None if it isn't installed."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    return Path(spec.submodule_search_locations[0]) / "systems" / "data" if spec else None


def gemm_rows(data: DataSet, folder: Path) -> Rows:
    """bf16 products; repeated shapes reduced to their median."""
    import pandas

    path = folder / data.folder / "gemm" / data.engine / data.version / "gemm_perf.parquet"
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
        label=f"{data.hardware} {data.engine} {data.version}",
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
    path = folder / data.folder / "gemm" / data.engine / data.version / "gemm_perf.parquet"
    table = pandas.read_parquet(path, columns=["gemm_dtype", "m", "n", "k", "latency"])
    table = table[table.gemm_dtype == stored].groupby(["m", "n", "k"], as_index=False).latency.median()
    m, n, k = (table[size].to_numpy(dtype=float) for size in "mnk")
    chip, wanted = CHIPS[data.hardware], precision("bf16", *formats)
    if stored == "int4_wo":  # the package's are per channel
        wanted = replace(wanted, weights=replace(wanted.weights, group=0))
    op = ops.linear(name, tokens=m, d_in=k, d_out=n, dtype="bf16", elem_bytes=2, precision=wanted)
    # one width for all rows: the kernel takes one, and a scale per row is nothing at k = 4096
    widths = {"a_bytes": wanted.activations.element_bytes(4096), "b_bytes": wanted.weights.element_bytes(4096)}
    op = replace(op, dims=op.dims | widths)
    measured_s = table.latency.to_numpy() * 1e-3
    narrow, extra_s, cycle_bytes = {}, LAYER_EVENTS_S, np.full(m.shape, np.inf)
    if stored not in PROFILED:
        copies = 1 if name == "nvfp4" and data.engine == "vllm" else data.weight_copies
        if copies == "l2":
            copies = np.clip(np.ceil(chip.l2_bytes / op.weight_bytes), 1, 5)
        cycle_bytes = copies * op.weight_bytes + data.x_copies * 2 * m * k + op.in_bytes + op.out_bytes
        extra_s = quantize_s(name, data, folder, m, k, wanted)
        if data.engine == "trtllm":  # cuBLAS
            narrow = {"splits": 32, "small_tiles_m": np.inf}
        elif name == "fp8_block":  # DeepGEMM
            narrow = {"small_tiles_m": np.inf}
    return Rows(
        label=f"{data.hardware} {data.engine} {data.version}",
        kind=f"gemm {name}",
        chip=chip,
        op=op,
        measured_s=measured_s,
        cycle_bytes=cycle_bytes,
        extra_s=extra_s,
        narrow=narrow,
        refitted=(name, data.hardware, data.engine) in NARROW_FITTED,
    )


NARROW_FITTED = (
    ("int8_wo", "a100-80gb-sxm", "trtllm"),
    ("int4_wo", "a100-80gb-sxm", "trtllm"),
    ("fp8", "h100-sxm", "vllm"),
)


def quantize_s(name: str, data: DataSet, folder: Path, m, k, wanted) -> np.ndarray:
    """Seconds of the kernels that narrow x [m, k] before the product in a benchmark's rows."""
    chip = CHIPS[data.hardware]
    if name == "fp8" and data.engine == "trtllm":
        import pandas

        total = 0.0
        for part in ("scale_matrix", "computescale"):
            path = folder / data.folder / "quantize" / data.engine / data.version / f"{part}_perf.parquet"
            table = pandas.read_parquet(path).groupby(["m", "k"]).latency.median() * 1e-3
            total = total + table.reindex(pandas.MultiIndex.from_arrays([m, k])).to_numpy()
        return total
    op = ops.quantize(name, tokens=m, width=k, dtype="bf16", elem_bytes=2, form=wanted.activations)
    seconds = sum(pointwise(op, chip, chip.fit.pointwise).values())
    if name == "fp8" and data.engine == "vllm":
        read_s = op.in_bytes / chip.dram_read_bytes_per_s
        seconds = seconds + np.maximum(read_s, m * ATOMIC_CLOCKS / chip.clock_hz)
    return seconds


def quantize_rows(data: DataSet, folder: Path) -> Rows:
    """vLLM's kernel that narrows x to fp8 with a scale per token: in the package as static plus what dynamic adds."""
    import pandas

    path = folder / data.folder / "quantize" / data.engine / data.version
    parts = [pandas.read_parquet(path / f"{part}_perf.parquet") for part in ("scale_matrix", "computescale")]
    static, dynamic = (table.groupby(["m", "k"]).latency.median() for table in parts)
    total = (static + dynamic).dropna().reset_index()
    m, k = (total[size].to_numpy(dtype=float) for size in "mk")
    number = {"dtype": "bf16", "elem_bytes": 2, "form": FORMATS["fp8"]}
    op, chip = ops.quantize("quantize", tokens=m, width=k, **number), CHIPS[data.hardware]
    measured_s = total.latency.to_numpy() * 1e-3
    keep = measured_s >= roofline_s(op, chip)  # the others found x in the L2
    return Rows(
        label=f"{data.hardware} {data.engine} {data.version}",
        kind="quantize",
        chip=chip,
        op=select(op, keep),
        measured_s=measured_s[keep],
        left_out=int((~keep).sum()),
        refitted=data.hardware == "h100-sxm",
    )


def attention_rows(data: DataSet, folder: Path, phase: str, cache: str = "bfloat16") -> Rows:
    """bf16 attention over a cache of bfloat16 or fp8, full causal window, the engine's main kernel (no Triton
    fallback).
    """
    import pandas

    name = {"prefill": "context", "decode": "generation"}[phase]
    path = folder / data.folder / "attention" / data.engine / data.version / f"{name}_attention_perf.parquet"
    table = pandas.read_parquet(path)
    if "window_size" not in table:
        table["window_size"] = 0
    plain = (table.attn_dtype == "bfloat16") & (table.kv_cache_dtype == cache)
    plain &= (table.window_size == 0) & ~table.kernel_source.str.contains("triton")
    if phase == "prefill":
        plain &= table.isl > 1
    sizes = ["batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim"]
    table = table[plain].groupby(sizes, as_index=False).latency.median()
    batch, isl, step, heads, kv_heads, head_dim = (table[size].to_numpy(dtype=float) for size in sizes)
    q_len = isl if phase == "prefill" else 1
    number = {"dtype": "bf16", "elem_bytes": 2}
    shape = {"kv_heads": kv_heads, "head_dim": head_dim, "kv_elem_bytes": 1 if cache == "fp8" else None}
    op = ops.attention("attention", batch=batch, q_len=q_len, kv_len=isl + step, heads=heads, **shape, **number)
    chip, measured_s = CHIPS[data.hardware], table.latency.to_numpy() * 1e-3
    keep = measured_s >= roofline_s(op, chip)
    if phase == "decode" and chip.l2_partitions == 1:  # its whole cache fits in the L2, where the benchmark finds it
        keep &= op.kv_bytes > chip.l2_bytes
    engine = ENGINE_ATTENTION[data.engine]
    if data.engine == "sglang" and chip.architecture == "ampere":
        engine = engine | SGLANG_A100
    elif data.engine == "trtllm" and phase == "prefill":
        engine = engine | {"extra_kernels": 1}
    append = ops.kv_write("append", tokens=batch * q_len, **shape, **number)
    if data.engine == "trtllm":  # its QKV preprocessing kernel copies Q too
        append = replace(append, in_bytes=append.in_bytes + op.in_bytes, out_bytes=op.in_bytes)
    extra_s = np.zeros(op.dims["kv_len"].shape)
    if cache == "fp8" and chip.architecture == "hopper" and data.engine != "trtllm":  # FlashAttention-3 takes fp8 Q
        query = {"tokens": batch * q_len, "width": heads * head_dim, "form": KV_FORMATS["fp8"], **number}
        extra_s = cycle_s(ops.quantize("query", **query), chip)
    return Rows(
        label=f"{data.hardware} {data.engine} {data.version}",
        kind=f"{phase} attention" + (", fp8 cache" if cache == "fp8" else ""),
        chip=chip,
        op=select(op, keep),
        append=select(append, keep),
        measured_s=measured_s[keep],
        left_out=int((~keep).sum()),
        attention=engine,
        extra_s=extra_s[keep],
        fitted=data.fitted,
        refitted=data.hardware in REFITTED and data.engine == "vllm" and cache != "fp8",
    )


def mixture_rows(data: MixtureSet, folder: Path) -> Rows:
    """bf16 layers of gated mixtures. The timings start from router logits (TensorRT-LLM) or from the chosen experts
    (vLLM, SGLang). Width / tp columns and the experts of one rank are on the GPU, but all tokens.
    """
    import pandas

    path = folder / data.folder / "moe" / data.engine / data.version / "moe_perf.parquet"
    table = pandas.read_parquet(path)
    table = table[table.moe_dtype == "bfloat16"]
    table = table[~table.kernel_source.str.contains("nongated|sglang_flashinfer")]
    sizes = ["num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"]
    table = table.groupby([*sizes, "distribution"], as_index=False).latency.median()
    width, shapes = table.inter_size // table.moe_tp_size, zip(table.hidden_size, table.inter_size, strict=True)
    ungated = data.engine == "vllm" and data.hardware != "a100-80gb-sxm"
    reasons = {
        "width not a multiple of 16": (width % 16 > 0).to_numpy(),
        "no gate": np.array([ungated and shape in UNGATED for shape in shapes]),
        "expert parallelism in SGLang, which places tokens otherwise": (table.moe_ep_size > 1).to_numpy()
        & (data.engine == "sglang"),
    }
    table = table[~np.any(list(reasons.values()), axis=0)]
    alpha = table.distribution.str.extract(r"power_law_(.*)", expand=False).astype(float).fillna(0.0)
    spreads = zip(table.num_tokens, table.num_experts, table.topk, table.moe_ep_size, alpha, strict=True)
    loads = [load_summary(*map(int, spread[:-1]), spread[-1], data.remainder) for spread in spreads]
    pairs, active, touched, *tiles = np.array(loads).T
    tokens, hidden, inter, top_k, experts, tp, ep = (table[size].to_numpy(dtype=float) for size in sizes)
    width, local = inter // tp, experts // ep
    chip, number = CHIPS[data.hardware], {"dtype": "bf16", "elem_bytes": 2}
    dims = {"m": pairs, "active": active, "experts": local, "tiles": np.array(tiles).T}

    def product(name, d_in, d_out):
        op = ops.grouped_linear(name, tokens=tokens, experts=experts, top_k=top_k, d_in=d_in, d_out=d_out, **number)
        sizes = {"flops": 2 * d_in * d_out * pairs, "weight_bytes": 2 * d_in * d_out * active}
        sizes |= {"in_bytes": 2 * d_in * pairs, "out_bytes": 2 * d_out * pairs}
        return replace(op, dims=dict(op.dims) | dims, **sizes)

    # TensorRT-LLM, and vLLM on Blackwell, copy rows into the order of experts; Triton's kernels read them in place,
    # but work on all pairs, and write zeros where the expert is elsewhere
    copies = data.engine == "trtllm" or chip.architecture == "blackwell"
    here = pairs if copies else top_k * tokens
    copied = 4 * hidden * pairs if copies else 2 * (2 * width + hidden) * (here - pairs)
    sum_up = ops.combine("combine", tokens=tokens, top_k=1, hidden=hidden, **number)
    layer = (
        ops.route("route", tokens=tokens, experts=experts, top_k=top_k, **number),
        product("gate_up", hidden, 2 * width),
        ops.swiglu("swiglu", tokens=here, intermediate=width, **number),
        product("down", width, hidden),
        replace(sum_up, flops=2 * hidden * here, in_bytes=2 * hidden * here + copied),
    )
    products = (layer[1], layer[3])
    total = replace(
        products[0],
        flops=sum(op.flops for op in products),
        weight_bytes=sum(op.weight_bytes for op in products),
        out_bytes=products[1].out_bytes + products[0].out_bytes,
    )
    tuned = [data.tuned is None or shape in data.tuned for shape in zip(local, width, strict=True)]
    rows = Rows(
        label=f"{data.hardware} {data.engine} {data.version}",
        kind="moe layer",
        chip=chip,
        op=total,
        layer=layer,
        measured_s=table.latency.to_numpy() * 1e-3,
        cycle_bytes=6 * hidden * width * touched + 2 * (2 * hidden + 3 * width) * pairs,
        untuned=~np.array(tuned),
        fitted=data.fitted,
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


LATENT_SETS = (
    DataSet(**A100, engine="trtllm", version="1.0.0", fitted=True),
    DataSet(**H100, engine="trtllm", version="1.3.0rc20"),
    DataSet(**H100, engine="sglang", version="0.5.14"),
    DataSet(**H200, engine="trtllm", version="1.3.0rc20"),
    DataSet(**H200, engine="sglang", version="0.5.14"),
    DataSet(**B200, engine="trtllm", version="1.3.0rc20"),
)


def latent_rows(data: DataSet, folder: Path, phase: str) -> Rows:
    """bf16 latent attention (MLA, DeepSeek's sizes) over a bf16 cache, with the kernel before it that rotates and
    writes the cache. SGLang's prefill seems to run absorbed, too: its rates, if not, would be a third of the others'.
    """
    import pandas

    prefill = phase == "prefill"
    name = "context" if prefill else "generation"
    table = pandas.read_parquet(folder / data.folder / "mla" / data.engine / data.version / f"{name}_mla_perf.parquet")
    plain = (table.mla_dtype == "bfloat16") & (table.kv_cache_dtype == "bfloat16")
    if prefill:
        plain &= table.isl > 1
    sizes = ["num_heads", "batch_size", "isl", "step"]
    table = table[plain].groupby(sizes, as_index=False).latency.median()
    heads, batch, isl, step = (table[size].to_numpy(dtype=float) for size in sizes)
    q_len, number = isl if prefill else 1, {"dtype": "bf16", "elem_bytes": 2}
    absorbed = not prefill or data.engine == "sglang"
    lengths = {"batch": batch, "q_len": q_len, "kv_len": isl + step}
    op = ops.latent_attention("mla", heads=heads, absorbed=absorbed, **lengths, **number)
    append = ops.kv_write("append", tokens=batch * q_len, kv_heads=1, head_dim=576 // 2, **number)
    rotated = 2 * 64 * heads * batch * q_len  # bytes of each head's rotated elements, copied to its key when prefilling
    copied, written = (rotated, 2 * rotated) if prefill else (op.in_bytes, op.in_bytes)
    append = replace(append, in_bytes=append.in_bytes + copied, out_bytes=written)
    chip = CHIPS[data.hardware]
    attention = OTHER_ENGINE
    if data.engine == "trtllm":
        attention = attention | {"extra_kernels": chip.fit.attention.extra_kernels + 1}
        if prefill:
            attention = attention | {"pack_prefill": False, "split_prefill": False}
        if chip.architecture == "ampere":  # one CTA walks all keys of up to 64 heads
            attention = attention | {"split_decode": False}
    rows = Rows(
        label=f"{data.hardware} {data.engine} {data.version}",
        kind=f"mla {phase}",
        chip=chip,
        op=op,
        append=append,
        measured_s=table.latency.to_numpy() * 1e-3,
        attention=attention,
        fitted=data.fitted,
    )
    beaten = rows.measured_s < roofline_s(op, chip)
    why = f"{beaten.sum()} beats the roofline" if beaten.any() else ""
    return replace(chosen(rows, ~beaten), left_out=int(beaten.sum()), reasons=why)


def select(op: ops.Op, keep: np.ndarray) -> ops.Op:
    """The rows of `op` that `keep` names (a mask or indices)."""

    def cut(value):
        return value[keep] if np.ndim(value) else value

    sizes = ("flops", "weight_bytes", "kv_bytes", "in_bytes", "out_bytes")
    dims = {name: cut(value) for name, value in op.dims.items()}
    return replace(op, dims=dims, **{name: cut(getattr(op, name)) for name in sizes})


def sampled(rows: Rows, count: int, seed: int = 0) -> Rows:
    """`count` of the rows, chosen by a seeded generator."""
    if rows.measured_s.size <= count:
        return rows
    return chosen(rows, np.sort(np.random.default_rng(seed).choice(rows.measured_s.size, count, replace=False)))


def halves(rows: Rows, seed: int = 0) -> tuple[Rows, Rows]:
    """The half of the rows that a fit sees, by a seeded generator, and the other."""
    first = np.random.default_rng(seed).random(rows.measured_s.size) < 0.5
    other = replace(rows, label=f"{rows.label}, other half", refitted=False)
    return chosen(rows, np.flatnonzero(first)), chosen(other, np.flatnonzero(~first))


def chosen(rows: Rows, keep: np.ndarray) -> Rows:
    """The rows with the indices `keep`."""
    return replace(
        rows,
        op=select(rows.op, keep),
        append=select(rows.append, keep) if rows.append else None,
        layer=tuple(select(op, keep) for op in rows.layer),
        measured_s=rows.measured_s[keep],
        cycle_bytes=rows.cycle_bytes[keep] if np.ndim(rows.cycle_bytes) else rows.cycle_bytes,
        extra_s=rows.extra_s[keep] if np.ndim(rows.extra_s) else rows.extra_s,
        untuned=rows.untuned[keep] if np.ndim(rows.untuned) else rows.untuned,
    )


def pointwise_op(kind: str, row: dict) -> ops.Op:
    """The op of a row of a measured norm, rope, swiglu, residual or embedding: sizes tokens and hidden; for rope
    heads, kv_heads and head_dim, for swiglu intermediate, where the row has them.
    """
    number = {"tokens": row["tokens"], "dtype": "fp16", "elem_bytes": 2}
    hidden = row["hidden"]
    if kind == "norm":
        return ops.rms_norm(kind, hidden=hidden, **number)
    if kind == "embedding":
        return ops.embedding(kind, hidden=hidden, **number)
    if kind == "swiglu":
        return ops.swiglu(kind, intermediate=row.get("intermediate", hidden), **number)
    if kind == "residual":
        return ops.residual_add(kind, hidden=hidden, **number)
    if "heads" in row:
        shape = {name: row[name] for name in ("heads", "kv_heads", "head_dim")}
        return ops.rope(kind, **shape, **number)
    return ops.rope(kind, heads=1, kv_heads=0, head_dim=hidden, **number)


POINTWISE = ("norm", "rope", "swiglu", "residual", "embedding")
# Rows of validation/pointwise.csv that the constants were fitted on: Llama-3-8B's shapes on the A100.
POINTWISE_FIT = {"hardware": "a100-80gb-sxm", "intermediate": "14336"}


def pointwise_rows() -> list[Rows]:
    """Rows of validation/pointwise.csv (kernel time alone, no gap between kernels), from 17 tokens up: below that
    the timings, whole microseconds, say little.
    """
    with open(FOLDER / "pointwise.csv", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["hardware"] in CHIPS and int(row["tokens"]) > 16]
    groups: dict[tuple[str, bool, str], list[dict]] = {}
    for row in table:
        fitted = row["intermediate"] == POINTWISE_FIT["intermediate"]
        groups.setdefault((row["hardware"], fitted, row["kind"]), []).append(row)
    sizes = ("tokens", "hidden", "intermediate", "heads", "kv_heads", "head_dim")
    found = []
    for (hardware, fitted, kind), part in sorted(groups.items()):
        columns = {name: np.array([float(row[name]) for row in part]) for name in (*sizes, "measured_us")}
        found.append(
            Rows(
                label=f"{hardware} vidur {'llama3-8b' if fitted else 'llama2-7b, -70b'}",
                kind=kind,
                chip=CHIPS[hardware],
                op=pointwise_op(kind, columns),
                measured_s=columns["measured_us"] * 1e-6,
                fitted=fitted,
            )
        )
    return found


def pointwise_s(rows: Rows, fit=None) -> np.ndarray:
    """As Rows.estimate_s, without the launch, which these timings don't include."""
    causes = cycle_causes(rows.op, rows.chip, fit)
    return sum(seconds for cause, seconds in causes.items() if cause != "launch")


# Measured rows in a CSV file: the user's own, and validation/end_to_end.csv -----------------------------------

KERNEL_SIZES = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"),
    **dict.fromkeys(POINTWISE, ("tokens", "hidden")),
}
OPTIONAL_SIZES = {"gemm": ("weight_copies",), "rope": ("heads", "kv_heads", "head_dim"), "swiglu": ("intermediate",)}
END_TO_END_METRICS = ("ttft_s", "tpot_s", "latency_s")


def read_measured(path: Path) -> tuple[list[dict], list[str]]:
    """The usable rows of a CSV file with what each was measured and estimated to take, and why each other row
    was skipped. Raises InputError for a file that can't be read at all.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            kernels, metrics = "measured_us" in header, "measured" in header
            if not (kernels or metrics):
                raise InputError(
                    f"{path} has no column measured_us (kernel rows) or measured (end-to-end rows); "
                    f"it has: {', '.join(map(str, header)) or 'nothing'}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"can't read {path}: {getattr(error, 'strerror', None) or error}") from error
    done, skipped = [], []
    for line, row in rows:
        try:
            if None in row or None in row.values():
                raise InputError("it has more or fewer values than the header")
            row = {name.strip(): text.strip() for name, text in row.items()}
            kernel = bool(row.get("measured_us"))
            estimated = kernel_row(row) if kernel else end_to_end_row(row)
            done.append({"line": line, **row, **estimated})
        except InputError as error:
            skipped.append(f"line {line}: {error}")
    return done, skipped


def positive(row: dict, name: str) -> float:
    text = row.get(name, "")
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{name} must be a number, not {text!r}") from None
    if not 0 < value < 1e9:
        raise InputError(f"{name} must be a number above 0 and below 1e9, not {text}")
    return value


def size(row: dict, name: str) -> int:
    return check_size(name, positive(row, name))


def kernel_row(row: dict) -> dict:
    """measured, estimated, low and high in seconds of one kernel, as benchmarks run it: again and again, in a CUDA
    graph, at the boost clock. A gemm cycles through `weight_copies` (6) copies of its weights, so that small ones are
    found in the L2. An attention row is the engine's call: it writes the new K and V to the cache, then attends.
    """
    measured_s = positive(row, "measured_us") * 1e-6
    chip = CHIPS[pick("hardware", row.get("hardware", ""), CHIPS)]
    kind = pick("kind", row.get("kind", ""), KERNEL_SIZES)
    dtype = pick("dtype", row.get("dtype") or "fp16", ("fp16", "bf16"))
    dims = {name: size(row, name) for name in KERNEL_SIZES[kind]}
    dims |= {name: size(row, name) for name in OPTIONAL_SIZES.get(kind, ()) if row.get(name)}
    number = {"dtype": dtype, "elem_bytes": 2}
    kernels = []
    if kind == "gemm":
        op = ops.linear(kind, tokens=dims["m"], d_in=dims["k"], d_out=dims["n"], **number)
        cycle_bytes = dims.get("weight_copies", 6) * op.weight_bytes + op.activation_bytes
        resident = resident_fraction(cycle_bytes, chip, chip.fit.gemm)
        seconds = [float(sum(gemm(op, chip, chip.fit.gemm, resident=resident).values()))]
        kernels.append(op)
    elif kind == "attention":
        if dims["heads"] % dims["kv_heads"] or dims["q_len"] > dims["kv_len"]:
            raise InputError("heads must be a multiple of kv_heads, and kv_len at least q_len")
        kernels.append(ops.attention(kind, **dims, **number))
        shape = {name: dims[name] for name in ("kv_heads", "head_dim")}
        kernels.append(ops.kv_write(kind, tokens=dims["batch"] * dims["q_len"], **shape, **number))
    else:
        kernels.append(pointwise_op(kind, dims))
    if kind != "gemm":
        seconds = [float(cycle_s(op, chip)) for op in kernels]
    low, high = spread(kernels[0], chip)
    estimated = sum(seconds)
    return {"measured": measured_s, "estimated": estimated, "low": estimated * low, "high": estimated * high}


def end_to_end_row(row: dict) -> dict:
    """measured, estimated, low and high in seconds of one metric of a static batch."""
    metric = pick("metric", row.get("metric", ""), END_TO_END_METRICS)
    for name, only in (("kv_dtype", ("", "fp16", "bf16")), ("tp", ("", "1", "1.0"))):
        if row.get(name, "") not in only:
            raise InputError(f"{name} {row[name]} is not modelled; {only[1]} is")
    case = Case(
        hardware=row.get("hardware", ""),
        model=row.get("model", ""),
        dtype=row.get("dtype") or "fp16",
        runtime=row.get("runtime") or "vllm",  # a name, or a profile by itself
        batch=size(row, "batch"),
        input_tokens=size(row, "input_tokens"),
        output_tokens=size(row, "output_tokens"),
    )
    measured_s = positive(row, "measured")
    est = estimate(case)
    if metric == "tpot_s" and not est.decode.steps:
        raise InputError("tpot_s needs at least 2 output_tokens")
    low, high = est.intervals[metric]
    bound = estimate(replace(case, method="roofline"))
    return {
        "measured": measured_s,
        "estimated": float(getattr(est, metric)),
        "low": float(low),
        "high": float(high),
        "bound": float(getattr(bound, metric)),
    }


# Figures -------------------------------------------------------------------------------------------------------

HEADERS = ("data", "kind", "rows", "left\nout", "median", "mean", "p90", "bias", "in 90 %")
HEADERS += ("roofline\nmedian", "\nmean", "\np90", "2 efficiencies\nmedian", "\nmean", "\np90")
COVERAGE = HEADERS.index("in 90 %")


LEGEND = """\
Absolute error of time in %. bias: median of estimated / measured - 1. in 90 %: share of the measurements inside the
interval. left out: rows that beat the chip's roofline, or (decode on the L40S) whose KV cache fits in the L2.
(fit): constants were fitted on these; (refit): two or three of them.
"""


def errors(estimated_s, measured_s) -> list[str]:
    """[median, mean, p90] of |estimated / measured - 1|, in percent."""
    error = np.abs(estimated_s / measured_s - 1)
    return [f"{100 * x:.1f}" for x in (np.median(error), np.mean(error), np.quantile(error, 0.9))]


def bias(estimated_s, measured_s) -> str:
    return f"{100 * np.median(estimated_s / measured_s - 1):+.1f}"


def coverage(measured_s, low_s, high_s) -> str:
    return f"{100 * np.mean((low_s <= measured_s) & (measured_s <= high_s)):.0f}"


def two_efficiencies(rows: Rows) -> np.ndarray:
    """[3]: shares of peak FLOP/s and of DRAM bandwidth, and a launch time in seconds, that fit `rows` best."""
    from scipy.optimize import minimize

    compute, memory = compute_s(rows.op, rows.chip), memory_s(rows.op, rows.chip)

    def cost(x):
        shares = np.exp(x)
        estimated = np.maximum(compute / shares[0], memory / shares[1]) + shares[2]
        return np.mean(np.abs(np.log(estimated / rows.measured_s)))

    return np.exp(minimize(cost, np.log([0.7, 0.7, 5e-6]), method="Nelder-Mead").x)


def kernel_sets(folder: Path):
    """All data sets of the package, the fitted one first."""
    for data in DATA_SETS:
        yield gemm_rows(data, folder)
    for phase in ("prefill", "decode"):
        for data in DATA_SETS:
            yield attention_rows(data, folder, phase)
    for _, name, _, sets in NARROW_SETS:
        for data in DATA_SETS:
            if (data.hardware, data.engine) in sets:
                rows = narrow_rows(name, data, folder)
                yield from halves(rows) if rows.refitted and name != "fp8" else (rows,)
    for phase in ("prefill", "decode"):
        for data in DATA_SETS:
            rows = attention_rows(data, folder, phase, "fp8")
            if rows.measured_s.size:  # the A100 has none, SGLang's prefill is Triton's
                yield rows
    for data in DATA_SETS:
        if data.engine == "vllm" and not data.hardware.startswith("a100"):
            yield quantize_rows(data, folder)
    for data in MIXTURE_SETS:
        yield mixture_rows(data, folder)
    for phase in ("prefill", "decode"):
        for data in LATENT_SETS:
            yield latent_rows(data, folder, phase)


def seen(rows: Rows) -> str:
    """What fits saw of these rows."""
    return " (fit)" if rows.fitted else " (refit)" if rows.refitted else ""


def kernel_table(folder: Path) -> tuple[list[list], list[str]]:
    """The rows of the table, and why measurements were left out, where it isn't the one reason of the legend."""
    table, simple, reasons = [], {}, []
    for rows in kernel_sets(folder):
        if rows.kind not in simple:
            simple[rows.kind] = two_efficiencies(sampled(rows, 3000))
        shares = simple[rows.kind]
        compute, memory = compute_s(rows.op, rows.chip), memory_s(rows.op, rows.chip)
        ideal_s = np.maximum(compute, memory)
        simple_s = np.maximum(compute / shares[0], memory / shares[1]) + shares[2]
        estimated, measured = rows.estimate_s(), rows.measured_s
        low, high = spread(rows.op, rows.chip)
        table.append(
            [rows.label + seen(rows), rows.kind, measured.size, rows.left_out]
            + [*errors(estimated, measured), bias(estimated, measured)]
            + [coverage(measured, estimated * low, estimated * high)]
            + [*errors(ideal_s, measured), *errors(simple_s, measured)]
        )
        if rows.reasons:
            reasons.append(f"left out of {rows.kind}, {rows.label}: {rows.reasons}")
    return table, reasons


def pointwise_table() -> list[list]:
    table = []
    for rows in pointwise_rows():
        estimated, measured = pointwise_s(rows), rows.measured_s
        low, high = spread(rows.op, rows.chip)
        table.append(
            [rows.label + seen(rows), rows.kind, measured.size, 0]
            + [*errors(estimated, measured), bias(estimated, measured)]
            + [coverage(measured, estimated * low, estimated * high)]
            + [*errors(roofline_s(rows.op, rows.chip), measured)]
        )
    return table


def pooled_coverage(table: list[list], name: str) -> str:
    """Share of all measurements inside the interval, over the rows of `table` that no fit saw."""
    unseen = [row for row in table if "fit)" not in row[0]] or table
    inside = sum(float(row[COVERAGE]) * row[2] for row in unseen) / sum(row[2] for row in unseen)
    return f"{name} {inside:.0f} %"


def fit_row(row: dict) -> bool:
    """Was the runtime's profile fitted on this row of end_to_end.csv?"""
    if row["runtime"] == "eager":
        return row["model"] == "llama2-7b" and "4.35.2" in row["runtime_version"]
    return row["hardware"] == "a100-40gb-sxm" and row["model"] in ("llama3-8b", "llama2-7b")


def end_to_end_groups(rows: list[dict]) -> dict[tuple[str, str], list[dict]]:
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        label = f"{row['hardware']} {row['runtime']}" + (" (fit)" if fit_row(row) else "")
        groups.setdefault((label, row["metric"]), []).append(row)
    return dict(sorted(groups.items()))


def end_to_end_table(rows: list[dict]) -> list[list]:
    table = []
    for (label, metric), group in end_to_end_groups(rows).items():
        measured, estimated, low, high, bound = (
            np.array([row[name] for row in group]) for name in ("measured", "estimated", "low", "high", "bound")
        )
        table.append(
            [label, f"{metric} ({', '.join(sorted({row['model'] for row in group}))})", len(group), 0]
            + [*errors(estimated, measured), bias(estimated, measured), coverage(measured, low, high)]
            + errors(bound, measured)
        )
    return table


# Fitting --------------------------------------------------------------------------------------------------------

# Neutral starting points: round numbers of the right order, not the result.
GEMM_START = dict(
    tensor_efficiency=0.9,
    dram_efficiency=0.9,
    dram_ramp_s=2e-6,
    l2_usable=0.8,
    step_clocks=60.0,
    wave_clocks=1000.0,
    epilogue_bytes_per_clock=16.0,
    split_k_s=2e-6,
    overlap=4.0,
    launch_clocks=3000.0,
)
ATTENTION_NAMES = (
    "vector_ops",
    "cta_waits",
    "dram_efficiency",
    "launch_clocks",
    "append_waits",
    "tail",
    "kernel_clocks",
)
ATTENTION_START = dict(zip(ATTENTION_NAMES, (5.0, 4.6, 0.85, 7000.0, 13.0, 0.5, 2700.0), strict=True))
MIXTURE_START = {"tensor_efficiency": 0.9, "overlap": 4.0, "layer_clocks": 20000.0}
# At most three constants per further architecture; GEMM on all engines of one GPU, attention on its vLLM rows.
REFITS = (
    ("ada", "l40s", ("tensor_efficiency", "l2_usable", "dram_efficiency"), ("mma_efficiency", "dram_efficiency")),
    ("hopper", "h100-sxm", ("dram_efficiency", "overlap"), ("mma_efficiency", "cta_waits")),
    (
        "blackwell",
        "b200-sxm",
        ("dram_efficiency", "epilogue_bytes_per_clock", "tensor_efficiency"),
        ("dram_efficiency", "launch_clocks"),
    ),
)
REFITTED = {hardware for _, hardware, _, _ in REFITS}
AT_MOST_ONE = ("latent_prefill", "latent_decode", "tensor_efficiency", "mma_efficiency", "dram_efficiency", "l2_usable")
RUNTIME_NAMES = {
    "vllm": ("step_s", "sequence_s"),
    "tensorrt-llm": ("step_s", "sequence_s", "sm_bytes_per_clock", "dram_efficiency"),
    "eager": ("host_launch_s", "pointwise_passes", "kv_copies"),
}
RUNTIME_START = {"step_s": 0.3e-3, "sequence_s": 30e-6, "sm_bytes_per_clock": 30.0, "dram_efficiency": 0.95}
RUNTIME_START |= {"host_launch_s": 80e-6, "pointwise_passes": 8.0, "kv_copies": 6.0}


def fit_constants(residuals, start: dict[str, float], steps: int) -> dict[str, float]:
    """The positive constants that bring `residuals` (a function of them: log estimated / measured) nearest to 0.
    Robust least squares in the logarithms for the start, Nelder-Mead on a robust mean for the finish, since the
    models have kinks (the choice of tile, whole waves).
    """
    from scipy.optimize import least_squares, minimize

    names = list(start)
    high = np.array([0.0 if name in AT_MOST_ONE else np.inf for name in names])

    def constants(x) -> dict[str, float]:
        return dict(zip(names, np.exp(np.minimum(x, high)).tolist(), strict=True))

    def cost(x) -> float:
        return float(np.mean(np.sqrt(1 + (residuals(constants(x)) / 0.05) ** 2)))

    x = np.minimum(np.log(list(start.values())), high - 0.01)
    robust = {"loss": "soft_l1", "f_scale": 0.05, "diff_step": 1e-2, "max_nfev": 20}
    x = least_squares(lambda x: residuals(constants(x)), x, **robust).x
    for _ in range(2 if steps else 0):
        simplex = np.vstack([x, x - 0.12 * np.eye(x.size)])
        x = minimize(cost, x, method="Nelder-Mead", options={"maxfev": steps, "initial_simplex": simplex}).x
    return constants(x)


def fit_part(part: str, base, start: dict[str, float], sets: list[Rows], steps: int) -> dict[str, float]:
    """Constants named in `start` of one part ("gemm" or "attention") of the Architecture `base`, on `sets`."""

    def residuals(constants: dict[str, float]) -> np.ndarray:
        fit = replace(base, **{part: replace(getattr(base, part), **constants)})
        return np.concatenate([np.log(rows.estimate_s(fit) / rows.measured_s) for rows in sets])

    return fit_constants(residuals, start, steps)


def fit_kernels(folder: Path):
    """(what, committed, found) of every constant of GEMM and attention."""
    first = DATA_SETS[0]
    gemm_found = fit_part("gemm", AMPERE, GEMM_START, [gemm_rows(first, folder)], 500)
    phases = ("prefill", "decode")
    sets = [sampled(attention_rows(first, folder, phase), 1500) for phase in phases]
    attention_found = fit_part("attention", AMPERE, ATTENTION_START, sets, 500)
    yield "ampere gemm", asdict(AMPERE.gemm), gemm_found
    yield "ampere attention", asdict(AMPERE.attention), attention_found
    for phase in ("prefill", "decode"):
        sets = [sampled(latent_rows(LATENT_SETS[0], folder, phase), 1500)]
        start = {f"latent_{phase}": 0.8}
        yield f"ampere mla {phase}", asdict(AMPERE.attention), fit_part("attention", AMPERE, start, sets, 60)
    sets = [sampled(mixture_rows(MIXTURE_SETS[0], folder), 1500)]
    yield "ampere moe", asdict(AMPERE.moe), fit_part("moe", AMPERE, MIXTURE_START, sets, 200)
    for name, hardware, gemm_names, attention_names in REFITS:
        committed = ARCHITECTURES[name]
        # what was not refitted is Ampere's; what the kernels are is the architecture's own
        gemm_base = replace(committed, gemm=replace(AMPERE.gemm, **gemm_found))
        own = [data for data in DATA_SETS if data.hardware == hardware]
        sets = [sampled(gemm_rows(data, folder), 1000) for data in own]
        start = {field: getattr(gemm_base.gemm, field) for field in gemm_names}
        yield f"{name} gemm", asdict(committed.gemm), fit_part("gemm", gemm_base, start, sets, 120)
        sets = [sampled(attention_rows(own[0], folder, phase), 1500) for phase in phases]
        start = {field: getattr(AMPERE.attention, field) for field in attention_names}
        yield f"{name} attention", asdict(committed.attention), fit_part("attention", committed, start, sets, 100)


def fit_narrow(folder: Path):
    """(what, committed, found): weight-only formats with the profiler's share on half of their rows, then fp8."""

    def rows_of(name: str, hardware: str, engine: str) -> Rows:
        data = next(data for data in DATA_SETS if (data.hardware, data.engine) == (hardware, engine))
        rows = narrow_rows(name, data, folder)
        return halves(rows)[0] if engine == "trtllm" else sampled(rows, 4000)

    *weight_only, fp8 = (rows_of(*entry) for entry in NARROW_FITTED)

    def residuals(constants: dict[str, float], sets: list[Rows]) -> np.ndarray:
        narrow = {field: value for field, value in constants.items() if field != "layer_events_s"}
        found = []
        for rows in sets:
            if "layer_events_s" in constants:
                rows = replace(rows, extra_s=constants["layer_events_s"])
            fit = replace(rows.chip.fit, narrow=replace(rows.chip.fit.narrow, **narrow))
            found.append(np.log(rows.estimate_s(fit) / rows.measured_s))
        return np.concatenate(found)

    start = {"dequant8_ops": 1.5, "dequant4_ops": 1.5, "dequant_clocks": 300.0, "layer_events_s": 5e-6}
    committed = asdict(NARROW) | {"layer_events_s": LAYER_EVENTS_S}
    yield "weight-only products", committed, fit_constants(lambda x: residuals(x, weight_only), start, 200)
    kernel = quantize_rows(next(data for data in DATA_SETS if data.hardware == "h100-sxm"), folder)

    def kernel_residuals(constants: dict[str, float]) -> np.ndarray:
        rates = kernel.chip.fit.pointwise.elements_per_clock | constants
        pointwise_fit = replace(kernel.chip.fit.pointwise, elements_per_clock=rates)
        return np.log(kernel.estimate_s(replace(kernel.chip.fit, pointwise=pointwise_fit)) / kernel.measured_s)

    rate = {"quantize": QUANTIZE_PER_CLOCK}
    yield "quantisation, elements per clock", rate, fit_constants(kernel_residuals, {"quantize": 2.0}, 60)
    yield "fp8 products", committed, fit_constants(lambda x: residuals(x, [fp8]), {"fp8_efficiency": 0.8}, 60)


def fit_pointwise():
    """(what, committed, found) of the pointwise kernels: A100, then one factor on the rates for Hopper."""
    sets = [rows for rows in pointwise_rows() if rows.kind in AMPERE.pointwise.elements_per_clock]
    kinds = sorted({rows.kind for rows in sets})

    def residuals(constants, architecture, chosen):
        rates = {kind: constants.get(kind, 1.0) * constants.get("factor", 1.0) for kind in kinds}
        if "factor" in constants:
            rates = {kind: AMPERE.pointwise.elements_per_clock[kind] * constants["factor"] for kind in kinds}
        fit = replace(architecture.pointwise, elements_per_clock=rates)
        if "start_s" in constants:
            fit = replace(fit, start_s=constants["start_s"])
        fit = replace(architecture, pointwise=fit)
        return np.concatenate([np.log(pointwise_s(rows, fit) / rows.measured_s) for rows in chosen])

    start = dict.fromkeys(kinds, 1.0) | {"start_s": 1e-6}
    ampere_sets = [rows for rows in sets if rows.fitted]
    found = fit_constants(lambda x: residuals(x, AMPERE, ampere_sets), start, 400)
    committed = AMPERE.pointwise.elements_per_clock | {"start_s": AMPERE.pointwise.start_s}
    yield "ampere pointwise, elements per clock", committed, found
    hopper = ARCHITECTURES["hopper"]
    hopper_sets = [rows for rows in sets if rows.chip.architecture == "hopper"]
    found = fit_constants(lambda x: residuals(x, hopper, hopper_sets), {"factor": 1.0}, 100)
    factor = hopper.pointwise.elements_per_clock["norm"] / AMPERE.pointwise.elements_per_clock["norm"]
    yield "hopper pointwise, rates over ampere's", {"factor": factor}, found


def fit_runtimes():
    """(what, committed, found) of the runtimes' profiles, on the rows of end_to_end.csv that fit_row names."""
    with open(FOLDER / "end_to_end.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if fit_row(row)]
    for name, names in RUNTIME_NAMES.items():
        committed, own = RUNTIMES[name], [row for row in rows if row["runtime"] == name]
        in_attention = [field for field in names if field in committed.attention]

        def residuals(constants, committed=committed, own=own, in_attention=in_attention):
            attention = committed.attention | {field: constants[field] for field in in_attention}
            host = {field: value for field, value in constants.items() if field not in in_attention}
            runtime = replace(committed, attention=attention, **host)
            estimated = [end_to_end_row(row | {"runtime": runtime})["estimated"] for row in own]
            return np.log(np.array(estimated) / [float(row["measured"]) for row in own])

        found = fit_constants(residuals, {field: RUNTIME_START[field] for field in names}, 0)
        flat = asdict(committed)
        yield f"runtime {name}", flat | flat["attention"], found


def fit_table(folder: Path | None) -> list[list]:
    """Every fitted constant: what is committed, and what the fit finds now."""
    results = [*fit_pointwise(), *fit_runtimes(), *((*fit_kernels(folder), *fit_narrow(folder)) if folder else ())]
    return [
        [what, name, f"{committed[name]:.4g}", f"{value:.4g}", f"{value / committed[name] - 1:+.1%}"]
        for what, committed, found in results
        for name, value in found.items()
    ]


# Pictures -------------------------------------------------------------------------------------------------------

ENGINES = {"vllm": ("vLLM", "#0072B2"), "trtllm": ("TensorRT-LLM", "#D55E00"), "sglang": ("SGLang", "#009E73")}
OTHER_COLOURS = ("#555555", "#CC79A7")  # beside those of the engines, told apart with any colour vision too
BIN_ROWS = 15  # fewer rows than this don't make a bin of a band
CLOUD = 250  # rows of one series drawn as points
LONG_KV = 4096  # tokens from which decode is all reading of K and V
LARGE = 1e12  # m x n x k from which products run long enough for the power limit to set the clock


@dataclass(frozen=True, kw_only=True)
class Series:
    """Rows of one colour in a panel: `error` is estimated / measured - 1, `x` what it is drawn over."""

    label: str
    colour: str
    x: np.ndarray
    error: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Errors over one size. `marks`: places on the x axis that the title speaks of, with a word for each."""

    title: str
    x_label: str
    series: tuple[Series, ...]
    limit: float = 60.0  # of the y axis, in percent
    per_octave: int = 1  # bins
    marks: tuple[tuple[float, str], ...] = ()


def engine(rows: Rows) -> str:
    return rows.label.split()[1]


def errors_by_engine(sets: list[Rows], size, keep=None) -> tuple[Series, ...]:
    """One series for each data set: its errors over `size`, both functions of Rows, where `keep` (another) holds."""
    found = []
    for rows in sets:
        mask = np.ones(rows.measured_s.size, bool) if keep is None else keep(rows)
        error, (label, colour) = rows.estimate_s() / rows.measured_s - 1, ENGINES[engine(rows)]
        x = np.broadcast_to(size(rows), error.shape)
        found.append(Series(label=label, colour=colour, x=x[mask], error=error[mask]))
    return tuple(found)


def dims(*names: str):
    """A function of Rows: the product of these sizes."""
    return lambda rows: np.prod([rows.op.dims[name] for name in names], axis=0)


def binned(x: np.ndarray, error: np.ndarray, per_octave: int) -> np.ndarray:
    """[4, bins]: geometric mean of x, then 10th, 50th and 90th percentile of the errors, in bins of equal width in
    log x around the powers of two. Bins of fewer than BIN_ROWS are left out.
    """
    which = np.round(np.log2(x) * per_octave)
    parts = [(x[which == place], error[which == place]) for place in np.unique(which)]
    columns = [
        [np.exp(np.mean(np.log(places))), *np.quantile(values, [0.1, 0.5, 0.9])]
        for places, values in parts
        if values.size >= BIN_ROWS
    ]
    return np.array(columns).reshape(-1, 4).T


def draw_panel(axes, panel: Panel, legend: str = "upper left") -> None:
    """A cloud of points under each series' median line and 10-90 % band."""
    for series in panel.series:
        picked = np.random.default_rng(0).permutation(series.x.size)[:CLOUD]
        points = {"s": 2, "alpha": 0.2, "color": series.colour, "linewidths": 0}
        axes.scatter(series.x[picked], 100 * series.error[picked], zorder=1, **points)
        x, low, median, high = binned(series.x, series.error, panel.per_octave)
        axes.fill_between(x, 100 * low, 100 * high, color=series.colour, alpha=0.16, lw=0, zorder=2)
        axes.plot(x, 100 * median, color=series.colour, lw=2.2, label=series.label, zorder=3)
    for place, word in panel.marks:
        axes.axvline(place, color="#333333", lw=1, ls=":")
        axes.annotate(
            word, (place, 0.02), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points"
        )
    axes.axhline(0, color="#333333", lw=1, zorder=2)
    axes.set(xscale="log", ylim=(-panel.limit, panel.limit), xlabel=panel.x_label)
    title = panel.title.replace(" %", "\N{NO-BREAK SPACE}%")
    axes.set_title("\n".join(textwrap.wrap(title, 66)), loc="left", fontsize=10.5)
    axes.grid(axis="y", color="#E4E4E4", lw=0.6)
    if legend:
        axes.legend(loc=legend, fontsize=9, ncols=3, framealpha=0.8)


def accuracy_figure(sets: dict[str, list[Rows]]):
    """The A100: measured against estimated above, the error by shape below."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 8.5), layout="constrained")
    shapes = {
        "gemm": ("rows of x, m", dims("m")),
        "prefill attention": ("query length (tokens)", dims("q_len")),
        "decode attention": ("batch x KV length (tokens)", dims("batch", "kv_len")),
    }
    for (top, bottom), (kind, (x_label, size)) in zip(axes.T, shapes.items(), strict=True):
        for rows in sets[kind]:
            label, colour = ENGINES[engine(rows)]
            estimated = rows.estimate_s()
            label += f"{' (fitted on)' if rows.fitted else ''}: {errors(estimated, rows.measured_s)[0]} % median"
            drawn = sampled(rows, 4000)
            style = {"s": 3, "alpha": 0.35, "color": colour, "linewidths": 0, "label": label}
            top.scatter(drawn.measured_s * 1e6, drawn.estimate_s() * 1e6, **style)
        low, high = top.get_xlim()
        low = max(low, 2.0)
        top.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="measured (us)")
        top.set_title({"gemm": "GEMM"}.get(kind, kind), loc="left", fontsize=13)
        top.plot([low, high], [low, high], color="#333333", lw=1)
        top.legend(markerscale=4, loc="upper left", fontsize=9.5)
        series = errors_by_engine(sets[kind], size)
        worst = [100 * np.abs(binned(part.x, part.error, 1)[2]).max() for part in series]
        title = f"medians: vLLM within {worst[0]:.0f} %, others within {max(worst[1:]):.0f} %"
        draw_panel(bottom, Panel(title=title, x_label=x_label, series=series), legend="")
    axes[0, 0].set_ylabel("estimated (us)")
    axes[1, 0].set_ylabel("estimated / measured - 1 (%)\nline: median, band: 10th to 90th percentile")
    figure.suptitle(
        "A100-SXM4-80GB: GEMMs carry over to engines that the fit never saw; attention kernels differ by engine",
        fontsize=14,
    )
    return figure


def larger_is_faster(rows: Rows, by: float = 1.1) -> np.ndarray:
    """Products for which the same table has one at least as large in m, n and k that takes less than 1 / `by` of the
    time: the library's kernel for them isn't its best.
    """
    sizes = np.stack([rows.op.dims[name] for name in "mnk"], axis=1)
    best = [rows.measured_s[(sizes >= size).all(axis=1)].min() for size in sizes]
    return rows.measured_s > by * np.array(best)


def residual_panels(a100: dict[str, list[Rows]], l40s: list[Rows]) -> list[Panel]:
    """The rows that miss their goals, over the size that shows why."""
    return [
        *clock_and_cache_panels(a100["gemm"], l40s),
        skinny_panel(a100["gemm"][0]),
        prefill_panel(a100["prefill attention"][1:]),
        *decode_panels(*a100["decode attention"][1:]),
    ]


def clock_and_cache_panels(a100: list[Rows], l40s: list[Rows]) -> list[Panel]:
    """GEMM over what the benchmark leaves in the L2, and over its work."""
    chip, mnk = l40s[0].chip, dims("m", "n", "k")

    def fill(rows: Rows) -> np.ndarray:
        return rows.cycle_bytes / chip.l2_bytes

    def small(rows: Rows) -> np.ndarray:
        return mnk(rows) < LARGE

    def rates(sets: list[Rows]) -> list[float]:
        """TFLOP/s of large products, median by engine."""
        return [np.median((2e-12 * mnk(rows) / rows.measured_s)[~small(rows)]) for rows in sets]

    cached = errors_by_engine(l40s, fill, small)
    inside, beyond = (
        [100 * np.quantile(np.abs(part.error[fits(part.x)]), 0.9) for part in cached]
        for fits in (lambda x: x <= 1, lambda x: x > 1)
    )
    large = errors_by_engine(a100[2:], mnk, lambda rows: ~small(rows))[0]
    return [
        Panel(
            title=f"L40S, GEMM: p90 {min(inside):.0f} to {max(inside):.0f} % where the benchmark's operands fit in the "
            f"{chip.l2_bytes / 2**20:.0f} MiB L2, {min(beyond):.0f} to {max(beyond):.0f} % beyond. "
            "Missing: what that L2 keeps, and cuBLAS's choice of kernels there",
            x_label="bytes that the benchmark cycles through / size of the L2 (m x n x k below $10^{12}$)",
            series=cached,
            per_octave=2,
            marks=((1.0, "the L2's size"),),
        ),
        Panel(
            title="L40S, GEMM: large products run at {:.0f} TFLOP/s on weights that were never initialised (vLLM), "
            "{:.0f} and {:.0f} on random ones. ".format(*rates(l40s))
            + f"Missing: the clock under {chip.tdp_w:.0f} W, which depends on the data",
            x_label="m x n x k",
            series=errors_by_engine(l40s, mnk),
            marks=((LARGE, "large"),),
        ),
        Panel(
            title=f"A100, GEMM: SGLang's large products {-100 * np.median(large.error):.0f} % too fast. They run at "
            "{:.0f} TFLOP/s on weights that were never initialised (vLLM), {:.0f} and {:.0f} on random ones. "
            "Missing: the same clock".format(*rates(a100)),
            x_label="m x n x k",
            series=errors_by_engine(a100, mnk),
            marks=((LARGE, "large"),),
        ),
    ]


def skinny_panel(rows: Rows) -> Panel:
    """GEMM up to m = 16, by whether the library ran the best of its kernels."""
    skinny = rows.op.dims["m"] <= 16
    slow, megabytes = larger_is_faster(rows)[skinny], rows.op.weight_bytes[skinny] / 1e6
    error = (rows.estimate_s() / rows.measured_s - 1)[skinny]
    p90 = [100 * np.quantile(np.abs(error[mask]), 0.9) for mask in (slow, ~slow)]
    parts = (
        ("a larger one is over 10 % faster", OTHER_COLOURS[1], slow),
        ("the others", OTHER_COLOURS[0], ~slow),
    )
    return Panel(
        title=f"A100, GEMM up to m = 16 (vLLM): {100 * np.mean(slow):.0f} % of the shapes take over 10 % longer than a "
        f"larger product of the same table; p90 {p90[0]:.0f} % there, {p90[1]:.0f} % elsewhere. "
        "Missing: which kernel cuBLAS chooses",
        x_label="weights (MB)",
        series=tuple(
            Series(label=label, colour=colour, x=megabytes[mask], error=error[mask]) for label, colour, mask in parts
        ),
    )


def prefill_panel(others: list[Rows]) -> Panel:
    """Prefill attention by the engines that the fit never saw."""
    return Panel(
        title="A100, prefill: from 64 tokens on TensorRT-LLM's kernel is slower than estimated by the same share; "
        "SGLang's is slower when short, faster when long. Missing: each kernel's own rate; ours is vLLM's",
        x_label="query length (tokens)",
        series=errors_by_engine(others, dims("q_len")),
    )


def decode_panels(trtllm: Rows, sglang: Rows) -> list[Panel]:
    """Decode attention by the engines that the fit never saw: how their CTAs and heads are laid out."""
    ctas, sms = dims("batch", "kv_heads"), trtllm.chip.sm_count
    ctas_label = "batch x KV heads (CTAs, if the KV range isn't split)"
    error = {rows.label: rows.estimate_s() / rows.measured_s - 1 for rows in (trtllm, sglang)}

    def parts(rows: Rows, *masks) -> tuple[Series, ...]:
        return tuple(
            Series(label=label, colour=colour, x=ctas(rows)[mask], error=error[rows.label][mask])
            for label, colour, mask in masks
        )

    kv_len, at = sglang.op.dims["kv_len"], ctas(sglang)
    idle = -100 * np.median(error[sglang.label][(kv_len >= LONG_KV) & ((at == 64) | (at == 128))])
    group = trtllm.op.dims["heads"] / trtllm.op.dims["kv_heads"]
    wide = 1 / (1 + np.median(error[trtllm.label][group > 32]))
    return [
        Panel(
            title=f"A100, decode by SGLang: long caches {idle:.0f} % too fast where 64 or 128 CTAs leave "
            f"{100 - 100 * 64 / sms:.0f} % of the {sms} SMs' turns idle. Missing: that it "
            "doesn't split the KV range to fill them; its fixed time; its rate at 256 to 1,024 tokens",
            x_label=ctas_label,
            series=parts(
                sglang,
                (f"KV from {LONG_KV:,} tokens", ENGINES["sglang"][1], kv_len >= LONG_KV),
                ("257 to 1,024", OTHER_COLOURS[1], (kv_len > 256) & (kv_len <= 1024)),
                ("up to 256", OTHER_COLOURS[0], kv_len <= 256),
            ),
            marks=((64, "64"), (128, "128")),
        ),
        Panel(
            title=f"A100, decode by TensorRT-LLM: {wide:.0f} times the estimate (median) above 32 query heads per KV "
            "head. Missing: a kernel that reads K and V again for every query head",
            x_label="query heads per KV head",
            series=errors_by_engine([trtllm], lambda rows: group),
            limit=100.0,
            marks=((32, "32"),),
        ),
        Panel(
            title="A100, decode by TensorRT-LLM: with many CTAs faster than estimated for single heads, slower for "
            "grouped ones. Missing: how long one of its CTAs takes, beside the bytes it reads",
            x_label=ctas_label,
            series=parts(
                trtllm,
                ("one query head per KV head", ENGINES["trtllm"][1], group == 1),
                ("2 to 32", OTHER_COLOURS[0], (group > 1) & (group <= 32)),
            ),
            limit=100.0,
        ),
    ]


def residual_figure(panels: list[Panel]):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(panels) // 2, 2, figsize=(12, 3.9 * len(panels) // 2), layout="constrained")
    for place, panel in zip(axes.flat, panels, strict=True):
        draw_panel(place, panel)
    for left in axes[:, 0]:
        left.set_ylabel("estimated / measured - 1 (%)")
    figure.suptitle("Where the goals are missed, and what is missing", fontsize=14)
    return figure


def residuals_path(path: Path) -> Path:
    """The second picture's, beside the first: accuracy.png, accuracy-residuals.png."""
    return path.with_stem(f"{path.stem}-residuals")


def plot(folder: Path, path: Path) -> str:
    """Draws both pictures; returns what was drawn."""
    from visualize import save

    by_hardware = {
        hardware: [data for data in DATA_SETS if data.hardware == hardware] for hardware in ("a100-80gb-sxm", "l40s")
    }
    a100 = {"gemm": [gemm_rows(data, folder) for data in by_hardware["a100-80gb-sxm"]]}
    for phase in ("prefill", "decode"):
        a100[f"{phase} attention"] = [attention_rows(data, folder, phase) for data in by_hardware["a100-80gb-sxm"]]
    l40s = [gemm_rows(data, folder) for data in by_hardware["l40s"]]
    save(accuracy_figure(a100), path)
    save(residual_figure(residual_panels(a100, l40s)), residuals_path(path))
    return (
        f"{path}: measured against estimated, and the error by shape, A100 kernels\n"
        f"{residuals_path(path)}: the rows that miss their goals, by shape"
    )


# The command line -----------------------------------------------------------------------------------------------


def report_measured(path: Path, as_json: bool) -> str:
    """The user's own rows. As JSON one object; as text a table, with the reasons for skipped rows on stderr."""
    rows, skipped = read_measured(path)
    for reason in skipped:
        print(f"{path}: skipped {reason}", file=sys.stderr)
    if as_json:
        return json.dumps({"rows": rows, "skipped": len(skipped)}, allow_nan=False)
    if not rows:
        raise InputError(f"{path} has no usable row; {len(skipped)} skipped")
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        what = row["kind"] if row.get("measured_us") else f"{row.get('runtime') or 'vllm'} {row['metric']}"
        groups.setdefault((row["hardware"], what), []).append(row)
    table = []
    for (hardware, what), group in groups.items():
        columns = [np.array([row[name] for row in group]) for name in ("measured", "estimated", "low", "high")]
        measured, estimated, low, high = columns
        figures = [*errors(estimated, measured), bias(estimated, measured), coverage(measured, low, high)]
        table.append([hardware, what, len(group), *figures])
    headers = ("hardware", "what", "rows", "median", "mean", "p90", "bias", "in 90 %")
    return f"{show(table, headers)}\n{len(rows)} rows, {len(skipped)} skipped"


def show(table: list[list], headers: tuple[str, ...]) -> str:
    align = ["right" if column > 1 else "left" for column in range(len(headers))]
    return tabulate(table, headers, tablefmt="simple", disable_numparse=True, colalign=align)


def run(argv: list[str]) -> str:
    parser = line_parser("validate.py", __doc__)
    parser.add_argument("--fit", action="store_true", help="fit the constants again, beside what is committed")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="also draw measured against estimated, and FILE-residuals: errors by shape (PNG, SVG)",
    )
    parser.add_argument("--measured", metavar="FILE.csv", help="judge your own measurements (format: README)")
    parser.add_argument("--json", action="store_true", help="with --measured: one JSON object")
    args = parser.parse_args(argv)
    if args.json and not args.measured:
        raise InputError("--json goes with --measured")
    if bool(args.measured) + bool(args.fit) + bool(args.plot) > 1:
        raise InputError("--measured, --fit and --plot go one at a time")
    if args.plot:
        from visualize import picture_path

        picture_path(args.plot)
    if args.measured:
        return report_measured(Path(args.measured), args.json)
    folder = data_folder()
    if (args.fit or folder) and importlib.util.find_spec("scipy") is None:
        raise InputError("scipy is missing: pip install -r requirements-dev.txt")
    parts = []
    if args.fit:
        headers = ("what", "constant", "committed", "found now", "difference")
        parts.append(show(fit_table(folder), headers))
    else:
        kernels, reasons = kernel_table(folder) if folder else ([], [])
        rows, _ = read_measured(FOLDER / "end_to_end.csv")
        parts.append(LEGEND)
        pointwise, passes = pointwise_table(), end_to_end_table(rows)
        parts += [show(kernels, HEADERS), "", *reasons, ""] if kernels else []
        parts += [show(pointwise, HEADERS[:12]), "", show(passes, HEADERS[:12]), ""]
        kinds = dict.fromkeys(row[1] for row in kernels)
        pooled = [pooled_coverage([row for row in kernels if row[1] == kind], kind) for kind in kinds]
        pooled += [pooled_coverage(pointwise, "pointwise"), pooled_coverage(passes, "end to end")]
        parts.append("inside the 90 % interval, of all that no fit saw: " + ", ".join(pooled))
    if folder is None:
        parts.append(f"\nGEMM and attention left out: pip install {PACKAGE} (Linux x86-64) brings their measurements")
    elif args.plot:
        parts.append("\n" + plot(folder, Path(args.plot)))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
