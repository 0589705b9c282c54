"""Measured launches of one kind as one Op whose sizes are arrays, and what the cycle model says of them."""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from ridgepoint import ops
from ridgepoint.hardware import Chip
from ridgepoint.kernels.architectures import Architecture, architecture_of
from ridgepoint.kernels.gemm import resident_fraction
from ridgepoint.serving.engines import VLLM, Engine


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
    append: ops.Op | None = None  # the KV append that the attention timings include
    cycle_bytes: ops.Number = np.inf  # distinct bytes that the benchmark touches before the same come again
    engine: Engine = VLLM  # whose kernels these are
    chosen_after: bool = False  # a choice of kernels or of rows was made after seeing these data
    fitted: bool = False  # the constants of the A100, or of pointwise kernels, were fitted on (a sample of) these
    refitted: bool = False  # the two or three constants of another architecture were
    extra_s: ops.Number = 0.0  # what the timings include besides: kernels that narrow x or Q, the profiler

    def estimate_s(self, arch: Architecture | None = None) -> np.ndarray:
        """Seconds [rows] by the engine's kernels, on the chip's architecture or on `arch`."""
        arch = arch or architecture_of(self.chip)
        seconds = np.zeros(self.measured_s.size) + self.extra_s
        for op in self.layer or (self.op, *((self.append,) if self.append else ())):
            seconds += launch_s(self, op, arch)
        return seconds


def launch_s(rows: Rows, op: ops.Op, arch: Architecture, block: int = 4096) -> np.ndarray:
    """Seconds [rows] of one of their kernels, a block at a time so that its candidates stay in cache."""
    resident = np.broadcast_to(resident_fraction(rows.cycle_bytes, rows.chip, arch), rows.measured_s.shape)
    parts = []
    for start in range(0, rows.measured_s.size, block):
        piece = slice(start, start + block)
        causes = rows.engine.causes(select(op, piece), rows.chip, arch, resident=resident[piece])
        parts.append(np.broadcast_to(sum(causes.values()), rows.measured_s[piece].shape))
    return np.concatenate(parts)


def select(op: ops.Op, keep: np.ndarray | slice) -> ops.Op:
    """The rows of `op` that `keep` names (a mask, indices, a slice)."""

    def cut(value: Any) -> Any:
        return value[keep] if np.ndim(value) else value

    sizes = ("flops", "weight_bytes", "kv_bytes", "in_bytes", "out_bytes")
    dims = cast(ops.Dims, {name: cut(value) for name, value in op.dims.items()})  # the same keys
    return replace(op, dims=dims, **{name: cut(getattr(op, name)) for name in sizes})


def chosen(rows: Rows, keep: np.ndarray) -> Rows:
    """The rows with the indices `keep`."""
    return replace(
        rows,
        op=select(rows.op, keep),
        append=select(rows.append, keep) if rows.append else None,
        layer=tuple(select(op, keep) for op in rows.layer),
        measured_s=rows.measured_s[keep],
        cycle_bytes=rows.cycle_bytes[keep] if isinstance(rows.cycle_bytes, np.ndarray) else rows.cycle_bytes,
        extra_s=rows.extra_s[keep] if isinstance(rows.extra_s, np.ndarray) else rows.extra_s,
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


def without(rows: Rows, reasons: dict[str, np.ndarray]) -> Rows:
    """The rows that no mask in `reasons` names; each other row is counted under the first reason that names it, after
    those that were left out before.
    """
    keep, counts = np.ones(rows.measured_s.size, dtype=bool), {}
    for reason, mask in reasons.items():
        counts[reason] = int((keep & mask).sum())
        keep &= ~mask
    why = ", ".join(filter(None, (rows.reasons, counted(counts))))
    return replace(chosen(rows, keep), left_out=rows.left_out + int((~keep).sum()), reasons=why)


def counted(counts: dict[str, int]) -> str:
    """How many rows were left out for which reasons, as Rows.reasons says it."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
