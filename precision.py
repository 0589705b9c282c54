"""Precision per role: in what format weights, activations and KV cache are kept, and what the tensor cores multiply.

A format is a number of bits and its scales; a Precision is one format per role. Engines multiply in the activations'
format; weights narrower than that (weight-only formats: w4a16, w8a16) are widened on the CUDA cores inside the GEMM.
Embeddings, norms and the LM head stay 16-bit, as quantised checkpoints keep them.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from inputs import InputError, check_size, pick, shown
from ops import Number


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

    def __post_init__(self):
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

        def shown(form):
            return form.name + (f" (groups of {form.group})" if form.group else "")

        roles = f"weights {shown(self.weights)}, activations {shown(self.activations)}, KV cache {shown(self.kv_cache)}"
        others = "".join(f"; {part} {own.name}" for part, own in self.parts)
        return f"{self.name}: {roles}{others}"


def precision(dtype: str, weights=None, activations=None, kv_cache=None) -> Precision:
    """The Precision of a case: None is `dtype`. Raises InputError for an unknown format."""
    return Precision(
        weights=FORMATS[pick("weights", weights or dtype, WEIGHT_FORMATS)],
        activations=FORMATS[pick("activations", activations or dtype, ACTIVATION_FORMATS)],
        kv_cache=KV_FORMATS[pick("kv-cache", kv_cache or dtype, KV_FORMATS)],
    )


def in_dtype(own: Precision, dtype: str) -> Precision:
    """`own` with its 16-bit roles in `dtype`."""

    def form(old: Format, known: dict) -> Format:
        return known[dtype] if old.name in SIXTEEN else old

    formats = {"weights": form(own.weights, FORMATS), "activations": form(own.activations, FORMATS)}
    parts = tuple((part, in_dtype(inner, dtype)) for part, inner in own.parts)
    return replace(own, **formats, kv_cache=form(own.kv_cache, KV_FORMATS), parts=parts)


def on_chip(wanted: Precision, chip, arch, dtype: str = "bf16") -> tuple[Precision, str]:
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


# Checkpoints -------------------------------------------------------------------------------------------------------


def from_checkpoint(config: dict, dtype: str = "bf16") -> Precision:
    """The Precision that a checkpoint asks for: `config` is a Hugging Face config.json (or its quantization_config), or
    ModelOpt's hf_quant_config.json. Parts whose linear layers it leaves out are `dtype`. Raises InputError for a method
    that isn't known here.
    """
    if not isinstance(config, dict):
        raise InputError(f"a quantization config is one object, not {shown(config)}")
    quantization = config.get("quantization")  # of hf_quant_config.json
    if not isinstance(quantization, dict):
        quantization = config.get("quantization_config", config)
    if not isinstance(quantization, dict):
        raise InputError("quantization_config must be an object")
    try:
        return _checkpoint(quantization, "quantization_config" in config, dtype)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("quantization_config has a key of a kind that isn't known here") from error


def formats_or_why(config: dict) -> Precision | Unread:
    """from_checkpoint, or why it refuses."""
    try:
        return from_checkpoint(config)
    except InputError as error:
        return Unread(str(error))


def _checkpoint(quantization: dict, required: bool, dtype: str) -> Precision:
    algorithm, plain = quantization.get("quant_algo"), precision(dtype)
    method = str(quantization.get("quant_method") or "").lower()
    if not method and not algorithm:
        if not required and "bits" not in quantization:
            return plain
        raise InputError("quantization_config has no quant_method")
    if algorithm == "MIXED_PRECISION":
        rest = _fp8(quantization.get("weight_block_size"), dtype) if method == "fp8" else plain
        return _mixed(quantization, rest, dtype)
    whole = _modelopt(quantization, dtype) if algorithm else _by_method(method, quantization, dtype)
    own = replace(plain, kv_cache=whole.kv_cache)
    return replace(whole, parts=tuple((part, own) for part in _left_out(quantization)))


def _by_method(method: str, quantization: dict, dtype: str) -> Precision:
    known = ("gptq", "awq", "fp8", "fbgemm_fp8", "compressed-tensors", "mxfp4", "bitsandbytes", "modelopt")
    pick("quant_method", method, known)
    if method in ("gptq", "awq"):
        bits, group = int(quantization.get("bits", 4)), int(quantization.get("group_size", 128))
        if group < 1 and group != -1:
            raise InputError(f"{method}: group_size must be from 1, or -1 for one group a column, not {group}")
        symmetric = quantization.get("sym", method == "gptq") and not quantization.get("zero_point", False)
        return _integer_weights(bits, group, not symmetric, dtype)
    if method in ("fp8", "fbgemm_fp8"):
        return _fp8(quantization.get("weight_block_size"), dtype)
    if method == "mxfp4":
        return precision(dtype, weights="mxfp4")
    if method == "bitsandbytes":
        if quantization.get("load_in_8bit"):
            return precision(dtype, weights="int8")
        raise InputError("bitsandbytes 4-bit (NF4) is not modelled; gptq and awq are")
    if method == "compressed-tensors":
        return _compressed_tensors(quantization, dtype)
    raise InputError("a modelopt quantization_config needs quant_algo")


# Names of linear layers, after the layer's number, by which an ignore list shows what it leaves out.
PROBES = {
    "attention": ("self_attn.q_proj", "self_attn.q_b_proj", "attn.wq_b", "linear_attn.in_proj_qkv"),
    "mlp": ("mlp.up_proj", "mlp.gate_up_proj"),
    "shared": ("mlp.shared_experts.up_proj", "mlp.shared_expert.up_proj", "ffn.shared_experts.w1"),
}


def _left_out(quantization: dict) -> list[str]:
    """The parts whose linear layers no layer has quantised; a few layers left out by number don't count."""
    names = ("ignore", "modules_to_not_convert", "exclude_modules")
    entries = next((quantization[name] for name in names if quantization.get(name)), [])
    often = Counter(re.sub(r"\d+", "0", str(entry)) for entry in entries)
    patterns = [entry for entry, times in often.items() if times > 3 or "0" not in entry]
    return [part for part, probes in PROBES.items() if any(_names(p, probe) for p in patterns for probe in probes)]


