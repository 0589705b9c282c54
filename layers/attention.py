"""The kernels of each kind of attention: grouped queries, sliding and chunked, sparse, latent, compressed."""

from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from ridgepoint.layers.sizes import Pass
from ridgepoint.ops import (
    Heads,
    Number,
    Op,
    Tail,
    attention,
    attention_over,
    batched_linear,
    choose,
    index_scores,
    kv_write,
    latent_attention,
    linear,
    naive_attention,
    pooling,
    quantize,
    rms_norm,
    rope,
    smaller,
    swiglu,
    visible_in_chunk,
    visible_keys,
)

if TYPE_CHECKING:
    from ridgepoint.model import Model


class Shape(TypedDict):
    """Of attention. v_head_dim: of V and the output, if not head_dim."""

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int | None


def grouped_query(model: "Model", letter: str, p: Pass, count: int) -> list[Op]:
    """MHA, GQA or MQA over the whole context (F), a sliding window (S), a chunk (C), or the keys that an indexer picks
    (I: its own, T: that of the layer before).
    """
    heads, kv_heads, head_dim, v_head_dim = model.head_shape(letter)
    unlike = model.keys_are_values or model.head_shape("S") != model.head_shape("F")
    own = "sliding_" if letter == "S" and unlike else ""
    values = 0 if model.keys_are_values and letter != "S" else v_head_dim  # or the K projection serves as V too
    width = heads * (head_dim + model.attention_gate_dim) + kv_heads * (head_dim + values)
    number, tokens = p.number(count), p.tokens
    bias = width if model.qkv_bias else 0
    ops = p.projection("attention", own + "qkv_proj", model.hidden, width, count, bias)
    if model.qk_norm == "projection":
        for name, many in (("q_norm", heads), ("k_norm", kv_heads)):
            ops.append(rms_norm(own + name, tokens=tokens, hidden=many * head_dim, **number))
    elif model.qk_norm != "none":
        for name, many in (("q_norm", heads), ("k_norm", kv_heads)):
            weights = {"unweighted": 0, "heads": many * head_dim}.get(model.qk_norm, head_dim)
            ops.append(rms_norm(own + name, tokens=tokens * many, hidden=head_dim, weights=weights, **number))
        if model.qk_norm == "qkv":
            ops.append(rms_norm(own + "v_norm", tokens=tokens * kv_heads, hidden=v_head_dim, weights=0, **number))
    if model.full_rope or letter != "F":
        turned = model.rotary_dim or head_dim
        ops.append(rope(own + "rope", tokens=tokens, heads=heads, kv_heads=kv_heads, head_dim=turned, **number))
    cached = p.cached(head_dim, count)
    ops.append(
        kv_write(own + "kv_write", tokens=tokens, kv_heads=kv_heads, head_dim=head_dim, v_head_dim=v_head_dim, **cached)
    )
    if letter == "I":
        ops += indexer(model, p, count)
    value_dim = None if v_head_dim == head_dim else v_head_dim
    shape: Shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "v_head_dim": value_dim}
    if p.precision is not None and p.precision.narrow_query:
        form = p.precision.kv_cache
        ops.append(quantize(own + "query_quant", tokens=tokens, width=heads * head_dim, form=form, **number))
    ops += scores(model, letter, p, count, shape)
    if model.attention_gate_dim:  # y * sigmoid(gate)
        ops.append(swiglu(own + "attn_gate", tokens=tokens, intermediate=heads * v_head_dim, **number))
    bias = model.hidden if model.o_bias else 0
    o_width = heads * v_head_dim
    return [*ops, *p.projection("attention", own + "o_proj", o_width, model.hidden, count, bias)]


