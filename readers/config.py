"""A Hugging Face config.json whose keys are asked for one by one: each checked, with its family's default."""

from collections.abc import Mapping
from typing import Any, NoReturn

from ridgepoint.inputs import MAX_SIZE, InputError, check_size, shown

Json = dict[str, Any]  # an object of a JSON file

LETTERS = {
    "full_attention": "F",
    "attention": "F",
    "sliding_attention": "S",
    "chunked_attention": "C",
    "linear_attention": "G",
}


# Sizes that a published file leaves out are those of the family's class: PretrainedConfig.to_diff_dict writes only what
# differs from it in a nested config (text_config). Source: the configuration classes of transformers 5.18. What isn't
# here has its default in the family's reader.
LLAMA_SIZES = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000}
GEMMA_2B = {"hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4}
GEMMA_2B |= {"intermediate_size": 9216, "head_dim": 256, "sliding_window": 4096}
QWEN_SIZES = LLAMA_SIZES | {"intermediate_size": 22016, "vocab_size": 151936, "max_position_embeddings": 32768}
GLM_SIZES: Json = {"hidden_size": 4096, "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2}
GLM_SIZES |= {"head_dim": 128, "intermediate_size": 13696, "vocab_size": 151552, "max_position_embeddings": 131072}
GLM_SIZES |= {"attention_bias": True, "partial_rotary_factor": 0.5}
CORE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")  # see `defaults`
DEFAULTS: dict[str, Json] = {
    "cohere": {"hidden_size": 8192, "intermediate_size": 22528, "num_hidden_layers": 40, "num_attention_heads": 64}
    | {"vocab_size": 256000, "max_position_embeddings": 8192},
    "exaone4": LLAMA_SIZES
    | {"intermediate_size": 16384, "vocab_size": 102400, "num_key_value_heads": 32}
    | {"sliding_window": 4096},
    "gemma": {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "intermediate_size": 24576}
    | {"head_dim": 256, "vocab_size": 256000, "max_position_embeddings": 8192},
    "gemma2": GEMMA_2B | {"vocab_size": 256000, "max_position_embeddings": 8192},
    "gemma3": GEMMA_2B | {"vocab_size": 262208, "max_position_embeddings": 131072},
    "gemma3_text": GEMMA_2B | {"vocab_size": 262208, "max_position_embeddings": 131072},
    "glm": GLM_SIZES,
    "glm4": GLM_SIZES,
    "gpt_oss": {"hidden_size": 2880, "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8}
    | {"head_dim": 64, "intermediate_size": 2880, "vocab_size": 201088, "max_position_embeddings": 131072}
    | {"num_local_experts": 128, "num_experts_per_tok": 4, "sliding_window": 128},
    "granite": LLAMA_SIZES | {"intermediate_size": 11008},
    "llama": LLAMA_SIZES | {"intermediate_size": 11008},
    "llama4": {"hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8}
    | {"head_dim": 128, "intermediate_size": 8192, "intermediate_size_mlp": 16384, "vocab_size": 202048}
    | {"num_local_experts": 16, "num_experts_per_tok": 1, "attention_chunk_size": 8192, "use_qk_norm": True}
    | {"max_position_embeddings": 131072},
    "mamba2": {"hidden_size": 4096, "num_hidden_layers": 64, "vocab_size": 32768, "num_heads": 128, "head_dim": 64}
    | {"state_size": 128, "n_groups": 8, "conv_kernel": 4, "chunk_size": 256, "use_conv_bias": True},
    "mistral": LLAMA_SIZES
    | {"intermediate_size": 14336, "num_key_value_heads": 8, "sliding_window": 4096}
    | {"max_position_embeddings": 131072},
    "mixtral": LLAMA_SIZES
    | {"intermediate_size": 14336, "num_key_value_heads": 8, "num_local_experts": 8}
    | {"num_experts_per_tok": 2, "max_position_embeddings": 131072},
    "phi3": {"hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 8192}
    | {"vocab_size": 32064, "max_position_embeddings": 4096},
    "qwen2": QWEN_SIZES,
    "qwen3": QWEN_SIZES | {"head_dim": 128},
    "qwen3_vl": QWEN_SIZES | {"head_dim": 128, "max_position_embeddings": 128000},
}


def defaults(family: str, keys: Json, *, nested: bool) -> Json:
    """`keys`, and the family's defaults for those that are left out. A null is no default, and a file of its own that
    lacks one of CORE is damaged: transformers writes those.
    """
    known = DEFAULTS.get(family, {})
    return {key: value for key, value in known.items() if nested or key not in CORE} | keys


class Config:
    """The keys of one config.json. A missing or senseless one is an InputError that names it and the family."""

    def __init__(self, values: Json, family: str):
        self.values, self.family = values, family

    def get(self, key: str, default: object = None) -> object:
        """The value, or `default` if the key is missing or null."""
        value = self.values.get(key)
        return default if value is None else value

    def _named(self, key: str) -> str:
        return f"key {key!r} (model_type {self.family})"

    def size(self, key: str, default: int | None = None, *, low: int = 1, high: int = MAX_SIZE) -> int:
        """A whole number; required if there is no default."""
        value = self.get(key, default)
        if value is None:
            raise InputError(f"{self._named(key)} is missing")
        return check_size(self._named(key), value, low=low if default is None else min(low, default), high=high)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise InputError(f"{self._named(key)} must be true or false, not {shown(value)}")
        return value

    def fraction(self, key: str, default: float) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise InputError(f"{self._named(key)} must be a number from 0 to 1, not {shown(value)}")
        return value

    def inner(self, key: str) -> "Config":
        """The object under `key`, required."""
        value = self.get(key)
        if not isinstance(value, dict):
            problem = "is missing" if value is None else f"must be an object, not {shown(value)}"
            raise InputError(f"{self._named(key)} {problem}")
        return Config(value, self.family)

    def per_layer(self, key: str, layers: int | None = None) -> list[object]:
        """A list with an entry for each layer, required; entries beyond (MTP layers) are cut off."""
        value = self.get(key)
        if not isinstance(value, list):
            problem = "is missing" if value is None else f"must be a list, not {shown(value)}"
            raise InputError(f"{self._named(key)} {problem}")
        if len(value) < (layers or 1):
            raise InputError(f"{self._named(key)} has {len(value)} entries for {layers or 1} layers")
        return value[:layers]

    def letters(self, key: str, table: Mapping[Any, str], layers: int | None = None) -> str:
        """per_layer, each entry as its letter in `table`."""
        entries = self.per_layer(key, layers)
        for entry in entries:
            if not isinstance(entry, str | int) or entry not in table:
                known = ", ".join(map(str, table))
                raise InputError(f"{self._named(key)} has the entry {shown(entry)}; known: {known}")
        return "".join(table[entry] for entry in entries)

    def refuse(self, reason: str) -> NoReturn:
        raise InputError(f"model_type {self.family}: {reason}")


def compact(letters: str) -> str:
    """The shortest pattern that `model.expand` repeats to `letters`.
    >>> compact("SSFSSFS"), compact("DDDEEEE")
    ('S2F', 'D3E4')
    """
    period = next(n for n in range(1, len(letters) + 1) if letters[n:] == letters[:-n] or n == len(letters))
    runs: list[tuple[str, int]] = []
    for letter in letters[:period]:
        many = runs.pop()[1] if runs and runs[-1][0] == letter else 0
        runs.append((letter, many + 1))
    return "".join(letter + (str(many) if many > 1 else "") for letter, many in runs)


def renamed(c: Config, names: dict[str, str]) -> Config:
    """The config with its keys under today's names too: {today's: the file's}."""
    known = {new: c.values[old] for new, old in names.items() if c.get(old) is not None}
    return Config(known | c.values, c.family)