MOST_WILDCARDS = 4  # 60 letters over 4 of them are 5e5 ways to match, over 8 already 2e9


def _check_regular(pattern: str) -> None:
    """Refuses a regular expression that could take for ever on a name of 60 letters: a repeated group, in which each
    turn may end in several places, or many repeated letters.
    """
    bare = re.sub(r"\\.|\[[^]]*\]", "x", pattern)  # escaped letters and sets stand for one letter
    bare = re.sub(r"([*+}])\?", r"\1", bare)  # lazy ones
    many = len(re.findall(r"[*+{]", bare)) > MOST_WILDCARDS or len(re.findall(r"(?<!\()\?", bare)) > 2 * MOST_WILDCARDS
    if many or re.search(r"\)[*+{]", bare) or len(pattern) > 1000:
        reason = f"a repeated group or more than {MOST_WILDCARDS} wildcards"
        raise InputError(f"quantization_config ignores {pattern[:60]!r}, with {reason}: that could take for ever")


def _names(pattern: str, probe: str) -> bool:
    """Does an entry of an ignore list ("re:...", a glob, a module or what is in front of it) name this layer?"""
    name = f"model.layers.0.{probe}"
    if pattern.startswith("re:"):
        _check_regular(pattern[3:])
        try:
            return re.match(pattern[3:], name) is not None
        except re.error as error:
            raise InputError(f"quantization_config ignores {pattern[:60]!r}, which is no pattern: {error}") from error
    tail = re.sub(r"^.*layers\.[0*]\.?", "", pattern)
    return bool(tail) and (fnmatchcase(probe, tail) or fnmatchcase(name, pattern) or probe.startswith(tail + "."))


def _part(name: str) -> str:
    """Which of PARTS the linear layer of this name belongs to."""
    if "shared_expert" in name:
        return "shared"
    if "experts" in name:
        return "experts"
    return "mlp" if re.search(r"\.(mlp|ffn)\.", name) else "attention"


def _mixed(quantization: dict, rest: Precision, dtype: str) -> Precision:
    """ModelOpt's MIXED_PRECISION: an algorithm by layer. Of each part its most frequent; `rest` where it has none."""
    votes = {part: Counter() for part in PARTS}
    for name, entry in quantization["quantized_layers"].items():
        if "lm_head" not in name:
            votes[_part(name)][entry["quant_algo"]] += 1
    kv = {"kv_cache_quant_algo": quantization.get("kv_cache_quant_algo")}
    kv["kv_cache_scheme"] = quantization.get("kv_cache_scheme")
    found = {part: _modelopt(kv | {"quant_algo": max(v, key=v.get)}, dtype) for part, v in votes.items() if v}
    if not found:
        raise InputError("MIXED_PRECISION without quantized_layers")
    first = found.get("experts") or next(iter(found.values()))
    rest = replace(rest, kv_cache=first.kv_cache)
    others = ((part, found.get(part, rest)) for part in PARTS)
    return replace(first, parts=tuple((part, own) for part, own in others if own != first))


