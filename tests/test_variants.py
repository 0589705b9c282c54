"""Cached prefixes, chunks, guesses, samples, and batches that queue: each with its arithmetic."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ridgepoint.estimator import Case, estimate, run
from ridgepoint.hardware import A100_80GB_PCIE
from ridgepoint.inputs import MAX_SIZE, InputError
from ridgepoint.serving.cases import resolve
from ridgepoint.serving.memory import max_context, memory
from ridgepoint.serving.passes import Passes, expected_tokens, prefill_passes, speculative_contexts

CASE = Case(method="roofline")


def test_a_cached_prefix_is_attended_to_but_not_computed():
    assert prefill_passes(8, 2048, 1024, None) == [Passes(8, 1024, 2048)]
    plain, cached = estimate(CASE), estimate(replace(CASE, prefix_tokens=1024))
    assert cached.ttft_s < 0.55 * plain.ttft_s  # half of the tokens; their attention is the longer half
    assert cached.tpot_s == plain.tpot_s
    with pytest.raises(InputError, match="below input-tokens"):
        estimate(replace(CASE, prefix_tokens=2048))


def test_chunks_cover_every_prompt_once():
    # 600 tokens in chunks of 256: ends at 256, 512, 600; once for each of the 3 sequences
    chunks = prefill_passes(3, 600, 0, 256)
    assert chunks == [Passes(1, 256, 256, 3), Passes(1, 256, 512, 3), Passes(1, 88, 600, 3)]
    first, middle, last = prefill_passes(2, 1000, 24, 200)  # 976 tokens after 24: ends at 224, 424, 624, 824, 1000
    assert (first, last) == (Passes(1, 200, 224, 2), Passes(1, 176, 1000, 2))
    assert middle.kv_len.tolist() == [424, 624, 824] and (middle.q_len, middle.times) == (200, 2)
    # 7 prompts of 100 in passes of at most 350 tokens: 3 + 3 + 1
    assert prefill_passes(7, 100, 0, 350) == [Passes(3, 100, 100, 2), Passes(1, 100, 100)]
    for batch, prompt, prefix, chunk in ((3, 600, 0, 256), (7, 100, 20, 350), (2, 1000, 10, 1)):
        passes = prefill_passes(batch, prompt, prefix, chunk)
        assert sum(p.batch * p.q_len * p.times * np.size(p.kv_len) for p in passes) == batch * (prompt - prefix)
        assert all(p.batch * p.q_len <= chunk for p in passes)


def test_chunks_count_the_same_attention_and_read_the_weights_more_often():
    whole, chunked = estimate(CASE), estimate(replace(CASE, chunked_prefill=512))

    def flops(est, name):
        return sum(kernel.flops for kernel in est.prefill.kernels if kernel.name == name)

    for name in ("attention", "gate_up_proj"):
        assert flops(chunked, name) == flops(whole, name)
    assert chunked.prefill.steps == 8 * 4
    assert chunked.prefill.total("weight_bytes") > 20 * whole.prefill.total("weight_bytes")
    assert chunked.ttft_s > whole.ttft_s


def test_guesses():
    assert expected_tokens(4, 1.0) == 5
    assert expected_tokens(4, 0.0) == 1
    assert expected_tokens(2, 0.5) == 1.75  # 1 + 1/2 + 1/4
    # all accepted: 5 tokens a step, 9 more tokens after the first need 2 steps; the first verifies 5 after 100
    assert speculative_contexts(100, 10, 4, 1.0).tolist() == [105, 110]
    plain = estimate(replace(CASE, batch=1))
    free = estimate(replace(CASE, batch=1, speculative=4, acceptance=1.0))
    assert free.decode.steps == np.ceil(2047 / 5)
    assert free.tpot_s == pytest.approx(plain.tpot_s / 5, rel=0.05)  # memory-bound: five cost little more than one
    useless = estimate(replace(CASE, batch=1, speculative=4, acceptance=0.0))
    assert useless.tpot_s >= plain.tpot_s
    drafted = estimate(replace(CASE, batch=1, speculative=4, acceptance=1.0, draft="llama2-7b"))
    assert drafted.tpot_s > 4 / 5 * estimate(Case(method="roofline", model="llama2-7b", batch=1)).tpot_s
    assert drafted.memory.weights_bytes > plain.memory.weights_bytes


def test_samples_share_the_prompt():
    one, four = estimate(CASE), estimate(replace(CASE, samples=4))
    assert four.ttft_s == one.ttft_s
    assert four.tpot_s == estimate(replace(CASE, batch=32)).tpot_s  # 8 * 4 sequences decode
    assert four.memory.kv_cache_bytes == 8 * (2048 + 4 * 2048) * 131072
    assert four.throughput_tokens_per_s == pytest.approx(8 * 4 * 2048 / four.latency_s)


def test_a_batch_beyond_the_engine_s_memory_runs_in_waves():
    fits = estimate(CASE)
    assert fits.batch_latency_s == fits.latency_s
    assert (fits.waves, fits.running, fits.ttft_mean_s, fits.ttft_last_s) == (1, 8, fits.ttft_s, fits.ttft_s)
    large = estimate(replace(CASE, batch=250))
    assert large.memory.concurrent == large.running == 110 and large.waves == 3  # 110, 110, 30
    full, last = (estimate(replace(CASE, batch=size)) for size in (110, 30))
    for metric in ("ttft_s", "tpot_s", "latency_s", "throughput_per_sequence_tokens_per_s"):
        assert getattr(large, metric) == getattr(full, metric)  # of a full wave, from its start
    assert large.decode == full.decode
    assert large.batch_latency_s == pytest.approx(2 * full.latency_s + last.latency_s)
    assert large.throughput_tokens_per_s == pytest.approx(250 * 2048 / large.batch_latency_s)
    assert large.ttft_last_s == pytest.approx(2 * full.latency_s + last.ttft_s)
    waits = 110 * full.ttft_s + 110 * (full.latency_s + full.ttft_s) + 30 * (2 * full.latency_s + last.ttft_s)
    assert large.ttft_mean_s == pytest.approx(waits / 250)
    twice = estimate(replace(CASE, batch=220))  # no wave of what is left
    assert twice.waves == 2 and twice.batch_latency_s == pytest.approx(2 * full.latency_s)
    assert twice.ttft_last_s == pytest.approx(full.latency_s + full.ttft_s)
    assert "QUEUE" in run(["--batch", "200"]) and "QUEUE" not in run([])
    assert "not one sequence" in " ".join(run(["--set", "hardware.dram_bytes=1e10"]).split())


def test_longest_context():
    est = estimate(CASE)
    longest = est.max_context
    # the tokens of the cache among 8 sequences, in blocks of 16
    assert longest == est.memory.kv_tokens // 8 // 16 * 16
    assert estimate(replace(CASE, input_tokens=longest - 2048)).memory.fits
    assert not estimate(replace(CASE, input_tokens=longest - 2047)).memory.fits
    assert json.loads(run(["--json"]))["memory"]["max_context"] == longest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunked_prefill": 0}, "chunked-prefill must be"),
        ({"chunked_prefill": 64, "batch": np.array([1, 2])}, "single sizes"),
        ({"chunked_prefill": 1, "input_tokens": 2**18}, "into more than 131,072 chunks"),
        ({"speculative": -1}, "speculative must be"),
        ({"speculative": 2, "acceptance": 1.5}, "acceptance must be"),
        ({"speculative": 2, "batch": np.array([1, 2])}, "single sizes"),
        ({"draft": "llama2-7b"}, "goes with --speculative"),
        ({"speculative": 2, "draft": "lama2-7b"}, "did you mean llama2-7b?"),
        ({"samples": 0}, "samples must be"),
        ({"memory_fraction": 1.5}, "memory-fraction must be"),
        ({"prefix_tokens": 0.5}, "prefix-tokens must be"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        estimate(replace(Case(), **change))


def test_every_variant_says_what_it_assumes():
    arguments = "--prefix-tokens 100 --chunked-prefill 512 --speculative 3 --samples 2 --draft llama2-7b"
    assert run(arguments.split()).count("assumed: ") == 4


def test_longest_context_of_what_does_not_fit_even_with_its_prefix():
    est = estimate(Case(model="deepseek-v3", prefix_tokens=1024, output_tokens=3))
    assert not est.memory.fits and est.max_context == 0
    est = estimate(Case(prefix_tokens=1024))
    assert est.max_context >= estimate(Case()).max_context  # the same cache, fewer activations


@pytest.mark.parametrize("chunk", [512, 8192, 99999])
def test_the_largest_batch_with_chunks_is_one_that_fits(chunk):
    largest = estimate(Case(batch=3, chunked_prefill=chunk)).memory.max_batch
    for batch, fits in ((largest, True), (largest + 1, False)):
        memory = estimate(Case(batch=batch, chunked_prefill=chunk)).memory
        assert memory.fits is fits and memory.max_batch == largest


def test_a_draft_model_takes_the_prompts_and_each_guess():
    alone = estimate(Case(model="llama3.2-1b", method="roofline"))
    case = Case(speculative=4, method="roofline")
    drafted, free = estimate(replace(case, draft="llama3.2-1b")), estimate(case)
    assert drafted.ttft_s == pytest.approx(free.ttft_s + alone.ttft_s)
    counts = {kernel.name: kernel.count for kernel in drafted.decode.kernels}
    assert (counts["qkv_proj"], counts["draft qkv_proj"], counts["draft lm_head"]) == (32, 4 * 16, 4)


def test_chunks_that_run_other_kernels_than_the_first():
    # latent attention: the first 16 tokens expand their latents, later chunks absorb; their kernels are summed by name
    many = replace(A100_80GB_PCIE, dram_bytes=2**42)
    sizes = {"input_tokens": 80, "output_tokens": 2, "chunked_prefill": 16}
    est = estimate(Case(model="kimi-k2", hardware=many, runtime="ideal", **sizes))
    names = [kernel.name for kernel in est.prefill.kernels]
    assert len(set(names)) == len(names) and {"kv_b_proj", "q_absorb"} <= set(names)
    assert sum(est.prefill.causes().values()) == pytest.approx(est.ttft_s)


def test_a_model_that_drafts_for_itself_keeps_its_formats():
    est = estimate(Case(weights="int4", speculative=2, draft="llama3-8b"))
    assert est.precision.name == "w4a16"
    # the model in int4, its draft in 16 bits
    alone = estimate(Case(weights="int4")).memory.weights_bytes
    assert est.memory.weights_bytes == alone + 2 * est.model.parameters


@pytest.mark.parametrize("model", ["llama3-8b", "gemma3-27b", "gpt-oss-20b", "deepseek-v3"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"attention": "naive"},  # whose scores grow with the square of the prompt
        {"prefix_tokens": 500, "kv_cache": "fp8"},
        {"chunked_prefill": 512, "samples": 3},
        {"chunked_prefill": 16, "prefix_tokens": 1},
        {"speculative": 3, "draft": "llama3.2-1b", "weights": "int4"},
    ],
)
@pytest.mark.parametrize("spare", [1e6, 1e8, 1e10])
def test_the_longest_context_is_that_of_halving_step_by_step(model, change, spare):
    case = Case(model=model, batch=8, input_tokens=1000, output_tokens=10, **change)
    held = memory(resolve(case))  # and what the engine takes beside the cache, in 90 % of all but half a GiB
    rest_bytes = held.weights_bytes + held.activation_bytes + held.engine_bytes
    case = replace(case, hardware=replace(A100_80GB_PCIE, dram_bytes=int((rest_bytes + spare) / 0.9 + 2**29)))
    low, high = case.prefix_tokens, MAX_SIZE
    resolved = resolve(case)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if memory(resolved.at(input_tokens=middle)).fits else (low, middle - 1)
    assert max_context(resolved) == (low + 10 if low > case.prefix_tokens else 0)
