"""Precision per role: in what format weights, activations and KV cache are kept, and what the tensor cores multiply.

A format is a number of bits and its scales; a Precision is one format per role. Engines multiply in the activations'
format; weights narrower than that (weight-only formats: w4a16, w8a16) are widened on the CUDA cores inside the GEMM.
Embeddings, norms and the LM head stay 16-bit, as quantised checkpoints keep them.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

from ridgepoint.inputs import InputError, pick
from ridgepoint.ops import Floats, Number

if TYPE_CHECKING:
    from ridgepoint.hardware import Chip
    from ridgepoint.kernels.architectures import Architecture


@dataclass(frozen=True, kw_only=True)
class Format:
    """How a tensor is kept. group: elements that share a scale along a row (k of a weight, the width of an
    activation, the head_dim of a key); 0: the whole row does. tensor_bytes: once per tensor.
    """

    name: str
    bits: int
    group: int = 0
    scale_bytes: float = 0.0  # of the scale of one group
    zero_bytes: float = 0.0  # of the zero point of one group
    tensor_bytes: float = 0.0

    def bytes(self, rows: Number, width: Number) -> Number:
        """Of [rows, width] elements with their scales.
        >>> FORMATS["int4"].bytes(1, 256)  # 128 + 2 groups of 128 * 2-byte scale
        132.0
        """
        per_row = (self.scale_bytes + self.zero_bytes) * (width / self.group if self.group else 1.0)
        return rows * (width * self.bits / 8 + per_row) + self.tensor_bytes

    @overload
    def element_bytes(self, width: float) -> float: ...
    @overload
    def element_bytes(self, width: Floats) -> Floats: ...
    def element_bytes(self, width: Number) -> Number:
        """Mean bytes of one element of a row of `width`, scales included; per-tensor scales are left out."""
        return self.bits / 8 + (self.scale_bytes + self.zero_bytes) / (self.group or width)


FORMATS = {
    form.name: form
    for form in (
        Format(name="fp32", bits=32),
        Format(name="fp16", bits=16),
        Format(name="bf16", bits=16),
        Format(name="int8", bits=8, scale_bytes=4),  # an fp32 scale per output channel, or per token
        Format(name="fp8", bits=8, scale_bytes=4),  # e4m3; as int8
        Format(name="int4", bits=4, group=128, scale_bytes=2),  # GPTQ and Marlin, symmetric: an fp16 scale
        Format(name="int4-zero", bits=4, group=128, scale_bytes=2, zero_bytes=0.5),  # AWQ: a 4-bit zero point too
        Format(name="mxfp4", bits=4, group=32, scale_bytes=1),  # e8m0 scale [OCP Microscaling Formats 1.0]
        Format(name="nvfp4", bits=4, group=16, scale_bytes=1, tensor_bytes=4),  # e4m3 scale, fp32 for the tensor
    )
}
# A cache has one scale per tensor (fp8: vLLM, TensorRT-LLM), or an fp16 scale per token and head (int8), and for
# int4 a zero point as well.
KV_FORMATS = {
    form.name: form
    for form in (
        FORMATS["fp16"],
        FORMATS["bf16"],
        Format(name="fp8", bits=8),
        Format(name="int8", bits=8, scale_bytes=2),
        Format(name="int4", bits=4, scale_bytes=2, zero_bytes=2),
    )
}
WEIGHT_FORMATS = tuple(FORMATS)  # fp32 weights are rounded as they are loaded: the MMAs stay 16-bit
ACTIVATION_FORMATS = ("fp16", "bf16", "int8", "fp8", "nvfp4")
SIXTEEN = ("fp16", "bf16")
# What engines call a precision: the formats of (weights, activations); None: the 16-bit dtype.
NAMED = {
    "fp16": ("fp16", "fp16"),
    "bf16": ("bf16", "bf16"),
    "fp8": ("fp8", "fp8"),
    "w8a8": ("int8", "int8"),
    "int8": ("int8", "int8"),
    "w8a16": ("int8", None),
    "int4": ("int4", None),
    "w4a16": ("int4", None),
    "gptq": ("int4", None),
    "awq": ("int4-zero", None),
    "w4a8": ("int4", "fp8"),  # TensorRT-LLM's W4A8_AWQ
    "w4a8-int8": ("int4", "int8"),
    "nvfp4": ("nvfp4", "nvfp4"),
    "mxfp4": ("mxfp4", None),
}


PARTS = ("attention", "mlp", "shared", "experts")  # of a layer; mlp: a dense one; shared: the shared experts


@dataclass(frozen=True, kw_only=True)
class Precision:
    """One format per role. Raises InputError for weights that no engine multiplies with such activations."""

    weights: Format
    activations: Format
    kv_cache: Format
    narrow_query: bool = (
        False  # a kernel narrows Q before attention, as the architecture's takes it with a narrow cache
    )
    parts: tuple[tuple[str, "Precision"], ...] = ()  # of PARTS, those whose linear layers have formats of their own

    def __post_init__(self) -> None:
        weights, activations = self.weights.name, self.activations.name
        partners = {"int8": ("int8", "int4", "int4-zero"), "fp8": ("fp8", "int4", "int4-zero"), "nvfp4": ("nvfp4",)}
        if activations in partners and weights not in partners[activations]:
            allowed = ", ".join(partners[activations])
            raise InputError(f"{activations} activations go with {allowed} weights, not {weights}")

    def of(self, part: str) -> "Precision":
        """The formats of the linear layers of one of PARTS."""
        return dict(self.parts).get(part, self)

    @property
    def name(self) -> str:
        """What people call it: fp16, fp8, w8a8, w4a16, nvfp4, ..."""
        weights, activations = self.weights, self.activations
        if weights.name == activations.name:
            return "w8a8" if weights.name == "int8" else weights.name
        return f"w{weights.bits}a{activations.bits}"

    @property
    def mma_dtype(self) -> str:
        """What the tensor cores multiply (Op.dtype)."""
        return {"nvfp4": "fp4"}.get(self.activations.name, self.activations.name)

    @property
    def weight_only(self) -> bool:
        """Are weights widened inside the GEMM?"""
        return self.weights.bits < self.activations.bits

    @property
    def quantized_activations(self) -> bool:
        """Does a kernel narrow the activations before each GEMM?"""
        return self.activations.bits < 16

    def index_key_bytes(self, dim: int, elem_bytes: int) -> float:
        """Of an element of an indexer's key (sparse attention), scale included: engines that multiply 8-bit floats or
        narrower ones anywhere keep and multiply these in fp8 (DeepSeek-V3.2-Exp; vLLM's and SGLang's indexers).
        """
        return FORMATS["fp8"].element_bytes(dim) if self.floats_8_bit else elem_bytes

    @property
    def floats_8_bit(self) -> bool:
        """Do the tensor cores multiply fp8 or fp4 in any part?"""
        return any(own.mma_dtype in ("fp8", "fp4") for own in (self, *(own for _, own in self.parts)))

    def describe(self) -> str:
        """One phrase for the card."""

        def shown(form: Format) -> str:
            return form.name + (f" (groups of {form.group})" if form.group else "")

        roles = f"weights {shown(self.weights)}, activations {shown(self.activations)}, KV cache {shown(self.kv_cache)}"
        others = "".join(f"; {part} {own.name}" for part, own in self.parts)
        return f"{self.name}: {roles}{others}"


def precision_of(
    dtype: str, weights: str | None = None, activations: str | None = None, kv_cache: str | None = None
) -> Precision:
    """The Precision of a case: None is `dtype`. Raises InputError for an unknown format."""
    return Precision(
        weights=FORMATS[pick("weights", weights or dtype, WEIGHT_FORMATS)],
        activations=FORMATS[pick("activations", activations or dtype, ACTIVATION_FORMATS)],
        kv_cache=KV_FORMATS[pick("kv-cache", kv_cache or dtype, KV_FORMATS)],
    )


def in_dtype(own: Precision, dtype: str) -> Precision:
    """`own` with its 16-bit roles in `dtype`."""

    def form(old: Format, known: dict[str, Format]) -> Format:
        return known[dtype] if old.name in SIXTEEN else old

    weights, activations = form(own.weights, FORMATS), form(own.activations, FORMATS)
    parts = tuple((part, in_dtype(inner, dtype)) for part, inner in own.parts)
    return replace(own, weights=weights, activations=activations, kv_cache=form(own.kv_cache, KV_FORMATS), parts=parts)


def on_chip(wanted: Precision, chip: "Chip", arch: "Architecture", dtype: str = "bf16") -> tuple[Precision, str]:
    """What engines run of `wanted` on `chip`, whose Architecture is `arch`, and a note where that is something else: 8-
    and 4-bit floats without their MMAs run weight-only (Marlin in vLLM). Raises InputError where the chip has no rate
    and engines no such path.
    """
    if arch.narrows_query and wanted.kv_cache.name == "fp8":
        wanted = replace(wanted, narrow_query=True)
    inner = [(part, *on_chip(own, chip, arch, dtype)) for part, own in wanted.parts]
    wanted = replace(wanted, parts=tuple((part, own) for part, own, _ in inner))
    note = next((note for _, _, note in inner if note), "")
    if chip.fma_rates().get(wanted.mma_dtype):
        return wanted, note
    same = wanted.weights.name in (wanted.activations.name, "mxfp4") and wanted.activations.name in ("fp8", "nvfp4")
    if not same:
        chip.fma_per_clock(wanted.mma_dtype)  # raises: says what the chip has
    run = replace(wanted, activations=FORMATS[dtype])
    return run, f"{chip.name} has no {wanted.mma_dtype} tensor-core rate: engines run it weight-only, as {run.name}"


@dataclass(frozen=True)
class Unread:
    """The formats of a checkpoint that can't be told, with the reason: for who names other ones, they don't matter."""

    why: str

    @property
    def name(self) -> str:
        return f"not known: {self.why}"
