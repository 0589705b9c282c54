"""The metrics and their definitions, the JSON schema, the seed accounting."""

import json
from dataclasses import replace

import numpy as np
import pytest

import seed
from estimator import CHOICES, METHODS, Case, estimate, run
from hardware import A100_80GB_PCIE, CHIPS
from inputs import InputError
from model import LLAMA3_8B, forward
from precision import precision
from roofline import roofline_s

GIB = 2**30


def pass_s(**sizes):
    return sum(float(op.count * roofline_s(op, A100_80GB_PCIE)) for op in forward(LLAMA3_8B, **sizes))


def test_the_home_workload_by_roofline():
    est = estimate(Case(method="roofline"))
    # another tool's bound is near 807 ms and 9.4 ms; ours adds RoPE, KV write and the fused norms in full
    assert est.ttft_s == pytest.approx(0.807, rel=0.01)
    assert est.tpot_s == pytest.approx(9.4e-3, rel=0.01)


def test_metric_definitions():
    est = estimate(Case(method="roofline", batch=3, input_tokens=100, output_tokens=5))
    steps = [pass_s(batch=3, q_len=1, kv_len=100 + i) for i in (1, 2, 3, 4)]
    assert est.ttft_s == pytest.approx(pass_s(batch=3, q_len=100, kv_len=100), rel=1e-12)
    assert est.tpot_s == pytest.approx(sum(steps) / 4, rel=1e-12)
    assert est.latency_s == pytest.approx(est.ttft_s + 4 * est.tpot_s, rel=1e-12)
    assert est.throughput_tokens_per_s == pytest.approx(3 * 5 / est.latency_s, rel=1e-12)
    assert est.throughput_per_sequence_tokens_per_s == pytest.approx(5 / est.latency_s, rel=1e-12)


def test_one_output_token_has_no_tpot():
    est = estimate(Case(output_tokens=1))
    assert np.isnan(est.tpot_s)
    assert est.latency_s == est.ttft_s


def test_memory_of_the_home_workload():
    memory = estimate(Case()).memory
    assert memory.weights_bytes == 2 * 8_030_261_248
    assert memory.kv_cache_bytes == 8 * 4096 * 131072  # sequences, tokens in + out, bytes per token
    # the residual stream, 4096 wide, and gate+up in 28672 and out 14336, all of 16,384 tokens, 2 bytes
    assert memory.activation_bytes == 16384 * (4096 + 28672 + 14336) * 2
    per_sequence = 4096 * 131072 + 2048 * (4096 + 28672 + 14336) * 2
    assert memory.max_batch == (80 * GIB - memory.weights_bytes) // per_sequence
    assert estimate(Case(batch=memory.max_batch)).memory.fits
    assert not estimate(Case(batch=memory.max_batch + 1)).memory.fits


def test_a_case_that_does_not_fit_is_estimated_with_a_warning():
    text = run(["--batch", "500"])
    assert "DOES NOT FIT" in text.split("prefill,")[0]  # as prominent as the metrics, before the tables
    assert "TPOT" in text


def test_weights_alone_too_large():
    small = replace(A100_80GB_PCIE, dram_bytes=8 * GIB)
    memory = estimate(Case(hardware=small)).memory
    assert memory.max_batch == 0
    assert not memory.fits


def test_a_sweep_equals_a_loop():
    batches, prompts = np.array([[1], [8], [33]]), np.array([1, 100, 2048])
    swept = estimate(Case(batch=batches, input_tokens=prompts, output_tokens=7))
    for i, batch in enumerate(batches[:, 0]):
        for j, prompt in enumerate(prompts):
            one = estimate(Case(batch=int(batch), input_tokens=int(prompt), output_tokens=7))
            for metric in ("ttft_s", "tpot_s", "latency_s", "throughput_tokens_per_s"):
                assert getattr(swept, metric)[i, j] == pytest.approx(getattr(one, metric), rel=1e-12)
            assert swept.memory.total_bytes[i, j] == one.memory.total_bytes


def test_a_sweep_over_output_tokens_equals_a_loop():
    outputs = np.array([1, 2, 100, 9])
    swept = estimate(Case(output_tokens=outputs))
    for i, output in enumerate(outputs):
        one = estimate(Case(output_tokens=int(output)))
        assert swept.latency_s[i] == pytest.approx(one.latency_s, rel=1e-12)
        assert swept.tpot_s[i] == pytest.approx(one.tpot_s, rel=1e-12, nan_ok=True)


