"""Any model that the `transformers` package can build: its real modelling code, run once on tensors without data
(torch's FakeTensorMode: nothing is allocated or downloaded), and read off as the same list of `Op`.

Sizes stay parametric: a pass is traced at a few batch and context sizes, and every count of every kernel, being a
polynomial in them, is then known for all; what is none, or can't be (`_plausible`), is refused. Needs
requirements-hf.txt; this file and recorder.py, which reads the kernels off a pass, alone import torch.
"""

import hashlib
import importlib.util
import json
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from platformdirs import user_cache_path

from ridgepoint.command import to_install
from ridgepoint.inputs import MAX_SIZE, InputError
from ridgepoint.layers.formats import Precision, Unread
from ridgepoint.ops import Dims, Number, Op, Tail, attention, distinct_experts, kv_write, smaller
from ridgepoint.readers.config import Json

if TYPE_CHECKING:
    import torch
    import transformers

    from ridgepoint.estimator import Case
    from ridgepoint.readers.recorder import Recorder, Step, WatchedCache

CACHE = user_cache_path("ridgepoint")  # the platform's, such as ~/.cache/ridgepoint
VERSION = 5  # of what is cached; raise it when the recorder changes
Points = tuple[tuple[int, int], ...]  # (batch, length) of passes
# (batch, prompt): as many as there are terms, and a last one that what was found from the others must give exactly.
# With one sequence, or one chunk of a scan (up to 256 tokens), copies that are otherwise kernels are views.
PREFILL_POINTS: Points = ((2, 512), (3, 512), (2, 1024), (3, 1024), (2, 1536), (3, 1536), (5, 1280))
# (batch, context) of the decode steps: after some of those prompts
DECODE_POINTS = tuple((batch, prompt + 1) for batch, prompt in PREFILL_POINTS if prompt != 1536)
COUNTS = ("flops", "weight_bytes", "kv_bytes", "in_bytes", "out_bytes")
KINDS = {  # what a trace holds, and which dims each kind has
    "gemm": ("m", "n", "k"),
    "grouped_gemm": ("m", "n", "k"),
    "attention": ("heads", "kv_heads", "head_dim", "v_head_dim", "window", "owns"),
    **dict.fromkeys(("embedding", "norm", "rope", "swiglu", "elementwise"), ("rows", "width")),
}


@dataclass(frozen=True)
class TracedKernel:
    """One kernel of a traced pass: each number as coefficients over the terms of `terms(...)`."""

    name: str
    kind: str
    unit: str
    count: int
    numbers: dict[str, list[float]]  # of COUNTS and of the op's dims
    experts: int = 0  # of a grouped GEMM; its weight bytes are then those of all experts


@dataclass(frozen=True)
class Trace:
    """The kernels of a prefill and of a decode pass, parametric in batch and context."""

    parameters: int
    active_parameters: int  # those that one token uses; the embedding is whole
    hidden: int
    max_positions: int
    state_bytes: int  # of one sequence, in recurrent layers
    prefill: tuple[TracedKernel, ...]
    decode: tuple[TracedKernel, ...]

    def kv_cache_bytes(self, tokens: Number) -> Number:
        """The caches of one sequence of `tokens` at 2 bytes an element, with the state of recurrent layers; a sliding
        layer's holds its window at most, and a layer that reads another's has none.
        """
        total: Number = self.state_bytes
        for kernel in self.decode:
            if kernel.kind == "attention":
                size = {name: int(values[0]) for name, values in kernel.numbers.items() if name not in COUNTS}
                held = smaller(tokens, size["window"]) if size["window"] else tokens
                width = size["kv_heads"] * (size["head_dim"] + size["v_head_dim"]) * size["owns"]
                total = total + 2 * kernel.count * width * held
        return total

    @property
    def kv_bytes_per_token(self) -> int:
        """K and V of one token over all layers."""
        return int(self.kv_cache_bytes(1)) - self.state_bytes


