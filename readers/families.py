"""What the keys of each family's Hugging Face config.json mean.

A family is a function from `Config` to the fields of `Model` that differ from those of `decoder`. The language model
only: no vision or audio tower, no multi-token-prediction layers. FAMILIES names all that have an explicit graph; any
other model is traced from its real modelling code (traced.py), which needs requirements-hf.txt.
"""

from collections.abc import Callable
from typing import Any

from ridgepoint.inputs import MAX_SIZE, pick, shown
from ridgepoint.model import MAX_LAYERS
from ridgepoint.readers.config import LETTERS, Config, compact, renamed

Fields = dict[str, Any]  # of a Model

# What families share --------------------------------------------------------------------------------------


def decoder(c: Config, **changes: Any) -> Fields:
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


def windows(c: Config, layers: int, *, use: bool = True) -> Fields:
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


def dense_fields(c: Config, **changes: Any) -> Fields:
    """A dense decoder of the Llama kind."""
    base = decoder(c)
    return base | {"intermediate": c.size("intermediate_size")} | windows(c, base["layers"]) | changes


def routed(c: Config, experts: str, width: str, *, shared: int = 0, **changes: Any) -> Fields:
    """The fields of a mixture whose number of experts and their width have these keys."""
    fields: Fields = {
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


def leading_dense(c: Config, layers: int) -> Fields:
    """first_k_dense_replace dense layers, then a mixture in every moe_layer_freq-th."""
    first, every = c.size("first_k_dense_replace", 0, low=0, high=layers), c.size("moe_layer_freq", 1)
    if every == 1:
        return {"dense_layers": first, "intermediate": c.size("intermediate_size", 0) if first else 0}
    letters = "".join("E" if i >= first and i % every == 0 else "D" for i in range(layers))
    return {"mlps": compact(letters), "intermediate": c.size("intermediate_size")}


def by_list(c: Config, key: str, layers: int) -> Fields:
    """Mixture where the list says 1, dense where it says 0."""
    letters = c.letters(key, {0: "D", 1: "E"}, layers)
    first = len(letters) - len(letters.lstrip("D"))
    return {"mlps": "E", "dense_layers": first} if "D" not in letters[first:] else {"mlps": compact(letters)}


# Families -------------------------------------------------------------------------------------------------


def llama(c: Config) -> Fields:
    bias = c.flag("attention_bias")
    return dense_fields(c, qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), mixers="F", sliding_window=0)


def mistral(c: Config) -> Fields:
    return dense_fields(c)


def qwen2(c: Config) -> Fields:
    base = decoder(c)
    slide = windows(c, base["layers"], use=False)
    return base | {"intermediate": c.size("intermediate_size"), "qkv_bias": True} | slide


def qwen3(c: Config) -> Fields:
    bias = c.flag("attention_bias")
    return qwen2(c) | {"qkv_bias": bias, "o_bias": bias, "qk_norm": "head"}


def mimo(c: Config) -> Fields:
    return qwen2(c) | {"qkv_bias": c.flag("attention_bias")}


def glm(c: Config) -> Fields:
    return dense_fields(c, qkv_bias=c.flag("attention_bias"))


def glm4(c: Config) -> Fields:
    return dense_fields(c, qkv_bias=c.flag("attention_bias"), sandwich_norms=True)


def gemma(c: Config) -> Fields:
    return dense_fields(c, mixers="F", sliding_window=0)


def gemma2(c: Config) -> Fields:
    alternating = {"mixers": "SF", "sliding_window": c.size("sliding_window")}
    return dense_fields(c, sandwich_norms=True, **({} if c.get("layer_types") else alternating))


def gemma3(c: Config) -> Fields:
    every = c.size("sliding_window_pattern", 6, high=MAX_LAYERS)
    one_full = {"mixers": compact("S" * (every - 1) + "F"), "sliding_window": c.size("sliding_window")}
    return dense_fields(c, sandwich_norms=True, qk_norm="head", **({} if c.get("layer_types") else one_full))


def gemma4(c: Config) -> Fields:
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
        fields |= routed(Config(experts, c.family), "num_experts", "moe_intermediate_size", mlps="B")
    return base | fields


