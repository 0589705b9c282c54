"""The trace of a model's real code against the explicit graph, and what a trace must survive."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from ridgepoint.inputs import InputError
from ridgepoint.model import Model, forward
from ridgepoint.readers import traced
from ridgepoint.readers.catalogue import model_from_config

pytest.importorskip("transformers", reason="needs requirements-hf.txt")

TINY = Model(
    name="tiny",
    title="tiny",
    layers=2,
    hidden=256,
    heads=8,
    kv_heads=2,
    head_dim=32,
    intermediate=672,
    vocab=1000,
    max_positions=4096,
)
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 672,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    traced.CACHE = tmp_path_factory.mktemp("traces")
    return traced.trace(LLAMA)


def sums(ops, *kinds):
    chosen = [op for op in ops if op.kind in kinds]
    return [sum(op.count * getattr(op, field) for op in chosen) for field in ("flops", "weight_bytes", "kv_bytes")]


@pytest.mark.parametrize(
    ("batch", "q_len", "kv_len"), [(1, 512, 512), (3, 777, 777), (5, 1, 901), (2, 1, 3000), (2, 100, 900), (3, 5, 4000)]
)
def test_products_and_attention_equal_the_explicit_graph(llama, batch, q_len, kv_len):
    sizes = {"batch": batch, "q_len": q_len, "kv_len": kv_len}
    real, explicit = traced.forward(llama, **sizes), forward(TINY, **sizes)
    assert llama.parameters == TINY.parameters
    assert llama.kv_bytes_per_token == TINY.kv_bytes_per_token("fp16")
    assert sums(real, "gemm") == pytest.approx(sums(explicit, "gemm"), rel=1e-9)
    assert sums(real, "attention", "kv_write") == pytest.approx(sums(explicit, "attention", "kv_write"), rel=1e-9)
    # one QKV product, one gate+up product, as engines launch them
    names = [op.name for op in real if op.kind == "gemm"]
    assert len(names) == len([op for op in explicit if op.kind == "gemm"])


def test_pointwise_kernels_move_about_what_the_explicit_ones_do(llama):
    sizes = {"batch": 2, "q_len": 600, "kv_len": 600}
    kinds = ("norm", "rope", "swiglu", "elementwise", "embedding")

    def moved(ops):
        return sum(op.count * op.bytes for op in ops if op.kind in kinds)

    # the residual adds stay by themselves in the trace: r and x in, r out, then in again by the norm
    assert moved(traced.forward(llama, **sizes)) == pytest.approx(moved(forward(TINY, **sizes)), rel=0.25)


def test_a_trace_is_parametric_and_cached(llama, monkeypatch):
    batch = np.array([1.0, 4.0])
    swept = traced.forward(llama, batch=batch, q_len=1, kv_len=1000.0)
    for i, one in enumerate((1, 4)):
        single = traced.forward(llama, batch=one, q_len=1, kv_len=1000)
        for a, b in zip(swept, single, strict=True):
            assert np.broadcast_to(a.flops, 2)[i] == pytest.approx(b.flops)
    monkeypatch.setattr(traced, "_trace", None)  # a second trace would fail
    assert traced.trace(LLAMA) == llama


def test_a_mixture_reads_the_experts_that_its_tokens_choose():
    config = LLAMA | {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 8}
    config |= {"num_experts_per_tok": 2, "moe_intermediate_size": 96, "decoder_sparse_step": 1, "mlp_only_layers": []}
    trace = traced.trace(config)
    grouped = [op for op in traced.forward(trace, batch=1, q_len=1, kv_len=600) if op.kind == "grouped_gemm"]
    # one token: 2 of 8 experts, each 256 x 192 (gate and up) and 96 x 256, in 2 layers
    assert sum(op.count * op.weight_bytes for op in grouped) == pytest.approx(2 * 2 * 2 * (256 * 192 + 96 * 256))
    assert sum(op.count * op.flops for op in grouped) == 2 * 2 * 2 * (256 * 192 + 96 * 256)


def test_attention_that_is_spelled_out_is_fused():
    config = LLAMA | {"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "num_local_experts": 4}
    config |= {"num_experts_per_tok": 2, "sliding_window": 128, "layer_types": ["full_attention", "full_attention"]}
    trace = traced.trace(config)
    kinds = [op.kind for op in traced.forward(trace, batch=2, q_len=600, kv_len=600)]
    assert "attention" in kinds and "softmax" not in kinds


def changed(data, *path, to):
    """A copy of a parsed trace with another value at `path`; DROP takes it away."""
    data = json.loads(json.dumps(data))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    if to is DROP:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return data


DROP = object()
FIRST = ("decode", 1, "numbers")  # of a norm
DAMAGES = [
    *((("parameters",), value) for value in (-1, 0, 1.5, "8", None, True, float("nan"), DROP)),
    *((("state_bytes",), value) for value in (-1, 0.5)),
    *((("decode",), value) for value in ([], {}, None, [1], [[]], DROP)),
    *(
        ((*FIRST, "flops"), value)
        for value in ([], [1.0], [-1.0] * 4, [float("inf")] * 4, ["1"] * 4, [1] * 5, None, DROP)
    ),
    *((("decode", 1, "count"), value) for value in (0, -3, 2.5, "2")),
    (("decode", 1, "kind"), "nothing"),
    (("decode", 1, "unit"), "vectors"),
    (("decode", 1, "experts"), 4),
    ((*FIRST, "rows"), DROP),
    (("more",), 1),
    (("active_parameters",), 10**12),
]


@pytest.mark.parametrize(("path", "to"), DAMAGES)
def test_what_no_trace_can_be_is_not_read(llama, path, to):
    data = changed(asdict(llama), *path, to=to)
    body = json.dumps(data)
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        traced._kept(json.dumps({"sha256": traced._digest(body), "trace": body}).encode())


def test_a_damaged_trace_is_traced_again(tmp_path, monkeypatch, llama):
    monkeypatch.setattr(traced, "CACHE", tmp_path)
    monkeypatch.setattr(traced, "_trace", lambda config: llama)
    assert traced.trace(LLAMA) == llama
    (kept,) = tmp_path.glob("*.json")
    good = kept.read_bytes()
    digit = good.replace(b'parameters\\": ', b'parameters\\": 1', 1)
    assert digit != good
    nothing = (b"", b"[]", b"null", b"3", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000)
    for content in (*nothing, good[:-1], good[: len(good) // 2], good + good, digit):
        kept.write_bytes(content)
        assert traced.trace(LLAMA) == llama
        assert kept.read_bytes() == good
    kept.unlink()
    kept.mkdir()  # something else altogether: said, and no obstacle
    assert traced.trace(LLAMA) == llama


def scaled(trace, kind, factor, *names):
    """The trace with these numbers of the decode step's kernels of a kind times `factor`."""
    kernels = []
    for kernel in trace.decode:
        numbers = {n: [x * factor for x in v] if n in names else v for n, v in kernel.numbers.items()}
        kernels.append(replace(kernel, numbers=numbers) if kernel.kind == kind else kernel)
    return replace(trace, decode=tuple(kernels))


