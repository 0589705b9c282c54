"""Measured layers of mixtures of experts."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ridgepoint import ops
from ridgepoint.hardware import CHIPS
from ridgepoint.kernels.architectures import Architecture, architecture_of
from ridgepoint.kernels.moe import HEIGHTS
from ridgepoint.kernels.roofline import roofline_s
from ridgepoint.layers.formats import Precision, precision_of
from ridgepoint.serving.engines import SGLANG, VLLM, Engine
from ridgepoint.validation.dense import operand_bytes
from ridgepoint.validation.loads import drawn_loads
from ridgepoint.validation.package import perf_table
from ridgepoint.validation.rows import Rows, counted, without
from ridgepoint.validation.sets import NARROW_MIXTURES, UNGATED, MixtureSet

if TYPE_CHECKING:
    import pandas

SIZES = ["num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"]
BF16 = ops.Tail(dtype="bf16", elem_bytes=2)


@dataclass(frozen=True, kw_only=True)
class MixtureSizes:
    """Sizes of measured layers, an array each. What depends on the routing is of the timed rank, a mean over a
    benchmark's routings.
    """

    tokens: np.ndarray
    hidden: np.ndarray
    width: np.ndarray  # of an expert, on one GPU
    top_k: np.ndarray
    experts: np.ndarray
    local: np.ndarray  # experts on the rank
    pairs: np.ndarray  # of a token and an expert on the rank
    active: np.ndarray  # experts that have tokens
    touched: np.ndarray  # experts that have some in any of the routings
    tiles: np.ndarray  # [rows, HEIGHTS]


@cache
def mixture_formats(data: MixtureSet, folder: Path) -> set[str]:
    """The moe_dtype that a set has rows of."""
    return set(perf_table(data, folder, "moe", "moe", ["moe_dtype"]).moe_dtype)


def mixture_rows(data: MixtureSet, folder: Path, stored: str = "bfloat16") -> Rows:
    """Layers of gated mixtures in bf16, or in the formats of NARROW_MIXTURES (moe_dtype `stored`). The timings start
    from router logits (TensorRT-LLM) or from the chosen experts (vLLM, SGLang). Width / tp columns and the experts of
    one rank are on the GPU, but all tokens.
    """
    table, left_out = mixture_table(data, folder, stored)
    sizes, chip = mixture_sizes(table, data.remainder), CHIPS[data.hardware]
    wanted = None if stored == "bfloat16" else precision_of("bf16", *NARROW_MIXTURES[stored])
    arch = architecture_of(chip)
    layer = mixture_layer(sizes, wanted, data.engine, arch)
    first, second = (op for op in layer if op.kind == "grouped_gemm")
    total = replace(
        first,
        flops=first.flops + second.flops,
        weight_bytes=first.weight_bytes + second.weight_bytes,
        out_bytes=second.out_bytes + first.out_bytes,
    )
    weight_bytes = 3 * operand_bytes(wanted)["b_bytes"] * sizes.hidden * sizes.width * sizes.touched
    rows = Rows(
        label=data.label,
        kind="moe layer" if wanted is None else f"moe layer {stored}",
        chip=chip,
        op=total,
        layer=tuple(layer),
        measured_s=table.latency.to_numpy() * 1e-3,
        cycle_bytes=weight_bytes + 2 * (2 * sizes.hidden + 3 * sizes.width) * sizes.pairs,
        engine=data.engine,
        chosen_after=arch.compute_capability <= data.engine.untuned_until,
        fitted=data.fitted and wanted is None,
        left_out=sum(left_out.values()),
        reasons=counted(left_out),
    )
    return without(rows, {"beats the roofline": rows.measured_s < roofline_s(rows.op, rows.chip)})


def mixture_table(data: MixtureSet, folder: Path, stored: str) -> tuple["pandas.DataFrame", dict[str, int]]:
    """A set's rows of one moe_dtype, repeated shapes reduced to their median, and how many were left out why."""
    table = perf_table(data, folder, "moe", "moe")
    table = table[table.moe_dtype == stored]
    table = table[~table.kernel_source.str.contains("nongated|sglang_flashinfer")]
    table = table.groupby([*SIZES, "distribution"], as_index=False).latency.median()
    width, shapes = table.inter_size // table.moe_tp_size, zip(table.hidden_size, table.inter_size, strict=True)
    ungated = data.engine is VLLM and data.hardware != "a100-80gb-sxm"
    reasons = {
        "width not a multiple of 16": (width % 16 > 0).to_numpy(),
        "no gate": np.array([ungated and shape in UNGATED for shape in shapes]),
        "expert parallelism in SGLang, which places tokens otherwise": (table.moe_ep_size > 1).to_numpy()
        & (data.engine is SGLANG),
    }
    left_out = {reason: int(mask.sum()) for reason, mask in reasons.items()}
    return table[~np.any(list(reasons.values()), axis=0)], left_out


