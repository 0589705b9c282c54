"""The work of one kernel, and one small function per kernel that counts it. No hardware, no time.

Sizes may be Python ints (exact) or float numpy arrays (a sweep): everything below is straight-line
arithmetic, so both pass through. A multiply-add is 2 FLOPs. Bytes are what DRAM must move at the
least: every operand once per launch.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

import numpy as np

if TYPE_CHECKING:
    from ridgepoint.layers.formats import Format, Precision

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Number = int | float | Floats
Seconds = float | Floats
Causes = dict[str, Seconds]  # of a launch, by kernels.cycles.CAUSES

TOKEN_ID_BYTES = 8  # int64, as torch's embedding takes and argmax returns


class Dims(TypedDict, total=False):
    """The sizes of an op that a timing model needs beyond FLOPs and bytes; each kind has some of them."""

    # products: y[m, n] = x[m, k] @ W[k, n]
    m: Number
    n: Number
    k: Number
    batch: Number  # products in one launch, each with operands of its own; of attention: sequences
    a_bytes: Number  # of an element of x, W and y with their scales, where they are not of 2 bytes each
    b_bytes: Number
    c_bytes: Number
    scale_group: Number  # elements along k that share a scale
    # products of a mixture's experts
    experts: Number
    active: Number  # experts that any token chooses
    width: Number  # elements of an expert between its two layers; of a stream: of a row
    tokens: Number
    top_k: Number  # experts of a token
    imbalance: Number  # of loads, as in expert_groups
    tiles: Floats  # [..., kernels.moe.HEIGHTS]: of all experts, where they are known
    untuned: "np.bool_ | np.ndarray[Any, np.dtype[np.bool_]]"  # has the engine no tuned tile for these experts?
    # attention, and an indexer's scores
    q_len: Number  # new tokens of a sequence; of recurrent layers too
    kv_len: Number  # keys that are read once
    heads: Number
    kv_heads: Number
    head_dim: Number
    v_head_dim: Number  # of V, where it is not that of K
    kv_width: Number  # elements of a key and its value together, where one is part of the other or they differ
    kv_elem_bytes: Number  # of an element of the cache with its scales
    io_elem_bytes: Number  # of Q and the output
    window: Number  # the most keys that a query sees
    own_keys: bool  # the keys of one query are not those of the next
    rotated: Number  # elements of a key that RoPE turns, in latent attention
    pairs: Number  # of a query and a key
    dim: Number  # of an indexer's head
    split: bool  # the kernel divides the keys of a query among CTAs
    # streams
    rows: Number
    chosen: Number  # elements that a top-k takes of each row
    fused: bool  # into attention: no launch of its own
    # recurrent layers
    walks: Number  # of value heads of all sequences, one by one along the tokens
    chunk: Number  # tokens
    delta_rule: bool
    decays: Number  # of a head and token
    key_dim: Number
    passed_bytes: Number  # that the kernels of a scan pass on through DRAM
    passed_states: Number  # and for each chunk, bytes


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
    dims: Dims

    @property
    def bytes(self) -> Number:
        return self.weight_bytes + self.kv_bytes + self.in_bytes + self.out_bytes

    @property
    def activation_bytes(self) -> Number:
        return self.in_bytes + self.out_bytes

    def expert_tiles(self, rows: int) -> Number:
        """Of a grouped product: `expert_tiles` of its own routing."""
        dims = self.dims
        experts, top_k, imbalance = int(dims["experts"]), float(dims["top_k"]), float(dims["imbalance"])
        return expert_tiles(dims["tokens"], experts, top_k, rows, imbalance)


class Tail(TypedDict):
    """What every rule takes: what it computes in, bytes of an element that it reads or writes, launches per pass."""

    dtype: str
    elem_bytes: int
    count: NotRequired[int]


class Layer(Tail):
    """And a linear layer. bias: elements read beside each matrix W. precision: whose formats W and x have, scales
    included; y has elem_bytes.
    """

    d_in: Number
    d_out: Number
    bias: NotRequired[Number]
    precision: NotRequired["Precision | None"]


class Cached(Tail):
    """And what reads or writes the KV cache. kv_elem_bytes: of its elements with their scales, if not elem_bytes."""

    kv_elem_bytes: NotRequired[float | None]


class Heads(Cached):
    """And attention. v_head_dim: of V and the output, if not head_dim. sinks: learned logits."""

    heads: Number
    kv_heads: Number
    head_dim: Number
    v_head_dim: NotRequired[Number | None]
    sinks: NotRequired[Number]


# Products ---------------------------------------------------------------------------------------------------------


def _product(
    name: str,
    kind: str,
    rows: Number,
    dims: Dims,
    *,
    d_in: Number,
    d_out: Number,
    bias: Number = 0,
    precision: "Precision | None" = None,
    parts: Number = 1,
    matrices: Number = 1,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
) -> Op:
    """`parts` products of [rows, in] and [in, out], for which `matrices` are read."""
    a_bytes: Number = elem_bytes
    b_bytes: Number = elem_bytes
    if precision is not None:
        dtype = precision.mma_dtype
        a_bytes, b_bytes = (form.element_bytes(d_in) for form in (precision.activations, precision.weights))
        dims = {**dims, "a_bytes": a_bytes, "b_bytes": b_bytes, "c_bytes": elem_bytes}
        if precision.activations.group:
            dims["scale_group"] = precision.activations.group
    return Op(
        name=name,
        kind=kind,
        unit="tensor",
        dtype=dtype,
        flops=2 * parts * d_in * d_out * rows,
        weight_bytes=(d_in * d_out * b_bytes + bias * elem_bytes) * matrices,
        in_bytes=parts * d_in * a_bytes * rows,
        out_bytes=parts * d_out * elem_bytes * rows,
        count=count,
        dims={"m": rows, "n": d_out, "k": d_in, **dims},
    )


def linear(name: str, *, tokens: Number, **layer: Unpack[Layer]) -> Op:
    """y[t, out] = x[t, in] @ W[in, out]. flops = 2*t*in*out (a multiply-add is 2); W is read once per launch.
    Source: equals torch FlopCounterMode's aten.mm (tests/test_oracle.py).
    >>> linear("q", tokens=1, d_in=4096, d_out=4096, dtype="fp16", elem_bytes=2).flops
    33554432
    """
    return _product(name, "gemm", tokens, {}, **layer)


def batched_linear(
    name: str, *, tokens: Number, parts: Number, d_in: Number, d_out: Number, **tail: Unpack[Tail]
) -> Op:
    """`parts` linears side by side in one launch, each with its own weights and its own slice of the input: one a
    head, say. flops = 2*t*parts*in*out.
    """
    return _product(name, "gemm", tokens, {"batch": parts}, d_in=d_in, d_out=d_out, parts=parts, matrices=parts, **tail)


def grouped_linear(
    name: str,
    *,
    tokens: Number,
    experts: Number,
    top_k: Number,
    imbalance: float = 0.0,
    width: Number | None = None,
    **layer: Unpack[Layer],
) -> Op:
    """One linear layer of a mixture of experts: each of tokens * top_k (token, expert) pairs through its expert, all
    experts in one launch. flops = 2 * pairs * in * out; only the weights of experts that are chosen are read.
    imbalance: as in `expert_groups`. width: of an expert between its two layers (d_out).
    """
    active = distinct_experts(tokens, experts, top_k, imbalance)
    dims: Dims = {"experts": experts, "active": active, "width": layer["d_out"] if width is None else width}
    dims |= {"tokens": tokens, "top_k": top_k, "imbalance": imbalance}
    return _product(name, "grouped_gemm", top_k * tokens, dims, matrices=active, **layer)


# Experts: how tokens spread over those of a mixture, each choosing top_k different ones ---------------------------

GROUPS = 32  # of experts with like loads, finer towards the busiest, so that a sweep stays cheap


@lru_cache(maxsize=256)
def expert_groups(experts: int, top_k: float, imbalance: float) -> tuple[Floats, Floats]:
    """(experts in each group, the chance that a token chooses one of them), busiest first. The load of the r-th
    busiest goes with r ** -imbalance; 0 is uniform, and one group.
    The chances of all experts add up to top_k and none is above 1: what the busiest can't take goes to the others, in
    proportion.
    >>> count, chance = expert_groups(3, 1, 1.0)  # loads as 1 : 1/2 : 1/3
    >>> [round(float(x), 4) for x in chance]
    [0.5455, 0.2727, 0.1818]
    """
    if not imbalance:
        return np.array([float(experts)]), np.array([top_k / experts])
    load = np.arange(1, experts + 1, dtype=float) ** -imbalance
    full = 0  # experts that every token chooses
    while full < top_k and (top_k - full) * load[full] > load[full:].sum():
        full += 1
    chance = np.ones(experts)
    chance[full:] = np.minimum((top_k - full) * load[full:] / load[full:].sum(), 1.0)
    edges = np.unique(np.round(np.geomspace(1, experts + 1, GROUPS + 1))).astype(int) - 1
    count = np.diff(edges).astype(float)
    return count, np.add.reduceat(chance, edges[:-1]) / count


def distinct_experts(tokens: Number, experts: Number, top_k: Number, imbalance: float = 0.0) -> Number:
    """Expected number of experts that at least one of `tokens` chooses: the sum over experts of
    1 - (1 - chance) ** tokens; with uniform routing the chance is top_k / experts.
    >>> distinct_experts(1, 8, 2)
    2.0
    """
    if not imbalance:
        return experts * (1 - (1 - top_k / experts) ** tokens)
    count, chance = expert_groups(int(experts), float(top_k), imbalance)
    chosen: Floats = (count * (1 - (1 - chance) ** np.asarray(tokens, dtype=float)[..., None])).sum(-1)
    return chosen


def expert_tiles(tokens: Number, experts: int, top_k: float, rows: int, imbalance: float = 0.0) -> Floats:
    """Expected sum over experts of ceil(its tokens / rows), the tiles that hold them.
    An expert with `mean` tokens on average, chosen at all with chance `used`, fills mean / rows tiles, and its last
    tile is on average a half, less half a row, too long: mean / rows + used * (rows - 1) / (2 * rows), but never less
    than the one tile of an expert that is used. Exact for one row, for few tokens and for many.
    >>> float(expert_tiles(10, 4, 2, 1))  # one row a tile: as many tiles as tokens * top_k
    20.0
    >>> float(expert_tiles(1, 8, 2, 64))  # one token: a tile for each of its experts
    2.0
    """
    count, chance = expert_groups(experts, top_k, imbalance)
    each = np.asarray(tokens, dtype=float)[..., None]
    used, mean = 1 - (1 - chance) ** each, each * chance
    tiles: Floats = (count * np.maximum(used, mean / rows + used * (rows - 1) / (2 * rows))).sum(-1)
    return tiles


# Attention --------------------------------------------------------------------------------------------------------


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
    last = larger(kv_len - window, 0)  # keys that the last query misses
    before = larger(kv_len - q_len - window, 0)  # and one before all
    return every - (last * (last + 1) // 2 - before * (before + 1) // 2)


FEW = 16  # new tokens per sequence that engines still run as a decode step, as they verify guesses


def few_queries(q_len: Number, kv_len: Number) -> bool:
    """Does a pass decode (one new token), or verify a few guesses after a long context? It then runs decode's kernels,
    with the queries of a sequence in one tile.
    """
    return bool(np.ndim(q_len) == 0 and q_len <= FEW and np.all(np.asarray(kv_len) > q_len))


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

    def up_to(position: Number) -> Number:
        chunks, rest = position // chunk, position % chunk
        return chunks * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2

    return up_to(kv_len) - up_to(kv_len - q_len)


def attention(
    name: str, *, batch: Number, q_len: Number, kv_len: Number, window: Number | None = None, **heads: Unpack[Heads]
) -> Op:
    """Causal flash attention: o[b, q, h, d] = softmax(Q K^T / sqrt(d)) V, scores never leave the SM.
    flops = 2 matmuls * 2 * d * (batch * heads * visible keys); K and V are read once per KV head (GQA).
    The softmax runs on the CUDA cores beside the MMAs and is not in `flops`; the MMAs stay in `dtype`.
    window: a sliding layer's queries see no more than so many keys, and older ones are not read.
    Source: FlashAttention-2, arXiv:2307.08691, section 3; FLOPs equal torch's two bmm, less the masked half.
    >>> attention("a", batch=1, q_len=1, kv_len=10, heads=4, kv_heads=1, head_dim=2,
    ...     dtype="fp16", elem_bytes=2).flops  # 4 * 2 * 4 heads * 10 keys
    320
    """
    keys = kv_len if window is None else smaller(kv_len, window + q_len - 1)
    pairs = visible_keys(q_len, kv_len, window)
    return attention_over(name, batch=batch, q_len=q_len, keys=keys, pairs=pairs, window=window, **heads)


def attention_over(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    keys: Number,
    pairs: Number,
    heads: Number,
    kv_heads: Number,
    head_dim: Number,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    kv_elem_bytes: float | None = None,
    v_head_dim: Number | None = None,
    key_elems: Number | None = None,
    window: Number | None = None,
    sinks: Number = 0,
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
    dims: Dims = {"batch": batch, "q_len": q_len, "kv_len": keys}
    dims |= {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    dims |= {"kv_elem_bytes": kv_elem_bytes, "io_elem_bytes": elem_bytes}
    dims |= {} if v_head_dim is None else {"v_head_dim": value_dim, "kv_width": stored}
    dims |= {} if window is None else {"window": window}
    dims |= {"own_keys": True} if own_keys else {}
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
        dims=dims,
    )


def index_scores(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    keys: Number,
    pairs: Number,
    heads: Number,
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
    heads: Number,
    absorbed: bool,
    latent: int = 512,
    rope_dim: int = 64,
    nope_dim: int = 128,
    v_dim: int = 128,
    **cached: Unpack[Cached],
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
        **cached,
    )
    return replace(op, dims={**op.dims, "rotated": rope_dim})


def naive_attention(
    *,
    batch: Number,
    q_len: Number,
    kv_len: Number,
    heads: Number,
    kv_heads: Number,
    head_dim: Number,
    v_head_dim: Number | None = None,
    prefix: str = "",
    **tail: Unpack[Tail],
) -> list[Op]:
    """Unfused attention: QK^T, softmax, PV as three kernels, the scores going through DRAM between them.
    Unlike flash attention it computes the full q x kv square: a batched GEMM can't skip the masked half.
    flops = 2*b*h*q*kv*d for each GEMM; 5 per score for the softmax (scale, max, subtract, exp, sum/divide).
    Source: torch FlopCounterMode's aten.bmm for QK^T and PV.
    """
    rows, value_dim, elem_bytes = heads * batch * q_len, v_head_dim or head_dim, tail["elem_bytes"]
    scores = rows * kv_len
    q_bytes, out_bytes = (heads * dim * elem_bytes * batch * q_len for dim in (head_dim, value_dim))
    k_bytes, v_bytes = (kv_heads * dim * elem_bytes * batch * kv_len for dim in (head_dim, value_dim))
    qk, pv = (2 * dim * scores for dim in (head_dim, value_dim))
    moved = elem_bytes * scores

    def product(part: str, n: Number, k: Number, **numbers: Number) -> Op:
        # one independent GEMM per (sequence, KV head); the query heads of a group are stacked along m
        dims: Dims = {"m": heads // kv_heads * q_len, "n": n, "k": k, "batch": kv_heads * batch}
        numbers["count"] = tail.get("count", 1)
        return Op(name=prefix + part, kind="gemm", unit="tensor", dtype=tail["dtype"], dims=dims, **numbers)

    return [
        product("qk_scores", kv_len, head_dim, flops=qk, in_bytes=q_bytes, kv_bytes=k_bytes, out_bytes=moved),
        _stream(prefix + "softmax", "softmax", rows, kv_len, flops=5 * scores, **tail),
        product("pv", value_dim, kv_len, flops=pv, in_bytes=moved, kv_bytes=v_bytes, out_bytes=out_bytes),
    ]


# Streams: rows of `width` elements, read, hardly worked on, and written -------------------------------------------


def _stream(
    name: str,
    kind: str,
    rows: Number,
    width: Number,
    *,
    flops: Number = 0,
    reads: int = 1,
    writes: int = 1,
    weights: Number = 0,
    kv_bytes: Number = 0,
    in_bytes: Number = 0,
    out_bytes: Number = 0,
    dtype: str,
    elem_bytes: int,
    count: int = 1,
    chosen: Number | None = None,
) -> Op:
    """A kernel that reads `reads` tensors of rows x width and `weights` elements, and writes `writes` tensors; bytes
    are those of anything else. What it doesn't read or write is the number 0, in a sweep too.
    """
    row_bytes = width * elem_bytes
    dims: Dims = {"rows": rows, "width": width}
    return Op(
        name=name,
        kind=kind,
        dtype=dtype,
        flops=flops,
        weight_bytes=weights * elem_bytes,
        kv_bytes=kv_bytes,
        in_bytes=(reads * row_bytes * rows if reads else 0) + in_bytes,
        out_bytes=(writes * row_bytes * rows if writes else 0) + out_bytes,
        count=count,
        dims=dims if chosen is None else {**dims, "chosen": chosen},
    )


def rms_norm(name: str, *, tokens: Number, hidden: Number, weights: Number | None = None, **tail: Unpack[Tail]) -> Op:
    """y = x / rms(x) * w. 4 per element: square, sum, times 1/rms, times w. Reads and writes the row once.
    `weights`: elements of w, where they are not one for each of the row.
    >>> rms_norm("n", tokens=1, hidden=4096, dtype="fp16", elem_bytes=2).bytes  # x, w, y: 3 * 8192
    24576
    """
    weights = hidden if weights is None else weights
    return _stream(name, "norm", tokens, hidden, flops=4 * hidden * tokens, weights=weights, **tail)


def gated_norm(name: str, *, rows: Number, width: Number, weights: Number, **tail: Unpack[Tail]) -> Op:
    """y = x / rms(x) * w * silu(z): rms_norm's 4 per element and swiglu's 5; reads x and the gate z."""
    return _stream(name, "norm", rows, width, flops=9 * width * rows, reads=2, weights=weights, **tail)


def add_rms_norm(name: str, *, tokens: Number, hidden: Number, **tail: Unpack[Tail]) -> Op:
    """r = r + x; y = r / rms(r) * w: the residual add fused with the norm that follows it, as engines do.
    5 per element (the add, then rms_norm's 4); reads x and r, writes r and y.
    """
    return _stream(name, "norm", tokens, hidden, flops=5 * hidden * tokens, reads=2, writes=2, weights=hidden, **tail)


def residual_add(name: str, *, tokens: Number, hidden: Number, weights: Number = 0, **tail: Unpack[Tail]) -> Op:
    """r = r + x, where it is not fused with a norm: 1 per element, two tensors in, one out."""
    return _stream(name, "residual", tokens, hidden, flops=hidden * tokens, reads=2, weights=weights, **tail)


def rope(name: str, *, tokens: Number, heads: Number, kv_heads: Number, head_dim: Number, **tail: Unpack[Tail]) -> Op:
    """Rotates Q and K in place: per pair (x1*cos - x2*sin, x2*cos + x1*sin), 6 per pair = 3 per element.
    Reads and writes every element, and reads one cos and one sin per pair position of each token.
    """
    width, angle_bytes = (heads + kv_heads) * head_dim, head_dim * tail["elem_bytes"] * tokens
    return _stream(name, "rope", tokens, width, flops=3 * (width * tokens), in_bytes=angle_bytes, **tail)


def kv_write(
    name: str,
    *,
    tokens: Number,
    kv_heads: Number,
    head_dim: Number,
    kv_elem_bytes: float | None = None,
    v_head_dim: Number | None = None,
    **tail: Unpack[Tail],
) -> Op:
    """Copies this pass's K and V into the cache: no FLOPs, one read and one write per element.
    kv_elem_bytes: as in Cached. v_head_dim: of V, if not head_dim.
    """
    width = kv_heads * (head_dim + (head_dim if v_head_dim is None else v_head_dim))
    kv_bytes = (kv_elem_bytes or tail["elem_bytes"]) * (width * tokens)
    return _stream(name, "kv_write", tokens, width, writes=0, kv_bytes=kv_bytes, **tail)


def swiglu(name: str, *, tokens: Number, intermediate: Number, **tail: Unpack[Tail]) -> Op:
    """y = silu(gate) * up with silu(x) = x / (1 + exp(-x)): exp, add, divide, two multiplies = 5 per output.
    Reads gate and up (2 * intermediate per token), writes intermediate.
    """
    return _stream(name, "swiglu", tokens, intermediate, flops=5 * intermediate * tokens, reads=2, **tail)


def activation(name: str, *, tokens: Number, intermediate: Number, **tail: Unpack[Tail]) -> Op:
    """y = max(x, 0)**2, or another function without a gate: 2 per element, one tensor in, one out."""
    return _stream(name, "activation", tokens, intermediate, flops=2 * intermediate * tokens, **tail)


def quantize(name: str, *, tokens: Number, width: Number, form: "Format", **tail: Unpack[Tail]) -> Op:
    """Narrows the activations before a GEMM: reads x, writes it in `form` with its scales.
    3 per element: magnitude, maximum, multiply.
    """
    out_bytes = width * form.element_bytes(width) * tokens
    return _stream(name, "quantize", tokens, width, flops=3 * width * tokens, writes=0, out_bytes=out_bytes, **tail)


def route(
    name: str, *, tokens: Number, experts: Number, top_k: Number, weights: Number = 0, **tail: Unpack[Tail]
) -> Op:
    """Chooses each token's experts from the router's logits: a softmax (5 per logit: max, subtract, exp, sum, divide)
    and a top-k (a compare per logit); writes an index and a weight, 4 bytes each, for each of its experts.
    weights: learned scales of the experts.
    """
    flops, out_bytes = 6 * (experts * tokens), 8 * top_k * tokens
    return _stream(name, "route", tokens, experts, flops=flops, writes=0, weights=weights, out_bytes=out_bytes, **tail)


def combine(name: str, *, tokens: Number, top_k: Number, hidden: Number, **tail: Unpack[Tail]) -> Op:
    """Sums the results of each token's experts by their weights: a multiply-add per element of each."""
    width, out_bytes = top_k * hidden, hidden * tail["elem_bytes"] * tokens
    return _stream(name, "combine", tokens, width, flops=2 * width * tokens, writes=0, out_bytes=out_bytes, **tail)


def choose(name: str, *, rows: Number, width: Number, top_k: Number, weights: Number = 0, **tail: Unpack[Tail]) -> Op:
    """Of each row of `width` scores the `top_k` largest: softmax or sigmoid, a compare and a sum, 5 per score; writes
    a 4-byte index and a 4-byte weight for each that is chosen. `weights`: learned scales of the scores.
    """
    flops, out_bytes = 5 * width * rows, 8 * top_k * rows
    return _stream(
        name, "topk", rows, width, flops=flops, writes=0, weights=weights, out_bytes=out_bytes, chosen=top_k, **tail
    )


def pooling(
    name: str, *, tokens: Number, ratio: int, width: Number, out_width: int, weights: Number, **tail: Unpack[Tail]
) -> Op:
    """Compresses every `ratio` tokens into one cache entry, a softmax-weighted mean: reads values and logits, `width`
    of each a token, 6 per pair; writes an entry of `out_width` to the cache.
    """
    flops, kv_bytes = 6 * width * tokens, out_width * tail["elem_bytes"] * tokens / ratio
    return _stream(
        name, "pooling", tokens, 2 * width, flops=flops, writes=0, weights=weights, kv_bytes=kv_bytes, **tail
    )


def embedding(name: str, *, tokens: Number, hidden: Number, **tail: Unpack[Tail]) -> Op:
    """Gathers one row of the table per token: no FLOPs (it is not a one-hot GEMM)."""
    table, ids = hidden * tokens, TOKEN_ID_BYTES * tokens
    return _stream(name, "embedding", tokens, hidden, reads=0, weights=table, in_bytes=ids, **tail)


def sample(name: str, *, sequences: Number, vocab: int, **tail: Unpack[Tail]) -> Op:
    """Greedy sampling: argmax over the vocabulary, one compare per logit; writes one token id a sequence."""
    ids = TOKEN_ID_BYTES * sequences
    return _stream(name, "sample", sequences, vocab, flops=vocab * sequences, writes=0, out_bytes=ids, **tail)


# Recurrent layers -------------------------------------------------------------------------------------------------


def causal_conv(
    name: str, *, batch: Number, q_len: Number, channels: Number, taps: int, bias: Number = 0, **tail: Unpack[Tail]
) -> Op:
    """A short causal convolution along the tokens, each channel by itself, and SiLU: 2 per tap and 4 per element.
    The last taps - 1 inputs of each sequence are its state, read and written (role: KV cache).
    """
    kind = "conv_update" if _one(q_len) else "conv"
    kv_bytes, weights = 2 * channels * (taps - 1) * tail["elem_bytes"] * batch, channels * taps + bias
    flops = (2 * taps + 4) * (channels * batch * q_len)
    return _stream(name, kind, batch * q_len, channels, flops=flops, weights=weights, kv_bytes=kv_bytes, **tail)


def recurrence(
    name: str,
    *,
    batch: Number,
    q_len: Number,
    key_heads: Number,
    value_heads: Number,
    key_dim: int,
    value_dim: int,
    chunk: int,
    delta_rule: bool,
    state_elem_bytes: int,
    weights: Number,
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
    tokens, state, one = batch * q_len, value_heads * key_dim * value_dim, _one(q_len)
    products = 6 if delta_rule else 4
    io_elems = 2 * key_heads * key_dim + value_heads * (value_dim + decays + delta_rule)
    within = chunk * value_heads * ((3 * key_dim + 2 * value_dim) if delta_rule else (key_dim + value_dim))
    per_token, per_chunk = _passed_bytes(
        key_dim, value_dim, chunk, key_heads / value_heads, delta_rule, decays, elem_bytes
    )
    dims: Dims = {"rows": tokens, "width": state, "walks": value_heads * batch, "q_len": q_len}
    dims |= {"chunk": chunk, "delta_rule": delta_rule, "decays": decays, "key_dim": key_dim}
    dims |= {"passed_bytes": per_token * value_heads * tokens, "passed_states": per_chunk * value_heads * batch}
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
        dims=dims,
    )


def _one(q_len: Number) -> bool:
    """Is it a decode step of one token, not a sweep?"""
    return np.ndim(q_len) == 0 and q_len == 1


def _passed_bytes(
    dk: int, dv: int, chunk: int, groups: Number, delta_rule: bool, decays: int, elem_bytes: int
) -> tuple[Number, float]:
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


def host() -> Op:
    """The engine's work on the CPU between passes, so that a pass is the sum of its entries. No FLOPs, no bytes."""
    return Op(name="host", kind="host", unit="host", dtype="", flops=0, dims={})
