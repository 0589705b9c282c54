"""Models by name and by file: the catalogue, config.json, and files that are neither."""

import json
from dataclasses import replace

import pytest

import configs
from estimator import Case, estimate, guarded, run
from inputs import InputError
from model import MODELS, Model, forward

PUBLISHED = {  # parameters, as published with the checkpoints
    "llama2-70b": 68_976_648_192,
    "llama3-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "mistral-7b-v0.3": 7_248_023_552,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_explicit_graphs_of_the_catalogue(name, parameters):
    model = configs.load(name)
    assert isinstance(model, Model)
    assert model.parameters == parameters
    config = json.loads((configs.CATALOGUE / f"{name}.json").read_text())
    assert config["_parameters"] == parameters
    assert model.kv_bytes_per_token("fp16") == 2 * config["_kv_elements_per_token"]


def test_the_catalogue_agrees_with_the_models_that_have_an_entry_in_the_code():
    for name in ("llama2-7b", "llama2-13b", "llama3-8b"):
        config = json.loads((configs.CATALOGUE / f"{name}.json").read_text())
        assert replace(configs.build(config, name), title=MODELS[name].title) == MODELS[name]


def test_every_file_of_the_catalogue_has_its_source_and_sizes():
    paths = sorted(configs.CATALOGUE.glob("*.json"))
    assert len(paths) >= 25
    for path in paths:
        config = json.loads(path.read_text())
        assert config["_source"] and config["_hub"]
        assert config["_parameters"] >= config["_active_parameters"] > 0 and config["_kv_elements_per_token"] > 0
    assert all(name in run(["--list-models"]) for name in configs.names())


def test_hub_names_paths_and_folders(tmp_path):
    assert configs.load("meta-llama/Meta-Llama-3-8B") is MODELS["llama3-8b"]
    assert configs.load("META-LLAMA/meta-llama-3-8b") is MODELS["llama3-8b"]
    source = configs.CATALOGUE / "llama3.2-1b.json"
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(source.read_text())
    by_folder, by_path = configs.load(str(folder)), configs.load(str(source))
    assert by_folder.parameters == by_path.parameters == 1_235_814_400
    assert by_folder.name == "mine" and by_path.name == "llama3.2-1b"
    assert estimate(Case(model=str(folder))).tpot_s == estimate(Case(model="llama3.2-1b")).tpot_s


def test_tied_embeddings_are_one_table_that_is_read_once():
    model = configs.load("llama3.2-1b")
    untied = replace(model, tied_embeddings=False)
    assert untied.parameters - model.parameters == model.vocab * model.hidden
    sizes = {"batch": 1, "q_len": 1, "kv_len": 10}
    assert [op.bytes for op in forward(model, **sizes)] == [op.bytes for op in forward(untied, **sizes)]


LLAMA = json.loads((configs.CATALOGUE / "llama3.2-1b.json").read_text())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b'{"model_type": "llama"', "is not JSON"),
        (b"\xff\xfe\x00\x80", "not a text file"),
        (b"[1, 2]", "no model_type"),
        (b"{}", "no model_type"),
        (b'{"model_type": 3}', "no model_type"),
        ({"hidden_size": None}, "hidden_size of this llama config must be"),
        ({"num_hidden_layers": -1}, "num_hidden_layers of this llama config must be"),
        ({"vocab_size": "many"}, "vocab_size of this llama config must be"),
        ({"num_key_value_heads": 7}, "must be a multiple of num_key_value_heads (7)"),
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


def test_a_missing_key_is_named_with_the_family(tmp_path):
    config = {key: value for key, value in LLAMA.items() if key != "intermediate_size"}
    with pytest.raises(InputError, match="a llama config needs intermediate_size"):
        configs.build(config, "mine")


@pytest.mark.parametrize("name", ["no-such-model", "owner/no-such-model", "", "."])
def test_what_is_neither_name_nor_file(name):
    with pytest.raises(InputError):
        configs.load(name)


def test_traced_models_end_to_end(tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs requirements-hf.txt")
    import traced

    monkeypatch.setattr(traced, "CACHE", tmp_path / "traces")
    config = LLAMA | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 2}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | {"vocab_size": 1000, "sliding_window": None}))
    est = estimate(Case(model=str(path), output_tokens=20))
    assert est.latency_s > estimate(Case(model=str(path), output_tokens=20, method="roofline")).latency_s
    assert "qwen3" in str(est.model.family) and est.memory.fits
    assert "---Flash Attention---" in run(["--model", str(path)])
    assert json.loads(run(["--model", str(path), "--json", "--output-tokens", "3"]))["tpot_s"] > 0
    for refused in (["--attention", "naive"], ["--weights", "int4"], ["--set", "model.layers=3"], ["--method", "seed"]):
        assert guarded(run, ["--model", str(path), *refused]) == 2
