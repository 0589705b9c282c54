"""The work of one kernel, and one small function per kernel that counts it. No hardware, no time.

Sizes may be Python ints (exact) or float numpy arrays (a sweep): everything below is straight-line
arithmetic, so both pass through. A multiply-add is 2 FLOPs. Bytes are what DRAM must move at the
least: every operand once per launch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray

from ridgepoint.experts import distinct_experts

Number = int | float | ndarray

TOKEN_ID_BYTES = 8  # int64, as torch's embedding takes and argmax returns


@dataclass(frozen=True, kw_only=True)
class Op:
    """One kernel, launched `count` times per pass. FLOPs and bytes are those of one launch.

    `flops` counts the operations on `unit` ("tensor": tensor cores, "vector": CUDA cores); `dtype`
    is what it computes in. Bytes go by role, since batching, quantization and context act on
    different roles: weights (read once per launch), KV cache (read and written), activations.
    """

    name: str
    kind: str  # gemm, attention, norm, ...: the keys of cycles.KERNELS
    unit: str = "vector"
    dtype: str
    flops: Number
    weight_bytes: Number = 0
    kv_bytes: Number = 0
    in_bytes: Number = 0
    out_bytes: Number = 0
    count: Number = 1
    dims: Mapping[str, Number]  # the sizes a timing model needs beyond FLOPs and bytes

    @property
    def bytes(self) -> Number:
        return self.weight_bytes + self.kv_bytes + self.in_bytes + self.out_bytes

    @property
    def activation_bytes(self) -> Number:
        return self.in_bytes + self.out_bytes


def _operands(d_in: int, dtype: str, elem_bytes: int, precision) -> tuple[str, float, float, dict]:
    """What a product multiplies, the bytes of an element of x and of W with their scales, and the dims that say so."""
    if precision is None:
        return dtype, elem_bytes, elem_bytes, {}
    a_bytes, b_bytes = (form.element_bytes(d_in) for form in (precision.activations, precision.weights))
    widths = {"a_bytes": a_bytes, "b_bytes": b_bytes, "c_bytes": elem_bytes}
    if precision.activations.group:
        widths["scale_group"] = precision.activations.group
    return precision.mma_dtype, a_bytes, b_bytes, widths


def linear(
    name: str,
    *,
    tokens: Number,
    d_in: int,
    d_out: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    bias: int = 0,
    precision=None,
) -> Op:
    """y[t, out] = x[t, in] @ W[in, out].
    flops = 2*t*in*out (a multiply-add is 2); W is read once per launch. bias: elements read beside W.
    precision: a precision.Precision, whose formats W and x then have, scales included; y has elem_bytes.
    Source: equals torch FlopCounterMode's aten.mm (tests/test_oracle.py).
    >>> linear("q", tokens=1, d_in=4096, d_out=4096, dtype="fp16", elem_bytes=2).flops
    33554432
    """
    dtype, a_bytes, b_bytes, widths = _operands(d_in, dtype, elem_bytes, precision)
    return Op(
        name=name,
        kind="gemm",
        unit="tensor",
        dtype=dtype,
        flops=2 * d_in * d_out * tokens,
        weight_bytes=d_in * d_out * b_bytes + bias * elem_bytes,
        in_bytes=d_in * a_bytes * tokens,
        out_bytes=d_out * elem_bytes * tokens,
        count=count,
        dims={"m": tokens, "n": d_out, "k": d_in, **widths},
    )


def batched_linear(
    name: str,
    *,
    tokens: Number,
    parts: int,
    d_in: int,
    d_out: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
) -> Op:
    """`parts` linears side by side in one launch, each with its own weights and its own slice of the input: one a
    head, say. flops = 2*t*parts*in*out.
    """
    return Op(
        name=name,
        kind="gemm",
        unit="tensor",
        dtype=dtype,
        flops=2 * parts * d_in * d_out * tokens,
        weight_bytes=parts * d_in * d_out * elem_bytes,
        in_bytes=parts * d_in * elem_bytes * tokens,
        out_bytes=parts * d_out * elem_bytes * tokens,
        count=count,
        dims={"m": tokens, "n": d_out, "k": d_in, "batch": parts},
    )


def quantize(name: str, *, tokens: Number, width: int, dtype: str, elem_bytes: int, form, count: int = 1) -> Op:
    """Narrows the activations before a GEMM: reads x, writes it in `form` (a precision.Format) with its scales.
    3 per element: magnitude, maximum, multiply.
    """
    return Op(
        name=name,
        kind="quantize",
        dtype=dtype,
        flops=3 * width * tokens,
        in_bytes=width * elem_bytes * tokens,
        out_bytes=width * form.element_bytes(width) * tokens,
        count=count,
        dims={"rows": tokens, "width": width},
    )


def grouped_linear(
    name: str,
    *,
    tokens: Number,
    experts: int,
    top_k: int,
    d_in: int,
    d_out: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    bias: int = 0,
    imbalance: float = 0.0,
    precision=None,
    width: int | None = None,
) -> Op:
    """One linear layer of a mixture of experts: each of tokens * top_k (token, expert) pairs through its expert, all
    experts in one launch. flops = 2 * pairs * in * out; only the weights of experts that are chosen are read.
    bias: elements that an expert has beside its matrix. precision: as in `linear`.
    imbalance: the load of the r-th busiest expert goes with r ** -imbalance; 0 is uniform. width: of an expert between
    its two layers (d_out).
    """
    pairs = top_k * tokens
    active = distinct_experts(tokens, experts, top_k, imbalance)
    dtype, a_bytes, b_bytes, widths = _operands(d_in, dtype, elem_bytes, precision)
    return Op(
        name=name,
        kind="grouped_gemm",
        unit="tensor",
        dtype=dtype,
        flops=2 * d_in * d_out * pairs,
        weight_bytes=(d_in * d_out * b_bytes + bias * elem_bytes) * active,
        in_bytes=d_in * a_bytes * pairs,
        out_bytes=d_out * elem_bytes * pairs,
        count=count,
        dims={
            "m": pairs,
            "n": d_out,
            "k": d_in,
            "experts": experts,
            "active": active,
            "width": d_out if width is None else width,
        }
        | {"tokens": tokens, "top_k": top_k, "imbalance": imbalance, **widths},
    )


def route(
    name: str,
    *,
    tokens: Number,
    experts: int,
    top_k: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    weights: int = 0,
) -> Op:
    """Chooses each token's experts from the router's logits: a softmax (5 per logit: max, subtract, exp, sum, divide)
    and a top-k (a compare per logit); writes an index and a weight, 4 bytes each, for each of its experts.
    weights: learned scales of the experts.
    """
    logits = experts * tokens
    return Op(
        name=name,
        kind="route",
        dtype=dtype,
        flops=6 * logits,
        weight_bytes=weights * elem_bytes,
        in_bytes=elem_bytes * logits,
        out_bytes=8 * top_k * tokens,
        count=count,
        dims={"rows": tokens, "width": experts},
    )


def combine(name: str, *, tokens: Number, top_k: int, hidden: int, dtype: str, elem_bytes: int, count: int = 1) -> Op:
    """Sums the results of each token's experts by their weights: a multiply-add per element of each."""
    return Op(
        name=name,
        kind="combine",
        dtype=dtype,
        flops=2 * top_k * hidden * tokens,
        in_bytes=top_k * hidden * elem_bytes * tokens,
        out_bytes=hidden * elem_bytes * tokens,
        count=count,
        dims={"rows": tokens, "width": top_k * hidden},
    )


