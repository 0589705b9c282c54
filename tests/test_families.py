"""Traces of many families' real code, on small configs: caches, weights, and nothing of a step but attention that grows
with the context.
"""

import pytest
from invariants import slow_but

from ridgepoint.inputs import InputError
from ridgepoint.readers import traced

transformers = pytest.importorskip("transformers", reason="needs requirements-hf.txt")

BASE = {"vocab_size": 1000, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LAYER = BASE | {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 8}
HEADS = LAYER | {"num_key_value_heads": 2, "intermediate_size": 384, "max_position_embeddings": 4096}
MOE = HEADS | {"num_experts_per_tok": 2, "moe_intermediate_size": 96, "num_experts": 4, "num_local_experts": 4}
GPT = BASE | {"n_embd": 128, "n_layer": 1, "n_head": 8, "n_positions": 4096}
FALCON = LAYER | {"alibi": False, "bias": False, "parallel_attn": True, "new_decoder_architecture": False}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 64}
# state of a Mamba-2 layer: 8 heads of 32 x 16 in fp32, or bf16 where the code keeps it so; 4 inputs of its convolution
# of 256 + 2 * 16 channels, bf16
STATE = 8 * 32 * 16 * 4 + 4 * (256 + 2 * 16) * 2
WIDE = 4 * 8 * 16  # bytes of K and V of 8 heads of 16 a token and layer
SLIDING = {"sliding_window": 256, "layer_types": ["sliding_attention", "full_attention"], "num_hidden_layers": 2}