def _fp8(block, dtype: str, kv_cache=None) -> Precision:
    """fp8 by fp8; `block`: [rows, columns] of a weight that share a scale, 128 activations then share one too."""
    plain = precision(dtype, "fp8", "fp8", kv_cache)
    if not block:
        return plain
    rows, columns = (check_size("a side of weight_block_size", size) for size in block)
    weights = replace(plain.weights, group=columns, scale_bytes=4 / rows)
    return replace(plain, weights=weights, activations=replace(plain.activations, group=columns))


def _integer_weights(bits: int, group: int, zero: bool, dtype: str, kv_cache=None) -> Precision:
    """Weight-only int4 or int8, group < 0: one scale per output channel."""
    if bits not in (4, 8):
        raise InputError(f"{bits}-bit weights are not modelled; 4 and 8 are")
    form = FORMATS["int4-zero" if zero else "int4"]
    form = replace(form, bits=bits, name=f"int{bits}{'-zero' if zero else ''}", zero_bytes=bits / 8 * zero)
    form = replace(form, group=group if group > 0 else 0)
    return replace(precision(dtype, None, None, kv_cache), weights=form)


def _compressed_tensors(quantization: dict, dtype: str) -> Precision:
    groups = list(quantization.get("config_groups", {}).values())
    if not groups:
        raise InputError("compressed-tensors: no config_groups")
    weights, inputs = groups[0].get("weights") or {}, groups[0].get("input_activations")
    bits, kind = int(weights.get("num_bits", 16)), weights.get("type", "int")
    kv = quantization.get("kv_cache_scheme") or {}
    kv_cache = {("float", 8): "fp8", ("int", 8): "int8"}.get((kv.get("type"), kv.get("num_bits")))
    group = int(weights.get("group_size") or -1)
    if kind == "float" and bits == 4:
        form = "mxfp4" if group == 32 else "nvfp4"
        return precision(dtype, form, form if inputs and form == "nvfp4" else None, kv_cache)
    if kind == "float" and bits == 8:
        block = weights.get("block_structure")
        return _fp8(block, dtype, kv_cache) if inputs else precision(dtype, "fp8", None, kv_cache)
    if inputs and bits == 8:
        return precision(dtype, "int8", "int8", kv_cache)
    weight_only = _integer_weights(bits, group, not weights.get("symmetric", True), dtype, kv_cache)
    if inputs:  # w4a8
        name = "fp8" if inputs.get("type") == "float" else "int8"
        return replace(weight_only, activations=FORMATS[name])
    return weight_only


def _modelopt(quantization: dict, dtype: str) -> Precision:
    """TensorRT Model Optimizer: quant_algo and kv_cache_quant_algo."""
    algorithms = {
        "FP8": ("fp8", "fp8"),
        "MXFP8": ("fp8", "fp8"),
        "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8"),
        "FP8_PB_WO": ("fp8", None),
        "NVFP4": ("nvfp4", "nvfp4"),
        "NVFP4_AWQ": ("nvfp4", "nvfp4"),
        "W4A16_NVFP4": ("nvfp4", None),
        "W4A16_AWQ": ("int4", None),
        "W4A8_AWQ": ("int4", "fp8"),
        "W8A16": ("int8", None),
        "W8A8_SQ_PER_CHANNEL": ("int8", "int8"),
    }
    algorithm = pick("quant_algo", quantization.get("quant_algo"), algorithms)
    kv = quantization.get("kv_cache_quant_algo")
    scheme = quantization.get("kv_cache_scheme")
    if kv is None and scheme:
        kv = scheme if isinstance(scheme, str) else {"float": "FP8", "int": "INT8"}.get(scheme.get("type"))
    kv_cache = {"FP8": "fp8", "INT8": "int8"}[pick("kv_cache_quant_algo", kv, ("FP8", "INT8"))] if kv else None
    found = precision(dtype, *algorithms[algorithm], kv_cache)
    if algorithm != "MXFP8":
        return found
    weights, activations = (replace(form, group=32, scale_bytes=1) for form in (found.weights, found.activations))
    return replace(found, weights=weights, activations=activations)
