"""From a Hugging Face config.json to a `Model`: the catalogue, files, and what each family's keys mean.

A family is a function from `Config` to the fields of `Model` that differ from those of `decoder`. The language model
only: no vision or audio tower, no multi-token-prediction layers. FAMILIES names all that have an explicit graph; any
other model is traced from its real modelling code (traced.py), which needs requirements-hf.txt.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from inputs import MAX_SIZE, InputError, check_size, nearest, pick, shown
from model import MAX_LAYERS, Model
from precision import Precision, from_checkpoint

CATALOGUE = Path(__file__).resolve().parent / "catalog" / "models"
MAX_FILE_BYTES = 2**24
LETTERS = {
    "full_attention": "F",
    "attention": "F",
    "sliding_attention": "S",
    "chunked_attention": "C",
    "linear_attention": "G",
}


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
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": changes.get("kv_heads") or c.size("num_key_value_heads", heads),
        "head_dim": head_dim,
        "intermediate": 0,
        "vocab": c.size("vocab_size"),
        "max_positions": c.size("max_position_embeddings", 2048),  # transformers' default for Llama
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
    if c.flag("use_qk_norm"):
        c.refuse("use_qk_norm is not modelled")
    bias = c.flag("attention_bias")
    return dense(c, parallel_block=True, qkv_bias=bias, o_bias=bias)


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
    if isinstance(c.get("no_rope_layers"), list):
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
    "cohere": cohere,
    "deepseek_ref": deepseek_v4,
    "deepseek_v2": deepseek,
    "deepseek_v3": deepseek,
    "deepseek_v32": deepseek_sparse,
    "deepseek_v4": deepseek_v4,
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
    "kimi_k2": deepseek,
    "kimi_k25": deepseek,
    "kimi_k3": kimi_k3,
    "llama": llama,
    "llama4": llama4,
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


def model_from_config(values: object, *, name: str, title: str, source: str = "") -> Model:
    """The model that a parsed config.json describes, if its family has an explicit graph. Raises InputError."""
    family, keys = language_model(values)
    family = pick("model_type", family, FAMILIES)
    fields = FAMILIES[family](Config(keys, family))
    formats = checkpoint_formats(values)
    return Model(name=name, title=title, family=family, source=source, quantization=formats, **fields)


def checkpoint_formats(values: dict) -> Precision | None:
    """What the quantization_config of a config.json asks for, if there is one. Raises InputError."""
    own = values.get("quantization_config")
    if own is None and isinstance(values.get("text_config"), dict):
        own = values["text_config"].get("quantization_config")
    return None if own is None else from_checkpoint({"quantization_config": own})


def any_model(values: object, *, name: str, title: str, source: str = ""):
    """The Model that a parsed config.json describes, or the TracedModel of a family without an explicit graph. Raises
    InputError.
    """
    family, _ = language_model(values)
    if family in FAMILIES:
        return model_from_config(values, name=name, title=title, source=source)
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
        trace=traced.trace(settings),
    )


def load_model(path: Path):
    """The Model or TracedModel in a config.json, or in a folder that holds one. Raises InputError."""
    file = path / "config.json" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise InputError(f"{shown(str(path))} is a folder without a config.json")
    values = _read(file)
    name = file.parent.resolve().name if file.name == "config.json" else file.stem.removesuffix("_config")
    name = " ".join(name.split()) or "config"
    try:
        model = any_model(values, name=name, title=name, source=file.name)
        beside = file.with_name(file.name.replace("config.json", "hf_quant_config.json"))
        if beside != file and beside.is_file() and model.quantization is None:  # ModelOpt's
            model = replace(model, quantization=from_checkpoint(_read(beside)))
        return model
    except InputError as error:
        raise InputError(f"{shown(str(file))}: {error}") from None


def _read(file: Path) -> object:
    if file.exists() and not file.is_file() and not file.is_char_device():
        raise InputError(f"{shown(str(file))} is not a file")
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
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
    if name.endswith(".json") or "/" in name:
        close = nearest(name, hub_names())
        raise InputError(f"no file and no model {shown(name)}{close}; see --list-models")
    return catalogue_model(pick("model", name, catalogue_names()))


def catalogue() -> list[Model]:
    """Every model of the catalogue."""
    return [catalogue_model(name) for name in catalogue_names()]
