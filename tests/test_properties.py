"""What must hold whatever the numbers: by hypothesis, on random cases and chips."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invariants import examples, roomy

from ridgepoint.estimator import Case, estimate, guarded, run
from ridgepoint.hardware import A100_80GB_PCIE, CHIPS, LIMITS, Chip
from ridgepoint.inputs import InputError
from ridgepoint.kernels.roofline import compute_s, memory_s, roofline_s
from ridgepoint.model import LLAMA3_8B, Model

sizes = st.integers(1, 4096)
batches = st.integers(1, 512)
cases = st.builds(
    Case,
    batch=batches,
    input_tokens=sizes,
    output_tokens=st.integers(1, 300),
    hardware=st.sampled_from(sorted(CHIPS)),
    attention=st.sampled_from(["flash", "naive"]),
    method=st.sampled_from(["cycle", "roofline"]),
)
METRICS = ("ttft_s", "tpot_s", "latency_s")


def no_slower(better: Case, worse: Case) -> None:
    a, b = estimate(roomy(better)), estimate(roomy(worse))
    for metric in METRICS:
        first, second = getattr(a, metric), getattr(b, metric)
        assert np.isnan(first) or first <= second * (1 + 1e-12), metric


@given(cases, st.sampled_from(["dram_bytes_per_s", "clock_hz", "sm_count"]), st.integers(2, 5))
def test_a_better_chip_is_never_slower(case, field, factor):
    chip = CHIPS[case.hardware]
    better = replace(chip, **{field: min(getattr(chip, field) * factor, LIMITS[field][1])})
    no_slower(replace(case, hardware=better), case)


@given(cases, st.integers(1, 50))
def test_more_work_never_takes_less_time(case, more):
    no_slower(case, replace(case, batch=case.batch + more))
    no_slower(case, replace(case, input_tokens=case.input_tokens + more))
    case = roomy(case)
    assert estimate(case).latency_s < estimate(replace(case, output_tokens=case.output_tokens + more)).latency_s


@given(batches, st.integers(1, 4096), st.integers(2, 300), st.integers(1, 50))
@examples(12)
def test_a_batch_that_queues_takes_longer_the_larger_it_is(batch, prompt, output, more):
    case = Case(batch=batch, input_tokens=prompt, output_tokens=output, method="roofline", memory_fraction=0.3)
    small, large = estimate(case), estimate(replace(case, batch=batch + more))
    assert small.batch_latency_s <= large.batch_latency_s and small.waves <= large.waves
    assert small.ttft_s <= small.ttft_mean_s <= small.ttft_last_s <= small.batch_latency_s


@given(cases)
def test_a_kernel_is_bound_by_its_slower_side(case):
    est = estimate(case)
    for kernel in est.prefill.kernels:
        assert kernel.time_s >= 0 and kernel.bound in ("compute", "memory", "latency")
    assert est.latency_s == pytest.approx(est.prefill.total("time_s") + est.decode.total("time_s"))


@given(st.lists(batches, min_size=1, max_size=5), sizes, st.integers(1, 50))
@examples(12)
def test_an_array_equals_a_loop(several, prompt, output):
    swept = estimate(Case(batch=np.array(several), input_tokens=prompt, output_tokens=output))
    for i, batch in enumerate(several):
        one = estimate(Case(batch=batch, input_tokens=prompt, output_tokens=output))
        for metric in METRICS:
            assert getattr(swept, metric)[i] == pytest.approx(getattr(one, metric), rel=1e-12, nan_ok=True)


@given(cases)
def test_the_bound_is_the_larger_of_compute_and_memory(case):
    from ridgepoint.model import forward

    chip = CHIPS[case.hardware]
    for op in forward(LLAMA3_8B, batch=case.batch, q_len=case.input_tokens, kv_len=case.input_tokens):
        assert roofline_s(op, chip) == max(compute_s(op, chip), memory_s(op, chip))


anything = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
    st.lists(st.floats(), max_size=3),
    st.binary(max_size=3),
)


@given(
    st.sampled_from(["batch", "input_tokens", "output_tokens", "dtype", "model", "hardware", "peak_tflops"]),
    anything,
)
@examples(150)
def test_any_value_is_estimated_or_refused_in_one_line(field, value):
    try:
        est = estimate(Case(**{field: value}))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        runs = np.asarray(est.memory.max_batch) > 0
        assert np.all((est.latency_s > 0) == runs) and np.all(np.isfinite(est.latency_s) == runs)


@given(
    st.sampled_from([(A100_80GB_PCIE, f) for f in fields(Chip)] + [(LLAMA3_8B, f) for f in fields(Model)]),
    anything,
)
@examples(150)
def test_any_field_is_accepted_or_refused_in_one_line(record_and_field, value):
    record, field = record_and_field
    try:
        changed = replace(record, **{field.name: value})
        part = "model" if isinstance(record, Model) else "hardware"
        est = estimate(Case(**{part: changed}, output_tokens=3))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert (np.isfinite(est.latency_s) and est.latency_s > 0) or not est.memory.max_batch


flag_values = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(
    st.sampled_from(["--batch", "--input-tokens", "--model", "--hardware", "--dtype", "--set", "--peak-tflops"]),
    flag_values,
)
@examples(100)
def test_any_text_after_a_flag_exits_0_or_2(flag, text):
    assert guarded(run, [f"{flag}={text}"]) in (0, 2)


@given(
    st.sampled_from(["llama3-8b", "mixtral-8x7b", "kimi-k2", "gpt-oss-20b"]),
    st.sampled_from(sorted(CHIPS)),
    st.integers(1, 300),
    st.integers(1, 9000),
)
def test_the_interval_holds_the_estimate_and_starts_above_the_bound(model, hardware, batch, prompt):
    case = roomy(Case(model=model, hardware=hardware, batch=batch, input_tokens=prompt, output_tokens=9))
    est, bound = estimate(case), estimate(replace(case, method="roofline"))
    for name, (low, high) in est.intervals.items():
        assert getattr(bound, name) <= low * (1 + 1e-9) and low <= getattr(est, name) <= high