def scores(model: "Model", letter: str, p: Pass, count: int, shape: Shape, key_elems: int | None = None) -> list[Op]:
    """Attention itself over the keys that a layer of this letter sees. key_elems: as in ops.attention_over."""
    name = {"F": "", "S": "sliding_", "C": "chunked_"}.get(letter, "sparse_")
    batch, q_len, keys = p.batch, p.q_len, seen_keys(model, letter, p)
    if p.naive:
        return naive_attention(prefix=name, batch=batch, q_len=q_len, kv_len=keys, **shape, **p.number(count))
    name += "attention"
    sinks = shape["heads"] if letter in "FS" and letter in model.sink_layers else 0
    heads: Heads = {**shape, **p.cached(shape["head_dim"], count), "sinks": sinks}
    if letter in "FS":
        window = model.sliding_window if letter == "S" else None
        return [attention(name, batch=batch, q_len=q_len, kv_len=p.kv_len, window=window, **heads)]
    if letter == "C":
        chunk = model.attention_chunk
        pairs = visible_in_chunk(q_len, p.kv_len, chunk)
        op = attention_over(name, batch=batch, q_len=q_len, keys=keys, pairs=pairs, **heads)
        if p.one_query:
            return [op]
        parts = -(-p.kv_len // chunk)  # each chunk is a sequence by itself
        return [replace(op, dims={**op.dims, "batch": batch * parts, "q_len": q_len / parts, "kv_len": keys / parts})]
    pairs = visible_keys(q_len, p.kv_len, model.index_topk)
    op = attention_over(
        name,
        batch=batch,
        q_len=q_len,
        keys=keys,
        pairs=pairs,
        window=model.index_topk,
        own_keys=True,
        key_elems=key_elems,
        **heads,
    )
    return [op]


def seen_keys(model: "Model", letter: str, p: Pass) -> Number:
    """Keys of a sequence that a layer of this letter reads in a pass."""
    if letter == "F":
        return p.kv_len
    if letter == "S":
        return smaller(p.kv_len, model.sliding_window + p.q_len - 1)
    if letter == "C":
        return (p.kv_len - 1) % model.attention_chunk + 1 if p.one_query else p.kv_len
    return smaller(p.kv_len, model.index_topk * p.q_len)  # no more than that are different


def indexer(model: "Model", p: Pass, count: int) -> list[Op]:
    """Picks the keys that sparse attention reads: cheap scores of all keys, and the largest of them.
    Source: DeepSeek-V3.2-Exp (DSA), and MiniMax-M3, whose indexer has no learned weights of its heads.
    """
    heads, dim, number = model.index_heads, model.index_head_dim, p.number(count)
    q_in = model.q_lora_rank or model.hidden
    weights = heads if model.q_lora_rank else 0
    return [
        linear("index_q_proj", tokens=p.tokens, d_in=q_in, d_out=heads * dim, **number),
        linear("index_k_proj", tokens=p.tokens, d_in=model.hidden, d_out=dim + weights, **number),
        rms_norm("index_norm", tokens=p.tokens, hidden=dim, weights=2 * dim, **number),
        kv_write("index_write", tokens=p.tokens, kv_heads=1, head_dim=dim, v_head_dim=0, **p.indexed(dim, count)),
        *select(model, p, count, 1),
    ]


def select(model: "Model", p: Pass, count: int, ratio: int) -> list[Op]:
    """Scores of one entry for every `ratio` keys, and the top-k of each query's, which reads them in fp32."""
    pairs, dim = visible_keys(p.q_len, p.kv_len) / ratio, model.index_head_dim
    op = index_scores(
        "index_scores",
        batch=p.batch,
        q_len=p.q_len,
        keys=p.kv_len / ratio,
        pairs=pairs,
        heads=model.index_heads,
        dim=dim,
        split=ratio > 1 or p.few,  # kernels of a paged cache (DeepGEMM) do
        **p.indexed(dim, count),
    )
    number: Tail = {**p.number(count), "elem_bytes": 4}
    return [op, choose("index_topk", rows=p.tokens, width=pairs / p.q_len, top_k=model.index_topk, **number)]


def latent(model: "Model", letter: str, p: Pass, count: int) -> list[Op]:
    """MLA: the cache holds one latent of kv_lora_rank and one rotated key a token. A prompt expands the latents into K
    and V of every head; a single query, and sparse attention, absorb the expansion into q and the output instead and
    run as MQA over the latents. Source: DeepSeek-V2, arXiv:2405.04434, section 2.1.
    """
    heads, latent_dim, turned = model.heads, model.kv_lora_rank, model.qk_rope_head_dim
    nope, v_dim, hidden = model.qk_nope_head_dim, model.v_head_dim, model.hidden
    number, tokens = p.number(count), p.tokens
    q_width, gate = heads * (nope + turned), heads * model.attention_gate_dim
    first = (model.q_lora_rank or q_width) + latent_dim + turned + gate
    ops = p.projection("attention", "qkv_a_proj", hidden, first, count)
    if model.q_lora_rank:
        ops.append(rms_norm("q_norm", tokens=tokens, hidden=model.q_lora_rank, **number))
        ops += p.projection("attention", "q_b_proj", model.q_lora_rank, q_width, count)
    ops.append(rms_norm("kv_norm", tokens=tokens, hidden=latent_dim, **number))
    if model.full_rope:
        ops.append(rope("rope", tokens=tokens, heads=heads, kv_heads=1, head_dim=turned, **number))
    stored = latent_dim + turned
    cached = p.cached(stored, count)
    ops.append(kv_write("kv_write", tokens=tokens, kv_heads=1, head_dim=stored, v_head_dim=0, **cached))
    if letter == "I":
        ops += indexer(model, p, count)
    absorbed = p.absorbed or letter != "F"
    if absorbed:
        ops.append(batched_linear("q_absorb", tokens=tokens, parts=heads, d_in=nope, d_out=latent_dim, **number))
        shape: Shape = {"heads": heads, "kv_heads": 1, "head_dim": stored, "v_head_dim": latent_dim}
    else:
        ops += p.projection(
            "attention", "kv_b_proj", latent_dim, heads * (nope + v_dim), count, rows=p.batch * p.kv_len
        )
        shape = {"heads": heads, "kv_heads": heads, "head_dim": nope + turned, "v_head_dim": v_dim}
    if letter == "F" and not p.naive:
        op = latent_attention(
            "attention",
            batch=p.batch,
            q_len=p.q_len,
            kv_len=p.kv_len,
            heads=heads,
            absorbed=absorbed,
            latent=latent_dim,
            rope_dim=turned,
            nope_dim=nope,
            v_dim=v_dim,
            **(cached if absorbed else number),
        )
        attended = [op]
    else:
        attended = scores(model, letter, p, count, shape, key_elems=stored if absorbed else None)
    if absorbed:
        ops += attended
        ops.append(batched_linear("v_up", tokens=tokens, parts=heads, d_in=latent_dim, d_out=v_dim, **number))
    else:  # K and V are activations here, not the cache
        ops += [replace(op, in_bytes=op.in_bytes + op.kv_bytes, kv_bytes=0) for op in attended]
    if gate:
        ops.append(swiglu("attn_gate", tokens=tokens, intermediate=heads * v_dim, **number))
    return [*ops, *p.projection("attention", "o_proj", heads * v_dim, hidden, count)]


def compressed(model: "Model", letter: str, p: Pass, count: int) -> list[Op]:
    """DeepSeek-V4: queries of all heads share one key, which is the value too. Every layer sees a window (S); some also
    one entry for every few tokens, the best of them by an indexer (A); some all of very compressed entries (H).
    """
    heads, dim, hidden, rank = model.heads, model.head_dim, model.hidden, model.q_lora_rank
    number, tokens, window = p.number(count), p.tokens, model.sliding_window
    name, compressor, entries, pairs, seen = compressed_keys(model, letter, p, count)
    keys = smaller(p.kv_len, window + p.q_len - 1)
    ops = [
        *p.projection("attention", "qkv_a_proj", hidden, rank + dim, count),
        rms_norm("q_norm", tokens=tokens, hidden=rank, **number),
        rms_norm("kv_norm", tokens=tokens, hidden=dim, **number),
        *p.projection("attention", "q_b_proj", rank, heads * dim, count),
        rope("rope", tokens=tokens, heads=heads, kv_heads=1, head_dim=model.rotary_dim or dim, **number),
        kv_write("kv_write", tokens=tokens, kv_heads=1, head_dim=dim, v_head_dim=0, **p.cached(dim, count)),
        *compressor,
    ]
    shape: Shape = {"heads": heads, "kv_heads": 1, "head_dim": dim, "v_head_dim": dim}
    batch, q_len = p.batch, p.q_len
    if p.naive:
        prefix = name.removesuffix("attention")
        ops += naive_attention(prefix=prefix, batch=batch, q_len=q_len, kv_len=keys + entries, **shape, **number)
    else:
        op = attention_over(
            name,
            batch=batch,
            q_len=q_len,
            keys=keys + entries,
            pairs=visible_keys(q_len, p.kv_len, window) + pairs,
            key_elems=dim,
            window=smaller(p.kv_len, window) + seen,
            sinks=heads if letter in model.sink_layers else 0,
            own_keys=letter == "A",
            **shape,
            **p.cached(dim, count),
        )
        ops.append(op)
    groups, o_rank = model.o_groups, model.o_lora_rank
    return [
        *ops,
        batched_linear("o_a_proj", tokens=tokens, parts=groups, d_in=heads * dim // groups, d_out=o_rank, **number),
        *p.projection("attention", "o_b_proj", groups * o_rank, hidden, count),
    ]


def compressed_keys(model: "Model", letter: str, p: Pass, count: int) -> tuple[str, list[Op], Number, Number, Number]:
    """What a layer sees beside its window: (the name of its attention, the kernels that compress the keys, the entries
    that are read, the pairs of a query and an entry, the most entries that one query sees).
    """
    dim, hidden, number, tokens = model.head_dim, model.hidden, p.number(count), p.tokens
    if letter == "A":
        ratio, index_dim = model.compress_ratio, model.index_head_dim
        pool, index_pool = ratio * 2 * dim + dim, ratio * 2 * index_dim + index_dim  # position biases, a norm
        index_q, rank = model.index_heads * index_dim, model.q_lora_rank
        both, index_both = {"width": 2 * dim, "out_width": dim}, {"width": 2 * index_dim, "out_width": index_dim}
        ops = [
            linear("compress_proj", tokens=tokens, d_in=hidden, d_out=4 * dim, **number),
            pooling("compress", tokens=tokens, ratio=ratio, weights=pool, **both, **number),
            linear("index_k_proj", tokens=tokens, d_in=hidden, d_out=4 * index_dim + model.index_heads, **number),
            pooling("index_compress", tokens=tokens, ratio=ratio, weights=index_pool, **index_both, **number),
            linear("index_q_proj", tokens=tokens, d_in=rank, d_out=index_q, **number),
            *select(model, p, count, ratio),
        ]
        pairs = visible_keys(p.q_len, p.kv_len, ratio * model.index_topk) / ratio
        entries = smaller(p.kv_len / ratio, model.index_topk * p.q_len)
        return "compressed_attention", ops, entries, pairs, smaller(p.kv_len / ratio, model.index_topk)
    if letter == "H":
        ratio = model.heavy_ratio
        pool = ratio * dim + dim
        ops = [
            linear("heavy_proj", tokens=tokens, d_in=hidden, d_out=2 * dim, **number),
            pooling("heavy_compress", tokens=tokens, ratio=ratio, width=dim, out_width=dim, weights=pool, **number),
        ]
        return "heavy_attention", ops, p.kv_len / ratio, visible_keys(p.q_len, p.kv_len) / ratio, p.kv_len / ratio
    return "sliding_attention", [], 0, 0, 0


def attention_mixer(model: "Model", letter: str, p: Pass, count: int) -> list[Op]:
    """Whichever attention the model has."""
    if model.o_groups:
        return compressed(model, letter, p, count)
    return (latent if model.kv_lora_rank else grouped_query)(model, letter, p, count)