def test_json_schema():
    result = json.loads(run(["--json", "--batch", "4", "--set", "model.layers=2", "--output-tokens", "10"]))
    numbers = {"ttft_s", "tpot_s", "latency_s"}
    numbers |= {"throughput_tokens_per_s", "throughput_per_sequence_tokens_per_s"}
    assert all(result[name] > 0 for name in numbers)
    assert result["model"] == "llama3-8b" and result["hardware"] == "a100-80gb-pcie"
    assert (result["batch"], result["input_tokens"], result["output_tokens"]) == (4, 2048, 10)
    assert result["overrides"] == {"model.layers": "2"}
    sizes = {"weights_bytes", "kv_cache_bytes", "activation_bytes", "total_bytes", "capacity_bytes"}
    assert set(result["memory"]) >= sizes | {"fits", "max_batch"}
    assert result["memory"]["fits"] is True
    for name, phase in result["phases"].items():
        steps = {"prefill": 1, "decode": 9}[name]
        assert phase["steps"] == steps
        for total in ("flops", "bytes", "time_s"):
            assert phase[total] == pytest.approx(sum(op[total] for op in phase["ops"]), rel=1e-12)
        for op in phase["ops"]:
            assert set(op) >= {"name", "kind", "count", "flops", "bytes", "time_s", "bound"}
            assert op["bound"] in ("compute", "memory", "latency")
    assert result["latency_s"] == pytest.approx(sum(p["time_s"] for p in result["phases"].values()))
    assert [op["name"] for op in result["phases"]["decode"]["ops"]][-1] == "host"
    lm_head = next(op for op in result["phases"]["decode"]["ops"] if op["name"] == "lm_head")
    assert lm_head["flops"] == 9 * 2 * 4 * 4096 * 128256  # nine steps of one launch


def test_json_without_decode_has_null():
    assert json.loads(run(["--json", "--output-tokens", "1"]))["tpot_s"] is None


PUBLISHED = [  # of the earlier estimator for the home workload: TFLOP/s, TTFT ms, TPOT ms, latency s, token/s
    (None, 956.6947879034522, 10.290764998449612, 22.032181504728257, 92.95493501451435),
    (614.0, 541.8848160945525, 10.290764998449612, 21.617371532919357, 94.73862244913843),
]


@pytest.mark.parametrize(("peak", "ttft_ms", "tpot_ms", "latency_s", "throughput"), PUBLISHED)
def test_seed_reproduces_the_published_output(peak, ttft_ms, tpot_ms, latency_s, throughput):
    est = estimate(Case(method="seed", peak_tflops=peak))
    assert est.ttft_s * 1e3 == pytest.approx(ttft_ms, rel=1e-9)
    assert est.tpot_s * 1e3 == pytest.approx(tpot_ms, rel=1e-9)
    assert est.latency_s == pytest.approx(latency_s, rel=1e-9)
    assert est.throughput_tokens_per_s == pytest.approx(throughput, rel=1e-9)


def test_every_method_says_what_it_is_and_whose_peaks_bound_it():
    assert set(METHODS) == set(CHOICES["method"])
    for method in METHODS:
        est = estimate(Case(method=method, output_tokens=9))
        assert est.method.line.startswith(f"method: {method}")
        assert (est.machine is est.chip) == (method != "seed") and est.tokens == (9 if method == "seed" else 8)
    with pytest.raises(InputError, match="one format for everything"):
        estimate(Case(method="seed", model=replace(LLAMA3_8B, quantization=precision("fp16", "int8"))))


@pytest.mark.parametrize("peak", [None, 614.0])
def test_waterfall_adds_up(peak):
    case = Case(method="seed", peak_tflops=peak)
    old, bound, new = (estimate(replace(case, method=method)) for method in ("seed", "roofline", "cycle"))
    times = (new.ttft_s, new.tpot_s)
    rows = seed.waterfall(old.case, old.model, old.chip, seed.machine_of(case), times)
    assert [row["correction"] for row in rows[1:]] == [name for name, _ in seed.CORRECTIONS]
    for metric, change in (("ttft_s", "ttft_change_s"), ("tpot_s", "tpot_change_s")):
        assert rows[0][metric] == pytest.approx(getattr(old, metric), rel=1e-12)
        assert rows[-2][metric] == pytest.approx(getattr(bound, metric), rel=1e-12)
        total = rows[0][metric] + sum(row[change] for row in rows[1:])
        assert total == pytest.approx(getattr(new, metric), rel=1e-12)


def test_a_peak_of_ones_own_applies_to_any_method():
    assert estimate(Case(peak_tflops=600.0)).ttft_s < estimate(Case()).ttft_s
    assert "600 TFLOP/s" in run(["--peak-tflops", "600"])


@pytest.mark.parametrize("name", CHIPS)
def test_every_chip_is_estimated(name):
    assert estimate(Case(hardware=name)).latency_s > 0


def test_naive_attention_is_slower():
    naive = run(["--attention", "naive"])
    assert "---Naive Attention---" in naive and "qk_scores" in naive
    assert estimate(Case(attention="naive")).ttft_s > estimate(Case()).ttft_s
