"""Configurations as published, with what is right for each (tests/configs/EXPECTED.csv): estimated, or refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from invariants import roomy, slow_but

from ridgepoint.estimator import Case, estimate, guarded, run
from ridgepoint.inputs import InputError
from ridgepoint.readers import traced
from ridgepoint.readers.catalogue import find_model
from ridgepoint.readers.families import FAMILIES

FOLDER = Path(__file__).resolve().parent / "configs"
EXPECTED = {
    row["config"]: row["expected"] for row in csv.DictReader((FOLDER / "EXPECTED.csv").read_text().splitlines())
}
GIB = 2**30


def kv_per_token(model) -> int:
    """Beyond every window."""
    return model.kv_cache_bytes("fp16", 100_001) - model.kv_cache_bytes("fp16", 100_000)


# config: parameters, then (what, value) of what EXPECTED.csv says beside them
SIZES = {
    "gemma-3-4b-it": 3_880_263_168,
    "gemma-3-27b-it": 27_009_346_304,
    "llava-1.5-7b-hf": 6_738_939_904,
    "llama-4-scout": 107_769_861_120,
    "chatglm3-6b": 6_243_584_000,
    "qwen-7b-v1": 7_721_324_544,
    "internlm2_5-7b": 7_737_708_544,
    "deepseek-moe-16b": 16_375_728_128,
    "ling-mini-2.0": 16_255_643_392,
    "command-r-plus": 103_810_674_688,
    "exaone-4.0-32b": 32_003_216_384,
    "dbrx": 131_596_523_520,
    "codestral-mamba-7b": 7_285_403_648,
    "codestral-mamba-as-nemotron_h": 7_285_403_648,
    "kimi-linear-48b-a3b": 49_122_681_728,
    "kimi-linear-as-kimi_k3": 49_122_681_728,
    "gpt-oss-120b-official": 116_829_156_672,
}
REFUSED = {  # those that need kernels or formats which aren't there
    "gemma-4-e4b": "hidden_size_per_layer_input",
    "llama-3.2-11b-vision": "cross_attention_layers",
    "mamba-2.8b": "first Mamba",
    "jamba-v0.1": "first Mamba",
    "flan-t5-xl": "encoder-decoder",
    "whisper-large-v3": "encoder-decoder",
    "bge-large-en": "BertModel",
    "e5-mistral-7b": "MistralModel",
}
QUANTIZED = {  # GiB of weights with the formats that the flag names; the file's own are not modelled
    "llama-3.1-8b-bnb-nf4": ("int4", 5.3),
    "llama-3.1-8b-quark-fp8": ("fp8", 8.46),
    "llama-3.1-8b-torchao-int4": ("int4", 5.4),
    "qwen2.5-3b-gptq-3bit": ("int4", 1.9),  # 3 bits would be 1.6
    "mlx-4bit-llama3.2-3b": ("int4", 2.09),  # 1.7 with its embedding in 4 bits too, which no engine for these chips has
}
TRACED = {  # layers, parameters, KV bytes a token, state bytes
    "gpt2-xl": (48, 1_557_611_200, 307_200),
    "gpt-j-6b": (28, 6_050_882_784, 458_752),
    "bloom-7b1": (30, 7_069_016_064, 491_520),
    "falcon-40b": (60, 41_303_293_952, 122_880),
    "falcon-h1-7b": (44, 7_585_519_712, 45_056),
    "gemma-3n-e4b": (35, 6_835_235_568, None),
}


def test_every_config_has_a_test():
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()}
    assert folders == {*SIZES, *REFUSED, *QUANTIZED, *TRACED}
    assert {name for name in EXPECTED} <= folders


@pytest.mark.parametrize("name", SIZES)
def test_parameters_as_published(name):
    model = find_model(str(FOLDER / name))
    assert model.parameters == SIZES[name]
    stated = EXPECTED.get(name, "").split(";")[0].split(" ")[0].rstrip(",;")
    if "," in stated:  # the exact number, where the table has it
        assert int(stated.replace(",", "")) == SIZES[name]
    case = roomy(Case(model=model, hardware="h200-sxm", batch=1, input_tokens=100, output_tokens=3))
    est, bound = estimate(case), estimate(replace(case, method="roofline"))
    assert bound.tpot_s <= est.intervals["tpot_s"][0] * (1 + 1e-9) <= est.tpot_s <= est.intervals["tpot_s"][1]


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_what_is_not_modelled_is_refused_at_once(name, message, capsys, monkeypatch):
    monkeypatch.setattr(traced, "trace", None)  # before any trace
    assert guarded(run, ["--model", str(FOLDER / name)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_the_table_says_beside_the_parameters():
    models = {name: find_model(str(FOLDER / name)) for name in SIZES}
    assert kv_per_token(models["chatglm3-6b"]) == 28_672
    exaone = models["exaone-4.0-32b"]
    assert exaone.kv_cache_bytes("fp16", 131_072) == 8.75 * GIB and exaone.kv_cache_bytes("fp16", 32_768) == 2.75 * GIB
    assert kv_per_token(models["kimi-linear-48b-a3b"]) == 8_064
    assert round(models["ling-mini-2.0"].active_parameters / 1e9, 1) == 1.4
    assert models["gpt-oss-120b-official"].max_positions == 131_072
    oss = estimate(Case(model=models["gpt-oss-120b-official"], hardware="h100-sxm", batch=1, output_tokens=3))
    model = models["gpt-oss-120b-official"]  # as published; vLLM pads its experts
    assert model.weight_bytes("bf16", oss.precision) / GIB == pytest.approx(60.8, abs=0.05)
    assert oss.memory.weights_bytes / GIB == pytest.approx(65.97, abs=0.1)
    codestral, sibling = models["codestral-mamba-7b"], models["codestral-mamba-as-nemotron_h"]
    assert 0.13 * GIB < codestral.state_bytes("fp16") == sibling.state_bytes("fp16") < 0.26 * GIB
    for batch, tpot_s in ((1, 5.5e-3), (256, 66e-3)):
        sizes = {"hardware": "h200-sxm", "batch": batch, "input_tokens": 1024, "output_tokens": 128}
        one, other = (estimate(Case(model=model, **sizes)) for model in (codestral, sibling))
        assert one.tpot_s == other.tpot_s < 1.5 * tpot_s
        flops = one.decode.total("flops") / 127 / batch
        assert flops == pytest.approx(14.6e9, rel=0.05)


def test_a_tower_that_is_left_out_is_said():
    assert "vision tower (about 0.41 B parameters)" in find_model(str(FOLDER / "gemma-3-4b-it")).note
    assert "vision tower (about 0.41 B" in run(["--model", str(FOLDER / "gemma-3-4b-it")])
    assert find_model(str(FOLDER / "dbrx")).note == ""


@pytest.mark.parametrize("name", slow_but(TRACED, "gpt2-xl"))
def test_sizes_of_traced_models(name, tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs requirements-hf.txt")
    monkeypatch.setattr(traced, "CACHE", tmp_path)
    layers, parameters, kv_bytes = TRACED[name]
    config = json.loads((FOLDER / name / "config.json").read_text())
    assert config["model_type"] not in FAMILIES
    with traced.built(config) as built:
        assert traced.elements(built) == parameters
    if kv_bytes is not None:  # all layers are alike: one of them, since a trace of all takes a minute
        key = "n_layer" if "n_layer" in config else "num_hidden_layers"
        one = traced.trace(config | {key: 1})
        assert one.kv_bytes_per_token * layers == kv_bytes
        # SSM of 24 heads of 128 x 256, 140 MB in 44 layers and fp32
        assert one.state_bytes * layers == pytest.approx(140e6 if name == "falcon-h1-7b" else 0, rel=0.01)


@pytest.mark.parametrize(("name", "form", "gib"), [(name, *value) for name, value in QUANTIZED.items()])
def test_a_flag_overrides_formats_that_are_not_modelled(name, form, gib):
    model = find_model(str(FOLDER / name))
    with pytest.raises(InputError, match="--weights"):
        estimate(Case(model=model, hardware="h100-sxm", batch=1, output_tokens=3))
    est = estimate(Case(model=model, hardware="h100-sxm", batch=1, output_tokens=3, weights=form))
    assert est.memory.weights_bytes / GIB == pytest.approx(gib, rel=0.03)