def cohere(c: Config) -> Fields:
    bias, norm = c.flag("attention_bias"), "heads" if c.flag("use_qk_norm") else "none"
    return dense_fields(c, parallel_block=True, qkv_bias=bias, o_bias=bias, qk_norm=norm)


def exaone4(c: Config) -> Fields:
    """Norms after each part, as many as before them elsewhere; where some layers slide, the others have no RoPE."""
    fields = dense_fields(c, qk_norm="head")
    if c.get("layer_types") is None and c.get("sliding_window") is not None:
        pattern = c.get("sliding_window_pattern", 4)  # "LLLG", or 4: every fourth is full
        if isinstance(pattern, str) and pattern and not set(pattern) - set("LG"):
            mixers = pattern.replace("L", "S").replace("G", "F")
        else:
            mixers = "S" * (c.size("sliding_window_pattern", 4, high=MAX_LAYERS) - 1) + "F"
        letters = (mixers * fields["layers"])[: fields["layers"] - 1] + "F"  # the last one is full
        fields |= {"mixers": compact(letters), "sliding_window": c.size("sliding_window")}
    return fields | {"full_rope": "S" not in fields["mixers"]} if "mixers" in fields else fields


def internlm2(c: Config) -> Fields:
    bias = c.flag("bias")
    return dense_fields(c, qkv_bias=bias, o_bias=bias)


def qwen(c: Config) -> Fields:
    """The first Qwen: intermediate_size counts gate and up together."""
    width, rest = divmod(c.size("intermediate_size"), 2)
    if rest:
        c.refuse("intermediate_size must be even: half of it is the MLP's width")
    return decoder(renamed(c, {"head_dim": "kv_channels"})) | {"intermediate": width, "qkv_bias": True}


def chatglm(c: Config) -> Fields:
    names = {"num_hidden_layers": "num_layers", "intermediate_size": "ffn_hidden_size", "head_dim": "kv_channels"}
    c = renamed(c, names | {"vocab_size": "padded_vocab_size", "max_position_embeddings": "seq_length"})
    groups = c.size("multi_query_group_num") if c.flag("multi_query_attention") else c.size("num_attention_heads")
    c = Config({"partial_rotary_factor": 0.5} | c.values, c.family)  # half of each head turns
    bias = c.flag("add_bias_linear")
    biases = {"qkv_bias": bias or c.flag("add_qkv_bias"), "o_bias": bias, "mlp_bias": bias}
    return decoder(c, kv_heads=groups) | {"intermediate": c.size("intermediate_size")} | biases


