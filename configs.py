"""Models by name or by file: the catalogue, a Hugging Face config.json, a folder that holds one.

Plain Llama-like decoders have an explicit graph (model.py); every other architecture is traced from its real modelling
code (traced.py), which needs requirements-hf.txt.
"""

import json
from pathlib import Path

from inputs import InputError, check_size, nearest
from model import MODELS, Model

CATALOGUE = Path(__file__).resolve().parent / "catalog" / "models"
EXPLICIT = ("llama", "mistral")
SIZES = {  # field of Model: key of config.json
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
}


def names() -> list[str]:
    """Every name that --model takes, without the hub's."""
    return sorted({*MODELS, *(path.stem for path in CATALOGUE.glob("*.json"))})


def load(name: str):
    """The Model, or TracedModel, of a name in the catalogue, a name on the Hugging Face hub, a config.json or a folder
    that holds one. Raises InputError.
    """
    if name in MODELS:
        return MODELS[name]
    if name in names():
        return build(_read(CATALOGUE / f"{name}.json"), name)
    path = Path(name)
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise InputError(f"{name} is a folder without a config.json")
    if path.is_file():
        own_name = path.resolve().parent.name if path.name == "config.json" else path.stem
        return build(_read(path), own_name or path.stem)
    on_hub = _by_hub_name(name) if "/" in name else None
    if on_hub:
        return MODELS.get(on_hub.stem) or build(_read(on_hub), on_hub.stem)
    raise InputError(f"unknown model {name!r}{nearest(name, names())}; it is no name (--list-models) and no file")


def _by_hub_name(name: str) -> Path | None:
    for path in sorted(CATALOGUE.glob("*.json")):
        if name.lower() in (hub.lower() for hub in _read(path).get("_hub", ())):
            return path
    return None


def _read(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't read {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise InputError(f"{path} has no model_type: not a Hugging Face config.json")
    return config


def build(config: dict, name: str):
    """The Model of a config. Raises InputError that names the missing or contradictory key and the family."""
    family = config["model_type"]
    biased = config.get("attention_bias") or config.get("mlp_bias")
    if family not in EXPLICIT or config.get("sliding_window") or biased or config.get("hidden_act", "silu") != "silu":
        return _traced(config, name)
    for key in SIZES.values():
        if key not in config:
            raise InputError(f"{name}: a {family} config needs {key}")
    sizes = {field: _size(config, key, family) for field, key in SIZES.items()}
    if config.get("head_dim") is None and sizes["hidden"] % sizes["heads"]:
        raise InputError(f"{name}: hidden_size must be a multiple of num_attention_heads, or head_dim given")
    optional = {
        "kv_heads": ("num_key_value_heads", sizes["heads"]),
        "head_dim": ("head_dim", sizes["hidden"] // sizes["heads"]),
        "max_positions": ("max_position_embeddings", 4096),
    }
    for field, (key, default) in optional.items():
        sizes[field] = default if config.get(key) is None else _size(config, key, family)
    if sizes["heads"] % sizes["kv_heads"]:
        heads, kv_heads = sizes["heads"], sizes["kv_heads"]
        raise InputError(
            f"{name}: num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({kv_heads})"
        )
    tied = bool(config.get("tie_word_embeddings", False))
    return Model(name=name, title=title(config, name), family=family, tied_embeddings=tied, **sizes)


def _size(config: dict, key: str, family: str) -> int:
    return check_size(f"{key} of this {family} config", config[key])


def title(config: dict, name: str) -> str:
    """What a person calls it: the hub's name without its owner, or the file's."""
    return config["_hub"][0].split("/")[-1] if config.get("_hub") else name


def _traced(config: dict, name: str):
    import traced

    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    text = settings.get("text_config") or settings
    return traced.TracedModel(
        name=name,
        title=title(config, name),
        family=config["model_type"],
        hidden=check_size("hidden_size", text.get("hidden_size")),
        max_positions=check_size("max_position_embeddings", text.get("max_position_embeddings", 4096)),
        trace=traced.trace(settings),
    )


def listing() -> list[tuple[str, str, str, int, int, int]]:
    """(name, title, family, parameters, active parameters, KV bytes per token at 16 bits) of the whole catalogue."""
    rows = []
    for name in names():
        path = CATALOGUE / f"{name}.json"
        config = _read(path)
        sizes = [config[key] for key in ("_parameters", "_active_parameters", "_kv_elements_per_token")]
        rows.append((name, title(config, name), config["model_type"], *sizes[:2], 2 * sizes[2]))
    return rows
