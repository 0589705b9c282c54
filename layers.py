"""The kernels of one layer's parts, as engines launch them: a mixer (attention or a recurrence) or an MLP.

`MIXERS` and `MLPS` say which function builds a letter of `Model.mixers` and `Model.mlps`. Reads the `Model` record.
Kernels that differ between kinds of layers have different names, so that those of one name are alike.
"""

from dataclasses import dataclass, replace

import numpy as np

from ops import (
    Number,
    Op,
    activation,
    add_rms_norm,
    attention,
    attention_over,
    batched_linear,
    causal_conv,
    choose,
    combine,
    few_queries,
    gated_norm,
    grouped_linear,
    index_scores,
    kv_write,
    latent_attention,
    linear,
    naive_attention,
    pooling,
    quantize,
    recurrence,
    residual_add,
    rms_norm,
    rope,
    route,
    smaller,
    swiglu,
    visible_in_chunk,
    visible_keys,
)
from precision import Precision


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The sizes of one pass: `batch` sequences, each with `q_len` new tokens that end a context of `kv_len`.

    precision: the formats of the layers' linear layers and of the cache; None: `dtype` throughout. Routers, an
    indexer's projections, absorbed ones, norms, embedding and LM head stay in `dtype`, as checkpoints and engines keep
    them; an indexer's keys and scores are fp8 where anything is.
    imbalance: as in ops.expert_groups. absorb: latent attention always runs on the latents themselves.
    """

    batch: Number
    q_len: Number
    kv_len: Number
    dtype: str
    elem_bytes: int
    naive: bool = False
    precision: Precision | None = None
    imbalance: float = 0.0
    absorb: bool = False

    @property
    def tokens(self) -> Number:
        return self.batch * self.q_len

    @property
    def one_query(self) -> bool:
        return np.ndim(self.q_len) == 0 and self.q_len == 1

    @property
    def absorbed(self) -> bool:
        """Does latent attention run on the latents themselves?"""
        return self.absorb or self.few

    @property
    def few(self) -> bool:
        """Few new tokens after a long context: decode's kernels."""
        return few_queries(self.q_len, self.kv_len)

    def number(self, count: int) -> dict:
        return {"dtype": self.dtype, "elem_bytes": self.elem_bytes, "count": count}

    def cached(self, width: int, count: int) -> dict:
        """`number`, with what an element of the cache takes, whose scales each span `width` elements."""
        held = self.elem_bytes if self.precision is None else self.precision.kv_cache.element_bytes(width)
        return {**self.number(count), "kv_elem_bytes": held}

    def indexed(self, dim: int, count: int) -> dict:
        """`cached` for the keys of an indexer, with what they are multiplied in."""
        if self.precision is None or not self.precision.floats_8_bit:
            return {**self.number(count), "kv_elem_bytes": self.elem_bytes}
        held = self.precision.index_key_bytes(dim, self.elem_bytes)
        return {"dtype": "fp8", "elem_bytes": 1, "count": count, "kv_elem_bytes": held}

    def formats(self, part: str) -> Precision | None:
        """Of the linear layers of one of precision.PARTS."""
        return None if self.precision is None else self.precision.of(part)

    def narrowed(self, part: str, name: str, rows: Number, width: int, count: int) -> list[Op]:
        """The kernel that narrows the input [rows, width] of the product `name`, if there is one."""
        formats = self.formats(part)
        if formats is None or not formats.quantized_activations:
            return []
        return [quantize(f"{name}_quant", tokens=rows, width=width, form=formats.activations, **self.number(count))]

    def projection(
        self, part: str, name: str, d_in: int, d_out: int, count: int, bias: int = 0, rows: Number | None = None
    ) -> list[Op]:
        """A linear layer of a layer on `rows` (default: the pass's tokens), with what narrows its input."""
        rows, formats = self.tokens if rows is None else rows, self.formats(part)
        op = linear(name, tokens=rows, d_in=d_in, d_out=d_out, bias=bias, precision=formats, **self.number(count))
        return [*self.narrowed(part, name, rows, d_in, count), op]


