"""From a Hugging Face config.json to a `Model`: the catalogue, files, and what each family's keys mean.

A family is a function from `Config` to the fields of `Model` that differ from those of `decoder`. The language model
only: no vision or audio tower, no multi-token-prediction layers. FAMILIES names all that have an explicit graph; any
other model is traced from its real modelling code (traced.py), which needs requirements-hf.txt.
"""

import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from inputs import MAX_SIZE, InputError, check_size, nearest, pick, shown
from model import MAX_LAYERS, Model
from precision import Precision, Unread, formats_or_why

CATALOGUE = Path(__file__).resolve().parent / "catalog" / "models"
MAX_FILE_BYTES = 2**24
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
GLM_SIZES = {"hidden_size": 4096, "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2}
GLM_SIZES |= {"head_dim": 128, "intermediate_size": 13696, "vocab_size": 151552, "max_position_embeddings": 131072}
GLM_SIZES |= {"attention_bias": True, "partial_rotary_factor": 0.5}
CORE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")  # see `defaults`
DEFAULTS: dict[str, dict] = {
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


def defaults(family: str, keys: dict, *, nested: bool) -> dict:
    """`keys`, and the family's defaults for those that are left out. A null is no default, and a file of its own that
    lacks one of CORE is damaged: transformers writes those.
    """
    known = DEFAULTS.get(family, {})
    return {key: value for key, value in known.items() if nested or key not in CORE} | keys


class Config:
    """The keys of one config.json. A missing or senseless one is an InputError that names it and the family."""

    def __init__(self, values: dict, family: str):
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

    def per_layer(self, key: str, layers: int | None = None) -> list:
        """A list with an entry for each layer, required; entries beyond (MTP layers) are cut off."""
        value = self.get(key)
        if not isinstance(value, list):
            problem = "is missing" if value is None else f"must be a list, not {shown(value)}"
            raise InputError(f"{self._named(key)} {problem}")
        if len(value) < (layers or 1):
            raise InputError(f"{self._named(key)} has {len(value)} entries for {layers or 1} layers")
        return value[:layers]

    def letters(self, key: str, table: dict, layers: int | None = None) -> str:
        """per_layer, each entry as its letter in `table`."""
        entries = self.per_layer(key, layers)
        for entry in entries:
            if not isinstance(entry, str | int) or entry not in table:
                known = ", ".join(map(str, table))
                raise InputError(f"{self._named(key)} has the entry {shown(entry)}; known: {known}")
        return "".join(table[entry] for entry in entries)

    def refuse(self, reason: str):
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


# What families share --------------------------------------------------------------------------------------


def decoder(c: Config, **changes) -> dict:
    """Fields that every family names alike: sizes, tied embeddings, RoPE on part of a head."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    layers = changes.get("layers") or c.size("num_hidden_layers", high=MAX_LAYERS)
    head_dim = changes.get("head_dim") or c.size("head_dim", 0)
    if not head_dim:
        head_dim, rest = divmod(hidden, heads)
        if rest:
            sizes = f"hidden_size ({hidden}) must be a multiple of num_attention_heads ({heads})"
            c.refuse(f"{sizes}, or head_dim given")
    rope = c.get("rope_parameters")
    factor = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    factor = c.fraction("partial_rotary_factor", 1.0 if factor is None else factor)
    turned = c.size("rotary_dim", int(head_dim * factor))
    # older names of the length; 2,048: transformers' default for Llama
    positions = c.size("model_max_length", c.size("seq_length", c.size("max_seq_len", 2048)))
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": changes.get("kv_heads") or c.size("num_key_value_heads", heads),
        "head_dim": head_dim,
        "intermediate": 0,
        "vocab": c.size("vocab_size"),
        "max_positions": c.size("max_position_embeddings", positions),
        "tied_embeddings": c.flag("tie_word_embeddings", c.family.startswith(("gemma", "cohere"))),
        "rotary_dim": 0 if turned == head_dim else max(2, turned - turned % 2),
    } | changes


def windows(c: Config, layers: int, *, use: bool = True) -> dict:
    """Which layers slide: by layer_types if there are any, else all, if there is a window and it is used."""
    window = c.get("sliding_window")
    use = use if c.get("use_sliding_window") is None else c.flag("use_sliding_window")
    if c.get("layer_types") is not None:
        mixers = c.letters("layer_types", LETTERS, layers)
    elif window is None or not use:
        return {}
    else:
        first = min(c.size("max_window_layers", 0, low=0), layers)
        mixers = "F" * first + "S" * (layers - first)
    return {"mixers": compact(mixers), "sliding_window": c.size("sliding_window") if "S" in mixers else 0}


def dense(c: Config, **changes) -> dict:
    """A dense decoder of the Llama kind."""
    base = decoder(c)
    return base | {"intermediate": c.size("intermediate_size")} | windows(c, base["layers"]) | changes


def mixture(c: Config, experts: str, width: str, *, shared: int = 0, **changes) -> dict:
    """The fields of a mixture whose number of experts and their width have these keys."""
    fields = {
        "mlps": "E",
        "experts": c.size(experts),
        "experts_per_token": c.size("num_experts_per_tok"),
        "expert_intermediate": c.size(width),
        "shared_expert_intermediate": shared,
    }
    if c.get("n_group") is not None:
        groups = c.size("n_group", high=fields["experts"])
        if fields["experts"] % groups:
            c.refuse(f"n_group ({groups}) must divide {experts} ({fields['experts']})")
        if c.get("topk_group") is not None:
            c.size("topk_group", high=groups)
    return fields | changes


def leading_dense(c: Config, layers: int) -> dict:
    """first_k_dense_replace dense layers, then a mixture in every moe_layer_freq-th."""
    first, every = c.size("first_k_dense_replace", 0, low=0, high=layers), c.size("moe_layer_freq", 1)
    if every == 1:
        return {"dense_layers": first, "intermediate": c.size("intermediate_size", 0) if first else 0}
    letters = "".join("E" if i >= first and i % every == 0 else "D" for i in range(layers))
    return {"mlps": compact(letters), "intermediate": c.size("intermediate_size")}


def by_list(c: Config, key: str, layers: int) -> dict:
    """Mixture where the list says 1, dense where it says 0."""
    letters = c.letters(key, {0: "D", 1: "E"}, layers)
    first = len(letters) - len(letters.lstrip("D"))
    return {"mlps": "E", "dense_layers": first} if "D" not in letters[first:] else {"mlps": compact(letters)}


# Families -------------------------------------------------------------------------------------------------


def llama(c: Config) -> dict:
    bias = c.flag("attention_bias")
    return dense(c, qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), mixers="F", sliding_window=0)


def mistral(c: Config) -> dict:
    return dense(c)


def qwen2(c: Config) -> dict:
    base = decoder(c)
    slide = windows(c, base["layers"], use=False)
    return base | {"intermediate": c.size("intermediate_size"), "qkv_bias": True} | slide


def qwen3(c: Config) -> dict:
    bias = c.flag("attention_bias")
    return qwen2(c) | {"qkv_bias": bias, "o_bias": bias, "qk_norm": "head"}


def mimo(c: Config) -> dict:
    return qwen2(c) | {"qkv_bias": c.flag("attention_bias")}


def glm(c: Config) -> dict:
    return dense(c, qkv_bias=c.flag("attention_bias"))


def glm4(c: Config) -> dict:
    return dense(c, qkv_bias=c.flag("attention_bias"), sandwich_norms=True)


def gemma(c: Config) -> dict:
    return dense(c, mixers="F", sliding_window=0)


def gemma2(c: Config) -> dict:
    alternating = {"mixers": "SF", "sliding_window": c.size("sliding_window")}
    return dense(c, sandwich_norms=True, **({} if c.get("layer_types") else alternating))


def gemma3(c: Config) -> dict:
    every = c.size("sliding_window_pattern", 6, high=MAX_LAYERS)
    one_full = {"mixers": compact("S" * (every - 1) + "F"), "sliding_window": c.size("sliding_window")}
    return dense(c, sandwich_norms=True, qk_norm="head", **({} if c.get("layer_types") else one_full))


def gemma4(c: Config) -> dict:
    for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
        if c.size(key, 0, low=0):
            c.refuse(f"{key} is not modelled")
    kv_heads = c.size("num_key_value_heads")
    full_kv = c.size("num_global_key_value_heads", kv_heads)
    base = decoder(c, head_dim=c.size("global_head_dim"), kv_heads=full_kv)
    fields = {
        "intermediate": c.size("intermediate_size"),
        "sliding_kv_heads": kv_heads,
        "sliding_head_dim": c.size("head_dim"),
        "keys_are_values": c.flag("attention_k_eq_v"),
        "qk_norm": "qkv",
        "sandwich_norms": True,
        "layer_scalar": True,
    }
    fields |= windows(c, base["layers"])
    if c.flag("enable_moe_block"):
        chosen = {"experts_per_token": c.size("top_k_experts")}
        experts = {"num_experts_per_tok": chosen["experts_per_token"]} | c.values
        fields |= mixture(Config(experts, c.family), "num_experts", "moe_intermediate_size", mlps="B")
    return base | fields


def cohere(c: Config) -> dict:
    bias, norm = c.flag("attention_bias"), "heads" if c.flag("use_qk_norm") else "none"
    return dense(c, parallel_block=True, qkv_bias=bias, o_bias=bias, qk_norm=norm)


def exaone4(c: Config) -> dict:
    """Norms after each part, as many as before them elsewhere; where some layers slide, the others have no RoPE."""
    fields = dense(c, qk_norm="head")
    if c.get("layer_types") is None and c.get("sliding_window") is not None:
        pattern = c.get("sliding_window_pattern", 4)  # "LLLG", or 4: every fourth is full
        if isinstance(pattern, str) and pattern and not set(pattern) - set("LG"):
            mixers = pattern.replace("L", "S").replace("G", "F")
        else:
            mixers = "S" * (c.size("sliding_window_pattern", 4, high=MAX_LAYERS) - 1) + "F"
        letters = (mixers * fields["layers"])[: fields["layers"] - 1] + "F"  # the last one is full
        fields |= {"mixers": compact(letters), "sliding_window": c.size("sliding_window")}
    return fields | {"full_rope": "S" not in fields["mixers"]} if "mixers" in fields else fields


def internlm2(c: Config) -> dict:
    bias = c.flag("bias")
    return dense(c, qkv_bias=bias, o_bias=bias)


def renamed(c: Config, names: dict[str, str]) -> Config:
    """The config with its keys under today's names too: {today's: the file's}."""
    known = {new: c.values[old] for new, old in names.items() if c.get(old) is not None}
    return Config(known | c.values, c.family)


def qwen(c: Config) -> dict:
    """The first Qwen: intermediate_size counts gate and up together."""
    width, rest = divmod(c.size("intermediate_size"), 2)
    if rest:
        c.refuse("intermediate_size must be even: half of it is the MLP's width")
    return decoder(renamed(c, {"head_dim": "kv_channels"})) | {"intermediate": width, "qkv_bias": True}


def chatglm(c: Config) -> dict:
    names = {"num_hidden_layers": "num_layers", "intermediate_size": "ffn_hidden_size", "head_dim": "kv_channels"}
    c = renamed(c, names | {"vocab_size": "padded_vocab_size", "max_position_embeddings": "seq_length"})
    groups = c.size("multi_query_group_num") if c.flag("multi_query_attention") else c.size("num_attention_heads")
    c = Config({"partial_rotary_factor": 0.5} | c.values, c.family)  # half of each head turns
    bias = c.flag("add_bias_linear")
    biases = {"qkv_bias": bias or c.flag("add_qkv_bias"), "o_bias": bias, "mlp_bias": bias}
    return decoder(c, kv_heads=groups) | {"intermediate": c.size("intermediate_size")} | biases


def dbrx(c: Config) -> dict:
    attention, ffn = c.inner("attn_config"), c.inner("ffn_config")
    names = {"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    c = renamed(c, names | {"max_position_embeddings": "max_seq_len"})
    chosen = Config({"num_experts_per_tok": ffn.get("moe_top_k")} | ffn.values, c.family)
    experts = mixture(chosen, "moe_num_experts", "ffn_hidden_size")
    return decoder(c, kv_heads=attention.size("kv_n_heads")) | experts


def mamba2(c: Config) -> dict:
    """Mamba-2 alone, without MLPs."""
    if c.flag("use_bias"):
        c.refuse("use_bias is not modelled")
    inner, heads, width = c.size("expand", 2) * c.size("hidden_size"), c.size("num_heads"), c.size("head_dim")
    if heads * width != inner:
        c.refuse(f"num_heads ({heads}) x head_dim ({width}) must be expand x hidden_size ({inner})")
    unlimited = {"max_positions": MAX_SIZE}  # nothing in it is tied to a length
    base = {"layers": c.size("num_hidden_layers", high=MAX_LAYERS), "hidden": c.size("hidden_size"), "intermediate": 0}
    base |= {"heads": heads, "kv_heads": heads, "head_dim": width, "vocab": c.size("vocab_size"), "mlps": "-"}
    return (
        base
        | {
            "mixers": "M",
            "tied_embeddings": c.flag("tie_word_embeddings"),
            "linear_key_heads": c.size("n_groups"),
            "linear_value_heads": heads,
            "linear_key_dim": c.size("state_size"),
            "linear_value_dim": width,
            "linear_conv_width": c.size("conv_kernel"),
            "linear_chunk": c.size("chunk_size"),
            "conv_bias": c.flag("use_conv_bias", True),
        }
        | (
            unlimited
            if c.get("max_position_embeddings") is None
            else {"max_positions": c.size("max_position_embeddings")}
        )
    )


def mixtral(c: Config) -> dict:
    base = decoder(c)
    return base | windows(c, base["layers"]) | mixture(c, "num_local_experts", "intermediate_size")


def qwen_mixture(c: Config, **changes) -> dict:
    """The MLPs of Qwen's mixtures."""
    layers, every = c.size("num_hidden_layers", high=MAX_LAYERS), c.size("decoder_sparse_step", 1)
    only = c.get("mlp_only_layers", [])
    if not isinstance(only, list):
        c.refuse(f"mlp_only_layers must be a list, not {shown(only)}")
    beyond = [i for i in only if i not in range(layers)]
    if beyond:
        c.refuse(f"mlp_only_layers has {shown(beyond[0])}, but the layers are 0 to {layers - 1}")
    letters = "".join("D" if i in only or (i + 1) % every else "E" for i in range(layers))
    shared = c.size("shared_expert_intermediate_size", 0, low=0)
    fields = mixture(c, "num_experts", "moe_intermediate_size", shared=shared, mlps=compact(letters))
    width = c.size("intermediate_size") if "D" in letters else 0
    return fields | {"intermediate": width, "shared_expert_gate": shared > 0} | changes


def qwen2_moe(c: Config) -> dict:
    return decoder(c, qkv_bias=True) | qwen_mixture(c)


def qwen3_moe(c: Config) -> dict:
    bias = c.flag("attention_bias")
    return decoder(c, qkv_bias=bias, o_bias=bias, qk_norm="head") | qwen_mixture(c)


def delta_net(c: Config) -> dict:
    """Three gated delta nets to one gated GQA, as in Qwen3-Next and Qwen3.5."""
    base, every = decoder(c, qk_norm="head"), c.size("full_attention_interval", 4, high=MAX_LAYERS)
    mixers = compact("G" * (every - 1) + "F")
    if c.get("layer_types") is not None:
        mixers = compact(c.letters("layer_types", LETTERS, base["layers"]))
    return base | {
        "mixers": mixers,
        "attention_gate_dim": base["head_dim"] if c.flag("attn_output_gate", True) else 0,
        "linear_key_heads": c.size("linear_num_key_heads"),
        "linear_value_heads": c.size("linear_num_value_heads"),
        "linear_key_dim": c.size("linear_key_head_dim"),
        "linear_value_dim": c.size("linear_value_head_dim"),
        "linear_conv_width": c.size("linear_conv_kernel_dim"),
    }


def qwen3_5(c: Config) -> dict:
    return delta_net(c) | {"intermediate": c.size("intermediate_size")}


def qwen3_5_moe(c: Config) -> dict:
    return delta_net(c) | qwen_mixture(c)


def llama4(c: Config) -> dict:
    base, width = decoder(c), c.size("intermediate_size")
    every = c.size("interleave_moe_layer_step", 1, high=MAX_LAYERS)
    mixers = "C3F"
    if c.get("no_rope_layers"):  # an empty list is the default: every fourth layer without RoPE
        mixers = compact(c.letters("no_rope_layers", {1: "C", 0: "F"}, base["layers"]))
    fields = mixture(c, "num_local_experts", "intermediate_size", shared=width, mlps=compact("D" * (every - 1) + "E"))
    chunk, wide = c.size("attention_chunk_size"), c.size("intermediate_size_mlp") if every > 1 else 0
    norm = "unweighted" if c.flag("use_qk_norm") else "none"
    chunks = {"mixers": mixers, "attention_chunk": chunk, "full_rope": False}
    return base | fields | chunks | {"intermediate": wide, "qk_norm": norm}


def gpt_oss(c: Config) -> dict:
    base, bias = decoder(c), c.flag("attention_bias", True)
    fields = mixture(c, "num_local_experts", "intermediate_size", expert_bias=True, router_bias=True)
    fields |= {"qkv_bias": bias, "o_bias": bias, "sink_layers": "SF", "sliding_window": c.size("sliding_window")}
    return base | fields | {"mixers": "SF"} | windows(c, base["layers"])


def glm4_moe(c: Config) -> dict:
    base = decoder(c, qkv_bias=c.flag("attention_bias"), qk_norm="head" if c.flag("use_qk_norm") else "none")
    shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    fields = mixture(c, "n_routed_experts", "moe_intermediate_size", shared=shared, router_bias=True)
    return base | fields | leading_dense(c, base["layers"])


def minimax_m2(c: Config) -> dict:
    norm = {"per_layer": "projection", "per_head": "head"}[
        pick("qk_norm_type", c.get("qk_norm_type", "per_layer"), ("per_layer", "per_head"))
    ]
    shared = c.size("shared_intermediate_size", 0, low=0)
    bias = c.flag("use_routing_bias", True)
    fields = mixture(c, "num_local_experts", "intermediate_size", shared=shared, router_bias=bias)
    return decoder(c, qk_norm=norm if c.flag("use_qk_norm") else "none") | fields


def minimax_m3(c: Config) -> dict:
    fields, sparse = minimax_m2(c), c.inner("sparse_attention_config")
    layers, topk = fields["layers"], sparse.size("sparse_topk_blocks") * sparse.size("sparse_block_size")
    return fields | {
        **by_list(c, "moe_layer_freq", layers),
        "intermediate": c.size("dense_intermediate_size"),
        "mixers": compact(sparse.letters("sparse_attention_freq", {0: "F", 1: "I"}, layers)),
        "index_heads": sparse.size("sparse_num_index_heads"),
        "index_head_dim": sparse.size("sparse_index_dim"),
        "index_topk": topk,
    }


def mimo_v2_flash(c: Config) -> dict:
    base = decoder(c, v_head_dim=c.size("v_head_dim"))
    for key in ("head_dim", "v_head_dim"):
        if c.size(f"swa_{key}", c.size(key)) != c.size(key):
            c.refuse(f"swa_{key} other than {key} is not modelled")
    fields = mixture(c, "n_routed_experts", "moe_intermediate_size", router_bias=True)
    sinks = (("S", "add_swa_attention_sink_bias"), ("F", "add_full_attention_sink_bias"))
    return (
        base
        | fields
        | by_list(c, "moe_layer_freq", base["layers"])
        | {
            "intermediate": c.size("intermediate_size"),
            "mixers": compact(c.letters("hybrid_layer_pattern", {0: "F", 1: "S"}, base["layers"])),
            "sliding_window": c.size("sliding_window"),
            "sliding_heads": c.size("swa_num_attention_heads"),
            "sliding_kv_heads": c.size("swa_num_key_value_heads"),
            "sink_layers": "".join(letter for letter, key in sinks if c.flag(key)),
        }
    )


def step3p7(c: Config) -> dict:
    base = decoder(c, qk_norm="head", attention_gate_dim=1)
    fields = mixture(c, "num_experts", "moe_intermediate_size", shared=c.size("share_expert_dim"))
    fields |= {"router_bias": c.flag("use_moe_router_bias")} | windows(c, base["layers"])
    if c.get("attention_other_setting") is not None:  # the published file has it: sliding layers have more heads
        other = c.inner("attention_other_setting")
        fields["sliding_heads"] = other.size("num_attention_heads")
        fields["sliding_kv_heads"] = other.size("num_attention_groups")
    return base | fields | leading_dense(c, base["layers"])


def latent(c: Config, **changes) -> dict:
    """The attention of DeepSeek-V2 and its heirs: MLA."""
    nope, turned = c.size("qk_nope_head_dim"), c.size("qk_rope_head_dim")
    fields = {
        "rotary_dim": 0,
        "q_lora_rank": c.size("q_lora_rank", 0),
        "kv_lora_rank": c.size("kv_lora_rank"),
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": turned,
        "v_head_dim": c.size("v_head_dim"),
    }
    return decoder(c, head_dim=nope + turned, kv_heads=c.size("num_attention_heads")) | fields | changes


def deepseek(c: Config) -> dict:
    base = latent(c)
    shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    bias = c.family != "deepseek_v2"
    fields = mixture(c, "n_routed_experts", "moe_intermediate_size", shared=shared, router_bias=bias)
    return base | fields | leading_dense(c, base["layers"])


def deepseek_1(c: Config) -> dict:
    """DeepSeek-MoE: the mixture, without latent attention."""
    base = decoder(c)
    shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    return (
        base | mixture(c, "n_routed_experts", "moe_intermediate_size", shared=shared) | leading_dense(c, base["layers"])
    )


def bailing_moe(c: Config) -> dict:
    """Ling: the second generation has norms of Q and K, and a correction of the router (BailingMoeV2)."""
    second = c.flag("use_qk_norm")
    bias = c.flag("use_qkv_bias")
    base = decoder(c, qk_norm="head" if second else "none", qkv_bias=bias, o_bias=c.flag("use_bias"))
    shared = c.size("num_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    corrected = c.flag("moe_router_enable_expert_bias", second)
    fields = mixture(c, "num_experts", "moe_intermediate_size", shared=shared, router_bias=corrected)
    return base | fields | leading_dense(c, base["layers"])


def deepseek_sparse(c: Config) -> dict:
    fields = deepseek(c)
    mixers = "I"
    if c.get("indexer_types") is not None:
        mixers = compact(c.letters("indexer_types", {"full": "I", "shared": "T"}, fields["layers"]))
    names = {"index_heads": "index_n_heads", "index_head_dim": "index_head_dim", "index_topk": "index_topk"}
    return fields | {"mixers": mixers} | {name: c.size(key) for name, key in names.items()}


def deepseek_v4(c: Config) -> dict:
    base = decoder(c, kv_heads=1, rotary_dim=c.size("qk_rope_head_dim"))
    layers, hashed = base["layers"], c.size("num_hash_layers", 0, low=0)
    shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    fields = mixture(c, "n_routed_experts", "moe_intermediate_size", shared=shared, router_bias=True)
    hashed = min(hashed, layers)
    return (
        base
        | fields
        | {
            "mlps": compact("H" * hashed + "E" * (layers - hashed)),
            "mixers": compact(c.letters("compress_ratios", {0: "S", 4: "A", 128: "H"}, layers)),
            "compress_ratio": 4,
            "heavy_ratio": 128,
            "sink_layers": "SAH",
            "sliding_window": c.size("sliding_window"),
            "q_lora_rank": c.size("q_lora_rank"),
            "o_groups": c.size("o_groups"),
            "o_lora_rank": c.size("o_lora_rank"),
            "index_heads": c.size("index_n_heads"),
            "index_head_dim": c.size("index_head_dim"),
            "index_topk": c.size("index_topk"),
            "residual_streams": c.size("hc_mult"),
        }
    )


def nemotron_h(c: Config) -> dict:
    kinds = {"M": "M-", "*": "F-", "E": "-E", "-": "-D"}
    if isinstance(c.get("hybrid_override_pattern"), str):
        pattern = c.get("hybrid_override_pattern")
        if not pattern or set(pattern) - set(kinds):
            c.refuse(f"hybrid_override_pattern must be of the letters {' '.join(kinds)}, not {shown(pattern)}")
    else:
        pattern = c.letters("layers_block_type", {"mamba": "M", "attention": "*", "moe": "E", "mlp": "-"})
    if len(pattern) > MAX_LAYERS:
        c.refuse(f"{len(pattern)} layers are more than {MAX_LAYERS}")
    both = [kinds[letter] for letter in pattern]
    head_dim = c.size("head_dim", c.size("attention_head_dim", 0)) or None
    base = decoder(c, layers=len(pattern), head_dim=head_dim) if head_dim else decoder(c, layers=len(pattern))
    fields = {
        "mixers": compact("".join(pair[0] for pair in both)),
        "full_rope": False,
        "gated_mlp": False,
        "rotary_dim": 0,
        "linear_key_heads": c.size("n_groups"),
        "linear_value_heads": c.size("mamba_num_heads"),
        "linear_key_dim": c.size("ssm_state_size"),
        "linear_value_dim": c.size("mamba_head_dim"),
        "linear_conv_width": c.size("conv_kernel"),
        "linear_chunk": c.size("chunk_size", 128),
        "conv_bias": c.flag("use_conv_bias"),
        "intermediate": c.size("intermediate_size") if "-" in pattern else 0,
    }
    if "E" in pattern:
        shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_shared_expert_intermediate_size", 0, low=0)
        fields |= mixture(c, "n_routed_experts", "moe_intermediate_size", shared=shared, router_bias=True)
        fields["moe_latent"] = c.size("moe_latent_size", 0)
    return base | fields | {"mlps": compact("".join(pair[1] for pair in both))}


def nemotron_nas(c: Config) -> dict:
    """A Llama whose blocks were searched: some without attention, MLPs of several widths."""
    layers = c.size("num_hidden_layers", high=MAX_LAYERS)
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    mixers, widths, groups = "", [], set()
    for block in c.per_layer("block_configs", layers):
        if not isinstance(block, dict):
            c.refuse(f"block_configs has {shown(block)}, and each of its entries must be an object")
        attention, ffn = (Config(block, c.family).inner(part) for part in ("attention", "ffn"))
        if attention.flag("replace_with_linear") or ffn.flag("replace_with_linear") or attention.get("window_length"):
            c.refuse("a block with replace_with_linear or window_length is not modelled")
        mixers += "-" if attention.flag("no_op") else "F"
        if mixers[-1] == "F":
            groups.add(attention.size("n_heads_in_group"))
        mult = 0 if ffn.flag("no_op") else ffn.get("ffn_mult")
        if isinstance(mult, bool) or not isinstance(mult, int | float) or not 0 <= mult < 1e3:
            c.refuse(f"ffn_mult must be a number, not {shown(mult)}")
        widths.append(-(-int(2 * mult * hidden / 3) // 256) * 256)  # as DeciLM rounds it
    if len(groups) != 1:
        c.refuse(f"blocks with different n_heads_in_group ({sorted(groups)}) are not modelled")
    distinct = sorted({width for width in widths if width}, key=widths.count, reverse=True)
    if len(distinct) > 13:
        c.refuse(f"{len(distinct)} different widths of MLPs are not modelled; 13 are")
    letter = {0: "-"} | dict(zip(distinct, "Dabcdefghijkl", strict=False))
    return decoder(c, kv_heads=max(1, heads // groups.pop())) | {
        "mixers": compact(mixers),
        "mlps": compact("".join(letter[width] for width in widths)),
        "intermediate": distinct[0] if distinct else 0,
        "other_intermediates": ",".join(map(str, distinct[1:])),
    }


def kimi_k3(c: Config) -> dict:
    linear, heads = c.inner("linear_attn_config"), c.size("num_attention_heads")
    full = linear.per_layer("full_attn_layers")
    gate = c.size("v_head_dim") if c.flag("mla_use_output_gate") else 0
    base = latent(c, attention_gate_dim=gate, full_rope=not c.flag("mla_use_nope"))
    shared = c.size("num_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    chosen = {"num_experts_per_tok": c.size("num_experts_per_token")} | c.values
    experts = mixture(Config(chosen, c.family), "num_experts", "moe_intermediate_size", shared=shared, router_bias=True)
    heads, head_dim = linear.size("num_heads"), linear.size("head_dim")
    return (
        base
        | experts
        | leading_dense(c, base["layers"])
        | {
            "mixers": compact("".join("F" if i + 1 in full else "K" for i in range(base["layers"]))),
            "moe_latent": c.size("routed_expert_hidden_size", 0),
            "moe_latent_norm": c.flag("latent_moe_use_norm"),
            "linear_key_heads": heads,
            "linear_value_heads": heads,
            "linear_key_dim": head_dim,
            "linear_value_dim": head_dim,
            "linear_conv_width": linear.size("short_conv_kernel_size"),
            "linear_gate_low_rank": not linear.flag("use_full_rank_gate"),
        }
    )


FAMILIES: dict[str, Callable[[Config], dict]] = {
    "bailing_moe": bailing_moe,
    "chatglm": chatglm,
    "cohere": cohere,
    "dbrx": dbrx,
    "deepseek": deepseek_1,
    "deepseek_ref": deepseek_v4,
    "deepseek_v2": deepseek,
    "deepseek_v3": deepseek,
    "deepseek_v32": deepseek_sparse,
    "deepseek_v4": deepseek_v4,
    "exaone4": exaone4,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3_text": gemma3,
    "gemma4": gemma4,
    "glm": glm,
    "glm4": glm4,
    "glm4_moe": glm4_moe,
    "glm_moe_dsa": deepseek_sparse,
    "gpt_oss": gpt_oss,
    "granite": llama,
    "internlm2": internlm2,
    "kimi_k2": deepseek,
    "kimi_k25": deepseek,
    "kimi_k3": kimi_k3,
    "kimi_linear": kimi_k3,
    "llama": llama,
    "llama4": llama4,
    "mamba2": mamba2,
    "mimo": mimo,
    "mimo_v2_flash": mimo_v2_flash,
    "minimax_m2": minimax_m2,
    "minimax_m3": minimax_m3,
    "minimax_m3_vl": minimax_m3,
    "mistral": mistral,
    "mixtral": mixtral,
    "nemotron-nas": nemotron_nas,
    "nemotron_h": nemotron_h,
    "phi3": mistral,
    "qwen": qwen,
    "qwen2": qwen2,
    "qwen2_moe": qwen2_moe,
    "qwen3": qwen3,
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": qwen3_5_moe,
    "qwen3_moe": qwen3_moe,
    "qwen3_next": qwen3_5_moe,
    "qwen3_vl": qwen3,
    "qwen3_vl_moe": qwen3_moe,
    "step3p7": step3p7,
}


# Files and names ------------------------------------------------------------------------------------------


def language_model(values: object) -> tuple[str, dict]:
    """(model_type, keys) of the language model in a parsed config.json, of one that sees or hears too. Raises
    InputError where that is no model's config.
    """
    if not isinstance(values, dict):
        raise InputError(f"a config.json is one object, not {shown(values)}")
    family, text = values.get("model_type"), values.get("text_config")
    if isinstance(text, dict):
        outer = {key: values[key] for key in ("tie_word_embeddings",) if key in values}
        if not isinstance(family, str) or family not in FAMILIES:
            family = text.get("model_type")
        values = outer | text
    if family is None:
        raise InputError("key 'model_type' is missing: not a Hugging Face config.json")
    if not isinstance(family, str) or not family.isprintable():
        raise InputError(f"key 'model_type' must be a name, not {shown(family)}")
    return family if family in FAMILIES else family.removesuffix("_text"), values


HEADLESS = re.compile(
    r"(?<!LMHead)(?<!DoubleHeads)(?<!ForReward)Model$|Encoder$|For(Sequence|Token|Image|Audio)Classification$"
)
NO_DECODERS = re.compile(
    r"For(MaskedLM|QuestionAnswering|MultipleChoice|PreTraining|NextSentencePrediction|Reward(Model)?)$"
)
OWN_HEAD = ("chatglm",)  # whose class of the bare name, ChatGLMModel, has the LM head of its published files


def refuse_other_kinds(family: str, values: dict, keys: dict) -> None:
    """Raises InputError for what is no decoder that generates tokens, or has parts that neither a graph nor a trace
    can show, by the keys that say so: at once, before anything is built.
    """
    if keys.get("is_encoder_decoder") is True or values.get("is_encoder_decoder") is True:
        raise InputError(f"model_type {family} is an encoder-decoder: only decoders are estimated")
    if "decoder_layers" in keys and "encoder_layers" in keys:
        raise InputError(f"model_type {family} has encoder_layers: only decoders are estimated")
    named = values.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if names and family not in OWN_HEAD and all(HEADLESS.search(name) or NO_DECODERS.search(name) for name in names):
        what = "an encoder or an embedding model, without an LM head"
        raise InputError(f"architectures has {shown(names[0])}: {what}, generates no tokens")
    if keys.get("cross_attention_layers"):
        raise InputError(f"model_type {family}: cross_attention_layers (to an image's features) are not modelled")
    first_mamba = "mamba_dt_rank" in keys or ("time_step_rank" in keys and "num_heads" not in keys)
    if first_mamba and family not in FAMILIES:
        raise InputError(f"model_type {family} has layers of the first Mamba, which are not modelled; Mamba-2's are")


TOWERS = ("vision_config", "audio_config", "vision_tower_config", "speech_config")


def left_out(values: dict) -> str:
    """What of a published model its language model leaves out, as a sentence; "" if nothing."""
    towers = [
        name.removesuffix("_config").removesuffix("_tower") for name in TOWERS if isinstance(values.get(name), dict)
    ]
    if not towers:
        return ""
    sizes = [_tower_parameters(values[name]) for name in TOWERS if isinstance(values.get(name), dict)]
    about = f" (about {sum(sizes) / 1e9:.2f} B parameters)" if all(sizes) else ""
    return f"the language model alone: the {' and '.join(towers)} tower{about} and its projector are left out"


def _tower_parameters(tower: dict) -> int:
    """Of a tower's blocks, from its own sizes: attention's four matrices and the MLP's two; 0 if it doesn't say."""

    def first(*names: str) -> int:
        sizes = [tower.get(name) for name in names]
        return next((n for n in sizes if type(n) is int and 0 < n <= MAX_SIZE), 0)

    hidden, layers = first("hidden_size", "embed_dim", "d_model"), first("num_hidden_layers", "depth", "encoder_layers")
    return layers * (4 * hidden * hidden + 2 * hidden * first("intermediate_size", "encoder_ffn_dim"))


def model_from_config(values: object, *, name: str, title: str, source: str = "") -> Model:
    """The model that a parsed config.json describes, if its family has an explicit graph. Raises InputError."""
    family, keys = language_model(values)
    family = pick("model_type", family, FAMILIES)
    refuse_other_kinds(family, values, keys)
    keys = defaults(family, keys, nested=isinstance(values.get("text_config"), dict))
    fields = FAMILIES[family](Config(keys, family)) | {"note": left_out(values)}
    formats = checkpoint_formats(values)
    return Model(name=name, title=title, family=family, source=source, quantization=formats, **fields)


def checkpoint_formats(values: dict) -> Precision | Unread | None:
    """What the quantization_config of a config.json asks for, if there is one."""
    own = values.get("quantization_config")
    if own is None and isinstance(values.get("text_config"), dict):
        own = values["text_config"].get("quantization_config")
    return None if own is None else formats_or_why({"quantization_config": own})


def any_model(values: object, *, name: str, title: str, source: str = ""):
    """The Model that a parsed config.json describes, or the TracedModel of a family without an explicit graph. Raises
    InputError.
    """
    family, keys = language_model(values)
    if family in FAMILIES:
        return model_from_config(values, name=name, title=title, source=source)
    refuse_other_kinds(family, values, keys)
    import traced  # torch, transformers

    if not traced.available():
        close = nearest(family, FAMILIES)
        raise InputError(
            f"model_type {family!r} has no explicit graph{close}; tracing it needs pip install -r requirements-hf.txt"
        )
    settings = {key: value for key, value in values.items() if not key.startswith("_")}
    return traced.TracedModel(
        name=name,
        quantization=checkpoint_formats(values),
        title=title,
        family=values.get("model_type") or family,
        note=left_out(values),
        trace=traced.trace(settings),
    )


def load_model(path: Path):
    """The Model or TracedModel in a config.json, or in a folder that holds one. Raises InputError."""
    folder = os.path.isdir(path)  # unlike Path.is_dir, False for a path that is too long or not to be searched
    file = path / "config.json" if folder else path
    if folder and not os.path.exists(file):
        raise InputError(f"{shown(str(path))} is a folder without a config.json, or one that can't be searched")
    values = _read(file)
    name = (
        os.path.basename(os.path.realpath(file.parent))
        if file.name == "config.json"
        else file.stem.removesuffix("_config")
    )
    name = " ".join(name.split()) or "config"
    try:
        model = any_model(values, name=name, title=name, source=file.name)
        beside = file.with_name(file.name.replace("config.json", "hf_quant_config.json"))
        if beside != file and os.path.isfile(beside) and model.quantization is None:  # ModelOpt's
            model = replace(model, quantization=formats_or_why(_read(beside)))
        return model
    except InputError as error:
        raise InputError(f"{shown(str(file))}: {error}") from None


@lru_cache(maxsize=4)
def _stream(file: Path) -> bytes:
    """What a pipe or a terminal gives (/dev/stdin, <(...)): it can be read once, and a case asks for its model several
    times. Without a writer a pipe is empty, instead of waiting for one.
    """
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(opened, True)
    with os.fdopen(opened, "rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _content(file: Path) -> bytes:
    """The first MAX_FILE_BYTES + 1 bytes. Raises OSError, or InputError for what is no file."""
    mode = os.stat(file).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return _stream(file)
    if not stat.S_ISREG(mode):
        raise InputError(f"{shown(str(file))} is not a file")
    with file.open("rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _read(file: Path) -> object:
    try:
        content = _content(file)
        if len(content) > MAX_FILE_BYTES:
            raise InputError(f"{shown(str(file))} is larger than any config.json ({MAX_FILE_BYTES:,} bytes)")
        return json.loads(content)
    except OSError as error:
        raise InputError(f"can't read {shown(str(file))}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0][:100]
        raise InputError(f"{shown(str(file))} is not JSON: {reason}") from None


@lru_cache(maxsize=1)
def catalogue_names() -> tuple[str, ...]:
    """The names of the catalogue's models: its file stems."""
    return tuple(sorted(name.removesuffix(".json") for name in os.listdir(CATALOGUE) if name.endswith(".json")))


@lru_cache(maxsize=64)
def catalogue_model(name: str) -> Model:
    """The catalogue's model of that name."""
    values = _read(CATALOGUE / f"{name}.json")
    title = values["_hub"][0].split("/")[-1].removeprefix("Meta-").removesuffix("-hf").removesuffix("-pt")
    return model_from_config(values, name=name, title=title, source=values["_source"])


@lru_cache(maxsize=1)
def hub_names() -> dict[str, str]:
    """The catalogue's name for each name on the Hugging Face hub, in lower case. Reads all files."""
    files = {name: _read(CATALOGUE / f"{name}.json") for name in catalogue_names()}
    return {hub.lower(): name for name, values in files.items() for hub in values["_hub"]}


def plain(name: str) -> str:
    """A name without its owner, its dashes and what doesn't change a model's sizes.
    >>> plain("meta-llama/Llama-3.1-8B-Instruct"), plain("Llama-2-7b-chat-hf")
    ('llama3.18b', 'llama27b')
    """
    base = name.lower().rsplit("/", 1)[-1].removeprefix("meta-")
    return re.sub(r"[-_ ]", "", re.sub(r"(-(instruct|chat|hf|it|pt|base))+$", "", base))


@lru_cache(maxsize=1)
def plain_names() -> dict[str, str]:
    """The catalogue's name for the plain form of each name that a model has."""
    return {plain(hub): name for hub, name in hub_names().items()} | {plain(name): name for name in catalogue_names()}


def find_model(name: str):
    """The Model (or TracedModel) of a name in the catalogue or on the hub (an -Instruct has its base's sizes), or of a
    config.json or the folder that holds it. Raises InputError.
    """
    if not isinstance(name, str) or not name:
        return pick("model", name, catalogue_names())
    if name.lower() in catalogue_names():
        return catalogue_model(name.lower())
    try:
        exists = os.path.exists(name)
    except ValueError:  # a null character
        exists = False
    if exists:
        return load_model(Path(name))
    if plain(name) in plain_names():
        return catalogue_model(plain_names()[plain(name)])
    known = hub_names() if name.endswith(".json") or "/" in name else catalogue_names()
    get = "its config.json, from https://huggingface.co/ORG/NAME/resolve/main/config.json, can be named instead"
    raise InputError(f"no file and no model {shown(name)}{nearest(name[:200], known)}; see --list-models; {get}")


def catalogue() -> list[Model]:
    """Every model of the catalogue."""
    return [catalogue_model(name) for name in catalogue_names()]
