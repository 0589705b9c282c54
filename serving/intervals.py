"""A 90 % interval on every number, from the residuals that validate.py finds.

Each kernel's measured time lies, nine times in ten, between `low` and `high` times its estimate; so does a whole phase
of a run, by the engine's record, where runs were measured (a prediction interval of one more run, from the logarithms
of measured / estimated). Kernels of kinds that no measured run had add their own errors, each the same in all layers
and steps and independent of the others'. All widths are found by validate.py --fit.
"""

import numpy as np

from ridgepoint.hardware import CHIPS, Chip
from ridgepoint.ops import Number, Op, Seconds, few_queries
from ridgepoint.serving.engines import Engine

# Ratios measured / estimated, 5th and 95th percentile over all sets that no fit saw, each set alike. Found by python
# validate.py --fit, on the rows that validate.py judges.
SPREADS = {
    "gemm": (0.82, 1.19),
    "gemm, m <= 16": (0.88, 1.3),
    "gemm, narrow operands": (0.83, 1.52),  # int8, int4, fp8, fp8 in blocks
    "gemm, fp4": (0.77, 2.09),
    "prefill attention": (0.79, 1.55),
    "decode attention": (0.52, 1.64),
    "prefill attention, narrow cache": (0.75, 1.81),
    "decode attention, narrow cache": (0.54, 1.95),
    "grouped_gemm": (0.84, 1.83),
    "grouped_gemm, narrow operands": (0.73, 3.77),
    "naive attention": (0.7, 1.5),  # a judgement: no unfused kernel was measured
    "gemm, batched": (0.95, 1.84),  # absorbed projections of latent attention
    "sparse attention": (0.77, 2.68),
    "index_scores": (0.79, 1.79),
    "topk": (0.53, 1.3),
    "scan": (0.67, 1.72),
    "state_update": (0.93, 1.66),
    "conv": (0.76, 1.49),
    "conv_update": (0.75, 2.25),
    "quantize": (0.72, 1.81),
    "pointwise": (0.757, 1.259),
    "host": (0.85, 1.2),  # a judgement: hosts and engine versions
}
RUNS = ("gemm", "gemm, m <= 16", "prefill attention", "decode attention", "pointwise", "host")  # what they were made of
# Whole runs of an engine that was not measured on this GPU: those of all that no fit saw, pooled.
ELSEWHERE = {"prefill": (0.93, 1.15), "decode": (0.86, 1.12)}
UNVALIDATED = 1.6  # widening, in the exponent, where nothing was measured: a judgement
VALIDATED = ("a100-80gb-sxm", "a100-40gb-sxm", "h100-sxm", "h200-sxm", "l40s", "b200-sxm")  # something was


def spread(op: Op, chip: Chip) -> tuple[Seconds, Seconds]:
    """(low, high): the 90 % range of measured / estimated for one launch of `op`; the sizes' shape at most."""
    low, high = SPREADS[regime(op)] if op.kind != "gemm" else _gemm_spread(op)
    widen = 1.0 if validated(chip) else UNVALIDATED
    return low**widen, high**widen


def validated(chip: Chip) -> bool:
    """Was this very chip measured? A what-if on one of its fields was not."""
    return chip.name in VALIDATED and chip == CHIPS[chip.name]


def _gemm_spread(op: Op) -> tuple[Seconds, Seconds]:
    if regime(op) != "gemm":
        return SPREADS[regime(op)]
    skinny = np.asarray(op.dims["m"]) <= SKINNY
    (low, high), (skinny_low, skinny_high) = SPREADS["gemm"], SPREADS["gemm, m <= 16"]
    return np.where(skinny, skinny_low, low)[()], np.where(skinny, skinny_high, high)[()]


SKINNY = 16  # rows of x up to which cuBLAS chooses otherwise


def regime(op: Op) -> str:
    """The key of SPREADS that an op falls under; of a plain product with few rows: "gemm"."""
    narrow_weights = min(op.dims.get("a_bytes", 2), op.dims.get("b_bytes", 2)) < 1.9
    if op.kind == "gemm":
        if op.dtype == "fp4":
            return "gemm, fp4"
        if narrow_weights:
            return "gemm, narrow operands"
        if "batch" not in op.dims:
            return "gemm"
        return "gemm, batched" if np.any(op.weight_bytes) else "naive attention"
    if op.kind == "grouped_gemm" and narrow_weights:
        return "grouped_gemm, narrow operands"
    if op.kind == "attention":
        narrow = ", narrow cache" if np.all(op.dims["kv_elem_bytes"] < 0.95 * op.dims["io_elem_bytes"]) else ""
        if few_queries(op.dims["q_len"], op.dims["kv_len"]):
            return "decode attention" + narrow
        return "sparse attention" if "own_keys" in op.dims else "prefill attention" + narrow
    return op.kind if op.kind in SPREADS else "pointwise"


def familiar(op: Op) -> bool:
    """Were whole runs measured that had kernels like this one?"""
    return regime(op) in RUNS


def run_spread(engine: Engine, chip: Chip, phase: str) -> tuple[float, float]:
    """(low, high): the 90 % range of measured / estimated for a phase, prefill or decode, of a run."""
    low, high = engine.run_spread.get(chip.name, ELSEWHERE)[phase] if validated(chip) else ELSEWHERE[phase]
    widen = 1.0 if validated(chip) else UNVALIDATED
    return low**widen, high**widen


def phase_interval(
    kernels: list[tuple[Number, Number, Number, Number]], run: tuple[float, float]
) -> tuple[Number, Number]:
    """(low, high) of a phase's seconds from its kernels, [(time_s, low_s, under_s, over_s), ...], and the range of
    whole runs, which those had that were measured: other kinds of kernels add how far under and over theirs may lie.
    """
    total_s = sum(time_s for time_s, *_ in kernels)
    down = (total_s * (1 - run[0])) ** 2 + sum(under_s**2 for _, _, under_s, _ in kernels)
    up = (total_s * (run[1] - 1)) ** 2 + sum(over_s**2 for *_, over_s in kernels)
    lowest_s = sum(low_s for _, low_s, *_ in kernels)  # all at their low ends, none of which is below its roofline
    return np.maximum(total_s - np.sqrt(down), lowest_s), total_s + np.sqrt(up)
