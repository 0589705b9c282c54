"""One entry for each kind of kernel: how it is made, and of what sizes. The properties are in
test_properties_of_kernels.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st
from invariants import runs_on

from ridgepoint import ops
from ridgepoint.layers.formats import Precision, precision_of
from ridgepoint.ops import Op

BF16 = {"dtype": "bf16", "elem_bytes": 2}
FP16 = {"dtype": "fp16", "elem_bytes": 2}


# How kernels are made ---------------------------------------------------------------------------------------------


def product(wanted: Precision | None, m, k, n) -> Op:
    return ops.linear("g", tokens=m, d_in=k, d_out=n, precision=wanted, **FP16)


def attention(batch, q_len, cached, kv_heads, group) -> Op:
    sizes = {"batch": batch, "q_len": q_len, "kv_len": q_len + cached, "head_dim": 128}
    return ops.attention("a", heads=kv_heads * group, kv_heads=kv_heads, **sizes, **FP16)


def experts(tokens, mixture, d_in, d_out, imbalance=0.0, wanted=None) -> Op:
    count, top_k = mixture
    sizes = {"experts": count, "top_k": top_k, "d_in": d_in, "d_out": d_out}
    return ops.grouped_linear("e", tokens=tokens, imbalance=imbalance, precision=wanted, **sizes, **BF16)


def latent(batch, q_len, cached, heads, absorbed) -> Op:
    sizes = {"batch": batch, "q_len": q_len, "kv_len": q_len + cached, "heads": heads}
    return ops.latent_attention("m", absorbed=absorbed, **sizes, **BF16)


def recurrence(batch, q_len, key_heads, group, dim, rule, chunk=64) -> Op:
    """rule: mamba, delta (one decay a head and token) or kda (one for each row of the state)."""
    shape = {"key_heads": key_heads, "value_heads": key_heads * group, "key_dim": dim, "value_dim": dim}
    shape |= {"chunk": chunk, "delta_rule": rule != "mamba", "decays": dim if rule == "kda" else 1}
    return ops.recurrence("r", batch=batch, q_len=q_len, state_elem_bytes=4, weights=0, **shape, **BF16)


def sparse_attention(batch, q_len, cached, heads, top_k) -> Op:
    kv_len = q_len + cached
    sizes = {"batch": batch, "q_len": q_len, "keys": min(kv_len, top_k * q_len), "window": top_k}
    sizes |= {"heads": heads, "kv_heads": 1, "head_dim": 576, "v_head_dim": 512, "key_elems": 576, "own_keys": True}
    return ops.attention_over("a", pairs=ops.visible_keys(q_len, kv_len, top_k), **sizes, **BF16)


def index_scores(batch, q_len, cached, heads, split) -> Op:
    kv_len = q_len + cached
    sizes = {"batch": batch, "q_len": q_len, "keys": kv_len, "pairs": ops.visible_keys(q_len, kv_len)}
    return ops.index_scores("i", heads=heads, dim=128, split=split, **sizes, **BF16)


def top_k(rows, width, top_k) -> Op:
    return ops.choose("t", rows=rows, width=width, top_k=top_k, dtype="fp32", elem_bytes=4)


# The kinds --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Kind:
    """make: an op of `sizes`, which are strategies; `formats` in it names what the chip then runs as it can."""

    make: Callable[..., Op]
    sizes: dict[str, st.SearchStrategy]
    more: tuple[str, ...] = ()  # sizes of which more never takes less time
    swept: tuple[str, ...] = ()  # sizes that may be arrays


NARROW = [("int8", None), ("int4", None), ("mxfp4", None), ("int8", "int8"), ("int4-zero", "int8"), ("fp8", "fp8")]
NARROW += [("int4", "fp8"), ("nvfp4", "nvfp4")]
MIXTURES = st.sampled_from([(8, 2), (16, 1), (64, 6), (128, 8), (512, 22), (4, 4)])
EXPERTS = [None, None, ("fp8", "fp8"), ("int4", None), ("mxfp4", None), ("int8", None), ("nvfp4", "nvfp4")]
rows = st.integers(1, 20_000)
widths = st.integers(1, 200).map(lambda n: 64 * n)
expert_widths = st.integers(1, 128).map(lambda n: 64 * n)
batches = st.integers(1, 300)
lengths = st.sampled_from([1, 1, 2, 7, 17, 64, 128, 500, 1000, 3000, 5000])
many_keys = {
    "batch": st.integers(1, 128),
    "q_len": st.sampled_from([1, 7, 100, 3000]),
    "cached": st.integers(0, 60_000),
}
rows_of_width = {"tokens": rows, "width": widths}


def of_width(make: Callable, width: str) -> Kind:
    """A kernel that takes rows of a width one by one."""
    return Kind(
        make=lambda tokens, **sizes: make("n", tokens=tokens, **{width: sizes["width"]}, **FP16),
        sizes=rows_of_width,
        swept=("tokens",),
    )


def of_heads(make: Callable, **heads: int) -> Kind:
    return Kind(
        make=lambda tokens: make("h", tokens=tokens, **heads, **FP16), sizes={"tokens": rows}, swept=("tokens",)
    )


KINDS = {
    "product": Kind(
        make=lambda m, k, n: product(None, m, k, n),
        sizes={"m": rows, "k": widths, "n": widths},
        more=("m",),
        swept=("m", "k", "n"),
    ),
    "product of odd sizes": Kind(
        make=lambda m, k, n: product(None, m, k, n),
        sizes=dict.fromkeys("mkn", st.integers(1, 5000)),
        swept=("m", "k", "n"),
    ),
    "narrow product": Kind(
        make=lambda m, k, n, formats: product(formats, m, k, n),
        sizes={"m": rows, "k": widths, "n": widths, "formats": st.sampled_from(NARROW)},
        more=("m",),
        swept=("m", "n"),
    ),
    "quantize": Kind(
        make=lambda tokens, width, formats: ops.quantize(
            "q", tokens=tokens, width=width, form=formats.activations, **FP16
        ),
        sizes=rows_of_width | {"formats": st.sampled_from(NARROW)},
        swept=("tokens",),
    ),
    "attention": Kind(
        make=attention,
        sizes={
            "batch": st.integers(1, 256),
            "q_len": lengths,
            "cached": st.integers(0, 8000),
            "kv_heads": st.sampled_from([1, 2, 8, 32]),
            "group": st.sampled_from([1, 4, 7, 16]),
        },
        swept=("batch",),
    ),
    "norm": of_width(ops.rms_norm, "hidden"),
    "add and norm": of_width(ops.add_rms_norm, "hidden"),
    "swiglu": of_width(ops.swiglu, "intermediate"),
    "embedding": of_width(ops.embedding, "hidden"),
    "rope": of_heads(ops.rope, heads=32, kv_heads=8, head_dim=128),
    "kv write": of_heads(ops.kv_write, kv_heads=8, head_dim=128),
    "sample": Kind(
        make=lambda sequences: ops.sample("x", sequences=sequences, vocab=128256, **FP16),
        sizes={"sequences": st.integers(1, 512)},
        swept=("sequences",),
    ),
    "experts": Kind(
        make=lambda formats, **sizes: experts(wanted=formats, **sizes),
        sizes={
            "tokens": rows,
            "mixture": MIXTURES,
            "d_in": expert_widths,
            "d_out": expert_widths,
            "imbalance": st.sampled_from([0.0, 0.0, 0.3, 1.0, 1.5]),
            "formats": st.sampled_from(EXPERTS),
        },
        more=("tokens",),
        swept=("tokens",),
    ),
    "route": Kind(
        make=lambda tokens, mixture: ops.route("r", tokens=tokens, experts=mixture[0], top_k=mixture[1], **BF16),
        sizes={"tokens": rows, "mixture": MIXTURES},
        swept=("tokens",),
    ),
    "combine": Kind(
        make=lambda tokens, mixture, hidden: ops.combine("c", tokens=tokens, top_k=mixture[1], hidden=hidden, **BF16),
        sizes={"tokens": rows, "mixture": MIXTURES, "hidden": expert_widths},
        swept=("tokens",),
    ),
    "latent attention": Kind(
        make=latent,
        sizes={
            "batch": st.integers(1, 128),
            "q_len": lengths,
            "cached": st.integers(0, 6000),
            "heads": st.sampled_from([1, 8, 16, 128]),
            "absorbed": st.booleans(),
        },
        swept=("batch",),
    ),
    "recurrence": Kind(
        make=recurrence,
        sizes={
            "batch": batches,
            "q_len": lengths,
            "key_heads": st.sampled_from([1, 4, 16]),
            "group": st.sampled_from([1, 2, 4]),
            "dim": st.sampled_from([64, 128, 256]),
            "rule": st.sampled_from(["mamba", "delta", "kda"]),
            "chunk": st.sampled_from([64, 128, 256]),
        },
        more=("batch",),
        swept=("batch",),
    ),
    "scan": Kind(
        make=lambda batch, q_len, rule: recurrence(batch, q_len, 4, 2, 128, rule),
        sizes={"batch": batches, "q_len": st.integers(2, 4000), "rule": st.sampled_from(["mamba", "delta", "kda"])},
        more=("batch", "q_len"),
        swept=("batch",),
    ),
    "convolution": Kind(
        make=lambda batch, q_len, channels: ops.causal_conv(
            "c", batch=batch, q_len=q_len, channels=channels, taps=4, **BF16
        ),
        sizes={"batch": batches, "q_len": lengths, "channels": rows},
        swept=("batch",),
    ),
    "sparse attention": Kind(
        make=sparse_attention,
        sizes=many_keys | {"heads": st.sampled_from([1, 8, 16, 64, 128]), "top_k": st.sampled_from([512, 2048])},
        swept=("batch",),
    ),
    "index scores": Kind(
        make=index_scores,
        sizes=many_keys | {"heads": st.sampled_from([1, 4, 32, 64, 200]), "split": st.booleans()},
        swept=("batch",),
    ),
    "top-k": Kind(
        make=top_k,
        sizes={"rows": rows, "width": st.integers(1, 100_000), "top_k": st.sampled_from([64, 2048])},
        swept=("rows",),
    ),
}


def made(kind: Kind, sizes: dict, chip) -> Op:
    """The op of these sizes, its formats as `chip` runs them. Raises InputError where it can't."""
    named = sizes.get("formats")
    if named:
        sizes = sizes | {"formats": runs_on(precision_of("fp16", *named), chip, "fp16")[0]}
    return kind.make(**sizes)