@dataclass(frozen=True, kw_only=True)
class TracedModel:
    """A model known by its trace: it answers what is asked of a model (model.ASKED)."""

    name: str
    title: str
    family: str
    note: str = ""  # what of the published model isn't here, such as a vision tower
    quantization: Precision | Unread | None = None  # formats of its checkpoint, which a trace can't apply
    trace: Trace
    explicit: ClassVar[bool] = False
    vocab: ClassVar[None] = None
    experts: ClassVar[int] = 0  # whose loads could differ: a trace's are all alike
    experts_per_token: ClassVar[int] = 0

    @property
    def formats(self) -> tuple[None, str]:
        """As Model.formats: a trace can't apply its checkpoint's."""
        own = self.quantization
        note = f"{self.name} is traced, in 16 bits: its checkpoint's formats ({own.name}) aren't applied" if own else ""
        return None, note

    def check(self, case: "Case") -> None:
        """As Model.check."""
        if case.attention != "flash":
            raise InputError(f"{self.name} is traced from its code: flash attention only, and not by method seed")
        if any((case.weights, case.activations, case.kv_cache)):
            code = f"{self.name} is traced from its code, in 16 bits"
            raise InputError(f"{code}: --weights and the like need another model")

    def forward(self, *, batch: Number, q_len: Number, kv_len: Number, dtype: str = "bf16", **_: object) -> list[Op]:
        """As Model.forward; `check` refuses cases of other kernels and formats, and a trace has no choice of others."""
        return forward(self.trace, batch=batch, q_len=q_len, kv_len=kv_len, dtype=dtype)

    @property
    def parameters(self) -> int:
        return self.trace.parameters

    @property
    def active_parameters(self) -> int:
        return self.trace.active_parameters

    @property
    def hidden(self) -> int:
        return self.trace.hidden

    @property
    def max_positions(self) -> int:
        return self.trace.max_positions

    def weight_bytes(self, dtype: str, precision: Precision | None = None) -> int:
        """All parameters, 2 bytes each in either dtype; other formats are not known to a trace."""
        return 2 * self.parameters

    def kv_cache_bytes(self, dtype: str, tokens: Number, precision: Precision | None = None) -> Number:
        """The caches of one sequence of `tokens`, 2 bytes an element in either dtype."""
        return self.trace.kv_cache_bytes(tokens)


def terms(batch: Number, length: Number, *, decode: bool) -> list[Number]:
    """What counts depend on. Prefill of a prompt: 1, B, q, B*q, q^2, B*q^2 (learned positions are read once for the
    batch: q alone). Decode at a context: 1, B, kv, B*kv.
    >>> terms(2, 10, decode=True), terms(2, 10, decode=False)
    ([1, 2, 10, 20], [1, 2, 10, 20, 100, 200])
    """
    powers = [1, batch, length, batch * length]
    return powers if decode else [*powers, length * length, batch * length * length]


def forward(trace: Trace, *, batch: Number, q_len: Number, kv_len: Number, dtype: str = "bf16") -> list[Op]:
    """As model.forward: the kernels of one pass. One new token: those of the traced step. More: those of the traced
    prompt, at q_len tokens, with attention over kv_len, as if what is cached cost nothing else (which holds where the
    cache has keys and values themselves).
    """
    decode = np.ndim(q_len) == 0 and q_len == 1
    basis = terms(batch, kv_len if decode else q_len, decode=decode)
    ops = []
    for kernel in trace.decode if decode else trace.prefill:
        if kernel.kind == "attention":
            ops += _attention(kernel, batch, q_len, kv_len, dtype)
        else:
            ops.append(_op(kernel, basis, batch * q_len, dtype))
    return ops


