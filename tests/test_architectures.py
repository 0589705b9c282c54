"""An architecture is a record: its name says nothing, and what is handed in is what counts."""

from dataclasses import replace

import pytest

from ridgepoint import ops
from ridgepoint.estimator import Case, estimate, guarded, run
from ridgepoint.hardware import CHIPS
from ridgepoint.inputs import InputError
from ridgepoint.kernels.architectures import ARCHITECTURES, architecture_of
from ridgepoint.kernels.cycles import cycle_s
from ridgepoint.model import LLAMA3_8B
from ridgepoint.readers.catalogue import find_model

SPARSE = {"mixers": "I", "index_heads": 64, "index_head_dim": 128, "index_topk": 2048}
RECURRENT = {"linear_key_heads": 16, "linear_value_heads": 32, "linear_key_dim": 128, "linear_value_dim": 128}
RECURRENT |= {"linear_conv_width": 4}
CASES = {
    "fp16": Case(),
    "fp8": Case(weights="fp8", activations="fp8"),
    "int4 weights": Case(weights="int4"),
    "fp8 cache": Case(kv_cache="fp8"),
    "mixture": Case(model="mixtral-8x7b"),
    "latent attention": Case(model="deepseek-v3"),
    "sparse attention": Case(model=replace(find_model("deepseek-v3"), **SPARSE), input_tokens=5000),
    "recurrent": Case(model=replace(LLAMA3_8B, mixers="G3F", **RECURRENT)),
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_under_another_name_gives_the_same_estimate(monkeypatch, name, what):
    monkeypatch.setitem(ARCHITECTURES, "copy", ARCHITECTURES[name])
    chip = next(chip for chip in CHIPS.values() if chip.architecture == name)
    chip = replace(chip, dram_bytes=2**41)  # any model fits
    case = replace(CASES[what], output_tokens=9)
    own, copy = (estimate(replace(case, hardware=one)) for one in (chip, replace(chip, architecture="copy")))
    assert (own.ttft_s, own.tpot_s, own.memory) == (copy.ttft_s, copy.tpot_s, copy.memory)
    assert own.precision == copy.precision
    for phase in ("prefill", "decode"):
        first, second = ([(k.name, k.causes) for k in getattr(est, phase).kernels] for est in (own, copy))
        assert first == second


def test_widening_is_by_the_architecture_that_is_handed_in():
    chip, number = CHIPS["a100-80gb-sxm"], {"dtype": "fp16", "elem_bytes": 2}
    arch = architecture_of(chip)
    slow = replace(arch, narrow=replace(arch.narrow, dequant8_ops=10 * arch.narrow.dequant8_ops))
    weights = ops.linear("g", tokens=4096, d_in=4096, d_out=4096, **number)
    weights = replace(weights, dims=weights.dims | {"b_bytes": 1})
    shape = {"batch": 64, "kv_len": 4096, "heads": 32, "kv_heads": 32, "head_dim": 128}
    for op in (weights, *(ops.attention("a", q_len=n, kv_elem_bytes=1, **shape, **number) for n in (1, 4096))):
        assert cycle_s(op, chip, slow) > 1.5 * cycle_s(op, chip, arch)


def test_compute_capabilities():
    assert [arch.compute_capability for arch in ARCHITECTURES.values()] == [80, 89, 90, 100]


@pytest.mark.parametrize("method", ["cycle", "roofline", "seed"])
def test_an_unknown_architecture_is_refused_in_one_line(capsys, method):
    assert guarded(run, ["--set", "hardware.architecture=hoper", "--method", method]) == 2
    text = capsys.readouterr().err
    assert "unknown hardware.architecture 'hoper' (did you mean hopper?)" in text and text.count("\n") == 1
    with pytest.raises(InputError, match=r"hardware\.architecture"):
        architecture_of(replace(CHIPS["l40s"], architecture="kepler"))