def dbrx(c: Config) -> Fields:
    attention, ffn = c.inner("attn_config"), c.inner("ffn_config")
    names = {"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    c = renamed(c, names | {"max_position_embeddings": "max_seq_len"})
    chosen = Config({"num_experts_per_tok": ffn.get("moe_top_k")} | ffn.values, c.family)
    experts = routed(chosen, "moe_num_experts", "ffn_hidden_size")
    return decoder(c, kv_heads=attention.size("kv_n_heads")) | experts


def mamba2(c: Config) -> Fields:
    """Mamba-2 alone, without MLPs."""
    if c.flag("use_bias"):
        c.refuse("use_bias is not modelled")
    inner, heads, width = c.size("expand", 2) * c.size("hidden_size"), c.size("num_heads"), c.size("head_dim")
    if heads * width != inner:
        c.refuse(f"num_heads ({heads}) x head_dim ({width}) must be expand x hidden_size ({inner})")
    unlimited = {"max_positions": MAX_SIZE}  # nothing in it is tied to a length
    layers, hidden = c.size("num_hidden_layers", high=MAX_LAYERS), c.size("hidden_size")
    base: Fields = {"layers": layers, "hidden": hidden, "intermediate": 0}
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


def mixtral(c: Config) -> Fields:
    base = decoder(c)
    return base | windows(c, base["layers"]) | routed(c, "num_local_experts", "intermediate_size")


def qwen_mixture(c: Config, **changes: Any) -> Fields:
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
    fields = routed(c, "num_experts", "moe_intermediate_size", shared=shared, mlps=compact(letters))
    width = c.size("intermediate_size") if "D" in letters else 0
    return fields | {"intermediate": width, "shared_expert_gate": shared > 0} | changes


def qwen2_moe(c: Config) -> Fields:
    return decoder(c, qkv_bias=True) | qwen_mixture(c)


def qwen3_moe(c: Config) -> Fields:
    bias = c.flag("attention_bias")
    return decoder(c, qkv_bias=bias, o_bias=bias, qk_norm="head") | qwen_mixture(c)


def delta_net(c: Config) -> Fields:
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


def qwen3_5(c: Config) -> Fields:
    return delta_net(c) | {"intermediate": c.size("intermediate_size")}


def qwen3_5_moe(c: Config) -> Fields:
    return delta_net(c) | qwen_mixture(c)


def llama4(c: Config) -> Fields:
    base, width = decoder(c), c.size("intermediate_size")
    every = c.size("interleave_moe_layer_step", 1, high=MAX_LAYERS)
    mixers = "C3F"
    if c.get("no_rope_layers"):  # an empty list is the default: every fourth layer without RoPE
        mixers = compact(c.letters("no_rope_layers", {1: "C", 0: "F"}, base["layers"]))
    fields = routed(c, "num_local_experts", "intermediate_size", shared=width, mlps=compact("D" * (every - 1) + "E"))
    chunk, wide = c.size("attention_chunk_size"), c.size("intermediate_size_mlp") if every > 1 else 0
    norm = "unweighted" if c.flag("use_qk_norm") else "none"
    chunks = {"mixers": mixers, "attention_chunk": chunk, "full_rope": False}
    return base | fields | chunks | {"intermediate": wide, "qk_norm": norm}


def gpt_oss(c: Config) -> Fields:
    base, bias = decoder(c), c.flag("attention_bias", True)
    fields = routed(c, "num_local_experts", "intermediate_size", expert_bias=True, router_bias=True)
    fields |= {"qkv_bias": bias, "o_bias": bias, "sink_layers": "SF", "sliding_window": c.size("sliding_window")}
    return base | fields | {"mixers": "SF"} | windows(c, base["layers"])


def glm4_moe(c: Config) -> Fields:
    base = decoder(c, qkv_bias=c.flag("attention_bias"), qk_norm="head" if c.flag("use_qk_norm") else "none")
    shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    fields = routed(c, "n_routed_experts", "moe_intermediate_size", shared=shared, router_bias=True)
    return base | fields | leading_dense(c, base["layers"])


def minimax_m2(c: Config) -> Fields:
    norm = {"per_layer": "projection", "per_head": "head"}[
        pick("qk_norm_type", c.get("qk_norm_type", "per_layer"), ("per_layer", "per_head"))
    ]
    shared = c.size("shared_intermediate_size", 0, low=0)
    bias = c.flag("use_routing_bias", True)
    fields = routed(c, "num_local_experts", "intermediate_size", shared=shared, router_bias=bias)
    return decoder(c, qk_norm=norm if c.flag("use_qk_norm") else "none") | fields


def minimax_m3(c: Config) -> Fields:
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


def mimo_v2_flash(c: Config) -> Fields:
    base = decoder(c, v_head_dim=c.size("v_head_dim"))
    for key in ("head_dim", "v_head_dim"):
        if c.size(f"swa_{key}", c.size(key)) != c.size(key):
            c.refuse(f"swa_{key} other than {key} is not modelled")
    fields = routed(c, "n_routed_experts", "moe_intermediate_size", router_bias=True)
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


def step3p7(c: Config) -> Fields:
    base = decoder(c, qk_norm="head", attention_gate_dim=1)
    fields = routed(c, "num_experts", "moe_intermediate_size", shared=c.size("share_expert_dim"))
    fields |= {"router_bias": c.flag("use_moe_router_bias")} | windows(c, base["layers"])
    if c.get("attention_other_setting") is not None:  # the published file has it: sliding layers have more heads
        other = c.inner("attention_other_setting")
        fields["sliding_heads"] = other.size("num_attention_heads")
        fields["sliding_kv_heads"] = other.size("num_attention_groups")
    return base | fields | leading_dense(c, base["layers"])


def latent_fields(c: Config, **changes: Any) -> Fields:
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


def deepseek(c: Config) -> Fields:
    base = latent_fields(c)
    shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    bias = c.family != "deepseek_v2"
    fields = routed(c, "n_routed_experts", "moe_intermediate_size", shared=shared, router_bias=bias)
    return base | fields | leading_dense(c, base["layers"])


def deepseek_1(c: Config) -> Fields:
    """DeepSeek-MoE: the mixture, without latent attention."""
    base = decoder(c)
    shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    return (
        base | routed(c, "n_routed_experts", "moe_intermediate_size", shared=shared) | leading_dense(c, base["layers"])
    )


def bailing_moe(c: Config) -> Fields:
    """Ling: the second generation has norms of Q and K, and a correction of the router (BailingMoeV2)."""
    second = c.flag("use_qk_norm")
    bias = c.flag("use_qkv_bias")
    base = decoder(c, qk_norm="head" if second else "none", qkv_bias=bias, o_bias=c.flag("use_bias"))
    shared = c.size("num_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    corrected = c.flag("moe_router_enable_expert_bias", second)
    fields = routed(c, "num_experts", "moe_intermediate_size", shared=shared, router_bias=corrected)
    return base | fields | leading_dense(c, base["layers"])


def deepseek_sparse(c: Config) -> Fields:
    fields = deepseek(c)
    mixers = "I"
    if c.get("indexer_types") is not None:
        mixers = compact(c.letters("indexer_types", {"full": "I", "shared": "T"}, fields["layers"]))
    names = {"index_heads": "index_n_heads", "index_head_dim": "index_head_dim", "index_topk": "index_topk"}
    return fields | {"mixers": mixers} | {name: c.size(key) for name, key in names.items()}


def deepseek_v4(c: Config) -> Fields:
    base = decoder(c, kv_heads=1, rotary_dim=c.size("qk_rope_head_dim"))
    layers, hashed = base["layers"], c.size("num_hash_layers", 0, low=0)
    shared = c.size("n_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    fields = routed(c, "n_routed_experts", "moe_intermediate_size", shared=shared, router_bias=True)
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


def nemotron_h(c: Config) -> Fields:
    kinds = {"M": "M-", "*": "F-", "E": "-E", "-": "-D"}
    pattern = c.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        if not pattern or set(pattern) - set(kinds):
            c.refuse(f"hybrid_override_pattern must be of the letters {' '.join(kinds)}, not {shown(pattern)}")
    else:
        pattern = c.letters("layers_block_type", {"mamba": "M", "attention": "*", "moe": "E", "mlp": "-"})
    if len(pattern) > MAX_LAYERS:
        c.refuse(f"{len(pattern)} layers are more than {MAX_LAYERS}")
    both = [kinds[letter] for letter in pattern]
    head_dim = c.size("head_dim", c.size("attention_head_dim", 0)) or None
    base = decoder(c, layers=len(pattern), head_dim=head_dim) if head_dim else decoder(c, layers=len(pattern))
    fields: Fields = {
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
        fields |= routed(c, "n_routed_experts", "moe_intermediate_size", shared=shared, router_bias=True)
        fields["moe_latent"] = c.size("moe_latent_size", 0)
    return base | fields | {"mlps": compact("".join(pair[1] for pair in both))}


def nemotron_nas(c: Config) -> Fields:
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


def kimi_k3(c: Config) -> Fields:
    linear, heads = c.inner("linear_attn_config"), c.size("num_attention_heads")
    full = linear.per_layer("full_attn_layers")
    gate = c.size("v_head_dim") if c.flag("mla_use_output_gate") else 0
    base = latent_fields(c, attention_gate_dim=gate, full_rope=not c.flag("mla_use_nope"))
    shared = c.size("num_shared_experts", 0, low=0) * c.size("moe_intermediate_size")
    chosen = {"num_experts_per_tok": c.size("num_experts_per_token")} | c.values
    experts = routed(Config(chosen, c.family), "num_experts", "moe_intermediate_size", shared=shared, router_bias=True)
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


FAMILIES: dict[str, Callable[[Config], Fields]] = {
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