def _op(kernel: TracedKernel, basis: list[Number], tokens: Number, dtype: str) -> Op:
    values: dict[str, Number] = {}
    for name, coefficients in kernel.numbers.items():
        used = [(c, x) for c, x in zip(coefficients, basis, strict=True) if c]
        values[name] = sum((c * x for c, x in used), 0)
    dims = cast(Dims, {name: value for name, value in values.items() if name not in COUNTS})  # see KINDS
    counts = {name: values[name] for name in COUNTS}
    if kernel.experts:
        top_k = max(kernel.numbers["m"])  # rows per token
        active = distinct_experts(tokens, kernel.experts, top_k)
        dims |= {"experts": kernel.experts, "active": active, "tokens": tokens, "top_k": top_k, "imbalance": 0.0}
        counts["weight_bytes"] = counts["weight_bytes"] * active / kernel.experts
    return Op(
        name=kernel.name, kind=kernel.kind, unit=kernel.unit, dtype=dtype, count=kernel.count, dims=dims, **counts
    )


def _attention(kernel: TracedKernel, batch: Number, q_len: Number, kv_len: Number, dtype: str) -> list[Op]:
    """The KV write and attention from its heads: FLOPs under the causal mask, K and V read once per KV head."""
    names = ("heads", "kv_heads", "head_dim", "v_head_dim")
    heads, kv_heads, dim, v_dim = (int(kernel.numbers[name][0]) for name in names)
    number: Tail = {"dtype": dtype, "elem_bytes": 2, "count": kernel.count}
    write = kv_write(
        f"{kernel.name}.kv_write",
        tokens=batch * q_len,
        kv_heads=kv_heads,
        head_dim=dim,
        v_head_dim=v_dim,
        **number,
    )
    attended = attention(
        f"{kernel.name}.attention",
        batch=batch,
        q_len=q_len,
        kv_len=kv_len,
        window=int(kernel.numbers["window"][0]) or None,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        v_head_dim=None if v_dim == dim else v_dim,
        **number,
    )
    owns = kernel.numbers["owns"][0]  # a layer may read the cache of another
    return [write] * int(owns) + [attended]


# Tracing --------------------------------------------------------------------------------------------------------


def available() -> bool:
    """Is what tracing needs installed?"""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def trace(config: Json) -> Trace:
    """Traces the model of a Hugging Face config.json, or reads its earlier trace from CACHE. Raises InputError
    where transformers is missing or can't build it.
    """
    key = hashlib.sha256(json.dumps([VERSION, config], sort_keys=True).encode()).hexdigest()[:20]
    path = CACHE / f"{key}.json"
    try:
        return _kept(path.read_bytes())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        traced = _trace(config)  # not there, or damaged
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        body = json.dumps(asdict(traced))
        temporary.write_text(json.dumps({"sha256": _digest(body), "trace": body}))
        temporary.replace(path)
    except OSError as error:
        print(f"note: the trace is not kept: {CACHE}: {error.strerror}", file=sys.stderr)
    return traced


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _kept(content: bytes) -> Trace:
    """The trace that a file holds. Raises one of several errors if it isn't exactly what was written there."""
    outer = json.loads(content)
    if set(outer) != {"sha256", "trace"} or _digest(outer["trace"]) != outer["sha256"]:
        raise ValueError("damaged")
    data = json.loads(outer["trace"])
    kernels = {name: tuple(TracedKernel(**kernel) for kernel in data[name]) for name in ("prefill", "decode")}
    return checked(Trace(**(data | kernels)))


def checked(found: Trace) -> Trace:
    """`found`, if all its numbers can be: types, lengths, finite and not negative. Raises ValueError."""
    sizes = {name: getattr(found, name) for name in ("parameters", "active_parameters", "hidden", "max_positions")}
    for name, value in (*sizes.items(), ("state_bytes", found.state_bytes)):
        if type(value) is not int or value < (name != "state_bytes"):
            raise ValueError(f"{name} is {value!r}")
    if found.active_parameters > found.parameters or not found.prefill or not found.decode:
        raise ValueError("more active parameters than parameters, or no kernels")
    for kernels, decode in ((found.prefill, False), (found.decode, True)):
        for kernel in kernels:
            _check_kernel(kernel, len(terms(1, 1, decode=decode)))
    return found


