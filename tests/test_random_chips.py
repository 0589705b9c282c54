"""Whole estimates on chips that nobody builds, and what such chips have shown."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invariants import SLACK, examples, kernel_causes, kernel_s, random_chips

from ridgepoint import ops
from ridgepoint.estimator import Case, estimate
from ridgepoint.hardware import A100_80GB_PCIE
from ridgepoint.kernels.roofline import roofline_s
from ridgepoint.model import LLAMA3_8B
from ridgepoint.readers.catalogue import find_model
from ridgepoint.serving.engines import ENGINES

RECURRENT = {"linear_key_heads": 16, "linear_value_heads": 32, "linear_key_dim": 128, "linear_value_dim": 128}
SPARSE = {"mixers": "I", "index_heads": 64, "index_head_dim": 128, "index_topk": 2048}
MODELS = [
    LLAMA3_8B,
    replace(LLAMA3_8B, mixers="G3F", linear_conv_width=4, **RECURRENT),
    *(find_model(name) for name in ("gpt-oss-20b", "gemma3-27b", "deepseek-v3")),
    replace(find_model("deepseek-v3"), **SPARSE),
]
cases = st.builds(
    Case,
    model=st.sampled_from(MODELS),
    hardware=random_chips().map(lambda chip: replace(chip, dram_bytes=10**14)),  # which holds any of them
    batch=st.integers(1, 300),
    input_tokens=st.integers(1, 6000),
    output_tokens=st.integers(2, 40),
    runtime=st.sampled_from(sorted(ENGINES)),
)


def check_intervals(est, bound):
    """Every kernel lies in its interval, at its roofline or above."""
    for name, (low, high) in est.intervals.items():
        assert 0 < low <= getattr(est, name) * SLACK and getattr(est, name) <= high * SLACK
    for phase in ("prefill", "decode"):
        bounds_s = {kernel.name: kernel.time_s for kernel in getattr(bound, phase).kernels}
        for kernel in getattr(est, phase).kernels:
            assert kernel.low_s <= kernel.time_s * SLACK and kernel.time_s <= kernel.high_s * SLACK
            assert kernel.time_s * SLACK >= bounds_s.get(kernel.name, 0.0)


@given(cases)
@examples(50)
def test_every_kernel_lies_in_its_interval_above_its_roofline(case):
    with np.errstate(all="raise", under="ignore"):
        check_intervals(estimate(case), estimate(replace(case, method="roofline")))


@pytest.mark.parametrize("runtime", ["tensorrt-llm-0.11", "ideal"])
@pytest.mark.parametrize("bytes_per_s", [40e12, 1e15])
def test_a_kernel_without_a_launch_of_its_own_takes_its_arithmetic_where_dram_is_fast(runtime, bytes_per_s):
    case = Case(runtime=runtime, hardware=replace(A100_80GB_PCIE, dram_bytes_per_s=bytes_per_s))
    check_intervals(estimate(case), estimate(replace(case, method="roofline")))


def test_routing_takes_its_arithmetic_where_cuda_cores_are_few():
    op = ops.route("r", tokens=10_000, experts=256, top_k=8, dtype="bf16", elem_bytes=2)
    few = replace(A100_80GB_PCIE, fp32_cores_per_sm=1)
    assert kernel_s(op, few) >= roofline_s(op, few) == pytest.approx(kernel_causes(op, few)["vector"])
    case = Case(model="deepseek-v3", hardware=replace(A100_80GB_PCIE, fp32_cores_per_sm=8, dram_bytes=10**13))
    check_intervals(estimate(case), estimate(replace(case, method="roofline")))
