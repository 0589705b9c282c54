"""Models by name and by file: the catalogue, config.json, and files that are neither."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ridgepoint.estimator import Case, estimate, guarded, run
from ridgepoint.inputs import InputError
from ridgepoint.model import forward
from ridgepoint.readers import catalogue

ROOT = Path(__file__).resolve().parent.parent


def test_every_file_of_the_catalogue_has_its_source_and_sizes():
    paths = sorted(catalogue.CATALOGUE.glob("*.json"))
    assert len(paths) >= 25
    for path in paths:
        config = json.loads(path.read_text())
        assert config["_source"] and config["_hub"]


def test_paths_and_folders(tmp_path):
    source = catalogue.CATALOGUE / "llama3.2-1b.json"
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(source.read_text())
    by_folder, by_path = catalogue.find_model(str(folder)), catalogue.find_model(str(source))
    assert by_folder.parameters == by_path.parameters == 1_235_814_400
    assert by_folder.name == "mine" and by_path.name == "llama3.2-1b"
    assert estimate(Case(model=str(folder))).tpot_s == estimate(Case(model="llama3.2-1b")).tpot_s


def test_tied_embeddings_are_one_table_that_is_read_once():
    model = catalogue.find_model("llama3.2-1b")
    untied = replace(model, tied_embeddings=False)
    assert untied.parameters - model.parameters == model.vocab * model.hidden
    sizes = {"batch": 1, "q_len": 1, "kv_len": 10}
    assert [op.bytes for op in forward(model, **sizes)] == [op.bytes for op in forward(untied, **sizes)]


LLAMA = json.loads((catalogue.CATALOGUE / "llama3.2-1b.json").read_text())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b'{"model_type": "llama"', "is not JSON"),
        (b"\xff\xfe\x00\x80", "is not JSON"),
        (b"[1, 2]", "a config.json is one object"),
        (b"{}", "key 'model_type' is missing"),
        (b'{"model_type": 3}', "key 'model_type' must be a name, not 3"),
        ({"hidden_size": None}, "key 'hidden_size' (model_type llama) is missing"),
        ({"num_hidden_layers": -1}, "key 'num_hidden_layers' (model_type llama) must be"),
        ({"vocab_size": "many"}, "key 'vocab_size' (model_type llama) must be"),
        ({"num_key_value_heads": 7}, "must be a multiple of model.kv_heads (7)"),
        ({"head_dim": 63}, "head_dim must be even"),
        ({"head_dim": None, "num_attention_heads": 7, "num_key_value_heads": 7}, "or head_dim given"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, capsys, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(LLAMA | content).encode())
    assert guarded(run, ["--model", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("deepseek-v3", {"n_group": 7}, "n_group (7) must divide n_routed_experts (256)"),
        ("deepseek-v3", {"topk_group": 20}, "must be a whole number from 1 to 8, not 20"),
        ("deepseek-v3", {"first_k_dense_replace": 100}, "must be a whole number from 0 to 61, not 100"),
        ("qwen3-30b-a3b", {"mlp_only_layers": [99]}, "has 99, but the layers are 0 to 47"),
        (
            "llama3.2-1b",
            {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 0}},
            "group_size must be from 1, or -1",
        ),
    ],
)
def test_configs_that_contradict_themselves(tmp_path, capsys, name, changes, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads((catalogue.CATALOGUE / f"{name}.json").read_text()) | changes))
    assert guarded(run, ["--model", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["no-such-model", "owner/no-such-model", "", "."])
def test_what_is_neither_name_nor_file(name):
    with pytest.raises(InputError):
        catalogue.find_model(name)


def test_traced_models_end_to_end(tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs requirements-hf.txt")
    from ridgepoint.readers import traced

    monkeypatch.setattr(traced, "CACHE", tmp_path / "traces")
    config = LLAMA | {"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "num_hidden_layers": 2}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | {"vocab_size": 1000, "sliding_window": None}))
    est = estimate(Case(model=str(path), output_tokens=20))
    assert est.latency_s > estimate(Case(model=str(path), output_tokens=20, method="roofline")).latency_s
    assert est.model.family == "olmo2" and est.memory.fits
    assert "---Flash Attention---" in run(["--model", str(path)])
    assert json.loads(run(["--model", str(path), "--json", "--output-tokens", "3"]))["tpot_s"] > 0
    for refused in (["--attention", "naive"], ["--weights", "int4"], ["--set", "model.layers=3"], ["--method", "seed"]):
        assert guarded(run, ["--model", str(path), *refused]) == 2


def refusal(capsys, *arguments):
    """The one line of a command that is refused."""
    assert guarded(run, list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


COMPRESSED = {
    "quant_method": "compressed-tensors",
    "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 128}}},
}


@pytest.mark.parametrize(
    "pattern", ["re:(.*)*x", "re:(a+)+$", "re:(a|a)*b", "re:" + ".*" * 9 + "!", "re:" + "l?" * 40 + "!"]
)
def test_a_pattern_that_never_ends_is_refused(tmp_path, capsys, pattern):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA | {"quantization_config": COMPRESSED | {"ignore": [pattern]}}))
    assert "for ever" in refusal(capsys, "--model", str(path))


def test_patterns_as_published_are_read(tmp_path):
    path = tmp_path / "config.json"
    patterns = [r"re:.*self_attn.*", r"re:.*\.layers\.\d+\.mlp\.gate$", r"re:.*(router|gate)\.weight", "lm_head"]
    path.write_text(json.dumps(LLAMA | {"quantization_config": COMPRESSED | {"ignore": patterns}}))
    assert [part for part, _ in catalogue.find_model(str(path)).quantization.parts] == ["attention"]


def test_a_flag_overrides_formats_that_no_one_knows(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA | {"quantization_config": {"quant_method": "of tomorrow"}}))
    error = refusal(capsys, "--model", str(path))
    assert "unknown quant_method 'of tomorrow'" in error and "--weights" in error
    assert "unknown quant_method" in refusal(capsys, "--model", str(path), "--kv-cache", "fp8")
    for formats in ({"weights": "int4"}, {"weights": "fp8", "activations": "fp8"}, {"weights": "bf16"}):
        plain = estimate(Case(model="llama3.2-1b", hardware="h100-sxm", **formats))
        assert estimate(Case(model=str(path), hardware="h100-sxm", **formats)).tpot_s == plain.tpot_s


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "nemotron-nas", "block_configs": ["none"] * 16}, "block_configs has 'none'"),
        ({"model_type": "nemotron-nas", "block_configs": [None] * 16}, "must be an object"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "without an LM head"),
        ({"architectures": ["LlamaModel"]}, "without an LM head"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "without an LM head"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": "falcon_mamba", "time_step_rank": 256}, "first Mamba"),
    ],
)
def test_what_no_decoder_of_tokens_is_refused_at_once(tmp_path, capsys, changes, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA | changes))
    assert message in refusal(capsys, "--model", str(path))


def test_sizes_that_a_nested_config_leaves_out_are_its_familys():
    text = {"model_type": "mistral", "num_hidden_layers": 2}
    model = catalogue.model_from_config({"model_type": "x", "text_config": text}, name="x", title="x")
    assert (model.hidden, model.kv_heads, model.sliding_window, model.layers) == (4096, 8, 4096, 2)
    with pytest.raises(InputError, match=r"'hidden_size' .* is missing"):  # a file of its own has it
        catalogue.model_from_config(text, name="x", title="x")
    text = text | {"hidden_size": None}
    with pytest.raises(InputError, match=r"'hidden_size' .* is missing"):  # and null is no default
        catalogue.model_from_config({"model_type": "x", "text_config": text}, name="x", title="x")


def test_pipes_are_read_once(tmp_path):
    source = catalogue.CATALOGUE / "llama3.2-1b.json"
    command = [sys.executable, str(ROOT / "estimator.py"), "--json", "--model"]
    with source.open("rb") as stream:
        piped = subprocess.run([*command, "/dev/stdin"], stdin=stream, capture_output=True, text=True, check=False)
    script = f"{' '.join(command)} <(cat {source})"
    substituted = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    expected = estimate(Case(model="llama3.2-1b")).tpot_s
    for result in (piped, substituted):
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["tpot_s"] == expected
    empty = subprocess.run([*command, "/dev/stdin"], input="", capture_output=True, text=True, check=False)
    assert empty.returncode == 2 and "is not JSON" in empty.stderr and empty.stderr.count("\n") == 1
    os.mkfifo(tmp_path / "config.json")  # without a writer
    for path in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(InputError, match="is not JSON"):
            catalogue.find_model(str(path))


def test_paths_that_can_not_be_followed(tmp_path, monkeypatch):
    long = "/".join(["a" * 200] * 30)
    for name in (long, long + "/config.json", "b" * 5000, str(tmp_path / ("c" * 300))):
        with pytest.raises(InputError) as refused:
            catalogue.find_model(name)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 600
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    folder.chmod(0o600)
    denied = "can't be searched|can't read|model_type"  # the last: to root nothing is locked
    try:
        with pytest.raises(InputError, match=denied):
            catalogue.find_model(str(folder))
    finally:
        folder.chmod(0o700)


def test_an_unknown_name_says_where_to_get_its_config(capsys):
    for name in ("someone/Some-Model-7B", "no-such-model"):
        assert "https://huggingface.co/ORG/NAME/resolve/main/config.json" in refusal(capsys, "--model", name)
