"""Whatever is asked: low <= estimate <= high, and the bound, that of the same what-if, below them; and what changes
nothing says so.
"""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from invariants import SLACK, any_chips, examples, roomy

from ridgepoint.estimator import Case, estimate, run
from ridgepoint.hardware import A100_80GB_PCIE, CHIPS
from ridgepoint.inputs import InputError
from ridgepoint.layers.formats import KV_FORMATS, NAMED
from ridgepoint.model import LLAMA3_8B, Model
from ridgepoint.serving.engines import ENGINES

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
    case = roomy(case)
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
@examples(40)
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


NO_WORK = ("notes", "basis", "overrides", "runtime", "dtype", "weights", "activations", "memory_fraction", "intervals")


def answer(*arguments: str) -> tuple[dict, list[str]]:
    """(what an estimate says besides what was asked, its notes), as JSON."""
    found = json.loads(run([*arguments, "--isl", "300", "--osl", "20", "--json"]))
    notes = found["notes"]
    for phase in found["phases"].values():
        for op in phase["ops"]:
            del op["low_s"], op["high_s"]
    return {name: value for name, value in found.items() if name not in NO_WORK}, notes


PLAIN = answer()
RECORDS = {"hardware": A100_80GB_PCIE, "model": LLAMA3_8B}
OVERRIDES = [
    f"{part}.{field.name}={factor * getattr(record, field.name) or 2}"
    for part, record in RECORDS.items()
    for field in fields(record)
    if field.type in (int, float)
    for factor in (2, 0.5)
]
OVERRIDES += [f"model.{field.name}={not field.default}" for field in fields(Model) if field.type is bool]
OVERRIDES += ["model.family=x", "model.source=x", "model.mlps=E", "model.sink_layers=F", "model.qk_norm=head"]


@pytest.mark.parametrize("override", OVERRIDES)
def test_an_override_changes_something_or_says_that_it_does_not(override):
    try:
        found, notes = answer("--set", override)
    except InputError:  # contradicts the rest of the record
        return
    said = any(note.startswith(override.split("=")[0] + " changes nothing") for note in notes)
    assert said == (found == PLAIN[0]), notes


FLAGS = {
    "--method roofline --runtime sglang": "--runtime changes no time here: by this method no engine runs it",
    "--method seed --runtime sglang": "--runtime changes no time here: by this method no engine runs it",
    "--dtype bf16": "--dtype changes nothing here",
    "--weights fp16": "--weights changes nothing here",
    "--precision bf16": "--precision changes nothing here",
    "--memory-fraction 0.8": "--memory-fraction changes no time here: all sequences run at once in it",
    "--set model.layers=32": "model.layers is 32 anyway",
    "--set hardware.l2_bytes=1e5": "hardware.l2_bytes changes nothing here: only with --l2-persistent does",
    "--set hardware.l2_bytes=4e8": "hardware.l2_bytes changes nothing here: only with --l2-persistent does",
    "--hardware h100 --set hardware.tdp_w=150": "hardware.tdp_w changes nothing here but the interval (no such chip",
    "--set model.linear_key_dim=64 --set model.experts_per_token=4": "model.experts_per_token changes nothing here",
}


@pytest.mark.parametrize(("flags", "note"), FLAGS.items())
def test_a_flag_that_changes_nothing_says_so(flags, note):
    assert f"\nnote: {note}" in run(flags.split())
    assert any(line.startswith(note) for line in json.loads(run([*flags.split(), "--json"]))["notes"])


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--l2-persistent --set hardware.l2_bytes=1e5",
        "--batch 500 --memory-fraction 0.5",
        "--runtime sglang",
        "--weights int8",
        "--kv-cache fp8",
        "--speculative 3 --acceptance 0.5 --draft llama3.2-1b",
        "--set model.mixers=S3F --set model.sliding_window=1024",
        "--set model.max_positions=3000",
        "--chunked-prefill 512 --prefix-tokens 100 --samples 2",
        "--model mixtral-8x7b --imbalance 0.5",
    ],
)
def test_what_changes_something_has_no_such_note(flags):
    assert " changes no" not in run(flags.split())


def test_two_overrides_that_each_stand_in_for_the_other_are_not_both_idle():
    """Either of these limits CTAs an SM alone: without both there are more."""
    flags = ["--set", "hardware.registers_per_sm=20000", "--set", "hardware.threads_per_sm=512"]
    text = run(flags)
    assert text.count("changes nothing here") <= 1