def mixture_sizes(table: "pandas.DataFrame", remainder: str) -> MixtureSizes:
    """The sizes of the rows of mixture_table."""
    alpha = table.distribution.str.extract(r"power_law_(.*)", expand=False).astype(float).fillna(0.0)
    routings = zip(table.num_tokens, table.num_experts, table.topk, table.moe_ep_size, alpha, strict=True)
    loads = [load_summary(*map(int, routing[:-1]), routing[-1], remainder) for routing in routings]
    pairs, active, touched, *tiles = np.array(loads).reshape(len(loads), 3 + len(HEIGHTS)).T
    tokens, hidden, inter, top_k, experts, tp, ep = (table[size].to_numpy(dtype=float) for size in SIZES)
    return MixtureSizes(
        tokens=tokens,
        hidden=hidden,
        width=inter // tp,
        top_k=top_k,
        experts=experts,
        local=experts // ep,
        pairs=pairs,
        active=active,
        touched=touched,
        tiles=np.array(tiles).T,
    )


@cache
def load_summary(tokens: int, experts: int, top_k: int, ranks: int, alpha: float, remainder: str) -> tuple[float, ...]:
    """Means over a benchmark's routings: pairs on the timed rank, experts used, experts used by any routing, and tiles
    of each height.
    """
    loads = drawn_loads(tokens, experts, top_k, ranks, alpha, remainder)
    any_used = experts // ranks * np.mean(np.sum([rows > 0 for rows in loads], axis=0) > 0)
    means = [np.mean([rows.sum() for rows in loads]), np.mean([(rows > 0).sum() for rows in loads])]
    tiles = [np.mean([np.ceil(rows / height).sum() for rows in loads]) for height in HEIGHTS]
    return (*means, any_used, *tiles)


def mixture_layer(sizes: MixtureSizes, wanted: Precision | None, engine: Engine, arch: Architecture) -> list[ops.Op]:
    """The kernels of a layer as the engine launches them. wanted: the formats of its products, None bf16."""
    tokens, hidden, width, top_k = sizes.tokens, sizes.hidden, sizes.width, sizes.top_k

    def narrowed(name: str, tokens: np.ndarray, width: np.ndarray) -> list[ops.Op]:
        if wanted is None or not wanted.quantized_activations:
            return []
        return [ops.quantize(name, tokens=tokens, width=width, form=wanted.activations, **BF16)]

    # Triton's kernels read rows in place, but work on all pairs, and write zeros where the expert is elsewhere
    here = sizes.pairs if arch.compute_capability >= engine.copies_experts_from else top_k * tokens
    sum_up = ops.combine("combine", tokens=tokens, top_k=1, hidden=hidden, **BF16)
    zeros = 2 * (2 * width + hidden) * (here - sizes.pairs)
    sum_up = replace(sum_up, dims={**sum_up.dims, "rows": sizes.pairs}, flops=2 * hidden * here)
    layer = [
        ops.route("route", tokens=tokens, experts=sizes.experts, top_k=top_k, **BF16),
        *narrowed("gate_up_quant", tokens, hidden),
        grouped_product("gate_up", hidden, 2 * width, sizes, wanted),
        ops.swiglu("swiglu", tokens=here, intermediate=width, **BF16),
        *narrowed("down_quant", here, width),
        grouped_product("down", width, hidden, sizes, wanted),
        replace(sum_up, in_bytes=2 * hidden * here + zeros),
    ]
    return engine.launched(layer, arch, decode=False)


def grouped_product(
    name: str, d_in: np.ndarray, d_out: np.ndarray, sizes: MixtureSizes, wanted: Precision | None
) -> ops.Op:
    """The product of each expert of the rank with its tokens."""
    op = ops.grouped_linear(
        name,
        tokens=sizes.tokens,
        experts=sizes.experts,
        top_k=sizes.top_k,
        width=sizes.width,
        d_in=d_in,
        d_out=d_out,
        precision=wanted,
        **BF16,
    )
    widths = operand_bytes(wanted)
    known: ops.Dims = {"m": sizes.pairs, "active": sizes.active, "experts": sizes.local, "tiles": sizes.tiles}
    return replace(
        op,
        dims={**op.dims, **known, **widths},
        flops=2 * d_in * d_out * sizes.pairs,
        weight_bytes=widths["b_bytes"] * d_in * d_out * sizes.active,
        in_bytes=widths["a_bytes"] * d_in * sizes.pairs,
        out_bytes=2 * d_out * sizes.pairs,
    )