def _check_kernel(kernel: TracedKernel, length: int) -> None:
    texts = isinstance(kernel.name, str) and isinstance(kernel.kind, str) and kernel.unit in ("tensor", "vector")
    whole = type(kernel.count) is int and type(kernel.experts) is int and kernel.count >= 1 and kernel.experts >= 0
    if not texts or not whole or (kernel.kind == "grouped_gemm") != (kernel.experts > 0):
        raise ValueError(f"kernel {kernel.name!r} is none")
    if not set(kernel.numbers) >= {*COUNTS, *KINDS[kernel.kind]}:
        raise ValueError(f"kernel {kernel.name} lacks numbers")
    for name, values in kernel.numbers.items():
        numbers = len(values) == length and all(type(value) in (int, float) for value in values)
        if not numbers or not all(math.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"{name} of {kernel.name} is {values!r}")
    if kernel.kind == "attention" and min(kernel.numbers[n][0] for n in ("heads", "kv_heads", "head_dim")) < 1:
        raise ValueError(f"{kernel.name} has no heads")


SAME_CODE = {"kimi_k2": "deepseek_v3"}  # "architectures" of Kimi-K2's config.json: DeepseekV3ForCausalLM


def one_line(error: Exception) -> str:
    """The start of what other people's code says of an error."""
    return " ".join(str(error).split())[:200]


@contextmanager
def built(config: Json) -> "Iterator[torch.nn.Module]":
    """The model of a config.json on tensors without data, under FakeTensorMode for as long as the context lasts. Raises
    InputError where transformers is missing or can't build it.
    """
    try:
        import torch
        import transformers
        from torch._subclasses.fake_tensor import FakeTensorMode
    except ImportError as error:
        raise InputError(f"{error.name} is missing: {to_install('hf', 'traces')}") from error
    transformers.logging.set_verbosity_error()
    logging.getLogger("torch").setLevel(logging.CRITICAL)  # what fails is an InputError here
    warnings.filterwarnings("ignore", module="torch|transformers")
    settings = {key: value for key, value in config.items() if key not in ("auto_map", "quantization_config")}
    settings["model_type"] = SAME_CODE.get(settings["model_type"], settings["model_type"])
    try:
        hf_config = transformers.AutoConfig.for_model(**settings)
    except Exception as error:  # whatever its validators raise, it is about the user's file
        raise InputError(
            f"transformers {transformers.__version__} can't read this config: {one_line(error)}"
        ) from error
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = _build(transformers, hf_config)
        except Exception as error:  # as above: the modelling code met a config that it was not made for
            raise InputError(f"transformers can't build {config.get('model_type')}: {one_line(error)}") from error
        finally:
            torch.set_default_dtype(torch.float32)
        model.eval()
        yield model


def elements(model: "torch.nn.Module") -> int:
    """Numbers in the checkpoint of the language model: parameters, and buffers such as a router's correction, each
    once.
    """
    return sum(_tensors(model).values())


def _tensors(model: "torch.nn.Module") -> dict[int, int]:
    """Elements of each tensor of the language model, by its storage."""
    parts = (model.get_decoder(), model.get_output_embeddings())
    tensors = (t for part in parts if part is not None for t in part.state_dict().values() if t.is_floating_point())
    return {tensor.untyped_storage()._cdata: tensor.numel() for tensor in tensors}


POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length", "model_max_length")


