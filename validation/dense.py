"""Measured products of two matrices, bf16 or narrow, one a head among them, and the kernels that surround them: what
narrows their operands, what mixes residual streams.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ridgepoint import ops
from ridgepoint.hardware import CHIPS, Chip
from ridgepoint.kernels.architectures import architecture_of
from ridgepoint.kernels.gemm import resident_fraction
from ridgepoint.kernels.roofline import roofline_s
from ridgepoint.layers.formats import FORMATS, Precision, precision_of
from ridgepoint.serving.engines import TENSORRT_LLM, VLLM
from ridgepoint.validation.package import medians, perf_path, perf_table
from ridgepoint.validation.rows import Rows, select
from ridgepoint.validation.sets import (
    ATOMIC_CLOCKS,
    LAYER_EVENTS_S,
    NARROW_FITTED,
    NARROW_SETS,
    PROFILED,
    REFITTED,
    DataSet,
)

if TYPE_CHECKING:
    import pandas


def products(data: DataSet, folder: Path, stored: str) -> tuple[list[np.ndarray], np.ndarray]:
    """[m, n, k] and seconds of the products of one gemm_dtype."""
    table = perf_table(data, folder, "gemm", "gemm", ["gemm_dtype", "m", "n", "k", "latency"])
    return medians(table[table.gemm_dtype == stored], ["m", "n", "k"])


def weight_copies(data: DataSet, op: ops.Op, chip: Chip) -> np.ndarray | int:
    """How many copies of its weights the benchmark cycles through."""
    if isinstance(data.weight_copies, int):
        return data.weight_copies
    return np.clip(np.ceil(chip.l2_bytes / op.weight_bytes), 1, 5)  # "l2"


def operand_bytes(wanted: Precision | None) -> ops.Dims:
    """Of an element of x and of the weights, None: in bf16. One width for all rows, since the kernel takes one, and a
    scale per row is nothing at k = 4096.
    """
    if wanted is None:
        return {"a_bytes": 2, "b_bytes": 2}
    return {"a_bytes": wanted.activations.element_bytes(4096), "b_bytes": wanted.weights.element_bytes(4096)}


def gemm_rows(data: DataSet, folder: Path) -> Rows:
    """bf16 products; repeated shapes reduced to their median."""
    (m, n, k), measured_s = products(data, folder, "bfloat16")
    op = ops.linear("gemm", tokens=m, d_in=k, d_out=n, dtype="bf16", elem_bytes=2)
    chip = CHIPS[data.hardware]
    copies = weight_copies(data, op, chip)
    return Rows(
        label=data.label,
        kind="gemm",
        chip=chip,
        op=op,
        measured_s=measured_s,
        cycle_bytes=copies * op.weight_bytes + data.x_copies * op.in_bytes + op.out_bytes,
        fitted=data.fitted,
        refitted=data.hardware in REFITTED,
    )


def narrow_rows(name: str, data: DataSet, folder: Path) -> Rows:
    """Products with narrow operands: an entry of NARROW_SETS."""
    stored, _, formats, _ = next(entry for entry in NARROW_SETS if entry[1] == name)
    (m, n, k), measured_s = products(data, folder, stored)
    chip, wanted = CHIPS[data.hardware], precision_of("bf16", *formats)
    if stored == "int4_wo":  # the package's are per channel
        wanted = replace(wanted, weights=replace(wanted.weights, group=0))
    block: ops.Dims = {"scale_group": 128} if name == "fp8_block" else {}
    op = ops.linear(name, tokens=m, d_in=k, d_out=n, dtype="bf16", elem_bytes=2, precision=wanted)
    op = replace(op, dims={**op.dims, **operand_bytes(wanted), **block})
    extra_s: ops.Seconds = LAYER_EVENTS_S
    cycle_bytes = np.full(m.shape, np.inf)
    if stored not in PROFILED:
        copies = 1 if name == "nvfp4" and data.engine is VLLM else weight_copies(data, op, chip)
        cycle_bytes = copies * op.weight_bytes + data.x_copies * 2 * m * k + op.in_bytes + op.out_bytes
        resident = resident_fraction(cycle_bytes, chip, architecture_of(chip))
        extra_s = quantize_s(name, data, folder, m, k, wanted, resident)
    return Rows(
        label=data.label,
        kind=f"gemm {name}",
        chip=chip,
        op=op,
        measured_s=measured_s,
        cycle_bytes=cycle_bytes,
        extra_s=extra_s,
        engine=data.engine,
        refitted=(name, data.hardware, data.engine) in NARROW_FITTED,
    )


def quantize_s(
    name: str, data: DataSet, folder: Path, m: np.ndarray, k: np.ndarray, wanted: Precision, resident: np.ndarray
) -> ops.Seconds:
    """Seconds of the kernels that narrow x [m, k], of which the L2 holds the part `resident`, before the product in a
    benchmark's rows.
    """
    chip = CHIPS[data.hardware]
    arch = architecture_of(chip)
    if name == "fp8" and data.engine is TENSORRT_LLM:
        import pandas

        sizes = pandas.MultiIndex.from_arrays([m, k])
        static_s, more_s = ((part * 1e-3).reindex(sizes).to_numpy() for part in quantize_parts(data, folder))
        return static_s + more_s + arch.pointwise.launch_s
    op = ops.quantize(name, tokens=m, width=k, dtype="bf16", elem_bytes=2, form=wanted.activations)
    op = replace(op, in_bytes=(1 - resident) * op.in_bytes, out_bytes=(1 - resident) * op.out_bytes)
    seconds = sum(data.engine.causes(op, chip, arch).values())
    if name == "fp8" and data.engine is VLLM:
        read_s = op.in_bytes / chip.dram_read_bytes_per_s
        seconds = seconds + np.maximum(read_s, m * ATOMIC_CLOCKS / chip.clock_hz)
    return seconds


def quantize_parts(data: DataSet, folder: Path) -> list["pandas.Series"]:
    """Milliseconds by (m, k) of the kernels that narrow x with a static scale, and what a dynamic one adds."""
    tables = [perf_table(data, folder, "quantize", name) for name in ("scale_matrix", "computescale")]
    return [table.groupby(["m", "k"]).latency.median() for table in tables]


def quantize_rows(data: DataSet, folder: Path) -> Rows:
    """vLLM's kernel that narrows x to fp8 with a scale per token: in the package as static plus what dynamic adds."""
    static, more = quantize_parts(data, folder)
    total = (static + more).dropna().reset_index()
    m, k = (total[size].to_numpy(dtype=float) for size in "mk")
    op = ops.quantize("quantize", tokens=m, width=k, form=FORMATS["fp8"], dtype="bf16", elem_bytes=2)
    chip = CHIPS[data.hardware]
    measured_s = total.latency.to_numpy() * 1e-3
    keep = measured_s >= roofline_s(op, chip)  # the others found x in the L2
    return Rows(
        label=data.label,
        kind="quantize",
        chip=chip,
        op=select(op, keep),
        measured_s=measured_s[keep],
        left_out=int((~keep).sum()),
        refitted=data.hardware == "h100-sxm",
    )


