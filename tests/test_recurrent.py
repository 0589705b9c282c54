"""Linear attention: sizes by hand, what must always hold, and accuracy guards."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invariants import (
    SLACK,
    any_chips,
    better_fields,
    check_better_chip,
    check_causes_and_roofline,
    kernel_causes,
    kernel_s,
)

import ops
from hardware import A100_80GB_SXM, H100_SXM
from kernels.architectures import ARCHITECTURES
from validation.package import data_folder, recurrent_rows
from validation.sets import PACKAGE, RECURRENT_SETS

NUMBER = {"dtype": "bf16", "elem_bytes": 2}


def recurrence(batch, q_len, key_heads, group, dim, rule, chunk=64):
    """rule: mamba, delta (one decay a head and token) or kda (one for each row of the state)."""
    shape = {"key_heads": key_heads, "value_heads": key_heads * group, "key_dim": dim, "value_dim": dim}
    shape |= {"chunk": chunk, "delta_rule": rule != "mamba", "decays": dim if rule == "kda" else 1}
    return ops.recurrence("r", batch=batch, q_len=q_len, state_elem_bytes=4, weights=0, **shape, **NUMBER)


def convolution(batch, q_len, channels):
    return ops.causal_conv("c", batch=batch, q_len=q_len, channels=channels, taps=4, **NUMBER)


lengths = st.sampled_from([1, 1, 7, 64, 500, 3000])
kernels = st.one_of(
    st.builds(
        recurrence,
        st.integers(1, 300),
        lengths,
        st.sampled_from([1, 4, 16]),
        st.sampled_from([1, 2, 4]),
        st.sampled_from([64, 128, 256]),
        st.sampled_from(["mamba", "delta", "kda"]),
        st.sampled_from([64, 128, 256]),
    ),
    st.builds(convolution, st.integers(1, 300), lengths, st.integers(1, 20_000)),
)


def test_sizes_by_hand():
    # one head of 4 x 4, 3 sequences of one token: the fp32 state in and out; q, k, v, a decay and a step in, v out
    update = recurrence(3, 1, 1, 1, 4, "delta")
    assert update.kv_bytes == 3 * 2 * 16 * 4
    assert update.in_bytes == 3 * (4 + 4 + 4 + 1 + 1) * 2 and update.out_bytes == 3 * 4 * 2
    assert update.flops == 3 * 7 * 16
    # many tokens: the state is written once, and only several kernels put that of each chunk to DRAM
    scan = recurrence(3, 128, 1, 1, 4, "delta")
    assert scan.kv_bytes == 3 * 16 * 4
    assert scan.dims["passed_states"] == 3 * 2 * 16 * 2
    assert recurrence(1, 1, 1, 1, 4, "kda").in_bytes == update.in_bytes / 3 + 2 * 3


def test_a_scan_on_few_heads_is_its_walk():
    short, long = (float(kernel_s(recurrence(1, q_len, 1, 2, 128, "delta"), H100_SXM)) for q_len in (6400, 12800))
    step_s = 4 * ARCHITECTURES["hopper"].recurrent.product_clocks / H100_SXM.clock_hz
    assert long - short == pytest.approx(100 * step_s)
    # heads on idle SMs walk at the same time
    more = float(kernel_s(recurrence(1, 6400, 16, 2, 128, "delta"), H100_SXM))
    assert more == pytest.approx(short, rel=0.02)


def test_kernels_before_hopper_pass_more_through_dram():
    op = recurrence(8, 4096, 16, 2, 128, "delta")
    assert not ARCHITECTURES["ampere"].recurrent.fused_delta_rule
    causes = kernel_causes(op, A100_80GB_SXM)
    assert causes["dram"] > 3 * op.bytes / A100_80GB_SXM.dram_bytes_per_s


@given(kernels, any_chips)
@settings(max_examples=300)
def test_never_below_the_roofline_and_causes_add_up(op, chip):
    check_causes_and_roofline(op, chip)


@given(kernels, any_chips, better_fields, st.floats(1.001, 4))
@settings(max_examples=300)
def test_a_better_chip_is_never_slower(op, chip, field, factor):
    check_better_chip(op, chip, field, factor)


rules = st.sampled_from(["mamba", "delta", "kda"])


@given(st.integers(1, 300), st.integers(2, 4000), st.integers(1, 500), rules, any_chips)
@settings(max_examples=300)
def test_more_tokens_or_sequences_are_never_faster(batch, q_len, more, rule, chip):
    one = float(kernel_s(recurrence(batch, q_len, 4, 2, 128, rule), chip))
    assert one <= float(kernel_s(recurrence(batch + more, q_len, 4, 2, 128, rule), chip)) * SLACK
    assert one <= float(kernel_s(recurrence(batch, q_len + more, 4, 2, 128, rule), chip)) * SLACK


@pytest.mark.parametrize("rule", ["mamba", "delta", "kda"])
def test_a_sweep_is_an_array(rule):
    sweep = np.array([1.0, 17.0, 400.0])
    for chip in (A100_80GB_SXM, H100_SXM):
        for q_len in (1, 777):
            swept = kernel_s(recurrence(sweep, q_len, 4, 2, 128, rule), chip)
            one = [float(kernel_s(recurrence(int(n), q_len, 4, 2, 128, rule), chip)) for n in sweep]
            assert swept == pytest.approx(one, rel=1e-12)


FOLDER = data_folder()
needs_package = pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")


@needs_package
@pytest.mark.parametrize(
    ("part", "hardware", "engine", "model", "median", "p90"),
    [
        ("scan", "h100-sxm", "vllm", "gdn", 0.08, 0.21),
        ("scan", "h100-sxm", "sglang", "gdn", 0.17, 0.50),
        ("scan", "h200-sxm", "vllm", "gdn", 0.07, 0.16),
        ("scan", "b200-sxm", "vllm", "gdn", 0.34, 0.48),
        ("scan", "h100-sxm", "vllm", "kda", 0.21, 0.36),
        ("scan", "h100-sxm", "sglang", "kda", 0.17, 0.26),
        ("state update", "h100-sxm", "vllm", "gdn", 0.08, 0.20),
        ("state update", "h100-sxm", "sglang", "gdn", 0.08, 0.20),
        ("state update", "a100-80gb-sxm", "sglang", "gdn", 0.10, 0.45),
        ("state update", "b200-sxm", "vllm", "gdn", 0.08, 0.45),
        ("conv", "h100-sxm", "vllm", "gdn", 0.06, 0.35),
        ("conv", "b200-sxm", "sglang", "gdn", 0.17, 0.34),
    ],
)
def test_accuracy(part, hardware, engine, model, median, p90):
    wanted = (hardware, engine, model)
    data = next(data for data in RECURRENT_SETS if (data.hardware, data.engine.family, data.model) == wanted)
    rows = recurrent_rows(data, FOLDER, part)
    error = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(error) <= median and np.quantile(error, 0.9) <= p90


def test_constants_are_few():
    fitted = {"product_clocks", "waits", "stage_efficiency"}
    assert set(asdict(ARCHITECTURES["hopper"].recurrent)) == fitted | {"fused_delta_rule"}