def _trace(config: Json) -> Trace:
    family = str(config.get("model_type"))
    with built(config) as model:
        text = model.config.get_text_config()
        if getattr(text, "is_encoder_decoder", False) or not getattr(text, "hidden_size", None):
            raise InputError(f"{family} isn't a decoder whose hidden size transformers knows")
        if model.get_output_embeddings() is None:
            raise InputError(f"{family} has no LM head: it generates no tokens")
        positions = next((n for n in (getattr(text, name, None) for name in POSITIONS) if type(n) is int and n > 0), 0)
        try:
            prefill, decode = _passes(model, family)
        except InputError:
            raise
        except Exception as error:  # as in `built`
            raise InputError(f"the code of {family} in transformers can't run: {one_line(error)}") from error
        from ridgepoint.readers.recorder import kernels_at

        prefilled = _fit(kernels_at(prefill), PREFILL_POINTS, decode=False)
        decoded = _fit(kernels_at(decode), DECODE_POINTS, decode=True)
        total = elements(model)
        caches = [each.cached() for each in decode]
        idle = total - sum(n for name, n in _tensors(model).items() if name in decode[0].touched)
    # no position is too far for a model whose config names no limit (ALiBi, recurrence)
    read = Trace(
        parameters=total,
        active_parameters=total - _not_chosen(decoded),
        hidden=text.hidden_size,
        max_positions=positions or MAX_SIZE,
        state_bytes=caches[0][1],
        prefill=prefilled,
        decode=decoded,
    )
    try:
        found = checked(read)
    except ValueError as error:
        raise InputError(f"the trace of {family} makes no sense: {one_line(error)}") from error
    _plausible(found, family, text, caches, idle)
    return found


def _not_chosen(kernels: tuple[TracedKernel, ...]) -> int:
    """Weights of the experts that one token leaves out."""
    grouped = [kernel for kernel in kernels if kernel.experts]
    shares = [1 - min(1.0, max(kernel.numbers["m"]) / kernel.experts) for kernel in grouped]
    weights = [kernel.count * sum(kernel.numbers["weight_bytes"]) / 2 for kernel in grouped]
    return round(sum(share * weight for share, weight in zip(shares, weights, strict=True)))


def _plausible(
    found: Trace,
    family: str,
    text: "transformers.PretrainedConfig",
    caches: list[tuple[dict[int, float], int]],
    idle: int,
) -> None:
    """Refuses a trace whose sums can't be right. Every weight is used; a decode step multiplies each weight that it
    reads once for each token; keys and values are as wide as the config's heads; the kernels' caches are the cache's.
    """
    if idle > 0.02 * found.parameters:
        raise InputError(f"the trace of {family} leaves {idle / found.parameters:.0%} of its weights unused")
    ops = [op for op in forward(found, batch=1, q_len=1, kv_len=1024) if op.kind not in ("attention", "kv_write")]
    flops = sum(op.count * op.flops for op in ops)
    read = sum(op.count * op.weight_bytes for op in ops if op.kind in ("gemm", "grouped_gemm")) / 2  # elements
    moved = sum(op.count * op.bytes for op in ops)
    most = (
        3 * found.active_parameters + 4 * found.state_bytes
    )  # bytes: 1.5 times the weights, the state twice and again
    # norms, biases and recurrences shift FLOPs by 4 % in Mamba-2 of 7 B, 11 % in models of 0.5 M parameters
    if not 1.8 * read <= flops <= 3 * read or read > 1.1 * found.active_parameters or moved > most:
        each = f"{flops / 1e9:,.2f} GFLOP a token, and its weights need {2 * read / 1e9:,.2f}"
        each += f"; {moved / 1e9:,.2f} GB for {2 * found.active_parameters / 1e9:,.2f} of weights"
        raise InputError(f"the trace of {family} can't be right: a decode step takes {each}")
    layers, _ = caches[0]
    if any(other != caches[0] for other in caches[1:]) or found.kv_bytes_per_token != round(2 * sum(layers.values())):
        kept, kernels = 2 * sum(layers.values()), found.kv_bytes_per_token
        raise InputError(f"the trace of {family} keeps {kept:,.0f} B a token, but its attention {kernels:,} B")
    if getattr(text, "kv_lora_rank", None):
        raise InputError(f"{family} caches latents (kv_lora_rank), which its code in transformers expands")
    declared = _declared_width(text)
    wrong = {width for width in layers.values() if declared and round(width) != declared}
    if wrong:
        widths = f"{max(wrong):,.0f} elements a token and layer, and its config's heads {declared:,}"
        raise InputError(f"the trace of {family} can't be right: its cache has {widths}")


