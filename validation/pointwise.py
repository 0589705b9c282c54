"""Measured norms, RoPE, SwiGLU, residual additions and embeddings: validation/pointwise.csv."""

import csv
from collections.abc import Mapping

import numpy as np

from ridgepoint import ops
from ridgepoint.hardware import CHIPS
from ridgepoint.kernels.architectures import Architecture
from ridgepoint.kernels.cycles import cycle_causes
from ridgepoint.validation.rows import Rows
from ridgepoint.validation.sets import CSV_FOLDER, POINTWISE_FIT

POINTWISE = ("norm", "rope", "swiglu", "residual", "embedding")


def pointwise_op(kind: str, row: Mapping[str, ops.Number]) -> ops.Op:
    """The op of a row of a measured norm, rope, swiglu, residual or embedding: sizes tokens and hidden; for rope
    heads, kv_heads and head_dim, for swiglu intermediate, where the row has them.
    """
    tokens, number = row["tokens"], ops.Tail(dtype="fp16", elem_bytes=2)
    if kind == "swiglu" and "intermediate" in row:
        return ops.swiglu(kind, tokens=tokens, intermediate=row["intermediate"], **number)
    if kind == "rope" and "heads" in row:
        heads, kv_heads, head_dim = row["heads"], row["kv_heads"], row["head_dim"]
        return ops.rope(kind, tokens=tokens, heads=heads, kv_heads=kv_heads, head_dim=head_dim, **number)
    hidden = row["hidden"]
    if kind == "norm":
        return ops.rms_norm(kind, tokens=tokens, hidden=hidden, **number)
    if kind == "embedding":
        return ops.embedding(kind, tokens=tokens, hidden=hidden, **number)
    if kind == "swiglu":
        return ops.swiglu(kind, tokens=tokens, intermediate=hidden, **number)
    if kind == "residual":
        return ops.residual_add(kind, tokens=tokens, hidden=hidden, **number)
    return ops.rope(kind, tokens=tokens, heads=1, kv_heads=0, head_dim=hidden, **number)


def pointwise_rows() -> list[Rows]:
    """Rows of validation/pointwise.csv (kernel time alone, no gap between kernels), from 17 tokens up: below that
    the timings, whole microseconds, say little.
    """
    with open(CSV_FOLDER / "pointwise.csv", newline="") as file:
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
                fitted=fitted and hardware == POINTWISE_FIT["hardware"],
                refitted=CHIPS[hardware].architecture == "hopper" and kind != "residual",  # one factor on all rates
            )
        )
    return found


def pointwise_s(rows: Rows, arch: Architecture) -> np.ndarray:
    """As Rows.estimate_s, without the launch, which these timings don't include."""
    causes = cycle_causes(rows.op, rows.chip, arch)
    return np.asarray(sum(seconds for cause, seconds in causes.items() if cause != "launch"))