def test_a_trace_that_can_not_be_right_is_refused(llama):
    class Text(SimpleNamespace):
        num_key_value_heads = 2

    text = Text(num_attention_heads=8, head_dim=32, hidden_size=256)
    caches = [({0: 128.0, 1: 128.0}, 0)] * 5  # elements of K and V a token: 2 heads of 32, by layer
    traced._plausible(llama, "x", text, caches, 0)
    wrong = [
        (scaled(llama, "gemm", 20, "flops"), caches, 0, "GFLOP a token"),  # a padded prefill for a step
        (scaled(llama, "norm", 10_000, "in_bytes"), caches, 0, "GB for"),
        (scaled(llama, "attention", 0.5, "kv_heads"), caches, 0, "keeps 512 B a token, but its attention 256 B"),
        (llama, [caches[0], ({0: 128.0}, 0)], 0, "keeps"),  # another cache at another size
        (llama, caches, llama.parameters // 10, "10% of its weights unused"),
    ]
    wide = [({0: 512.0, 1: 512.0}, 0)] * 5  # keys of each query head kept
    wrong.append((scaled(llama, "attention", 4, "kv_heads"), wide, 0, "its config's heads 128"))
    for trace, kept, idle, message in wrong:
        with pytest.raises(InputError, match=message):
            traced._plausible(trace, "x", text, kept, idle)
    text.kv_lora_rank = 512
    with pytest.raises(InputError, match="latents"):
        traced._plausible(llama, "x", text, caches, 0)


def test_tracing_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(traced, "CACHE", tmp_path)
    traced.trace(LLAMA)
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("note: tracing llama's code")
    traced.trace(LLAMA)
    assert capsys.readouterr().err == ""


def test_a_recurrent_model():
    config = {"model_type": "mamba2", "hidden_size": 128, "num_hidden_layers": 2, "vocab_size": 1000, "expand": 2}
    config |= {"num_heads": 8, "head_dim": 32, "state_size": 16, "n_groups": 1, "chunk_size": 64, "conv_kernel": 4}
    trace = traced.trace(config)
    short, long = (traced.forward(trace, batch=4, q_len=n, kv_len=n) for n in (512, 2048))
    assert len(short) == len(long)
    # in_proj to gate, x, B, C and a step for each head; out_proj: 4 * 512 tokens, 2 layers
    products = 2 * 4 * 512 * 2 * (128 * (256 + 256 + 2 * 16 + 8) + 256 * 128) + 2 * 4 * 128 * 1000
    weighted = [op for op in short if op.kind == "gemm" and op.weight_bytes]
    assert sum(op.count * op.flops for op in weighted) == products
    assert sums(long, "elementwise")[0] == pytest.approx(4 * sums(short, "elementwise")[0], rel=0.05)


def test_a_loop_over_chunks_is_one_kernel():
    import transformers

    config = transformers.AutoConfig.for_model("qwen3_next").to_dict() | {"num_hidden_layers": 2, "vocab_size": 1000}
    config |= {"hidden_size": 256, "num_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0}
    config["layer_types"] = config["layer_types"][2:4]  # one of each kind
    trace = traced.trace(config)
    explicit = model_from_config(config, name="x", title="x")
    assert trace.parameters == explicit.parameters
    for length in (512, 2048):
        sizes = {"batch": 4, "q_len": length, "kv_len": length}
        passed = traced.forward(trace, **sizes)
        names = [op.name for op in passed if "linear_attn" in op.name and not op.weight_bytes and op.kind != "norm"]
        assert len(names) < 12  # not one for each of a prompt's chunks
        weighted = [op for op in passed if op.kind in ("gemm", "grouped_gemm") and op.weight_bytes]
        expected = sums(forward(explicit, **sizes), "gemm", "grouped_gemm")[0]
        assert sum(op.count * op.flops for op in weighted) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("config", [{"model_type": "no-such-model"}, {"model_type": "llama", "hidden_size": "wide"}])
def test_what_transformers_cannot_build_is_refused_in_one_line(config):
    with pytest.raises(InputError) as refusal:
        traced.trace(config)
    assert "\n" not in str(refusal.value)