def _declared_width(text: "transformers.PretrainedConfig") -> int:
    """Elements of K and V of one token in a layer, by the config's own heads; 0 if it doesn't say, or for layers that
    differ.
    """
    heads = getattr(text, "num_attention_heads", None)
    if type(heads) is not int or not heads:
        return 0
    dim = getattr(text, "head_dim", None) or getattr(text, "kv_channels", None) or text.hidden_size // heads
    names = [name for name in ("num_key_value_heads", "num_kv_heads") if hasattr(type(text), name)]  # not stray keys
    kv_heads = next((getattr(text, name) for name in names if getattr(text, name)), heads)
    inner = getattr(text, "attn_config", None)  # of DBRX, MPT
    kv_heads = getattr(inner, "kv_n_heads", None) or kv_heads
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        kv_heads = 1
    return 2 * kv_heads * dim if type(kv_heads) is int and type(dim) is int else 0


def _build(library: Any, hf_config: "transformers.PretrainedConfig") -> "torch.nn.Module":
    """The language model; the whole of one that sees too, where its language model has no class of its own."""
    try:
        return _with_attention(library.AutoModelForCausalLM, hf_config.get_text_config())
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        return _with_attention(library.AutoModelForImageTextToText, hf_config)


def _with_attention(auto: Any, hf_config: "transformers.PretrainedConfig") -> "torch.nn.Module":
    """The model with fused attention, or with attention spelled out where its code has no fused one."""
    try:
        return auto.from_config(hf_config, attn_implementation="sdpa")
    except ValueError as error:
        if "attention implementation" not in str(error):
            raise
        return auto.from_config(hf_config, attn_implementation="eager")


