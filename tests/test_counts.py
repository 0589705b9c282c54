"""Counting rules, each with its arithmetic next to the assert. Llama-3-8B: 4096 hidden, 32/8 heads of 128."""

from ridgepoint.model import LLAMA3_8B, forward

B, Q = 8, 2048
PREFILL = {op.name: op for op in forward(LLAMA3_8B, batch=B, q_len=Q, kv_len=Q)}
DECODE = {op.name: op for op in forward(LLAMA3_8B, batch=B, q_len=1, kv_len=2049)}


def test_parameters_and_kv_cache():
    # 2 * 128256*4096 + 32 * (4096*6144 + 4096*4096 + 3*4096*14336 + 2*4096) + 4096
    assert LLAMA3_8B.parameters == 8_030_261_248
    assert LLAMA3_8B.kv_bytes_per_token("fp16") == 2 * 32 * 8 * 128 * 2  # K and V, layers, KV heads, dim, bytes


def test_multiply_add_is_two_flops():
    # 16,384 tokens x 4096 -> (32 + 2*8) * 128 = 6144
    assert PREFILL["qkv_proj"].flops == 2 * 16384 * 4096 * 6144 == 824_633_720_832
    assert PREFILL["gate_up_proj"].flops == 2 * 16384 * 4096 * 28672


def test_attention_is_causal():
    # 1 + 2 + ... + 2048 keys = 2048 * 2049 / 2 = 2,098,176; 2 GEMMs * 2 FLOPs * 128 = 512 per head and key
    assert PREFILL["attention"].flops == 8 * 32 * 512 * 2_098_176
    # a decode query sees the whole cache, itself included
    assert DECODE["attention"].flops == 8 * 32 * 512 * 2049
    # chunk of 2 queries at the end of 10 keys: they see 9 and 10
    chunk = forward(LLAMA3_8B, batch=1, q_len=2, kv_len=10)
    assert next(op for op in chunk if op.name == "attention").flops == 32 * 512 * 19


def test_keys_and_values_are_read_once_per_kv_head():
    # K and V: 2 * 8 sequences * 2049 tokens * 8 KV heads * 128 * 2 bytes; not 32 heads
    assert DECODE["attention"].kv_bytes == 2 * 8 * 2049 * 8 * 128 * 2


def test_embedding_is_a_gather():
    assert PREFILL["embedding"].flops == 0
    # a row read and a row written per token, and the 8-byte ids
    assert PREFILL["embedding"].bytes == 16384 * (2 * 4096 * 2 + 8)


def test_lm_head_runs_on_the_last_position_only():
    assert PREFILL["lm_head"].flops == 2 * 8 * 4096 * 128256 == DECODE["lm_head"].flops
    assert PREFILL["lm_head"].weight_bytes == 4096 * 128256 * 2


def test_the_small_kernels_are_there():
    assert DECODE["kv_write"].kv_bytes == 8 * 2 * 8 * 128 * 2  # 8 tokens, K and V
    assert DECODE["kv_write"].in_bytes == DECODE["kv_write"].kv_bytes
    assert DECODE["rope"].flops == 3 * 8 * (32 + 8) * 128  # 6 per pair
    assert DECODE["swiglu"].flops == 5 * 8 * 14336
    assert DECODE["swiglu"].bytes == 8 * 3 * 14336 * 2  # gate and up in, product out
    assert DECODE["attn_add_norm"].bytes == 8 * 4 * 4096 * 2 + 4096 * 2  # x, r in; r, y out; the norm's weight
    assert DECODE["sample"].in_bytes == 8 * 128256 * 2


def test_kernels_per_layer_and_per_pass():
    counts = {name: op.count for name, op in DECODE.items()}
    once = {"embedding", "first_norm", "lm_head", "sample"}
    assert {name for name, count in counts.items() if count == 1} == once
    assert {count for name, count in counts.items() if name not in once} == {32}


def test_weights_are_read_once_per_pass():
    gemms = sum(op.count * op.weight_bytes for op in DECODE.values() if op.kind in ("gemm", "norm"))
    assert gemms == 2 * (LLAMA3_8B.parameters - 128256 * 4096)  # all but the embedding table


def test_naive_attention_moves_the_scores_through_dram():
    ops = {op.name: op for op in forward(LLAMA3_8B, batch=B, q_len=Q, kv_len=Q, attention_kernel="naive")}
    scores = 8 * 32 * 2048 * 2048
    assert ops["qk_scores"].flops == 2 * 128 * scores  # the full square: nothing is masked away
    assert ops["qk_scores"].out_bytes == ops["softmax"].in_bytes == ops["pv"].in_bytes == 2 * scores
    assert ops["softmax"].flops == 5 * scores
    assert ops["pv"].kv_bytes == 8 * 2048 * 8 * 128 * 2
