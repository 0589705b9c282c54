"""The formats that a checkpoint asks for in its quantization config, of each part of a layer."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ridgepoint.inputs import InputError, check_size, pick, shown
from ridgepoint.layers.formats import FORMATS, PARTS, Precision, Unread, precision_of
from ridgepoint.readers.config import Json

# Checkpoints -------------------------------------------------------------------------------------------------------


def from_checkpoint(config: object, dtype: str = "bf16") -> Precision:
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


def formats_or_why(config: object) -> Precision | Unread:
    """from_checkpoint, or why it refuses."""
    try:
        return from_checkpoint(config)
    except InputError as error:
        return Unread(str(error))


def _checkpoint(quantization: Json, required: bool, dtype: str) -> Precision:
    algorithm, plain = quantization.get("quant_algo"), precision_of(dtype)
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


def _by_method(method: str, quantization: Json, dtype: str) -> Precision:
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
        return precision_of(dtype, weights="mxfp4")
    if method == "bitsandbytes":
        if quantization.get("load_in_8bit"):
            return precision_of(dtype, weights="int8")
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


def _left_out(quantization: Json) -> list[str]:
    """The parts whose linear layers no layer has quantised; a few layers left out by number don't count."""
    names = ("ignore", "modules_to_not_convert", "exclude_modules")
    entries: list[object] = next((quantization[name] for name in names if quantization.get(name)), [])
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


def _mixed(quantization: Json, rest: Precision, dtype: str) -> Precision:
    """ModelOpt's MIXED_PRECISION: an algorithm by layer. Of each part its most frequent; `rest` where it has none."""
    votes: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
    for name, entry in quantization["quantized_layers"].items():
        if "lm_head" not in name:
            votes[_part(name)][entry["quant_algo"]] += 1
    kv = {"kv_cache_quant_algo": quantization.get("kv_cache_quant_algo")}
    kv["kv_cache_scheme"] = quantization.get("kv_cache_scheme")
    found = {
        part: _modelopt(kv | {"quant_algo": max(v, key=lambda name: v[name])}, dtype) for part, v in votes.items() if v
    }
    if not found:
        raise InputError("MIXED_PRECISION without quantized_layers")
    first = found.get("experts") or next(iter(found.values()))
    rest = replace(rest, kv_cache=first.kv_cache)
    others = ((part, found.get(part, rest)) for part in PARTS)
    return replace(first, parts=tuple((part, own) for part, own in others if own != first))


def _fp8(block: Sequence[object] | None, dtype: str, kv_cache: str | None = None) -> Precision:
    """fp8 by fp8; `block`: [rows, columns] of a weight that share a scale, 128 activations then share one too."""
    plain = precision_of(dtype, "fp8", "fp8", kv_cache)
    if not block:
        return plain
    rows, columns = (check_size("a side of weight_block_size", size) for size in block)
    weights = replace(plain.weights, group=columns, scale_bytes=4 / rows)
    return replace(plain, weights=weights, activations=replace(plain.activations, group=columns))


def _integer_weights(bits: int, group: int, zero: bool, dtype: str, kv_cache: str | None = None) -> Precision:
    """Weight-only int4 or int8, group < 0: one scale per output channel."""
    if bits not in (4, 8):
        raise InputError(f"{bits}-bit weights are not modelled; 4 and 8 are")
    form = FORMATS["int4-zero" if zero else "int4"]
    form = replace(form, bits=bits, name=f"int{bits}{'-zero' if zero else ''}", zero_bytes=bits / 8 * zero)
    form = replace(form, group=group if group > 0 else 0)
    return replace(precision_of(dtype, None, None, kv_cache), weights=form)


def _compressed_tensors(quantization: Json, dtype: str) -> Precision:
    groups = list(quantization.get("config_groups", {}).values())
    if not groups:
        raise InputError("compressed-tensors: no config_groups")
    weights, inputs = groups[0].get("weights") or {}, groups[0].get("input_activations")
    bits, kind = int(weights.get("num_bits", 16)), weights.get("type", "int")
    kv = quantization.get("kv_cache_scheme") or {}
    known: dict[tuple[object, object], str] = {("float", 8): "fp8", ("int", 8): "int8"}
    kv_cache = known.get((kv.get("type"), kv.get("num_bits")))
    group = int(weights.get("group_size") or -1)
    if kind == "float" and bits == 4:
        form = "mxfp4" if group == 32 else "nvfp4"
        return precision_of(dtype, form, form if inputs and form == "nvfp4" else None, kv_cache)
    if kind == "float" and bits == 8:
        block = weights.get("block_structure")
        return _fp8(block, dtype, kv_cache) if inputs else precision_of(dtype, "fp8", None, kv_cache)
    if inputs and bits == 8:
        return precision_of(dtype, "int8", "int8", kv_cache)
    weight_only = _integer_weights(bits, group, not weights.get("symmetric", True), dtype, kv_cache)
    if inputs:  # w4a8
        name = "fp8" if inputs.get("type") == "float" else "int8"
        return replace(weight_only, activations=FORMATS[name])
    return weight_only


def _modelopt(quantization: Json, dtype: str) -> Precision:
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
    found = precision_of(dtype, *algorithms[algorithm], kv_cache)
    if algorithm != "MXFP8":
        return found
    weights, activations = (replace(form, group=32, scale_bytes=1) for form in (found.weights, found.activations))
    return replace(found, weights=weights, activations=activations)