def absorbed_rows(data: DataSet, folder: Path, op_name: str) -> Rows | None:
    """bf16 products of latent attention's absorbed projections, one a head, which a benchmark repeats on the same
    operands: of q with the key's expansion (mla_gen_pre), of the output with the value's (mla_gen_post).
    """
    if not perf_path(data, folder, "mla_bmm", "mla_bmm").exists():
        return None
    table = perf_table(data, folder, "mla_bmm", "mla_bmm")
    table = table[(table.bmm_dtype == "bfloat16") & (table.op_name == op_name)]
    (tokens, heads), measured_s = medians(table, ["num_tokens", "num_heads"])
    d_in, d_out = (128, 512) if op_name == "mla_gen_pre" else (512, 128)
    op = ops.batched_linear(op_name, tokens=tokens, parts=heads, d_in=d_in, d_out=d_out, dtype="bf16", elem_bytes=2)
    return Rows(
        label=data.label,
        kind=f"gemm a head, k = {d_in}",
        chip=CHIPS[data.hardware],
        op=op,
        measured_s=measured_s,
        cycle_bytes=op.bytes,
    )


def stream_rows(data: DataSet, folder: Path) -> Rows | None:
    """What surrounds a part in a model with four residual streams (hyper-connections, DeepSeek-V4): the maps from the
    streams, and their mix. A row of the package sums up the two parts of a layer.
    """
    if not perf_path(data, folder, "mhc", "mhc_module").exists():
        return None
    table = perf_table(data, folder, "mhc", "mhc_module")
    both = (
        table[(table.hc_mult == 4) & (table.num_sites == 2)]
        .groupby(["num_tokens", "hidden_size", "op_name"])
        .latency.median()
        .unstack()
        .dropna()
    )
    tokens, hidden = (both.index.get_level_values(name).to_numpy(dtype=float) for name in both.index.names)
    number = ops.Tail(dtype="bf16", elem_bytes=2)
    maps = ops.linear("maps", tokens=tokens, d_in=4 * hidden, d_out=24, **number)
    mix = ops.residual_add("mix", tokens=tokens, hidden=4 * hidden, **number)
    return Rows(
        label=data.label,
        kind="residual streams",
        chip=CHIPS[data.hardware],
        op=replace(mix, flops=maps.flops, weight_bytes=maps.weight_bytes, unit="tensor", dtype="bf16"),
        layer=(maps, mix),
        measured_s=both.sum(axis=1).to_numpy() * 1e-3 / 2,
    )
