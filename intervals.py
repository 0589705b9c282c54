"""A 90 % interval on every number, from the residuals that validate.py finds.

Each kernel's measured time lies, nine times in ten, between `low` and `high` times its estimate. The error
of a kernel is the same in all layers and steps (fully correlated), and independent of the other kernels' of the pass,
since it depends on the shape; the composition (engine version, clock, card) adds one more independent error.
"""

import numpy as np

from hardware import CHIPS
from ops import few_queries

# Ratios measured / estimated, 5th and 95th percentile of residuals, read off rows that validate.py judges: A100 rows
# of TensorRT-LLM and SGLang, H100 rows of all engines, validation/pointwise.csv, unless another set is named. Its last
# table says what they cover.
SPREADS = {
    "gemm": (0.84, 1.19),
    "gemm, m <= 16": (0.88, 1.26),
    "gemm, narrow operands": (0.84, 1.54),  # int8, int4, fp8, fp8 in blocks: all GPUs and engines
    "gemm, fp4": (0.76, 2.06),  # B200
    "prefill attention": (0.80, 1.59),  # these two: all GPUs and engines but those that the fit saw
    "decode attention": (0.67, 1.52),
    "prefill attention, narrow cache": (0.75, 1.64),  # fp8, these two: H100, H200, L40S, B200
    "decode attention, narrow cache": (0.53, 1.93),
    "grouped_gemm": (0.84, 1.67),
    "grouped_gemm, narrow operands": (0.74, 2.6),  # the same formats, and fp4
    "gemm, batched": (0.95, 1.85),  # absorbed projections of latent attention, warm: rows of all GPUs and engines
    "sparse attention": (0.77, 2.37),  # these three: GLM-5's and DeepSeek-V4's kernels on the H100, H200, B200
    "index_scores": (0.81, 1.83),
    "topk": (0.53, 1.29),
    "scan": (0.70, 1.76),  # these four: rows of gated delta nets and Kimi delta attention, all GPUs and engines
    "state_update": (0.93, 1.59),
    "conv": (0.76, 1.49),
    "conv_update": (0.72, 1.89),
    "quantize": (0.73, 1.8),
    "pointwise": (0.74, 1.32),
    "host": (0.85, 1.2),  # a judgement: hosts and engine versions
}
COMPOSITION = {"prefill": (0.95, 1.06), "decode": (0.98, 1.01)}  # the same of whole passes
UNVALIDATED = 1.6  # widening, in the exponent, where nothing was measured: a judgement
PASSES_MEASURED = ("a100-80gb-sxm", "a100-40gb-sxm", "h100-sxm", "h200-sxm")  # in validation/end_to_end.csv
VALIDATED = (*PASSES_MEASURED, "l40s", "b200-sxm")  # of the last two only kernels were measured


def spread(op, chip) -> tuple:
    """(low, high): the 90 % range of measured / estimated for one launch of `op`; the sizes' shape at most."""
    low, high = SPREADS[_regime(op)] if op.kind != "gemm" else _gemm_spread(op)
    widen = 1.0 if validated(chip) else UNVALIDATED
    return low**widen, high**widen


def validated(chip) -> bool:
    """Was this very chip measured? A what-if on one of its fields was not."""
    return chip.name in VALIDATED and chip == CHIPS[chip.name]


def _gemm_spread(op):
    if op.dtype == "fp4":
        return SPREADS["gemm, fp4"]
    if min(op.dims.get("a_bytes", 2), op.dims.get("b_bytes", 2)) < 1.9:
        return SPREADS["gemm, narrow operands"]
    if "batch" in op.dims:
        return SPREADS["gemm, batched"]
    skinny = np.asarray(op.dims["m"]) <= 16
    (low, high), (skinny_low, skinny_high) = SPREADS["gemm"], SPREADS["gemm, m <= 16"]
    return np.where(skinny, skinny_low, low)[()], np.where(skinny, skinny_high, high)[()]


def _regime(op) -> str:
    if op.kind == "grouped_gemm" and min(op.dims.get("a_bytes", 2), op.dims.get("b_bytes", 2)) < 1.9:
        return "grouped_gemm, narrow operands"
    if op.kind == "attention":
        narrow = ", narrow cache" if op.dims["kv_elem_bytes"] < 0.95 * op.dims["io_elem_bytes"] else ""
        if few_queries(op.dims["q_len"], op.dims["kv_len"]):
            return "decode attention" + narrow
        return "sparse attention" if "own_keys" in op.dims else "prefill attention" + narrow
    return op.kind if op.kind in SPREADS else "pointwise"


def phase_interval(kernels, phase: str) -> tuple:
    """(low, high) of a phase's seconds from its kernels, [(time_s, low_s, high_s), ...]."""
    total_s = sum(time_s for time_s, _, _ in kernels)
    composition_low, composition_high = COMPOSITION[phase]
    down = (total_s * (1 - composition_low)) ** 2 + sum((time_s - low_s) ** 2 for time_s, low_s, _ in kernels)
    up = (total_s * (composition_high - 1)) ** 2 + sum((high_s - time_s) ** 2 for time_s, _, high_s in kernels)
    lowest_s = sum(low_s for _, low_s, _ in kernels)  # all at their low ends, none of which is below its roofline
    return np.maximum(total_s - np.sqrt(down), lowest_s), total_s + np.sqrt(up)