def grouped_query(model, letter: str, p: Pass, count: int) -> list[Op]:
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
    write = {"kv_heads": kv_heads, "head_dim": head_dim, "v_head_dim": v_head_dim}
    ops.append(kv_write(own + "kv_write", tokens=tokens, **write, **p.cached(head_dim, count)))
    if letter == "I":
        ops += indexer(model, p, count)
    shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    shape["v_head_dim"] = None if v_head_dim == head_dim else v_head_dim
    if p.precision is not None and p.precision.narrow_query:
        narrow = {"width": heads * head_dim, "form": p.precision.kv_cache}
        ops.append(quantize(own + "query_quant", tokens=tokens, **narrow, **number))
    ops += scores(model, letter, p, count, shape)
    if model.attention_gate_dim:  # y * sigmoid(gate)
        ops.append(swiglu(own + "attn_gate", tokens=tokens, intermediate=heads * v_head_dim, **number))
    bias = model.hidden if model.o_bias else 0
    o_width = heads * v_head_dim
    return [*ops, *p.projection("attention", own + "o_proj", o_width, model.hidden, count, bias)]


def scores(model, letter: str, p: Pass, count: int, shape: dict) -> list[Op]:
    """Attention itself over the keys that a layer of this letter sees."""
    sizes = {"batch": p.batch, "q_len": p.q_len, **shape}
    sizes |= p.number(count) if p.naive else p.cached(shape["head_dim"], count)
    name = {"F": "", "S": "sliding_", "C": "chunked_"}.get(letter, "sparse_")
    if letter in "FS":
        window = model.sliding_window if letter == "S" else None
        if not p.naive:
            sinks = shape["heads"] if letter in model.sink_layers else 0
            return [attention(name + "attention", kv_len=p.kv_len, window=window, sinks=sinks, **sizes)]
        keys = p.kv_len if window is None else smaller(p.kv_len, window + p.q_len - 1)
    elif letter == "C":
        chunk, keys = model.attention_chunk, p.kv_len
        if p.one_query:
            keys = (keys - 1) % chunk + 1
        if not p.naive:
            pairs = visible_in_chunk(p.q_len, p.kv_len, chunk)
            op = attention_over(name + "attention", keys=keys, pairs=pairs, **sizes)
            parts = 1 if p.one_query else -(-p.kv_len // chunk)  # each chunk is a sequence by itself
            alike = {"batch": p.batch * parts, "q_len": p.q_len / parts, "kv_len": keys / parts}
            return [op if p.one_query else replace(op, dims=op.dims | alike)]
    else:
        keys = smaller(p.kv_len, model.index_topk * p.q_len)  # no more than that are different
        if not p.naive:
            pairs = visible_keys(p.q_len, p.kv_len, model.index_topk)
            window = model.index_topk
            seen = {"keys": keys, "pairs": pairs, "window": window, "own_keys": True}
            return [attention_over(name + "attention", **seen, **sizes)]
    sizes.pop("key_elems", None)
    return naive_attention(prefix=name, kv_len=keys, **sizes)


def indexer(model, p: Pass, count: int) -> list[Op]:
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


def select(model, p: Pass, count: int, ratio: int) -> list[Op]:
    """Scores of one entry for every `ratio` keys, and the top-k of each query's, which reads them in fp32."""
    pairs, dim = visible_keys(p.q_len, p.kv_len) / ratio, model.index_head_dim
    sizes = {"batch": p.batch, "q_len": p.q_len, "heads": model.index_heads, "dim": dim}
    split = ratio > 1 or p.few  # kernels of a paged cache (DeepGEMM) do
    op = index_scores("index_scores", keys=p.kv_len / ratio, pairs=pairs, split=split, **sizes, **p.indexed(dim, count))
    chosen = p.number(count) | {"top_k": model.index_topk, "elem_bytes": 4}
    return [op, choose("index_topk", rows=p.tokens, width=pairs / p.q_len, **chosen)]


def latent(model, letter: str, p: Pass, count: int) -> list[Op]:
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
        shape = {"heads": heads, "kv_heads": 1, "head_dim": stored, "v_head_dim": latent_dim}
    else:
        ops += p.projection(
            "attention", "kv_b_proj", latent_dim, heads * (nope + v_dim), count, rows=p.batch * p.kv_len
        )
        shape = {"heads": heads, "kv_heads": heads, "head_dim": nope + turned, "v_head_dim": v_dim}
    if letter == "F" and not p.naive:
        dims = {"latent": latent_dim, "rope_dim": turned, "nope_dim": nope, "v_dim": v_dim}
        sizes = {"batch": p.batch, "q_len": p.q_len, "kv_len": p.kv_len, "heads": heads, "absorbed": absorbed, **dims}
        attended = [latent_attention("attention", **sizes, **(cached if absorbed else number))]
    else:
        attended = scores(model, letter, p, count, shape if p.naive or not absorbed else shape | {"key_elems": stored})
    if absorbed:
        ops += attended
        ops.append(batched_linear("v_up", tokens=tokens, parts=heads, d_in=latent_dim, d_out=v_dim, **number))
    else:  # K and V are activations here, not the cache
        ops += [replace(op, in_bytes=op.in_bytes + op.kv_bytes, kv_bytes=0) for op in attended]
    if gate:
        ops.append(swiglu("attn_gate", tokens=tokens, intermediate=heads * v_dim, **number))
    return [*ops, *p.projection("attention", "o_proj", heads * v_dim, hidden, count)]


def compressed(model, letter: str, p: Pass, count: int) -> list[Op]:
    """DeepSeek-V4: queries of all heads share one key, which is the value too. Every layer sees a window (S); some also
    one entry for every few tokens, the best of them by an indexer (A); some all of very compressed entries (H).
    """
    heads, dim, hidden, rank = model.heads, model.head_dim, model.hidden, model.q_lora_rank
    number, tokens, window = p.number(count), p.tokens, model.sliding_window
    ops = [
        *p.projection("attention", "qkv_a_proj", hidden, rank + dim, count),
        rms_norm("q_norm", tokens=tokens, hidden=rank, **number),
        rms_norm("kv_norm", tokens=tokens, hidden=dim, **number),
        *p.projection("attention", "q_b_proj", rank, heads * dim, count),
        rope("rope", tokens=tokens, heads=heads, kv_heads=1, head_dim=model.rotary_dim or dim, **number),
        kv_write("kv_write", tokens=tokens, kv_heads=1, head_dim=dim, v_head_dim=0, **p.cached(dim, count)),
    ]
    name, keys, entries, pairs, seen = "sliding_attention", smaller(p.kv_len, window + p.q_len - 1), 0, 0, 0
    if letter == "A":
        ratio, index_dim = model.compress_ratio, model.index_head_dim
        pool, index_pool = ratio * 2 * dim + dim, ratio * 2 * index_dim + index_dim  # position biases, a norm
        index_q = model.index_heads * index_dim
        both, index_both = {"width": 2 * dim, "out_width": dim}, {"width": 2 * index_dim, "out_width": index_dim}
        ops += [
            linear("compress_proj", tokens=tokens, d_in=hidden, d_out=4 * dim, **number),
            pooling("compress", tokens=tokens, ratio=ratio, weights=pool, **both, **number),
            linear("index_k_proj", tokens=tokens, d_in=hidden, d_out=4 * index_dim + model.index_heads, **number),
            pooling("index_compress", tokens=tokens, ratio=ratio, weights=index_pool, **index_both, **number),
            linear("index_q_proj", tokens=tokens, d_in=rank, d_out=index_q, **number),
            *select(model, p, count, ratio),
        ]
        name, pairs = "compressed_attention", visible_keys(p.q_len, p.kv_len, ratio * model.index_topk) / ratio
        entries = smaller(p.kv_len / ratio, model.index_topk * p.q_len)
        seen = smaller(p.kv_len / ratio, model.index_topk)
    elif letter == "H":
        ratio = model.heavy_ratio
        ops += [
            linear("heavy_proj", tokens=tokens, d_in=hidden, d_out=2 * dim, **number),
            pooling(
                "heavy_compress",
                tokens=tokens,
                ratio=ratio,
                width=dim,
                out_width=dim,
                weights=ratio * dim + dim,
                **number,
            ),
        ]
        name, pairs = "heavy_attention", visible_keys(p.q_len, p.kv_len) / ratio
        entries = seen = p.kv_len / ratio
    shape = {"heads": heads, "kv_heads": 1, "head_dim": dim, "batch": p.batch, "q_len": p.q_len}
    if p.naive:
        ops += naive_attention(prefix=name.removesuffix("attention"), kv_len=keys + entries, **shape, **number)
    else:
        pairs = visible_keys(p.q_len, p.kv_len, window) + pairs
        sinks = heads if letter in model.sink_layers else 0
        seen = smaller(p.kv_len, window) + seen
        shape |= {"v_head_dim": dim, "key_elems": dim, "window": seen, "sinks": sinks, **p.cached(dim, count)}
        shape["own_keys"] = letter == "A"
        ops.append(attention_over(name, keys=keys + entries, pairs=pairs, **shape))
    groups, o_rank = model.o_groups, model.o_lora_rank
    return [
        *ops,
        batched_linear("o_a_proj", tokens=tokens, parts=groups, d_in=heads * dim // groups, d_out=o_rank, **number),
        *p.projection("attention", "o_b_proj", groups * o_rank, hidden, count),
    ]


def attention_mixer(model, letter: str, p: Pass, count: int) -> list[Op]:
    """Whichever attention the model has."""
    if model.o_groups:
        return compressed(model, letter, p, count)
    return (latent if model.kv_lora_rank else grouped_query)(model, letter, p, count)


def recurrent(model, letter: str, p: Pass, count: int) -> list[Op]:
    """Mamba-2 (M), gated delta net (G), Kimi delta attention (K): projections, a short convolution over q, k and v (B,
    C and x), the recurrence, a gated norm.
    """
    key_heads, heads, key_dim, value_dim = model.recurrent_shape
    keys, values, hidden = key_heads * key_dim, heads * value_dim, model.hidden
    name = {"M": "mamba_", "G": "delta_", "K": "kda_"}[letter]
    number, tokens, channels = p.number(count), p.tokens, 2 * keys + values
    # beside q, k, v and the output gate: what decides decay and step size
    extra, weights = {"M": (heads, 3 * heads), "G": (2 * heads, 2 * heads), "K": (key_dim + heads, keys + heads)}[
        letter
    ]
    gate = key_dim if model.linear_gate_low_rank else values
    ops = p.projection("attention", name + "in_proj", hidden, channels + gate + extra, count)
    if model.linear_gate_low_rank:
        ops += p.projection("attention", name + "gate_proj", key_dim, values, count)
    if letter == "K":
        ops += p.projection("attention", name + "decay_proj", key_dim, keys, count)
    bias, taps = channels if model.conv_bias else 0, model.linear_conv_width
    one_per_head = {"rows": tokens * heads, "width": value_dim, "weights": value_dim}
    norm = {"rows": tokens, "width": values, "weights": values} if letter == "M" else one_per_head
    sizes = {"batch": p.batch, "q_len": p.q_len}
    return [
        *ops,
        causal_conv(name + "conv", channels=channels, taps=taps, bias=bias, **sizes, **number),
        recurrence(
            name + ("state_update" if p.one_query else "scan"),
            key_heads=key_heads,
            value_heads=heads,
            key_dim=key_dim,
            value_dim=value_dim,
            chunk=model.linear_chunk,
            delta_rule=letter != "M",
            state_elem_bytes=model.state_elem_bytes,
            decays=key_dim if letter == "K" else 1,
            weights=weights,
            **sizes,
            **number,
        ),
        gated_norm(name + "norm", **norm, **number),
        *p.projection("attention", name + "out_proj", values, hidden, count),
    ]


def mlp(model, p: Pass, count: int, *, d_in: int, width: int, names: tuple, bias: bool, part: str = "mlp"):
    """Up (and gate), activation, down. `names` of the three."""
    up, act, down = names
    factor, function = (2, swiglu) if model.gated_mlp else (1, activation)
    return [
        *p.projection(part, up, d_in, factor * width, count, factor * width * bias),
        function(act, tokens=p.tokens, intermediate=width, **p.number(count)),
        *p.projection(part, down, width, d_in, count, d_in * bias),
    ]


def dense(model, letter: str, p: Pass, count: int) -> list[Op]:
    """The MLP of a dense layer: `intermediate` wide (D), or one of the other widths (a is the first)."""
    other = letter.islower()
    width = model.other_widths[ord(letter) - ord("a")] if other else model.intermediate
    end = f"_{width}" if other else ""
    names = ("gate_up_proj", "swiglu") if model.gated_mlp else ("up_proj", "activation")
    names = tuple(name + end for name in (*names, "down_proj"))
    return mlp(model, p, count, d_in=model.hidden, width=width, names=names, bias=model.mlp_bias)


def mixture(model, letter: str, p: Pass, count: int) -> list[Op]:
    """Router, top-k, the chosen experts in two grouped GEMMs, their weighted sum; shared experts as a dense MLP.
    Letter H: experts chosen by the token, with no bias of the router.
    """
    hidden, experts, chosen, width = model.hidden, model.experts, model.experts_per_token, model.expert_intermediate
    tokens, number, inner = p.tokens, p.number(count), model.moe_latent or model.hidden
    factor, act = (2, "swiglu") if model.gated_mlp else (1, "activation")
    hashed = "hash_" if letter == "H" else ""
    bias = experts if model.router_bias and not hashed else 0
    per_expert_scale = experts if letter == "B" else 0
    group = {"tokens": tokens, "experts": experts, "top_k": chosen, **number}
    group |= {"precision": p.formats("experts"), "imbalance": p.imbalance, "width": width}
    up_bias, down_bias = (factor * width, inner) if model.expert_bias else (0, 0)
    rows = {"tokens": tokens * chosen, "intermediate": width, **number}
    ops = [
        linear(hashed + "router", tokens=tokens, d_in=hidden, d_out=experts, bias=bias, **number),
        route("route", tokens=tokens, experts=experts, top_k=chosen, weights=per_expert_scale, **number),
    ]
    if model.moe_latent:
        ops += p.projection("mlp", "latent_down", hidden, inner, count)
        if model.moe_latent_norm:
            ops.append(rms_norm("latent_norm", tokens=tokens, hidden=inner, **number))
    ops += [
        *p.narrowed("experts", "experts_up", tokens, inner, count),
        grouped_linear("experts_up", d_in=inner, d_out=factor * width, bias=up_bias, **group),
        (swiglu if model.gated_mlp else activation)("experts_" + act, **rows),
        *p.narrowed("experts", "experts_down", tokens * chosen, width, count),
        grouped_linear("experts_down", d_in=width, d_out=inner, bias=down_bias, **group),
        combine("experts_combine", tokens=tokens, top_k=chosen, hidden=inner, **number),
    ]
    if model.moe_latent:
        ops += p.projection("mlp", "latent_up", inner, hidden, count)
    if model.shared_expert_intermediate:
        names = ("shared_up", "shared_" + act, "shared_down")
        shared = model.shared_expert_intermediate
        ops += mlp(model, p, count, d_in=hidden, width=shared, names=names, bias=False, part="shared")
        if model.shared_expert_gate:
            ops.append(linear("shared_gate", tokens=tokens, d_in=hidden, d_out=1, **number))
        ops.append(residual_add("shared_add", tokens=tokens, hidden=hidden, **number))
    return ops


def both(model, letter: str, p: Pass, count: int) -> list[Op]:
    """A dense MLP and a mixture beside it, each with norms of its own (Gemma 4)."""
    number = {"tokens": p.tokens, "hidden": model.hidden, **p.number(count)}
    return [
        *dense(model, letter, p, count),
        rms_norm("mlp_inner_norm", **number),
        rms_norm("router_norm", **number),
        rms_norm("experts_norm", **number),
        *mixture(model, letter, p, count),
        rms_norm("experts_post_norm", **number),
        residual_add("experts_add", **number),
    ]


def after(model, part: str, p: Pass, count: int) -> list[Op]:
    """What follows a part: its output joins the residual stream, which is normed for the next part."""
    number, tokens, hidden = p.number(count), p.tokens, model.hidden
    if model.parallel_block and part == "attn":  # one norm for both parts; their sum joins with the MLP
        return []
    ops = [rms_norm(part + "_post_norm", tokens=tokens, hidden=hidden, **number)] if model.sandwich_norms else []
    if model.layer_scalar and part == "mlp":
        ops.append(residual_add("layer_scale", tokens=tokens, hidden=hidden, weights=1, **number))
    streams = model.residual_streams
    if streams == 1:
        return [*ops, add_rms_norm(part + "_add_norm", tokens=tokens, hidden=hidden, **number)]
    maps = 2 * streams + streams**2  # into the part, out of it, among the streams (hyper-connections)
    return [
        *ops,
        linear("stream_proj", tokens=tokens, d_in=streams * hidden, d_out=maps, bias=maps + 3, **number),
        residual_add("stream_mix", tokens=tokens, hidden=streams * hidden, **number),
        rms_norm(part + "_norm", tokens=tokens, hidden=hidden, **number),
    ]


MIXERS = dict.fromkeys("FSCITAH", attention_mixer) | dict.fromkeys("MGK", recurrent)
MLPS = dict.fromkeys("Dabcdefghijkl", dense) | {"E": mixture, "H": mixture, "B": both}
NONE = "-"  # of either: the layer has no such part