FAMILIES = {  # config, KV bytes a token, state bytes
    "falcon-multi-query": ({"model_type": "falcon", **FALCON, "multi_query": True}, WIDE // 8, 0),
    "falcon-grouped": (
        {"model_type": "falcon", **FALCON, "multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 2},
        WIDE // 4,
        0,
    ),
    "falcon-alibi": ({"model_type": "falcon", **FALCON, "alibi": True, "multi_query": False}, WIDE, 0),
    "gptj": ({"model_type": "gptj", **GPT, "rotary_dim": 8}, WIDE, 0),
    "gpt2": ({"model_type": "gpt2", **GPT}, WIDE, 0),
    "bloom": ({"model_type": "bloom", **BASE, "hidden_size": 128, "n_layer": 1, "n_head": 8}, WIDE, 0),
    "codegen": ({"model_type": "codegen", **GPT, "n_ctx": 4096, "rotary_dim": 8}, WIDE, 0),
    "gpt_bigcode": ({"model_type": "gpt_bigcode", **GPT, "multi_query": True}, WIDE // 8, 0),
    "mpt": ({"model_type": "mpt", **BASE, "d_model": 128, "n_layers": 1, "n_heads": 8, "max_seq_len": 4096}, WIDE, 0),
    "gpt_neo": (
        {"model_type": "gpt_neo", **BASE, "hidden_size": 128, "num_layers": 1, "num_heads": 8}
        | {"attention_types": [[["global"], 1]], "max_position_embeddings": 4096},
        WIDE,
        0,
    ),
    "opt": ({"model_type": "opt", **LAYER, "ffn_dim": 384, "word_embed_proj_dim": 128}, WIDE, 0),
    "gpt_neox": ({"model_type": "gpt_neox", **LAYER, "intermediate_size": 384}, WIDE, 0),
    "persimmon": ({"model_type": "persimmon", **LAYER, "intermediate_size": 384}, WIDE, 0),
    "olmo2": ({"model_type": "olmo2", **HEADS}, WIDE // 4, 0),
    "stablelm": ({"model_type": "stablelm", **HEADS}, WIDE // 4, 0),
    "starcoder2": ({"model_type": "starcoder2", **HEADS}, WIDE // 4, 0),
    "phi": ({"model_type": "phi", **HEADS}, WIDE // 4, 0),
    "nemotron": ({"model_type": "nemotron", **HEADS}, WIDE // 4, 0),
    "exaone4": ({"model_type": "exaone4", **HEADS, **SLIDING}, 2 * WIDE // 4, 0),
    "cohere2": ({"model_type": "cohere2", **HEADS, **SLIDING}, 2 * WIDE // 4, 0),
    "olmoe": ({"model_type": "olmoe", **MOE}, WIDE // 4, 0),
    "granitemoe": ({"model_type": "granitemoe", **MOE}, WIDE // 4, 0),
    "falcon_h1": ({"model_type": "falcon_h1", **HEADS, **MAMBA, "mamba_d_ssm": 256}, WIDE // 4, STATE),
    "granitemoehybrid": (
        {"model_type": "granitemoehybrid", **MOE, **MAMBA, "layer_types": ["mamba", "attention"]}
        | {"num_hidden_layers": 2, "shared_intermediate_size": 64, "mamba_expand": 2},
        WIDE // 4,
        STATE,
    ),
    "gemma3n": (
        {"model_type": "gemma3n_text", **HEADS, **SLIDING, "head_dim": 16, "num_hidden_layers": 3}
        | {"layer_types": ["sliding_attention", "full_attention", "full_attention"], "num_kv_shared_layers": 1}
        | {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 1000, "intermediate_size": [384] * 3}
        | {"activation_sparsity_pattern": [0.0] * 3, "altup_num_inputs": 2, "laurel_rank": 8},
        2 * WIDE // 4,  # of three layers one reads another's cache
        0,
    ),
}
# The whole cache at 1,000 tokens, where some layers slide over 256
WINDOWED = {"exaone4": WIDE // 4 * 1256, "cohere2": WIDE // 4 * 1256, "gemma3n": WIDE // 4 * 1256}


# positions, multi-query heads, layers that slide, a mixture with states
QUICK = ("gpt2", "falcon-multi-query", "exaone4", "granitemoehybrid")


@pytest.mark.parametrize("name", slow_but(FAMILIES, *QUICK))
def test_a_familys_trace(name, tmp_path, monkeypatch):
    monkeypatch.setattr(traced, "CACHE", tmp_path)
    config, kv_bytes, state = FAMILIES[name]
    trace = traced.trace(config)
    assert traced.trace(config) == trace  # and its file is read
    assert (trace.kv_bytes_per_token, trace.state_bytes) == (kv_bytes, state)
    assert trace.kv_cache_bytes(1000) == WINDOWED.get(name, kv_bytes * 1000) + state
    for batch in (1, 64):
        near, far = (traced.forward(trace, batch=batch, q_len=1, kv_len=kv_len) for kv_len in (2, 100_000))
        for one, other in zip(near, far, strict=True):
            assert min(one.flops, one.weight_bytes, one.kv_bytes, one.in_bytes, one.out_bytes) >= 0 < one.bytes
            if one.kind != "attention":
                assert one == other, f"{one.name} grows with the context"
        state_moved = sum(op.count * op.kv_bytes for op in near if op.kind not in ("attention", "kv_write"))
        assert state_moved == pytest.approx(2 * batch * state, rel=0.2)  # read and written
    prefill = traced.forward(trace, batch=7, q_len=3, kv_len=3)
    assert all(min(op.flops, op.weight_bytes, op.in_bytes, op.out_bytes) >= 0 < op.bytes for op in prefill)


def test_a_familys_positions_are_read_once_for_the_batch():
    trace = traced.trace(FAMILIES["gpt2"][0])
    (table,) = [k for k in trace.prefill if k.name == "transformer.wpe"]
    assert table.numbers["weight_bytes"] == [0, 0, 256, 0, 0, 0]  # 128 numbers a position, whatever the batch


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((7, 7, 7, 7, 8), "no polynomial"),  # all alike but for the check
        ((1974, 1974, 950, 950, 438), "falls with"),
        ((513**2, 513**2, 1025**2, 1025**2, 1281**2), "no polynomial"),  # kv^2, in a decode step
    ],
)
def test_counts_that_are_no_polynomial_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        traced.coefficients(values, traced.DECODE_POINTS, True)


@pytest.mark.parametrize("model_type", ["mamba", "jamba", "rwkv"])
def test_code_that_loops_over_tokens_is_refused_at_once(model_type):
    sizes = {
        "mamba": LAYER,
        "jamba": MOE | {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
        "rwkv": LAYER,
    }
    config = {"model_type": model_type, **sizes[model_type], "num_hidden_layers": 2}
    with pytest.raises(InputError) as refusal:
        traced.trace(config)
    assert "\n" not in str(refusal.value) and "token by token" in str(refusal.value)
