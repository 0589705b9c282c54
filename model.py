"""The record of a model, and `forward`: the kernels that one pass launches, as today's engines launch them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NotRequired, TypedDict, TypeGuard, Unpack

import numpy as np

from ridgepoint.inputs import InputError, check_size, pick, shown
from ridgepoint.layers.formats import Precision, Unread
from ridgepoint.layers.letters import MIXERS, MLPS, NONE, after
from ridgepoint.layers.sizes import Pass
from ridgepoint.ops import Number, Op, embedding, linear, rms_norm, sample, smaller

if TYPE_CHECKING:
    from ridgepoint.estimator import Case
    from ridgepoint.readers.catalogue import AnyModel

ELEM_BYTES = {"fp16": 2, "bf16": 2}
QK_NORMS = ("none", "head", "heads", "qkv", "projection", "unweighted")
MAX_LAYERS = 2**12
# What the estimator and its reports ask of a model. Model and traced.TracedModel answer all of it.
ASKED: tuple[str, ...] = ("name", "title", "hidden", "vocab", "max_positions", "parameters", "active_parameters")
ASKED += ("experts", "experts_per_token", "explicit", "formats", "check", "forward", "weight_bytes", "kv_cache_bytes")
ALL_EXPERTS = 2**62  # tokens among which no expert is left out


class Forward(TypedDict):
    """What `forward` takes beside the model."""

    batch: Number
    q_len: Number
    kv_len: Number
    dtype: NotRequired[str]
    attention_kernel: NotRequired[str]
    precision: NotRequired[Precision | None]
    imbalance: NotRequired[float]
    absorb: NotRequired[bool]


@dataclass(frozen=True, kw_only=True, repr=False)
class Model:
    """A decoder. Sizes in elements. Flat, so that --set can change any field.

    `mixers` and `mlps` say what the layers are made of: a letter a layer, a number after it for several, repeated
    until all layers have one ("S5F": five sliding layers, one full, and so on). Mixers, of which a layer has one:
        F attention over the whole context   S over sliding_window   C within chunks of attention_chunk
        I over the index_topk keys that an indexer picks             T over those that the layer before picked
        A, H a window and compressed keys (DeepSeek-V4)              M Mamba-2   G gated delta net   K Kimi delta
    MLPs: D dense   E mixture of experts   B both   H experts chosen by the token   a, b, ... of other_intermediates
    and - for none of the kind. The first dense_layers layers have a dense MLP whatever `mlps` says.

    Raises InputError for a size that is not a whole number in its range, or sizes that contradict each other.
    """

    name: str
    title: str
    family: str = "llama"
    source: str = ""
    note: str = ""  # what of the published model isn't here, such as a vision tower
    quantization: Precision | Unread | None = None  # formats of its checkpoint
    layers: int
    hidden: int
    heads: int  # of queries
    kv_heads: int
    head_dim: int
    intermediate: int  # 0 only if no layer has a dense MLP
    vocab: int
    max_positions: int  # context length it was trained for
    mixers: str = "F"
    mlps: str = "D"
    dense_layers: int = 0
    other_intermediates: str = ""  # such as "14336,7168"
    tied_embeddings: bool = False  # the LM head is the embedding table
    # blocks
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    gated_mlp: bool = True  # gate and up; otherwise up alone
    sandwich_norms: bool = False  # a norm after each part too (Gemma)
    parallel_block: bool = False  # attention and MLP read the same norm (Cohere)
    layer_scalar: bool = False  # a learned factor of each layer's output
    residual_streams: int = 1  # hyper-connections
    # attention
    # of each head (head; heads: each with weights of its own; unweighted; qkv: of V too) or of the whole projection
    qk_norm: str = "none"
    rotary_dim: int = 0  # of a head; 0: all
    full_rope: bool = True  # False: letter F without RoPE
    attention_gate_dim: int = 0  # outputs of a gate on attention's output, per head
    sink_layers: str = ""  # letters of the layers with attention sinks
    keys_are_values: bool = False  # letter F has no V projection: K's serves as both
    sliding_window: int = 0
    sliding_heads: int = 0  # of letter S; 0: as the others
    sliding_kv_heads: int = 0
    sliding_head_dim: int = 0
    attention_chunk: int = 0
    v_head_dim: int = 0  # 0: head_dim
    # MLA, if kv_lora_rank isn't 0
    q_lora_rank: int = 0  # 0: q comes from one projection
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    # sparse and compressed attention
    index_heads: int = 0
    index_head_dim: int = 0
    index_topk: int = 0
    compress_ratio: int = 0  # of letter A
    heavy_ratio: int = 0  # of letter H
    o_groups: int = 0
    o_lora_rank: int = 0
    # mixture of experts
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    expert_bias: bool = False
    router_bias: bool = False
    shared_expert_intermediate: int = 0  # of all shared experts together
    shared_expert_gate: bool = False
    moe_latent: int = 0  # the experts' hidden size, if it isn't the model's
    moe_latent_norm: bool = False
    # recurrent layers
    linear_key_heads: int = 0  # groups of Mamba-2
    linear_value_heads: int = 0
    linear_key_dim: int = 0  # state size of Mamba-2
    linear_value_dim: int = 0
    linear_conv_width: int = 0
    linear_chunk: int = 64  # tokens that a scan takes at a time
    linear_gate_low_rank: bool = False
    conv_bias: bool = False
    state_elem_bytes: int = 4

    explicit: ClassVar[bool] = True  # its layers are known one by one: --set may change them

    def __repr__(self) -> str:
        return f"Model({self.name})"

    def __post_init__(self) -> None:
        required = {"layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "max_positions", "residual_streams"}
        required |= {"linear_chunk", "state_elem_bytes"}
        for field in fields(self):
            value, name = getattr(self, field.name), f"model.{field.name}"
            if field.type is int:
                low = 1 if field.name in required else 0
                object.__setattr__(self, field.name, check_size(name, value, low=low))  # 32.0 is 32
            elif field.type is bool and not isinstance(value, bool):
                raise InputError(f"{name} must be true or false, not {shown(value)}")
            elif field.type is str and (not isinstance(value, str) or "\n" in value):
                raise InputError(f"{name} must be a line of text, not {shown(value)}")
        if self.quantization is not None and not isinstance(self.quantization, Precision | Unread):
            raise InputError(f"model.quantization must be a Precision or None, not {shown(self.quantization)}")
        check_size("model.layers", self.layers, high=MAX_LAYERS)
        check_size("model.residual_streams", self.residual_streams, high=16)
        pick("model.qk_norm", self.qk_norm, QK_NORMS)
        self._check_layers()
        self._check_mixers()
        self._check_mlps()

    def _check_layers(self) -> None:
        if self.dense_layers > self.layers:
            raise InputError(f"model.dense_layers ({self.dense_layers}) is more than model.layers ({self.layers})")
        for width in self.other_widths:
            check_size("model.other_intermediates", width)

    def _check_mixers(self) -> None:
        letters = set(self.mixer_letters)
        for letter in "FS" if letters & set("FSCIT") and not self.kv_lora_rank else "":
            heads, kv_heads, head_dim, _ = self.head_shape(letter)
            if heads % kv_heads:
                raise InputError(f"model.heads ({heads}) must be a multiple of model.kv_heads ({kv_heads})")
            if head_dim % 2:
                raise InputError(f"model.head_dim must be even, since RoPE turns pairs, not {head_dim}")
        if self.rotary_dim > self.head_dim:
            raise InputError(f"model.rotary_dim ({self.rotary_dim}) is more than model.head_dim ({self.head_dim})")
        if letters & set("SAH"):
            self._needs("sliding layers", "sliding_window")
        if "C" in letters:
            self._needs("chunked layers", "attention_chunk")
        if letters & set("ITA"):
            self._needs("sparse attention", "index_heads", "index_head_dim", "index_topk")
        if self.kv_lora_rank:
            self._needs("MLA", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
            if self.qk_rope_head_dim % 2:
                turned = self.qk_rope_head_dim
                raise InputError(f"model.qk_rope_head_dim must be even, since RoPE turns pairs, not {turned}")
            if letters & set("SCAH"):
                raise InputError("model.mixers: MLA (model.kv_lora_rank) goes with F, I, T and recurrent layers only")
        if letters & set("AH") and not self.o_groups:
            raise InputError("model.mixers: A and H need model.o_groups")
        if self.o_groups:
            self._needs("compressed attention", "q_lora_rank", "o_lora_rank", "compress_ratio", "heavy_ratio")
            if letters & set("FCIT") or self.heads * self.head_dim % self.o_groups:
                raise InputError("model.o_groups goes with S, A and H layers, and must divide heads x head_dim")
        if letters & set("MGK"):
            names = ("key_heads", "value_heads", "key_dim", "value_dim", "conv_width")
            self._needs("recurrent layers", *(f"linear_{name}" for name in names))
            if self.linear_value_heads % self.linear_key_heads:
                given = f"model.linear_value_heads ({self.linear_value_heads})"
                raise InputError(f"{given} must be a multiple of model.linear_key_heads ({self.linear_key_heads})")
        elif not letters - {NONE} and not set(self.mlp_letters) - {NONE}:
            raise InputError("model.mixers and model.mlps leave the layers empty")

    def _check_mlps(self) -> None:
        letters = set(self.mlp_letters)
        if letters & set("DB"):
            self._needs("dense MLPs", "intermediate")
        others = [letter for letter in letters if letter.islower()]
        if len(others) and ord(max(others)) - ord("a") >= len(self.other_widths):
            given = len(self.other_widths)
            raise InputError(f"model.mlps has {max(others)!r}, but model.other_intermediates has {given} widths")
        if letters & set("EHB"):
            self._needs("a mixture of experts", "experts", "experts_per_token", "expert_intermediate")
            if self.experts_per_token > self.experts:
                chosen = f"model.experts_per_token ({self.experts_per_token})"
                raise InputError(f"{chosen} is more than model.experts ({self.experts})")
        elif self.experts:
            raise InputError(f"model.experts ({self.experts}) needs layers with a mixture: E, H or B in model.mlps")

    def _needs(self, what: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} must be a whole number from 1 for {what}, not {getattr(self, name)}")

    def head_shape(self, letter: str) -> tuple[int, int, int, int]:
        """Query heads, KV heads, and the dimensions of K and V of one head, in layers of this letter."""
        heads, kv_heads, head_dim = self.heads, self.kv_heads, self.head_dim
        if letter == "S":
            heads, kv_heads = self.sliding_heads or heads, self.sliding_kv_heads or kv_heads
            if self.sliding_head_dim:
                return heads, kv_heads, self.sliding_head_dim, self.sliding_head_dim
        return heads, kv_heads, head_dim, self.v_head_dim or head_dim

    @property
    def recurrent_shape(self) -> tuple[int, int, int, int]:
        """Key heads, value heads, and the two dimensions of a value head's state."""
        return self.linear_key_heads, self.linear_value_heads, self.linear_key_dim, self.linear_value_dim

    @cached_property
    def other_widths(self) -> tuple[int, ...]:
        """other_intermediates as numbers."""
        try:
            return tuple(int(width) for width in self.other_intermediates.split(",") if width)
        except ValueError:
            wrong = shown(self.other_intermediates)
            raise InputError(f"model.other_intermediates must be whole numbers and commas, not {wrong}") from None

    @cached_property
    def mixer_letters(self) -> str:
        """A letter for every layer."""
        return expand("model.mixers", self.mixers, MIXERS, self.layers)

    @cached_property
    def mlp_letters(self) -> str:
        """A letter for every layer."""
        letters = expand("model.mlps", self.mlps, MLPS, self.layers)
        return "D" * self.dense_layers + letters[self.dense_layers :]

    @cached_property
    def parts(self) -> tuple[tuple[str, str, int], ...]:
        """("attn" or "mlp", letter, layers that have it) of each kind of part, in the order of first use."""
        counts: dict[tuple[str, str], int] = {}
        for mixer, mlp in zip(self.mixer_letters, self.mlp_letters, strict=True):
            for part in (("attn", mixer), ("mlp", mlp)):
                counts[part] = counts.get(part, 0) + 1
        return tuple((part, letter, count) for (part, letter), count in counts.items() if letter != NONE)

    def _weights(self, tokens: int, precision: Precision | None = None) -> int:
        """Of the embedding table and of all weights that a pass over `tokens` reads, each once: elements, or bytes in
        the formats of `precision`.
        """
        size = 1 if precision is None else 2
        p = Pass(batch=tokens, q_len=1, kv_len=1, dtype="bf16", elem_bytes=size, precision=precision)
        layers = sum(op.count * op.weight_bytes for op in _pass(self, p) if op.kind != "embedding")
        assert not isinstance(layers, np.ndarray)  # one size
        return round(layers) + (0 if self.tied_embeddings else size * self.vocab * self.hidden)

    @cached_property
    def parameters(self) -> int:
        """All of the decoder: embedding, layers, final norm, LM head (once, if tied). From the kernels' own weights, so
        that a pass reads what is counted.
        >>> LLAMA3_8B.parameters
        8030261248
        """
        return self._weights(ALL_EXPERTS)

    @cached_property
    def active_parameters(self) -> int:
        """Those that one token uses: `parameters` less the experts that it doesn't choose. The embedding is whole.
        >>> LLAMA3_8B.active_parameters
        8030261248
        """
        return self._weights(1)

    @property
    def formats(self) -> tuple[Precision | Unread | None, str]:
        """Of its checkpoint, where they apply; a note where they don't."""
        return self.quantization, ""

    def check(self, case: "Case") -> None:
        """Raises InputError for what a case asks of its passes that they can't do: nothing."""

    def forward(self, **sizes: Unpack[Forward]) -> list[Op]:
        """The kernels of one pass: `forward` below, with its arguments."""
        return forward(self, **sizes)

    def weight_bytes(self, dtype: str, precision: Precision | None = None) -> int:
        """All parameters as they are kept: in the formats of `precision`, or `dtype` throughout.
        >>> LLAMA3_8B.weight_bytes("fp16")
        16060522496
        """
        return self.parameters * ELEM_BYTES[dtype] if precision is None else self._weights(ALL_EXPERTS, precision)

    def kv_bytes_per_token(self, dtype: str) -> int:
        """What one token takes in the caches of all layers, while no window is full.
        >>> LLAMA3_8B.kv_bytes_per_token("fp16")  # 2 * 32 layers * 8 KV heads * 128 * 2 bytes
        131072
        """
        return int(self.kv_cache_bytes(dtype, 1)) - self.state_bytes(dtype)

    def kv_cache_bytes(self, dtype: str, tokens: Number, precision: Precision | None = None) -> Number:
        """The caches of one sequence of `tokens`, with the state of its recurrent layers.
        >>> LLAMA3_8B.kv_cache_bytes("fp16", 10)
        1310720
        """
        attention = [(letter, count) for part, letter, count in self.parts if part == "attn" and letter not in "MGK"]
        cached: Number = 0
        if precision is None or precision.kv_cache.bits == 16:
            cached = sum(count * self._cached(letter, tokens) for letter, count in attention) * ELEM_BYTES[dtype]
        else:
            for letter, count in attention:
                elem_bytes = precision.kv_cache.element_bytes(self._scaled_width(letter))
                cached = cached + count * self._cached(letter, tokens) * elem_bytes
        if self.index_head_dim:
            dim, elem_bytes = self.index_head_dim, ELEM_BYTES[dtype]
            key_bytes = elem_bytes if precision is None else precision.index_key_bytes(dim, elem_bytes)
            cached = cached + sum(count * self._indexed(letter, tokens) for letter, count in attention) * key_bytes
        return (cached if isinstance(cached, np.ndarray) else round(cached)) + self.state_bytes(dtype)

    def _scaled_width(self, letter: str) -> int:
        """Elements of the cache that share a scale: a head's key, or a latent."""
        return self.kv_lora_rank + self.qk_rope_head_dim if self.kv_lora_rank else self.head_shape(letter)[2]

    def _indexed(self, letter: str, tokens: Number) -> Number:
        """Elements of the keys that one layer's indexer keeps after `tokens`."""
        if letter == "A":
            return tokens // self.compress_ratio * self.index_head_dim
        return self.index_head_dim * tokens if letter == "I" else 0

    def _cached(self, letter: str, tokens: Number) -> Number:
        """Elements in the cache of one layer after `tokens`, but for an indexer's keys."""
        _, kv_heads, head_dim, v_head_dim = self.head_shape(letter)
        if self.o_groups:
            held = smaller(tokens, self.sliding_window) * head_dim
            if letter == "A":
                return held + tokens // self.compress_ratio * head_dim
            return held + (tokens // self.heavy_ratio * head_dim if letter == "H" else 0)
        elems = self._scaled_width(letter) if self.kv_lora_rank else kv_heads * (head_dim + v_head_dim)
        if letter in "SC":
            return elems * smaller(tokens, self.sliding_window if letter == "S" else self.attention_chunk)
        return elems * tokens

    def state_bytes(self, dtype: str) -> int:
        """State of one sequence in the recurrent layers: it does not grow with the context."""
        layers = sum(count for part, letter, count in self.parts if part == "attn" and letter in "MGK")
        key_heads, heads, key_dim, value_dim = self.recurrent_shape
        channels = 2 * key_heads * key_dim + heads * value_dim
        conv = channels * (self.linear_conv_width - 1) * ELEM_BYTES[dtype]
        return layers * (heads * key_dim * value_dim * self.state_elem_bytes + conv) if layers else 0


def is_model(record: object) -> "TypeGuard[AnyModel]":
    """Does it answer what is ASKED of a model?"""
    return all(hasattr(type(record), name) or name in getattr(record, "__dict__", ()) for name in ASKED)


def expand(name: str, pattern: str, known: Iterable[str], layers: int) -> str:
    """A letter for each of `layers`: "S2F" -> "SSFSSF...". Raises InputError for other letters than `known`.
    >>> expand("model.mixers", "S2F", "SF", 7)
    'SSFSSFS'
    """
    runs = re.findall(r"([A-Za-z-])([0-9]{0,4})", pattern)
    wrong = {letter for letter, _ in runs} - {*known, NONE} or len(pattern) > MAX_LAYERS
    letters = "".join(letter * int(many or 1) for letter, many in runs)
    if wrong or not letters or "".join(letter + many for letter, many in runs) != pattern:
        allowed = ", ".join([*known, NONE])
        raise InputError(f"{name} must be letters ({allowed}), each with a number if it repeats, not {shown(pattern)}")
    return (letters * (layers // len(letters) + 1))[:layers]


LLAMA3_8B = Model(  # source: meta-llama/Meta-Llama-3-8B, config.json on the Hugging Face hub
    name="llama3-8b",
    title="Llama-3-8B",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=14336,
    vocab=128256,
    max_positions=8192,
)


def forward(
    model: Model,
    *,
    batch: Number,
    q_len: Number,
    kv_len: Number,
    dtype: str = "fp16",
    attention_kernel: str = "flash",
    precision: Precision | None = None,
    imbalance: float = 0.0,
    absorb: bool = False,
) -> list[Op]:
    """The kernels of one pass over `batch` sequences, each with `q_len` new tokens that end a context of
    `kv_len`. Prefill: q_len = kv_len = prompt. Decode: q_len = 1, kv_len = prompt + tokens generated so far.
    Sizes are ints or float arrays that broadcast. Raises InputError for an unknown dtype or kernel.

    As engines do: one QKV GEMM, one gate+up GEMM, each residual add fused with the norm that follows (the
    last one is the final norm); the LM head runs on the last position of each sequence only.

    precision: the formats of the layers' weights, activations and KV cache, where they are not `dtype`; embedding,
    norms, routers and LM head are. Where activations are narrowed, a kernel of its own does that before each GEMM.
    imbalance: of the experts' loads: that of the r-th busiest goes with r ** -imbalance. absorb: latent attention runs
    on the latents in a prompt too.
    """
    elem_bytes = ELEM_BYTES[pick("dtype", dtype, ELEM_BYTES)]
    naive = pick("attention", attention_kernel, ("flash", "naive")) == "naive"
    if naive and precision is not None and precision.kv_cache.bits < 16:
        raise InputError("naive attention reads a 16-bit KV cache only")
    p = Pass(
        batch=batch,
        q_len=q_len,
        kv_len=kv_len,
        dtype=dtype,
        elem_bytes=elem_bytes,
        naive=naive,
        precision=precision,
        imbalance=imbalance,
        absorb=absorb,
    )
    return _pass(model, p)


def _pass(model: Model, p: Pass) -> list[Op]:
    once, hidden = p.number(1), model.hidden
    ops = [
        embedding("embedding", tokens=p.tokens, hidden=hidden, dtype=p.dtype, elem_bytes=p.elem_bytes),
        rms_norm("first_norm", tokens=p.tokens, hidden=hidden, **once),
    ]
    for part, letter, count in model.parts:
        ops += (MIXERS if part == "attn" else MLPS)[letter](model, letter, p, count)
        ops += after(model, part, p, count)
    if model.residual_streams > 1:
        streams = model.residual_streams
        bias = streams + 1
        ops.append(linear("head_proj", tokens=p.tokens, d_in=streams * hidden, d_out=streams, bias=bias, **once))
    ops += [
        linear("lm_head", tokens=p.batch, d_in=hidden, d_out=model.vocab, **once),
        sample("sample", sequences=p.batch, vocab=model.vocab, dtype=p.dtype, elem_bytes=p.elem_bytes),
    ]
    return ops if len(model.parts) == 2 else _merged(ops)


def _merged(ops: list[Op]) -> list[Op]:
    """Kernels of one name, in layers of different kinds, as one with their count."""
    found: dict[str, Op] = {}
    for op in ops:
        found[op.name] = replace(op, count=found[op.name].count + op.count) if op.name in found else op
    return list(found.values())