@lru_cache(maxsize=2)
def _inverse(points: Points, decode: bool) -> tuple[tuple[Fraction, ...], ...]:
    """Of the matrix of `terms` at the points, exactly: Gauss and Jordan."""
    rows = [[Fraction(int(x)) for x in terms(*point, decode=decode)] for point in points]
    size = len(rows)
    rows = [row + [Fraction(i == j) for j in range(size)] for i, row in enumerate(rows)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(size):
            if k != i and rows[k][i]:
                rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return tuple(tuple(row[size:]) for row in rows)


def _dot(row: Iterable[Fraction], values: Iterable[int]) -> Fraction:
    return sum((each * value for each, value in zip(row, values, strict=True)), Fraction())


@lru_cache(maxsize=2**14)
def coefficients(values: tuple[int, ...], points: Points, decode: bool) -> tuple[float, ...]:
    """A count over `terms`, from its values at the points; the last point is a check. Raises ValueError where the count
    is no such polynomial, or one with a negative coefficient.
    >>> coefficients((1026, 1026, 2050, 2050, 2562), DECODE_POINTS, True)  # 2 kv
    (0.0, 0.0, 2.0, 0.0)
    """
    solved = [_dot(row, values[:-1]) for row in _inverse(points[:-1], decode)]
    if _dot(solved, [int(x) for x in terms(*points[-1], decode=decode)]) != values[-1]:
        raise ValueError("is no polynomial in batch and length")
    if min(solved) < 0:
        raise ValueError(f"falls with batch or length ({float(min(solved)):g})")
    return tuple(map(float, solved))


def _fit(records: "list[list[Step]]", points: Points, *, decode: bool) -> tuple[TracedKernel, ...]:
    """Coefficients of every number of every kernel, from the passes traced at `points`; the same kernel in several
    layers becomes one with a count.
    """
    if len({len(record) for record in records}) != 1:
        raise InputError("this model launches other kernels at other sizes, which a trace can't follow")
    kernels: dict[str, dict[str, Any]] = {}
    for entries in zip(*records, strict=True):
        first = entries[0]
        name = re.sub(r"\.\d+(?=\.|$)", "", first["name"]).removeprefix("model.")
        numbers: dict[str, list[float]] = {}
        for number in (*COUNTS, *first["dims"]):
            values = tuple(int(entry[number] if number in COUNTS else entry["dims"][number]) for entry in entries)
            try:
                numbers[number] = list(coefficients(values, points, decode))
            except ValueError as error:
                raise InputError(f"a trace can't follow {name or 'the model'}: its {number} {error}") from None
        if decode and first["kind"] not in ("attention", "embedding"):
            grown = [number for number, found in numbers.items() if any(found[2:])]
            if grown:  # a table of positions is named embedding; all else of a step is about its one token
                raise InputError(f"a trace can't follow {name}: its {grown[0]} grow with the context, as in no engine")
        kernel = {"kind": first["kind"], "unit": first["unit"], "numbers": numbers, "experts": first["experts"]}
        key = json.dumps([name, kernel])
        if key in kernels:
            kernels[key]["count"] += 1
        else:
            kernels[key] = {"name": name, "count": 1} | kernel
    return tuple(TracedKernel(**kernel) for kernel in kernels.values())


def _passes(model: "torch.nn.Module", family: str) -> "tuple[list[Recorder], list[Recorder]]":
    """The recorders of the prefill and decode passes at all points, with a sign of life on stderr."""
    if _operations(model, 16) - _operations(model, 8) >= 8:
        raise InputError(f"transformers' code of {family} takes a prompt token by token in Python: too slow to trace")
    prefill, decode = [], []
    for batch, length in _progress(PREFILL_POINTS, family):
        recorder = _record(model, batch, length, 0)
        prefill.append(recorder)
        if (batch, length + 1) in DECODE_POINTS:
            decode.append(_record(model, batch, 1, length, recorder.cache))
    return prefill, decode


def _progress(points: Points, family: str) -> Iterable[tuple[int, int]]:
    """`points`, with a bar in a terminal, or else a line."""
    text = f"tracing {family}'s code in transformers, once"
    if sys.stderr.isatty():
        from tqdm import tqdm  # comes with transformers

        return tqdm(points, desc=text, unit="size", file=sys.stderr, leave=False)
    print(f"note: {text}: at {len(points)} sizes; what it shows is kept in {CACHE}", file=sys.stderr, flush=True)
    return points


def _operations(model: "torch.nn.Module", tokens: int) -> int:
    """Operations of one pass over a short prompt."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            self.count += 1
            return function(*args, **(kwargs or {}))

    with Counting() as counting:
        model(torch.zeros(2, tokens, dtype=torch.long), use_cache=False)
    return counting.count


def _cache(model: "torch.nn.Module") -> "WatchedCache":
    """An empty cache for the model."""
    from ridgepoint.readers.recorder import WatchedCache

    return WatchedCache(config=model.config.get_text_config())


def _record(
    model: "torch.nn.Module", batch: int, q_len: int, past: int, cache: "WatchedCache | None" = None
) -> "Recorder":
    """The recorder after one pass over `batch` sequences of `q_len` new tokens after the `past` ones in `cache`; a pass
    that isn't recorded fills one if there is none.
    """
    import inspect

    import torch

    from ridgepoint.readers.recorder import Recorder

    names = inspect.signature(model.forward).parameters  # recurrent models call theirs otherwise
    name = next((name for name in ("past_key_values", "cache_params") if name in names), None)
    if name is None:
        raise InputError("its code in transformers takes no cache")
    fill, cache = cache is None and past, _cache(model) if cache is None else cache
    options = {name: cache, "use_cache": True, "logits_to_keep": 1}
    if fill:
        model(torch.zeros(batch, past, dtype=torch.long), **options)
    with Recorder(model, batch, q_len, past + q_len, cache) as recorder:
        model(torch.zeros(batch, q_len, dtype=torch.long), **options)
    return recorder