def visible_keys(q_len: Number, kv_len: Number, window: Number | None = None) -> Number:
    """Sum over the q queries of the keys each sees under a causal mask; query i (from 0) of q sees kv-q+i+1, or the
    last `window` of them. = q*(kv-q) + q*(q+1)/2, less what the window cuts. Exact in integers: q*(q+1) is even.
    >>> visible_keys(4, 4)  # 1 + 2 + 3 + 4
    10
    >>> visible_keys(1, 4096)
    4096
    >>> visible_keys(4, 4, window=2)  # 1 + 2 + 2 + 2
    7
    """
    every = q_len * (kv_len - q_len) + q_len * (q_len + 1) // 2
    if window is None:
        return every
    last, before = kv_len - window, kv_len - q_len - window  # keys that the last query misses, and one before all
    last, before = last * (last > 0), before * (before > 0)
    return every - (last * (last + 1) // 2 - before * (before + 1) // 2)


FEW = 16  # new tokens per sequence that engines still run as a decode step, as they verify guesses


def few_queries(q_len: Number, kv_len: Number) -> bool:
    """Does a pass decode (one new token), or verify a few guesses after a long context? It then runs decode's kernels,
    with the queries of a sequence in one tile.
    """
    return np.ndim(q_len) == 0 and q_len <= FEW and bool(np.all(np.asarray(kv_len) > q_len))


def smaller(a: Number, b: Number) -> Number:
    """The smaller of the two, element by element; an int where both are."""
    return min(a, b) if np.ndim(a) == np.ndim(b) == 0 else np.minimum(a, b)


def larger(a: Number, b: Number) -> Number:
    """The larger of the two, element by element; an int where both are."""
    return max(a, b) if np.ndim(a) == np.ndim(b) == 0 else np.maximum(a, b)


def visible_in_chunk(q_len: Number, kv_len: Number, chunk: int) -> Number:
    """visible_keys where a query sees only its own chunk of the context: keys from the last multiple of `chunk` on.
    >>> visible_in_chunk(5, 5, 2)  # 1 + 2, 1 + 2, 1
    7
    """

    def up_to(position):
        chunks, rest = position // chunk, position % chunk
        return chunks * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2

    return up_to(kv_len) - up_to(kv_len - q_len)


def attention(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    kv_len: Number,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    kv_elem_bytes: float | None = None,
    v_head_dim: int | None = None,
    window: Number | None = None,
    sinks: int = 0,
) -> Op:
    """Causal flash attention: o[b, q, h, d] = softmax(Q K^T / sqrt(d)) V, scores never leave the SM.
    flops = 2 matmuls * 2 * d * (batch * heads * visible keys); K and V are read once per KV head (GQA).
    The softmax runs on the CUDA cores beside the MMAs and is not in `flops`.
    kv_elem_bytes: of an element of the cache with its scales, if not elem_bytes; the MMAs stay in `dtype`.
    v_head_dim: d of V and the output, where it isn't head_dim. sinks: learned logits.
    window: a sliding layer's queries see no more than so many keys, and older ones are not read.
    Source: FlashAttention-2, arXiv:2307.08691, section 3; FLOPs equal torch's two bmm, less the masked half.
    >>> attention("a", batch=1, q_len=1, kv_len=10, heads=4, kv_heads=1, head_dim=2,
    ...     dtype="fp16", elem_bytes=2).flops  # 4 * 2 * 4 heads * 10 keys
    320
    """
    keys = kv_len if window is None else smaller(kv_len, window + q_len - 1)
    return attention_over(
        name,
        batch=batch,
        q_len=q_len,
        keys=keys,
        pairs=visible_keys(q_len, kv_len, window),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=v_head_dim,
        window=window,
        dtype=dtype,
        elem_bytes=elem_bytes,
        kv_elem_bytes=kv_elem_bytes,
        count=count,
        sinks=sinks,
    )


def attention_over(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    keys: Number,
    pairs: Number,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    kv_elem_bytes: float | None = None,
    v_head_dim: int | None = None,
    key_elems: int | None = None,
    window: Number | None = None,
    sinks: int = 0,
    own_keys: bool = False,
) -> Op:
    """Flash attention whose mask is described by its result: `pairs` of a query and a key that it sees, in each
    sequence and head, over `keys` that are read once: `key_elems` elements of each and KV head, K and V unless said.

    In `dims`: kv_width, the elements of a key and its value together, where one is part of the other or they differ;
    window, the most keys that a query sees; own_keys, where those of one query are not those of the next.
    """
    value_dim = head_dim if v_head_dim is None else v_head_dim
    both = head_dim + value_dim
    stored = both if key_elems is None else key_elems
    kv_elem_bytes = kv_elem_bytes or elem_bytes
    return Op(
        name=name,
        kind="attention",
        unit="tensor",
        dtype=dtype,
        flops=2 * heads * both * batch * pairs,
        weight_bytes=sinks * elem_bytes,
        kv_bytes=kv_heads * stored * kv_elem_bytes * batch * keys,
        in_bytes=elem_bytes * (heads * head_dim * batch * q_len),
        out_bytes=elem_bytes * (heads * value_dim * batch * q_len),
        count=count,
        dims={
            "batch": batch,
            "q_len": q_len,
            "kv_len": keys,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "kv_elem_bytes": kv_elem_bytes,
            "io_elem_bytes": elem_bytes,
        }
        | ({} if v_head_dim is None else {"v_head_dim": value_dim, "kv_width": stored})
        | ({} if window is None else {"window": window})
        | ({"own_keys": True} if own_keys else {}),
    )


def index_scores(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    keys: Number,
    pairs: Number,
    heads: int,
    dim: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    kv_elem_bytes: float | None = None,
    split: bool = False,
) -> Op:
    """Scores of `pairs` of a query and a key in each sequence: the sum over heads of w_h * relu(q_h . k), one key for
    all heads, 2*heads*dim FLOPs each; written in fp32. split: the kernel divides the keys of a query among CTAs.
    Source: DeepSeek-V3.2-Exp, section 2.1 (lightning indexer).
    """
    return Op(
        name=name,
        kind="index_scores",
        unit="tensor",
        dtype=dtype,
        flops=2 * heads * dim * batch * pairs,
        kv_bytes=dim * (kv_elem_bytes or elem_bytes) * batch * keys,
        in_bytes=(dim * elem_bytes + 4) * heads * batch * q_len,
        out_bytes=4 * batch * pairs,
        count=count,
        dims={"batch": batch, "q_len": q_len, "pairs": pairs, "heads": heads, "dim": dim, "split": split},
    )


def latent_attention(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    kv_len: Number,
    heads: int,
    absorbed: bool,
    latent: int = 512,
    rope_dim: int = 64,
    nope_dim: int = 128,
    v_dim: int = 128,
    dtype: str,
    elem_bytes: int,
    kv_elem_bytes: float | None = None,
    count: int = 1,
) -> Op:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1), causal. As prefill runs it: heads of
    their own keys (nope_dim + rope_dim) and values (v_dim), expanded before. absorbed, as decode does: all heads
    share one key per token, its latent vector and rope_dim elements, of which the latent is the value too.
    flops = 2 * (key + value dim) * heads * visible keys.
    >>> latent_attention("a", batch=1, q_len=1, kv_len=10, heads=2, absorbed=True, dtype="bf16", elem_bytes=2).kv_bytes
    11520
    """
    d, v = (latent + rope_dim, latent) if absorbed else (nope_dim + rope_dim, v_dim)
    kv_heads, key_elems = (1, d) if absorbed else (heads, d + v)
    op = attention_over(
        name,
        batch=batch,
        q_len=q_len,
        keys=kv_len,
        pairs=visible_keys(q_len, kv_len),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=d,
        v_head_dim=v,
        key_elems=key_elems,
        dtype=dtype,
        elem_bytes=elem_bytes,
        kv_elem_bytes=kv_elem_bytes,
        count=count,
    )
    return replace(op, dims=dict(op.dims) | {"rotated": rope_dim})


def naive_attention(
    *,
    batch: Number,
    q_len: Number,
    kv_len: Number,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    v_head_dim: int | None = None,
    prefix: str = "",
) -> list[Op]:
    """Unfused attention: QK^T, softmax, PV as three kernels, the scores going through DRAM between them.
    Unlike flash attention it computes the full q x kv square: a batched GEMM can't skip the masked half.
    flops = 2*b*h*q*kv*d for each GEMM; 5 per score for the softmax (scale, max, subtract, exp, sum/divide).
    Source: torch FlopCounterMode's aten.bmm for QK^T and PV.
    """
    scores = heads * batch * q_len * kv_len
    value_dim = v_head_dim or head_dim
    q_bytes, out_bytes = (heads * dim * elem_bytes * batch * q_len for dim in (head_dim, value_dim))
    k_bytes, v_bytes = (kv_heads * dim * elem_bytes * batch * kv_len for dim in (head_dim, value_dim))
    common = {"dtype": dtype, "count": count}
    # one independent GEMM per (sequence, KV head); the query heads of a group are stacked along m
    group_rows, groups = heads // kv_heads * q_len, kv_heads * batch
    return [
        Op(
            name=prefix + "qk_scores",
            kind="gemm",
            unit="tensor",
            flops=2 * head_dim * scores,
            in_bytes=q_bytes,
            kv_bytes=k_bytes,
            out_bytes=elem_bytes * scores,
            dims={"m": group_rows, "n": kv_len, "k": head_dim, "batch": groups},
            **common,
        ),
        Op(
            name=prefix + "softmax",
            kind="softmax",
            flops=5 * scores,
            in_bytes=elem_bytes * scores,
            out_bytes=elem_bytes * scores,
            dims={"rows": heads * batch * q_len, "width": kv_len},
            **common,
        ),
        Op(
            name=prefix + "pv",
            kind="gemm",
            unit="tensor",
            flops=2 * value_dim * scores,
            in_bytes=elem_bytes * scores,
            kv_bytes=v_bytes,
            out_bytes=out_bytes,
            dims={"m": group_rows, "n": value_dim, "k": kv_len, "batch": groups},
            **common,
        ),
    ]


def rms_norm(
    name: str,
    *,
    tokens: Number,
    hidden: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    weights: int | None = None,
) -> Op:
    """y = x / rms(x) * w. 4 per element: square, sum, times 1/rms, times w. Reads and writes the row once.
    `weights`: elements of w, where they are not one for each of the row.
    >>> rms_norm("n", tokens=1, hidden=4096, dtype="fp16", elem_bytes=2).bytes  # x, w, y: 3 * 8192
    24576
    """
    return Op(
        name=name,
        kind="norm",
        dtype=dtype,
        flops=4 * hidden * tokens,
        weight_bytes=(hidden if weights is None else weights) * elem_bytes,
        in_bytes=hidden * elem_bytes * tokens,
        out_bytes=hidden * elem_bytes * tokens,
        count=count,
        dims={"rows": tokens, "width": hidden},
    )


def gated_norm(
    name: str,
    *,
    rows: Number,
    width: int,
    weights: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
) -> Op:
    """y = x / rms(x) * w * silu(z): rms_norm's 4 per element and swiglu's 5; reads x and the gate z."""
    return Op(
        name=name,
        kind="norm",
        dtype=dtype,
        flops=9 * width * rows,
        weight_bytes=weights * elem_bytes,
        in_bytes=2 * width * elem_bytes * rows,
        out_bytes=width * elem_bytes * rows,
        count=count,
        dims={"rows": rows, "width": width},
    )


def add_rms_norm(name: str, *, tokens: Number, hidden: int, dtype: str, elem_bytes: int, count: int = 1) -> Op:
    """r = r + x; y = r / rms(r) * w: the residual add fused with the norm that follows it, as engines do.
    5 per element (the add, then rms_norm's 4); reads x and r, writes r and y.
    """
    return Op(
        name=name,
        kind="norm",
        dtype=dtype,
        flops=5 * hidden * tokens,
        weight_bytes=hidden * elem_bytes,
        in_bytes=2 * hidden * elem_bytes * tokens,
        out_bytes=2 * hidden * elem_bytes * tokens,
        count=count,
        dims={"rows": tokens, "width": hidden},
    )


def residual_add(
    name: str,
    *,
    tokens: Number,
    hidden: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    weights: int = 0,
) -> Op:
    """r = r + x, where it is not fused with a norm: 1 per element, two tensors in, one out."""
    return Op(
        name=name,
        kind="residual",
        dtype=dtype,
        flops=hidden * tokens,
        weight_bytes=weights * elem_bytes,
        in_bytes=2 * hidden * elem_bytes * tokens,
        out_bytes=hidden * elem_bytes * tokens,
        count=count,
        dims={"rows": tokens, "width": hidden},
    )


def rope(
    name: str,
    *,
    tokens: Number,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
) -> Op:
    """Rotates Q and K in place: per pair (x1*cos - x2*sin, x2*cos + x1*sin), 6 per pair = 3 per element.
    Reads and writes every element, and reads one cos and one sin per pair position of each token.
    """
    elems = (heads + kv_heads) * head_dim * tokens
    return Op(
        name=name,
        kind="rope",
        dtype=dtype,
        flops=3 * elems,
        in_bytes=elem_bytes * elems + head_dim * elem_bytes * tokens,
        out_bytes=elem_bytes * elems,
        count=count,
        dims={"rows": tokens, "width": (heads + kv_heads) * head_dim},
    )


def kv_write(
    name: str,
    *,
    tokens: Number,
    kv_heads: int,
    head_dim: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    kv_elem_bytes: float | None = None,
    v_head_dim: int | None = None,
) -> Op:
    """Copies this pass's K and V into the cache: no FLOPs, one read and one write per element.
    kv_elem_bytes: of an element of the cache with its scales, if not elem_bytes. v_head_dim: of V, if not head_dim.
    """
    width = kv_heads * (head_dim + (head_dim if v_head_dim is None else v_head_dim))
    elems = width * tokens
    return Op(
        name=name,
        kind="kv_write",
        dtype=dtype,
        flops=0,
        in_bytes=elem_bytes * elems,
        kv_bytes=(kv_elem_bytes or elem_bytes) * elems,
        count=count,
        dims={"rows": tokens, "width": width},
    )


def swiglu(name: str, *, tokens: Number, intermediate: int, dtype: str, elem_bytes: int, count: int = 1) -> Op:
    """y = silu(gate) * up with silu(x) = x / (1 + exp(-x)): exp, add, divide, two multiplies = 5 per output.
    Reads gate and up (2 * intermediate per token), writes intermediate.
    """
    return Op(
        name=name,
        kind="swiglu",
        dtype=dtype,
        flops=5 * intermediate * tokens,
        in_bytes=2 * intermediate * elem_bytes * tokens,
        out_bytes=intermediate * elem_bytes * tokens,
        count=count,
        dims={"rows": tokens, "width": intermediate},
    )


def activation(name: str, *, tokens: Number, intermediate: int, dtype: str, elem_bytes: int, count: int = 1) -> Op:
    """y = max(x, 0)**2, or another function without a gate: 2 per element, one tensor in, one out."""
    return Op(
        name=name,
        kind="activation",
        dtype=dtype,
        flops=2 * intermediate * tokens,
        in_bytes=intermediate * elem_bytes * tokens,
        out_bytes=intermediate * elem_bytes * tokens,
        count=count,
        dims={"rows": tokens, "width": intermediate},
    )


def top_k(
    name: str,
    *,
    rows: Number,
    width: Number,
    top_k: Number,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    weights: int = 0,
) -> Op:
    """Of each row of `width` scores the `top_k` largest: softmax or sigmoid, a compare and a sum, 5 per score; writes
    a 4-byte index and a 4-byte weight for each that is chosen. `weights`: learned scales of the scores.
    """
    return Op(
        name=name,
        kind="topk",
        dtype=dtype,
        flops=5 * width * rows,
        weight_bytes=weights * elem_bytes,
        in_bytes=width * elem_bytes * rows,
        out_bytes=8 * top_k * rows,
        count=count,
        dims={"rows": rows, "width": width, "chosen": top_k},
    )


def pooling(
    name: str,
    *,
    tokens: Number,
    ratio: int,
    width: int,
    out_width: int,
    weights: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
) -> Op:
    """Compresses every `ratio` tokens into one cache entry, a softmax-weighted mean: reads values and logits, `width`
    of each a token, 6 per pair; writes an entry of `out_width` to the cache.
    """
    return Op(
        name=name,
        kind="pooling",
        dtype=dtype,
        flops=6 * width * tokens,
        weight_bytes=weights * elem_bytes,
        in_bytes=2 * width * elem_bytes * tokens,
        kv_bytes=out_width * elem_bytes * tokens / ratio,
        count=count,
        dims={"rows": tokens, "width": 2 * width},
    )


def causal_conv(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    channels: int,
    taps: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    bias: int = 0,
) -> Op:
    """A short causal convolution along the tokens, each channel by itself, and SiLU: 2 per tap and 4 per element.
    The last taps - 1 inputs of each sequence are its state, read and written (role: KV cache).
    """
    elems, one = channels * batch * q_len, np.ndim(q_len) == 0 and q_len == 1
    return Op(
        name=name,
        kind="conv_update" if one else "conv",
        dtype=dtype,
        flops=(2 * taps + 4) * elems,
        weight_bytes=(channels * taps + bias) * elem_bytes,
        kv_bytes=2 * channels * (taps - 1) * elem_bytes * batch,
        in_bytes=elem_bytes * elems,
        out_bytes=elem_bytes * elems,
        count=count,
        dims={"rows": batch * q_len, "width": channels},
    )


def recurrence(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    value_dim: int,
    chunk: int,
    delta_rule: bool,
    state_elem_bytes: int,
    weights: int,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    decays: int = 1,
) -> Op:
    """Linear attention: for each value head a state S[key_dim, value_dim] that each token decays, updates and reads.

    One token (q_len 1): the state is read and written whole; 2 matrix-vector products of 2*dk*dv and the decay, and
    with the delta rule one product more. Many tokens: in chunks of C, of which the part within a chunk is causal
    attention, C*(dk + dv) FLOPs a token and head (with the delta rule also the triangular system, C*(2*dk + dv)),
    and the part between chunks 4*dk*dv (6*dk*dv). decays: of a head and token, 1 or one for each row of the state.
    Bytes are those of one kernel that keeps everything else on the chip; dims passed_bytes, and passed_states for each
    chunk: what several kernels pass on to each other through DRAM beside them (`_passed_bytes`).
    Sources: Mamba-2, arXiv:2405.21060, section 6; Gated DeltaNet, arXiv:2412.06464, section 3.
    """
    tokens, state = batch * q_len, value_heads * key_dim * value_dim
    one = np.ndim(q_len) == 0 and q_len == 1
    products = 6 if delta_rule else 4
    io_elems = 2 * key_heads * key_dim + value_heads * (value_dim + decays + delta_rule)
    within = chunk * value_heads * ((3 * key_dim + 2 * value_dim) if delta_rule else (key_dim + value_dim))
    per_token, per_chunk = _passed_bytes(
        key_dim, value_dim, chunk, key_heads / value_heads, delta_rule, decays, elem_bytes
    )
    return Op(
        name=name,
        kind="state_update" if one else "scan",
        unit="vector" if one else "tensor",
        dtype=dtype,
        flops=((products + 1) * state if one else within + products * state) * tokens,
        weight_bytes=weights * elem_bytes,
        kv_bytes=(2 if one else 1) * state * state_elem_bytes * batch,
        in_bytes=io_elems * elem_bytes * tokens,
        out_bytes=value_heads * value_dim * elem_bytes * tokens,
        count=count,
        dims={
            "rows": tokens,
            "width": state,
            "walks": value_heads * batch,
            "q_len": q_len,
            "chunk": chunk,
            "delta_rule": delta_rule,
            "decays": decays,
            "key_dim": key_dim,
            "passed_bytes": per_token * value_heads * tokens,
            "passed_states": per_chunk * value_heads * batch,
        },
    )


def _passed_bytes(dk, dv, chunk, groups, delta_rule: bool, decays: int, elem_bytes: int) -> tuple[float, float]:
    """Bytes that the kernels of a chunked scan write for one another and read again, of a value head: (for each token,
    for each chunk).

    Delta rule (flash-linear-attention, chunk_gated_delta_rule): K K^T in fp32 and its inverse, W and U, corrected
    values, each chunk's state, and K in four kernels; with a decay for each row of the state (chunk_kda) its fp32 sums
    in five. Mamba-2 (mamba_chunk_scan_combined): states in fp32 before, in elem_bytes after they are passed on, C B^T
    in fp32 for each of `groups` key heads a value head, x in two kernels.
    """
    if delta_rule:
        sums = 5 * 4 * decays if decays > 1 else 0
        return 2 * chunk * (4 + elem_bytes) + elem_bytes * (5 * dk + 4 * dv) + sums, 2 * dk * dv * elem_bytes
    return 8 * chunk * groups + elem_bytes * dv, 2 * dk * dv * (4 + elem_bytes)


def embedding(name: str, *, tokens: Number, hidden: int, dtype: str, elem_bytes: int) -> Op:
    """Gathers one row of the table per token: no FLOPs (it is not a one-hot GEMM)."""
    return Op(
        name=name,
        kind="embedding",
        dtype=dtype,
        flops=0,
        weight_bytes=hidden * elem_bytes * tokens,
        in_bytes=TOKEN_ID_BYTES * tokens,
        out_bytes=hidden * elem_bytes * tokens,
        dims={"rows": tokens, "width": hidden},
    )


def sample(name: str, *, sequences: Number, vocab: int, dtype: str, elem_bytes: int) -> Op:
    """Greedy sampling: argmax over the vocabulary, one compare per logit; writes one token id a sequence."""
    return Op(
        name=name,
        kind="sample",
        dtype=dtype,
        flops=vocab * sequences,
        in_bytes=vocab * elem_bytes * sequences,
        out_bytes=TOKEN_ID_BYTES * sequences,
        dims={"rows": sequences, "width": vocab},
    )


def host() -> Op:
    """The engine's work on the CPU between passes, so that a pass is the sum of its entries. No FLOPs, no bytes."""
    return Op(name="host", kind="host", unit="host", dtype="", flops=0, dims={})
