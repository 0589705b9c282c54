"""The models, and `forward`: the kernels that one pass launches, as today's engines launch them."""

from dataclasses import dataclass, fields

from inputs import InputError, check_size, pick
from ops import (
    Number,
    Op,
    add_rms_norm,
    attention,
    embedding,
    kv_write,
    linear,
    naive_attention,
    quantize,
    rms_norm,
    rope,
    sample,
    swiglu,
)
from precision import Precision

ELEM_BYTES = {"fp16": 2, "bf16": 2}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A dense decoder: RMSNorm, GQA attention with RoPE, SwiGLU. Sizes in elements.

    Raises InputError for a size that is not a whole number >= 1, or heads that don't divide by KV heads.
    """

    name: str
    title: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int  # context length it was trained for
    tied_embeddings: bool = False  # the LM head is the embedding table
    family: str = "llama"

    def __post_init__(self):
        for field in fields(self):
            if field.type is bool and not isinstance(getattr(self, field.name), bool):
                raise InputError(f"model.{field.name} must be true or false, not {getattr(self, field.name)!r}")
            if field.type is int:
                check_size(f"model.{field.name}", getattr(self, field.name))
        if self.heads % self.kv_heads:
            raise InputError(f"model.heads ({self.heads}) must be a multiple of model.kv_heads ({self.kv_heads})")
        if self.head_dim % 2:
            raise InputError(f"model.head_dim must be even, since RoPE turns pairs, not {self.head_dim}")

    @property
    def qkv_width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def layer_parameters(self) -> int:
        """QKV and output projections, gate, up and down, two norms; no biases."""
        attention_weights = self.hidden * self.qkv_width + self.heads * self.head_dim * self.hidden
        return attention_weights + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """Embedding and LM head (once, if tied), the layers, the final norm.
        >>> LLAMA3_8B.parameters
        8030261248
        """
        tables = 1 if self.tied_embeddings else 2
        return tables * self.vocab * self.hidden + self.layers * self.layer_parameters + self.hidden

    def kv_cache_bytes(self, dtype: str, tokens: Number) -> Number:
        """The KV cache of one sequence of `tokens`."""
        return self.kv_bytes_per_token(dtype) * tokens

    def kv_bytes_per_token(self, dtype: str) -> int:
        """K and V of one token over all layers.
        >>> LLAMA3_8B.kv_bytes_per_token("fp16")  # 2 * 32 layers * 8 KV heads * 128 * 2 bytes
        131072
        """
        return 2 * self.layers * self.kv_heads * self.head_dim * ELEM_BYTES[dtype]


def quantized_bytes(model: Model, formats: Precision, dense_bytes: int, elem_bytes: int) -> tuple[int, int]:
    """Bytes of the weights, and of K and V of one token over all layers, in `formats`; dense_bytes: of all weights at
    elem_bytes, which embedding, norms and LM head keep.
    """
    shapes = (
        (model.qkv_width, model.hidden),
        (model.hidden, model.heads * model.head_dim),
        (2 * model.intermediate, model.hidden),
        (model.hidden, model.intermediate),
    )  # [out, in] of the layers' linear layers
    saved = sum(rows * width * elem_bytes - formats.weights.bytes(rows, width) for rows, width in shapes)
    kv_bytes = 2 * model.layers * formats.kv_cache.bytes(model.kv_heads, model.head_dim)
    return round(dense_bytes - model.layers * saved), round(kv_bytes)


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

LLAMA2_7B = Model(  # source: meta-llama/Llama-2-7b-hf, config.json
    name="llama2-7b",
    title="Llama-2-7B",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=32,
    head_dim=128,
    intermediate=11008,
    vocab=32000,
    max_positions=4096,
)
LLAMA2_13B = Model(  # source: meta-llama/Llama-2-13b-hf, config.json
    name="llama2-13b",
    title="Llama-2-13B",
    layers=40,
    hidden=5120,
    heads=40,
    kv_heads=40,
    head_dim=128,
    intermediate=13824,
    vocab=32000,
    max_positions=4096,
)
MISTRAL_7B = Model(  # source: mistralai/Mistral-7B-v0.1, config.json (its 4,096-token window not modelled)
    name="mistral-7b",
    title="Mistral-7B",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=14336,
    vocab=32000,
    max_positions=32768,
)

MODELS = {model.name: model for model in (LLAMA3_8B, LLAMA2_7B, LLAMA2_13B, MISTRAL_7B)}


def forward(
    model: Model,
    *,
    batch: Number,
    q_len: Number,
    kv_len: Number,
    dtype: str = "fp16",
    attention_kernel: str = "flash",
    precision: Precision | None = None,
) -> list[Op]:
    """The kernels of one pass over `batch` sequences, each with `q_len` new tokens that end a context of
    `kv_len`. Prefill: q_len = kv_len = prompt. Decode: q_len = 1, kv_len = prompt + tokens generated so far.
    Sizes are ints or float arrays that broadcast. Raises InputError for an unknown dtype or kernel.

    As engines do: one QKV GEMM, one gate+up GEMM, each residual add fused with the norm that follows (the
    last one is the final norm); the LM head runs on the last position of each sequence only.

    precision: the formats of the layers' weights, activations and KV cache, where they are not `dtype`; embedding,
    norms and LM head are. Where activations are narrowed, a kernel of its own does that before each GEMM.
    """
    tokens = batch * q_len
    elem_bytes = ELEM_BYTES[pick("dtype", dtype, ELEM_BYTES)]
    number = {"dtype": dtype, "elem_bytes": elem_bytes}
    per_layer = number | {"count": model.layers}
    head_shape = {"heads": model.heads, "kv_heads": model.kv_heads, "head_dim": model.head_dim}
    context = head_shape | {"batch": batch, "q_len": q_len, "kv_len": kv_len} | per_layer
    hidden, kv_shape = model.hidden, {"kv_heads": model.kv_heads, "head_dim": model.head_dim}

    cache = {} if precision is None else {"kv_elem_bytes": precision.kv_cache.element_bytes(model.head_dim)}

    if pick("attention", attention_kernel, ("flash", "naive")) == "flash":
        attention_ops = [attention("attention", **context, **cache)]
    elif precision is not None and precision.kv_cache.bits < 16:
        raise InputError("naive attention reads a 16-bit KV cache only")
    else:
        attention_ops = naive_attention(**context)
    if precision is not None and precision.narrow_query:
        width, form = model.heads * model.head_dim, precision.kv_cache
        attention_ops.insert(0, quantize("query_quant", tokens=tokens, width=width, form=form, **per_layer))

    def projection(name: str, d_in: int, d_out: int) -> list[Op]:
        """A linear layer of every layer, after the kernel that narrows its input if there is one."""
        op = linear(name, tokens=tokens, d_in=d_in, d_out=d_out, precision=precision, **per_layer)
        if precision is None or not precision.quantized_activations:
            return [op]
        return [quantize(f"{name}_quant", tokens=tokens, width=d_in, form=precision.activations, **per_layer), op]

    # fmt: off
    return [
        embedding("embedding", tokens=tokens, hidden=hidden, **number),
        rms_norm("first_norm", tokens=tokens, hidden=hidden, **number),
        *projection("qkv_proj", hidden, model.qkv_width),
        rope("rope", tokens=tokens, **head_shape, **per_layer),
        kv_write("kv_write", tokens=tokens, **kv_shape, **per_layer, **cache),
        *attention_ops,
        *projection("o_proj", model.heads * model.head_dim, hidden),
        add_rms_norm("attn_add_norm", tokens=tokens, hidden=hidden, **per_layer),
        *projection("gate_up_proj", hidden, 2 * model.intermediate),
        swiglu("swiglu", tokens=tokens, intermediate=model.intermediate, **per_layer),
        *projection("down_proj", model.intermediate, hidden),
        add_rms_norm("mlp_add_norm", tokens=tokens, hidden=hidden, **per_layer),
        linear("lm_head", tokens=batch, d_in=hidden, d_out=model.vocab, **number),
        sample("sample", sequences=batch, vocab=model.vocab, **number),
    ]
    # fmt: on
