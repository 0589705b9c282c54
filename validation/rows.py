"""Measured launches of one kind as one Op whose sizes are arrays, and what the cycle model says of them."""

from dataclasses import dataclass, replace

import numpy as np

import ops
from cycles import cycle_causes
from hardware import Chip
from kernels.architectures import Architecture, architecture_of
from kernels.gemm import gemm, resident_fraction
from kernels.moe import grouped_gemm


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
    cycle_bytes: np.ndarray | float = np.inf  # distinct bytes that the benchmark touches before the same come again
    attention: dict | None = None  # fields of AttentionFit that the engine's kernels change
    fitted: bool = False  # the constants of the A100, or of pointwise kernels, were fitted on (a sample of) these
    refitted: bool = False  # the two or three constants of another architecture were
    extra_s: np.ndarray | float = 0.0  # what the timings include besides: kernels that narrow x or Q, the profiler
    narrow: dict | None = None  # fields of NarrowFit that the engine's kernels change
    recurrent: dict | None = None  # fields of RecurrentFit that the engine's kernels change

    def estimate_s(self, arch: Architecture | None = None) -> np.ndarray:
        """Seconds [rows] by the cycle model, by the chip's architecture or by `arch`, with what the engine changes."""
        arch = arch or architecture_of(self.chip)
        for part in ("attention", "recurrent", "narrow"):
            if changes := getattr(self, part):
                arch = replace(arch, **{part: replace(getattr(arch, part), **changes)})
        if self.layer:
            return mixture_s(self, arch)
        if self.kind.startswith("gemm"):
            return gemm_s(self, arch) + self.extra_s
        resident = resident_fraction(self.cycle_bytes, self.chip, arch)
        seconds = sum(cycle_causes(self.op, self.chip, arch, resident=resident).values()) + self.extra_s
        if self.append:
            seconds = seconds + sum(cycle_causes(self.append, self.chip, arch, resident=resident).values())
        return seconds


def gemm_s(rows: Rows, arch: Architecture, block: int = 4096) -> np.ndarray:
    """The GEMM model over many rows, a block at a time so that its candidates stay in cache."""
    parts = []
    for start in range(0, rows.measured_s.size, block):
        piece = slice(start, start + block)
        dims = {name: size[piece] if np.ndim(size) else size for name, size in rows.op.dims.items()}
        resident = resident_fraction(rows.cycle_bytes[piece], rows.chip, arch)
        causes = gemm(replace(rows.op, dims=dims), rows.chip, arch, resident=resident)
        parts.append(sum(causes.values()))
    return np.concatenate(parts)


def mixture_s(rows: Rows, arch: Architecture) -> np.ndarray:
    """A mixture's layer, whose weights a benchmark that repeats it may find in the L2."""
    resident = resident_fraction(rows.cycle_bytes, rows.chip, arch)
    seconds = 0.0
    for op in rows.layer:
        if op.kind == "grouped_gemm":
            causes = grouped_gemm(op, rows.chip, arch, resident=resident, untuned=rows.untuned)
        else:
            causes = cycle_causes(op, rows.chip, arch)
        seconds = seconds + sum(causes.values())
    return seconds


def select(op: ops.Op, keep: np.ndarray) -> ops.Op:
    """The rows of `op` that `keep` names (a mask or indices)."""

    def cut(value):
        return value[keep] if np.ndim(value) else value

    sizes = ("flops", "weight_bytes", "kv_bytes", "in_bytes", "out_bytes")
    dims = {name: cut(value) for name, value in op.dims.items()}
    return replace(op, dims=dims, **{name: cut(getattr(op, name)) for name in sizes})


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
