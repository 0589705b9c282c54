"""Whatever is asked: low <= estimate <= high, and the bound, that of the same what-if, below them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from invariants import SLACK, any_chips

from engines import ENGINES
from estimator import Case, estimate
from hardware import CHIPS
from inputs import InputError
from precision import KV_FORMATS, NAMED

METRICS = ("ttft_s", "tpot_s", "latency_s")


@st.composite
def what_ifs(draw) -> Case:
    """A case with any of its flags, on a chip with any L2."""
    chip = draw(any_chips)
    if draw(st.booleans()):
        chip = replace(chip, l2_bytes=int(10 ** draw(st.floats(5, 11.9))))
    weights, activations = NAMED[draw(st.sampled_from(["fp16", *sorted(NAMED)]))]
    guesses = draw(st.sampled_from([0, 0, 0, 1, 4]))
    model = draw(st.sampled_from(["llama3-8b", "qwen3-0.6b", "mixtral-8x7b", "gpt-oss-20b", "gemma3-27b"]))
    return Case(
        model=model,
        hardware=chip,
        batch=draw(st.integers(1, 64)),
        input_tokens=draw(st.integers(65, 3000)),
        output_tokens=draw(st.integers(1, 30)),
        dtype=draw(st.sampled_from(["fp16", "bf16"])),
        weights=weights,
        activations=activations,
        kv_cache=draw(st.sampled_from([None, *KV_FORMATS])),
        attention=draw(st.sampled_from(["flash", "naive"])),
        runtime=draw(st.sampled_from(sorted(ENGINES))),
        peak_tflops=draw(st.sampled_from([None, None, 50.0, 5e4])),
        prefix_tokens=draw(st.sampled_from([0, 0, 64])),
        chunked_prefill=draw(st.sampled_from([None, None, 128, 4096])),
        speculative=guesses,
        draft="llama3.2-1b" if guesses and draw(st.booleans()) else None,
        imbalance=draw(st.sampled_from([0.0, 0.7])) if model in ("mixtral-8x7b", "gpt-oss-20b") else 0.0,
        samples=draw(st.sampled_from([1, 1, 3])),
        l2_persistent=draw(st.booleans()),
    )


def check_order(case: Case) -> None:
    est, bound = estimate(case), estimate(replace(case, method="roofline"))
    for metric in METRICS:
        low, high = est.intervals[metric]
        value = getattr(est, metric)
        if metric == "tpot_s" and not est.decode.steps:
            assert np.isnan(value)
            continue
        assert getattr(bound, metric) <= low * SLACK <= value * SLACK**2 <= high * SLACK**3
    for phase in (est.prefill, est.decode):
        for kernel in phase.kernels:
            assert kernel.low_s <= kernel.time_s * SLACK and kernel.time_s <= kernel.high_s * SLACK, kernel.name


@given(what_ifs())
@settings(max_examples=150)
def test_an_estimate_lies_in_its_interval_above_its_bound(case):
    try:
        estimate(case)
    except InputError:
        assume(False)  # formats that the chip has no rate for
    check_order(case)


@pytest.mark.parametrize(
    ("hardware", "l2_bytes", "share"), [("a100-80gb-sxm", 40 * 10**9, 0.0), ("h100-sxm", 12 * 10**9, 2 / 3)]
)
def test_weights_kept_in_the_l2_are_no_dram_traffic_of_the_bound(hardware, l2_bytes, share):
    """share: of the weights, 16 GB less the embedding, what half of the L2 doesn't hold: SMs read it in two copies."""
    case = Case(hardware=replace(CHIPS[hardware], l2_bytes=l2_bytes), batch=1, l2_persistent=True)
    check_order(case)
    kept, read = (estimate(replace(case, method="roofline", l2_persistent=on)).tpot_s for on in (True, False))
    assert kept / read == pytest.approx(share, abs=0.05)
