"""One record for each engine and version: names, what is run is what is validated, hosts."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from ridgepoint import ops
from ridgepoint.estimator import Case, estimate, run
from ridgepoint.hardware import CHIPS
from ridgepoint.inputs import InputError
from ridgepoint.kernels.architectures import ARCHITECTURES, AttentionFit, NarrowFit, RecurrentFit, architecture_of
from ridgepoint.kernels.cycles import sustained
from ridgepoint.layers.formats import precision_of
from ridgepoint.serving.engines import ENGINES, PYTORCH, SGLANG, TENSORRT_LLM, VLLM, Engine, cycle_pass, find_engine
from ridgepoint.serving.intervals import ELSEWHERE, UNVALIDATED
from ridgepoint.validation.all_sets import kernel_sets
from ridgepoint.validation.package import data_folder
from ridgepoint.validation.rows import chosen
from ridgepoint.validation.sets import CSV_FOLDER, DATA_SETS, PACKAGE

FOLDER = data_folder()


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("vllm", "vllm-0.24"),
        ("vllm-0.15.1", "vllm-0.24"),
        ("vllm-0.12", "vllm-0.11"),
        ("vllm-0.6.3.post1", "vllm-0.6"),
        ("sglang", "sglang-0.5"),
        ("tensorrt-llm", "tensorrt-llm-1.3"),
        ("tensorrt-llm-1.0.0rc3", "tensorrt-llm-1.3"),
        ("tensorrt-llm-0.11", "tensorrt-llm-0.11"),
        ("tensorrt-llm-0.8", "tensorrt-llm-0.9"),
        ("tensorrt-llm-0.6.1", "tensorrt-llm-0.5"),
        ("eager", "eager-5.17"),
        ("eager-4.35", "eager-4.35"),
        ("PyTorch", "pytorch-2.11"),
        ("ideal", "ideal"),
    ],
)
def test_a_name_means_a_record(asked, name):
    assert find_engine(asked).name == name


@pytest.mark.parametrize("asked", ["vlm", "vllm-", "vllm-banana", "tensorrt", "", 3, "vllm-0.24 "])
def test_an_unknown_engine_is_refused_in_one_line(asked):
    with pytest.raises(InputError, match=r"unknown runtime|must be a name") as error:
        find_engine(asked)
    assert "\n" not in str(error.value)


def test_records_name_fields_that_exist():
    known = {"attention": AttentionFit, "narrow": NarrowFit, "recurrent": RecurrentFit}
    for engine in ENGINES.values():
        for choice in engine.choices:
            for part, record in known.items():
                assert set(getattr(choice, part)) <= {field.name for field in fields(record)}
        assert set(engine.kernels_measured) | set(engine.runs_measured) <= set(CHIPS)


@cache
def sets_of(hardware: str | None) -> list:
    return list(kernel_sets(FOLDER, hardware))


@pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")
@pytest.mark.parametrize(
    ("hardware", "least_kinds", "least_sets"),
    [("a100-80gb-sxm", 14, 25), pytest.param(None, 30, 250, marks=pytest.mark.slow)],
)
def test_the_estimate_runs_what_the_validation_judges(hardware, least_kinds, least_sets):
    """For every engine, GPU (or one) and kind of kernel: a pass that has the measured kernels takes what the rows
    say.
    """
    kinds, compared = set(), 0
    for rows in sets_of(hardware):
        few = chosen(rows, np.linspace(0, rows.measured_s.size - 1, 3).astype(int))
        few = replace(few, cycle_bytes=np.inf, extra_s=0.0)  # a pass finds nothing in the L2; no profiler
        arch = sustained(architecture_of(rows.chip), rows.chip)
        judged = few.estimate_s(arch)
        engine = replace(rows.engine, launch_s=0.0, step_s=0.0, sequence_s=0.0, request_s=0.0)
        kernels = few.layer or (few.op, *((few.append,) if few.append else ()))
        engine = replace(engine, append_rotates=lambda op: False, copies_experts_from=10**6, untuned_until=0)  # done
        timed = cycle_pass(list(kernels), rows.chip, arch, engine, batch=1, tokens=1, decode="decode" in rows.kind)
        run_s = sum(sum(causes.values()) for _, causes in timed)
        assert judged == pytest.approx(np.broadcast_to(run_s, judged.shape), rel=1e-12), (rows.label, rows.kind)
        kinds.add(rows.kind)
        compared += 1
    assert len(kinds) >= least_kinds and compared >= least_sets


# Median of |estimated / measured - 1| of the A100's sets, in percent, as validate.py prints them: (engine, kind).
MEDIANS = {
    ("sglang", "prefill attention"): 12.5,
    ("tensorrt-llm", "prefill attention"): 16.5,
    ("sglang", "decode attention"): 13.5,
    ("tensorrt-llm", "decode attention"): 23.5,
    ("tensorrt-llm", "decode attention, many heads"): 33.9,
    ("tensorrt-llm", "gemm int8"): 7.8,
    ("vllm", "moe layer"): 10.2,
    ("tensorrt-llm", "moe layer"): 9.1,
    ("sglang", "moe layer"): 8.1,
    ("tensorrt-llm", "mla prefill"): 7.7,
    ("tensorrt-llm", "mla decode"): 13.6,
}


@pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")
def test_each_engines_kernels_on_the_a100_are_as_near_as_published():
    found = {(rows.engine.family, rows.kind): rows for rows in sets_of("a100-80gb-sxm")}
    for key, expected in MEDIANS.items():
        rows = found[key]
        error = 100 * np.median(np.abs(rows.estimate_s() / rows.measured_s - 1))
        assert error == pytest.approx(expected, abs=0.3), key


# Decode attention of Llama-3-8B, batch 8, 3,072 keys, as the validation has it for TensorRT-LLM 1.x, in microseconds.
TENSORRT_LLM_DECODE = {"a100-80gb-sxm": 73.0, "h100-sxm": 41.7, "l40s": 154.6, "b200-sxm": 22.9}


@pytest.mark.parametrize(("hardware", "expected_us"), TENSORRT_LLM_DECODE.items())
def test_decode_attention_of_a_case_is_the_validated_one(hardware, expected_us):
    case = Case(hardware=hardware, runtime="tensorrt-llm", dtype="bf16", input_tokens=3071, output_tokens=2)
    kernels = {kernel.name: kernel for kernel in estimate(case).decode.kernels}
    # the A100's MMAs at the clock that a pass sustains, 0.869 of the peak, not at 0.9
    assert kernels["attention"].time_s / 32 * 1e6 == pytest.approx(expected_us, rel=0.02)
    assert "rope" not in kernels  # one kernel rotates, appends and copies Q


@pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")
@pytest.mark.parametrize("engine", sorted({data.engine.name for data in DATA_SETS}))
def test_a_models_kernels_are_the_measured_ones(engine):
    """The attention of a case, built from its model, against rows of the same sizes built from the package."""
    from ridgepoint.validation.attention import attention_rows

    for data in (data for data in DATA_SETS if data.engine.name == engine):
        for phase in ("prefill", "decode"):
            rows = attention_rows(data, FOLDER, phase)
            dims = rows.op.dims
            like = (dims["heads"] == 32) & (dims["kv_heads"] == 8) & (dims["head_dim"] == 128) & (dims["batch"] == 8)
            index = np.flatnonzero(like)[len(np.flatnonzero(like)) // 2]
            kv_len = int(dims["kv_len"][index])
            arch = sustained(architecture_of(rows.chip), rows.chip)
            row = replace(chosen(rows, np.array([index])), cycle_bytes=np.inf, extra_s=0.0)
            sizes = {"input_tokens": kv_len, "output_tokens": 1} if phase == "prefill" else {}
            sizes = sizes or {"input_tokens": kv_len - 1, "output_tokens": 2}
            case = Case(hardware=data.hardware, runtime=engine, dtype="bf16", **sizes)
            kernels = getattr(estimate(case), phase).kernels
            run_s = sum(k.time_s / k.count for k in kernels if k.name in ("attention", "kv_write"))
            if phase == "prefill" and int(dims["q_len"][index]) != kv_len:
                continue
            assert run_s == pytest.approx(float(row.estimate_s(arch)[0]), rel=1e-9), (data.hardware, phase)


def test_what_was_measured_is_in_the_records():
    for data in DATA_SETS:
        assert data.version == data.engine.kernels_measured[data.hardware]
    text = (CSV_FOLDER / "end_to_end.csv").read_text() + (CSV_FOLDER / "served.csv").read_text()
    for line in text.splitlines():
        hardware, name, *_ = line.split(",")
        if hardware in CHIPS:
            assert hardware in find_engine(name).runs_measured, line


def host_s(case: Case, phase: str) -> float:
    est = estimate(case)
    return sum(kernel.time_s for kernel in getattr(est, phase).kernels if kernel.kind == "host")


def test_a_scheduler_beside_the_gpu_costs_nothing_until_it_is_the_slower():
    engine = replace(VLLM, step_s=1e-3, sequence_s=1e-5)
    case = Case(hardware="h100-sxm", runtime=engine, output_tokens=2, input_tokens=100)
    assert host_s(case, "decode") == 0  # a step takes 6 ms, the host 1 ms + 8 * 10 us beside it
    assert host_s(replace(case, runtime=replace(engine, asynchronous=False)), "decode") == pytest.approx(1.08e-3)
    slow = replace(engine, step_s=20e-3)
    step_s = estimate(replace(case, runtime=slow)).tpot_s
    assert step_s == pytest.approx(20e-3 + 8e-5)


def test_a_first_token_waits_for_launches_and_the_request_not_for_a_floor():
    short = Case(batch=1, input_tokens=128, output_tokens=1, hardware="h100-sxm", runtime="vllm-0.6")
    assert estimate(short).ttft_s == pytest.approx(324 * 5e-5 + 2.769e-4 + 9.073e-5)  # launches of 324 kernels
    pieces = replace(short, runtime=replace(VLLM, launch_s=1e-3))  # 2 * 32 pieces and kernels between them
    assert estimate(pieces).ttft_s == pytest.approx(64e-3 + VLLM.request_s)
    tiny = replace(short, model="llama3.2-1b")  # 16 layers: half the launches
    assert estimate(tiny).ttft_s < 0.55 * estimate(short).ttft_s
    chunked = replace(short, runtime="vllm", chunked_prefill=2048)
    assert estimate(chunked).ttft_s == pytest.approx(estimate(replace(chunked, chunked_prefill=None)).ttft_s)


def test_many_sequences_do_not_wait_for_the_host_of_todays_engines():
    case = Case(hardware="h100-sxm", batch=128, input_tokens=512, output_tokens=2)
    today, earlier = (estimate(replace(case, runtime=name)).tpot_s for name in ("vllm", "vllm-0.6"))
    assert earlier > 1.5 * today


def test_gaps_of_a_graph():
    case = Case(hardware="h100-sxm", batch=1, output_tokens=2, runtime=PYTORCH)
    decode = estimate(case).decode
    assert decode.causes()["launch"] == pytest.approx(0.45e-6 * sum(kernel.count for kernel in decode.kernels))


def test_the_query_moves_with_the_append_that_rotates_it():
    number = {"dtype": "bf16", "elem_bytes": 2}
    append = ops.kv_write("kv_write", tokens=8, kv_heads=8, head_dim=128, **number)
    rope = ops.rope("rope", tokens=8, heads=32, kv_heads=8, head_dim=128, **number)
    attention = ops.attention("attention", batch=8, q_len=1, kv_len=100, heads=32, kv_heads=8, head_dim=128, **number)
    arch = ARCHITECTURES["hopper"]
    launched = TENSORRT_LLM.launched([rope, append, attention], arch, decode=True)
    assert [op.name for op in launched] == ["kv_write", "attention"]
    query_bytes = 8 * 32 * 128 * 2
    assert launched[0].in_bytes == append.in_bytes + query_bytes and launched[0].out_bytes == query_bytes
    assert VLLM.launched([rope, append, attention], arch, decode=True) == [rope, append, attention]


def test_experts_without_a_tuned_tile():
    number = {"dtype": "bf16", "elem_bytes": 2}

    def seconds(width, arch="ampere", **dims):
        shape = {"tokens": 300, "experts": 8, "top_k": 2, "d_in": 4096, "d_out": 2 * width, "width": width}
        op = ops.grouped_linear("e", **shape, **number)
        op = replace(op, dims={name: size for name, size in op.dims.items() if name not in dims.get("without", ())})
        (launched,) = VLLM.launched([op], ARCHITECTURES[arch], decode=False)
        return sum(VLLM.causes(launched, CHIPS["a100-80gb-sxm"], ARCHITECTURES[arch]).values())

    assert seconds(14336) > 1.1 * seconds(14336, without=("width",))  # a trace doesn't know it
    assert seconds(7168) == seconds(7168, without=("width",))  # in the list


def names(case: Case, phase: str) -> set[str]:
    return {kernel.name for kernel in getattr(estimate(case), phase).kernels}


def test_what_engines_do_to_whole_passes():
    roomy = replace(CHIPS["h100-sxm"], dram_bytes=2**41)
    narrow = Case(hardware=roomy, kv_cache="fp8", output_tokens=2)
    assert "query_quant" in names(narrow, "decode")  # FlashAttention-3 takes fp8 queries
    assert "query_quant" not in names(replace(narrow, runtime="tensorrt-llm"), "decode")
    latents = Case(hardware=roomy, model="deepseek-v3", output_tokens=2)
    assert "kv_b_proj" in names(latents, "prefill")
    assert "q_absorb" in names(replace(latents, runtime="sglang"), "prefill")


def test_which_kernels_multiply_narrow_floats():
    arch, number = ARCHITECTURES["hopper"], {"tokens": 64, "d_in": 4096, "d_out": 4096, "dtype": "bf16"}
    rows = precision_of("bf16", "fp8", "fp8")
    blocks = replace(rows, activations=replace(rows.activations, group=128))
    by_row, by_block, plain = (
        ops.linear("g", elem_bytes=2, precision=formats, **number) for formats in (rows, blocks, None)
    )
    for engine in (VLLM, SGLANG):  # CUTLASS: no small tiles above 128 rows; DeepGEMM has them
        assert engine.kernel(by_row, arch).narrow.small_tiles_m == 128
        assert engine.kernel(by_block, arch).narrow.small_tiles_m == np.inf
    assert TENSORRT_LLM.kernel(by_row, arch).narrow.splits == 32  # cuBLAS
    assert TENSORRT_LLM.kernel(by_block, arch).narrow.splits == 1  # DeepGEMM
    assert TENSORRT_LLM.kernel(plain, arch) is arch or TENSORRT_LLM.kernel(plain, arch).narrow == arch.narrow


def test_kernels_that_no_measured_run_had_widen_the_interval():
    roomy = replace(CHIPS["h100-sxm"], dram_bytes=2**41)
    dense, mixture = (estimate(Case(hardware=roomy, model=name, output_tokens=9)) for name in (LLAMA, "mixtral-8x7b"))

    def reach(est):
        low, high = est.intervals["tpot_s"]
        return low / est.tpot_s, high / est.tpot_s

    low, high = ELSEWHERE["decode"]  # no such chip was measured
    assert reach(dense) == pytest.approx((low**UNVALIDATED, high**UNVALIDATED), rel=1e-6)
    assert reach(mixture)[1] > 1.3 * reach(dense)[1]  # below, the bound is near
    measured = estimate(Case(hardware="h100-sxm", output_tokens=9))
    assert reach(measured) == pytest.approx(VLLM.run_spread["h100-sxm"]["decode"], rel=1e-6)


LLAMA = "llama3-8b"


def test_the_report_says_which_version_and_what_of_it_was_measured():
    text = run(["--hardware", "h100-sxm", "--runtime", "vllm"])
    assert "as run by vLLM 0.24" in text
    assert "measured of it on this GPU: kernels (0.24.0), whole runs (0.15.1)" in text
    assert "measured of it on this GPU: nothing" in run(["--hardware", "h100-pcie"])
    assert "measured of it on this GPU: nothing" in run(["--hardware", "l40s", "--runtime", "tensorrt-llm-0.11"])


def test_an_engine_may_be_a_record():
    own = Engine(family="mine", version="1", title="mine", stands_for=("1", "1"), step_s=1.0)
    assert estimate(Case(runtime=own, output_tokens=2)).tpot_s > 1.0
