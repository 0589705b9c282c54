"""The cycle model: what must always hold, and that what is committed is what the fits find."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invariants import SLACK, kernel_s, roomy

from ridgepoint import ops, validate
from ridgepoint.estimator import Case, estimate, run
from ridgepoint.hardware import A100_80GB_PCIE, A100_80GB_SXM, CHIPS
from ridgepoint.kernels.architectures import ARCHITECTURES, architecture_of
from ridgepoint.kernels.cycles import BOUNDS, CAUSES, KERNELS, cycle_causes
from ridgepoint.serving.engines import ENGINES
from ridgepoint.serving.intervals import VALIDATED, spread
from ridgepoint.validation.attention import attention_rows
from ridgepoint.validation.dense import gemm_rows
from ridgepoint.validation.fits import ATTENTION_NAMES, GEMM_START, fit_table
from ridgepoint.validation.package import data_folder
from ridgepoint.validation.sets import DATA_SETS, PACKAGE, REFITS

NUMBER = {"dtype": "fp16", "elem_bytes": 2}


def test_the_power_limit_holds_back_only_what_fills_the_chip():
    chip = CHIPS["l40s"]
    arch = architecture_of(chip)
    unlimited = replace(arch, gemm=replace(arch.gemm, power_share=1.0))

    def seconds(m, n, k, arch):
        op = ops.linear("gemm", tokens=m, d_in=k, d_out=n, dtype="bf16", elem_bytes=2)
        return float(sum(cycle_causes(op, chip, arch).values()))

    # 2 * 8192**3 FLOP / (142 SMs * 4 * 128 FMA * 2 * 2.52 GHz) = 1.0995e12 / 366.4e12 = 3.001 ms at the peak
    assert 3.001e-3 / arch.gemm.power_share < seconds(8192, 8192, 8192, arch) < 1.1 * 5.185e-3
    # without the limit: 3.001 ms / 0.701, what an SM's MMAs keep up, is 4.28 ms; and its overheads
    assert seconds(8192, 8192, 8192, unlimited) < 4.7e-3
    assert seconds(256, 256, 8192, arch) == seconds(256, 256, 8192, unlimited)


def test_every_kind_of_op_has_a_model_and_an_unknown_one_is_an_error():
    from ridgepoint.model import LLAMA3_8B, forward

    for kernel in ("flash", "naive"):
        ops_of_pass = forward(LLAMA3_8B, batch=1, q_len=4, kv_len=4, attention_kernel=kernel)
        assert {op.kind for op in ops_of_pass} <= set(KERNELS)
    with pytest.raises(KeyError):
        kernel_s(ops.Op(name="new", kind="new", dtype="fp16", flops=1, dims={}), A100_80GB_PCIE)


def test_bounds_cover_all_causes():
    assert sorted(CAUSES) == sorted(cause for causes in BOUNDS.values() for cause in causes)


cases = st.builds(
    Case,
    batch=st.integers(1, 256),
    input_tokens=st.integers(1, 3000),
    output_tokens=st.integers(2, 60),
    hardware=st.sampled_from(sorted(CHIPS)),
    runtime=st.sampled_from(sorted(ENGINES)),
)


@given(cases, st.integers(1, 40))
def test_more_work_never_takes_less_time(case, more):
    case = roomy(case)
    for bigger in (replace(case, batch=case.batch + more), replace(case, input_tokens=case.input_tokens + more)):
        small, large = estimate(case), estimate(bigger)
        assert small.ttft_s <= large.ttft_s * SLACK
        assert small.tpot_s <= large.tpot_s * SLACK


@given(cases)
def test_expectation_lies_in_its_interval_above_the_bound(case):
    est, bound = estimate(case), estimate(replace(case, method="roofline"))
    for metric in ("ttft_s", "tpot_s", "latency_s"):
        low, high = est.intervals[metric]
        assert 0 < low < getattr(est, metric) < high
        assert getattr(est, metric) * SLACK >= getattr(bound, metric)
    for phase in (est.prefill, est.decode):
        assert sum(phase.causes().values()) == pytest.approx(phase.total("time_s"), rel=1e-9)


def test_what_was_never_measured_has_a_wider_interval_and_says_so():
    known, unknown = (estimate(Case(hardware=chip)) for chip in (A100_80GB_SXM, A100_80GB_PCIE))

    def width(est):
        low, high = est.intervals["tpot_s"]
        return (high - low) / est.tpot_s

    assert width(unknown) > 1.3 * width(known)
    assert "the interval is widened" in run([])
    assert "the interval is widened" not in run(["--hardware", "a100-80gb-sxm"])
    what_if = replace(A100_80GB_SXM, dram_bytes_per_s=3e12)
    op = ops.linear("g", tokens=8, d_in=4096, d_out=4096, **NUMBER)
    assert spread(op, what_if)[1] > spread(op, A100_80GB_SXM)[1]
    assert set(VALIDATED) <= set(CHIPS)


def test_pinning_weights_in_the_l2_helps_little_for_a_model_far_larger_than_it():
    pinned, plain = (estimate(Case(l2_persistent=on)).tpot_s for on in (True, False))
    assert 0.99 * plain < pinned < plain


def test_report_and_json_say_why():
    text = run(["--explain"])
    assert "90 %)" in text and "bound" in text and "why, decode" in text
    result = json.loads(run(["--json"]))
    for phase in result["phases"].values():
        assert sum(phase["causes"].values()) == pytest.approx(phase["time_s"])
        for op in phase["ops"]:
            assert sum(op["causes"].values()) == pytest.approx(op["time_s"])
            assert op["low_s"] <= op["time_s"] <= op["high_s"]
    for metric, (low, high) in result["intervals"].items():
        assert low < result[metric] < high
        assert result["bound"][metric] < result[metric]


# Accuracy: guards for the figures that `python validate.py` prints ----------------------------------------------


FOLDER = data_folder()
needs_package = pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")


@needs_package
@pytest.mark.parametrize(("number", "median", "mean", "p90"), [(0, 0.05, 0.071, 0.155), (1, 0.06, 0.08, 0.17)])
def test_gemm_accuracy_on_the_a100(number, median, mean, p90):
    rows = gemm_rows(DATA_SETS[number], FOLDER)
    errors = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(errors) <= median and errors.mean() <= mean and np.quantile(errors, 0.9) <= p90


@needs_package
@pytest.mark.parametrize(
    ("phase", "median", "mean", "p90"), [("prefill", 0.06, 0.09, 0.18), ("decode", 0.08, 0.11, 0.22)]
)
def test_attention_accuracy_on_the_a100(phase, median, mean, p90):
    rows = attention_rows(DATA_SETS[0], FOLDER, phase)
    errors = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(errors) <= median and errors.mean() <= mean and np.quantile(errors, 0.9) <= p90


@pytest.mark.slow
@needs_package
def test_committed_constants_are_what_the_fits_find():
    for what, name, committed, found, _ in fit_table(FOLDER):
        assert float(found) == pytest.approx(float(committed), rel=0.03), (what, name)


def test_constants_are_few():
    # fitted on Ampere: ten of products, seven of attention, five of pointwise kernels
    assert set(asdict(ARCHITECTURES["ampere"].gemm)) == {*GEMM_START, "power_share"} and len(GEMM_START) == 10
    assert len(ATTENTION_NAMES) == 7
    for _, _, gemm_names, attention_names in REFITS:
        assert len(gemm_names) <= 3 and len(attention_names) <= 2


def test_constants_that_follow_from_others():
    ampere, ada, hopper, blackwell = (ARCHITECTURES[name] for name in ("ampere", "ada", "hopper", "blackwell"))
    assert ada.moe.tensor_efficiency == ada.gemm.tensor_efficiency
    assert ada.moe.dram_efficiency == ada.gemm.dram_efficiency / ampere.gemm.dram_efficiency
    assert ada.attention.append_waits == hopper.attention.append_waits == blackwell.attention.append_waits


# The user's own measurements ------------------------------------------------------------------------------------


def test_measured_rows_are_judged_or_skipped_by_line(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    path.write_text(
        "hardware,kind,dtype,m,n,k,batch,q_len,kv_len,heads,kv_heads,head_dim,tokens,hidden,measured_us\n"
        "a100-80gb-sxm,gemm,fp16,8,4096,4096,,,,,,,,,26\n"
        "a100-80gb-sxm,attention,,,,,8,1,2048,32,8,128,,,60\n"
        "h100-sxm,norm,fp16,,,,,,,,,,4096,4096,66\n"
        "h100-sxm,rope,fp16,,,,,,,,,,4096,5120,80\n"
        "h100-sxm,swiglu,fp16,,,,,,,,,,4096,11008,139\n"
        "h100-sxm,residual,fp16,,,,,,,,,,4096,4096,31\n"
        "a100-80gb-sxm,gemm,fp16,8.5,4096,4096,,,,,,,,,26\n"
        "a100-80gb-sxm,gemm,fp16,8,4096,4096,,,,,,,,,-1\n"
        "a100-80gb-sxm,gem,fp16,8,4096,4096,,,,,,,,,26\n"
        "b100,gemm,fp16,8,4096,4096,,,,,,,,,26\n"
        "a100-80gb-sxm,attention,fp16,,,,8,9,4,32,8,128,,,60\n"
        "a100-80gb-sxm,gemm\n"
    )
    result = json.loads(validate.run(["--measured", str(path), "--json"]))
    assert result["skipped"] == 6
    reasons = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in reasons] == [f"skipped line {line}" for line in range(8, 14)]
    assert [row["kind"] for row in result["rows"]] == ["gemm", "attention", "norm", "rope", "swiglu", "residual"]
    for row in result["rows"]:
        assert row["measured"] == pytest.approx(float(row["measured_us"]) * 1e-6)
        assert row["low"] < row["estimated"] < row["high"]
        assert row["estimated"] == pytest.approx(row["measured"], rel=0.5)
    assert "6 rows, 6 skipped" in validate.run(["--measured", str(path)])


def test_measured_end_to_end_rows_with_defaults(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "hardware,runtime,model,dtype,kv_dtype,tp,batch,input_tokens,output_tokens,metric,measured\n"
        "a100-80gb-sxm,,llama3-8b,,,,8,2048,2048,tpot_s,0.0150\n"
        "a100-80gb-sxm,vllm,llama3-8b,fp16,fp16,2,8,2048,2048,tpot_s,0.0150\n"
        "a100-80gb-sxm,vllm,llama3-8b,fp16,fp16,1,8,2048,1,tpot_s,0.0150\n"
    )
    result = json.loads(validate.run(["--measured", str(path), "--json"]))
    assert result["skipped"] == 2
    assert result["rows"][0]["estimated"] == pytest.approx(estimate(Case(hardware="a100-80gb-sxm")).tpot_s)


def test_kernels_of_all_kinds_share_a_file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "hardware,kind,tokens,hidden,intermediate,heads,kv_heads,head_dim,measured_us\n"
        "a100-80gb-sxm,norm,512,4096,,,,,20\n"
        "a100-80gb-sxm,swiglu,512,,14336,,,,40\n"
        "a100-80gb-sxm,swiglu,512,14336,,,,,40\n"
        "a100-80gb-sxm,rope,512,,,32,8,128,20\n"
        "a100-80gb-sxm,rope,512,5120,,,,,20\n"
        "a100-80gb-sxm,rope,512,,,32,,,20\n"
    )
    result = json.loads(validate.run(["--measured", str(path), "--json"]))
    assert result["skipped"] == 1
    _, swiglu, same_swiglu, rope, same_rope = (row["estimated"] for row in result["rows"])
    assert (swiglu, rope) == (same_swiglu, same_rope)


def test_measured_rows_in_narrow_formats(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "hardware,kind,runtime,model,dtype,kv_dtype,batch,input_tokens,output_tokens,metric,m,n,k,measured,measured_us\n"
        "h100-sxm,gemm,,,fp8,,,,,,4096,4096,4096,,110\n"
        "h100-sxm,gemm,,,bf16,,,,,,4096,4096,4096,,210\n"
        "h100-sxm,norm,,,fp8,,,,,,4096,4096,4096,,210\n"
        "h100-sxm,,vllm,meta-llama/Llama-3.1-8B-Instruct,fp8,fp8,8,512,128,latency_s,,,,0.8,\n"
        "h100-sxm,,vllm,meta-llama/Llama-3.1-8B-Instruct,,int3,8,512,128,latency_s,,,,0.8,\n"
    )
    result = json.loads(validate.run(["--measured", str(path), "--json"]))
    assert result["skipped"] == 2
    fp8, bf16, served = (row["estimated"] for row in result["rows"])
    assert fp8 < 0.7 * bf16
    sizes = {"batch": 8, "input_tokens": 512, "output_tokens": 128, "hardware": "h100-sxm", "dtype": "bf16"}
    formats = {"weights": "fp8", "activations": "fp8", "kv_cache": "fp8"}
    assert served == pytest.approx(estimate(Case(model="llama3.1-8b", **sizes, **formats)).latency_s)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00", b'measured_us,"kind\n1,2'])
def test_a_file_that_is_no_table_of_measurements_is_refused(tmp_path, content, capsys):
    from ridgepoint.estimator import guarded

    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    assert guarded(validate.run, ["--measured", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
