"""Any model that the `transformers` package can build: its real modelling code, run once on tensors without data
(torch's FakeTensorMode: nothing is allocated or downloaded), and read off as the same list of `Op`.

Sizes stay parametric: a pass is traced at a few batch and context sizes, and every count of every kernel, being a
polynomial in them, is then known for all. Needs requirements-hf.txt; the only file here that imports torch.
"""

import hashlib
import importlib.util
import json
import logging
import re
import sys
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from inputs import InputError
from ops import Number, Op, attention, distinct_experts, kv_write, smaller

CACHE = Path(__file__).resolve().parent / ".traces"
VERSION = 4  # of what is cached; raise it when the recorder changes
# (batch, prompt) and (batch, context); with a batch of 1, copies that are otherwise kernels are views.
PREFILL_POINTS = ((2, 512), (3, 512), (2, 1024), (2, 1536))
DECODE_POINTS = ((2, 512), (3, 512), (2, 1024))
MOST_OPERATIONS = 400_000  # of one pass, a minute's
COUNTS = ("flops", "weight_bytes", "kv_bytes", "in_bytes", "out_bytes")


@dataclass(frozen=True)
class Kernel:
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
    hidden: int
    max_positions: int
    prefill: tuple[Kernel, ...]
    decode: tuple[Kernel, ...]

    def kv_cache_bytes(self, tokens: Number) -> Number:
        """The caches of one sequence of `tokens` at 2 bytes an element; a sliding layer's holds its window at most."""
        total = 0
        for kernel in self.decode:
            if kernel.kind == "attention":
                size = {name: int(values[0]) for name, values in kernel.numbers.items() if name not in COUNTS}
                held = smaller(tokens, size["window"]) if size["window"] else tokens
                total = total + 2 * kernel.count * size["kv_heads"] * (size["head_dim"] + size["v_head_dim"]) * held
        return total

    @property
    def kv_bytes_per_token(self) -> int:
        """K and V of one token over all layers."""
        return self.kv_cache_bytes(1)


@dataclass(frozen=True, kw_only=True)
class TracedModel:
    """A model known by its trace: it answers what is asked of a model (model.ASKED)."""

    name: str
    title: str
    family: str
    quantization: object = None  # formats of its checkpoint, which a trace can't apply
    trace: Trace
    explicit: ClassVar[bool] = False
    active_parameters: ClassVar[None] = None  # not known to a trace
    vocab: ClassVar[None] = None
    experts: ClassVar[int] = 0  # whose loads could differ: a trace's are all alike
    experts_per_token: ClassVar[int] = 0

    @property
    def formats(self) -> tuple[None, str]:
        """As Model.formats: a trace can't apply its checkpoint's."""
        own = self.quantization
        note = f"{self.name} is traced, in 16 bits: its checkpoint's formats ({own.name}) aren't applied" if own else ""
        return None, note

    def check(self, case) -> None:
        """As Model.check."""
        if case.attention != "flash":
            raise InputError(f"{self.name} is traced from its code: flash attention only, and not by method seed")
        if any((case.weights, case.activations, case.kv_cache)):
            code = f"{self.name} is traced from its code, in 16 bits"
            raise InputError(f"{code}: --weights and the like need another model")

    def forward(self, *, batch, q_len, kv_len, dtype="bf16", **_):
        """As Model.forward; `check` refuses cases of other kernels and formats, and a trace has no choice of others."""
        return forward(self.trace, batch=batch, q_len=q_len, kv_len=kv_len, dtype=dtype)

    @property
    def parameters(self) -> int:
        return self.trace.parameters

    @property
    def hidden(self) -> int:
        return self.trace.hidden

    @property
    def max_positions(self) -> int:
        return self.trace.max_positions

    def weight_bytes(self, dtype: str, precision=None) -> int:
        """All parameters, 2 bytes each in either dtype; other formats are not known to a trace."""
        return 2 * self.parameters

    def kv_cache_bytes(self, dtype: str, tokens: Number, precision=None) -> Number:
        """The caches of one sequence of `tokens`, 2 bytes an element in either dtype."""
        return self.trace.kv_cache_bytes(tokens)


def terms(batch: Number, length: Number, *, decode: bool) -> list[Number]:
    """What counts depend on. Prefill of a prompt: 1, B, B*q, B*q^2. Decode at a context: 1, B, B*kv."""
    powers = [1, batch, batch * length]
    return powers if decode else [*powers, batch * length * length]


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


def _op(kernel: Kernel, basis: list[Number], tokens: Number, dtype: str) -> Op:
    values = {}
    for name, coefficients in kernel.numbers.items():
        used = [(c, x) for c, x in zip(coefficients, basis, strict=True) if c]
        values[name] = sum((c * x for c, x in used), 0)
    dims = {name: value for name, value in values.items() if name not in COUNTS}
    counts = {name: values[name] for name in COUNTS}
    if kernel.experts:
        top_k = max(kernel.numbers["m"])  # rows per token
        active = distinct_experts(tokens, kernel.experts, top_k)
        dims |= {"experts": kernel.experts, "active": active, "tokens": tokens, "top_k": top_k, "imbalance": 0.0}
        counts["weight_bytes"] = counts["weight_bytes"] * active / kernel.experts
    return Op(
        name=kernel.name, kind=kernel.kind, unit=kernel.unit, dtype=dtype, count=kernel.count, dims=dims, **counts
    )


def _attention(kernel: Kernel, batch: Number, q_len: Number, kv_len: Number, dtype: str) -> list[Op]:
    """The KV write and attention from its heads: FLOPs under the causal mask, K and V read once per KV head."""
    shape = {name: int(kernel.numbers[name][0]) for name in ("heads", "kv_heads", "head_dim", "v_head_dim")}
    number = {"dtype": dtype, "elem_bytes": 2, "count": kernel.count}
    written = {name: shape[name] for name in ("kv_heads", "head_dim", "v_head_dim")}
    if shape["v_head_dim"] == shape["head_dim"]:
        del shape["v_head_dim"]
    window = int(kernel.numbers["window"][0]) or None
    return [
        kv_write(f"{kernel.name}.kv_write", tokens=batch * q_len, **written, **number),
        attention(
            f"{kernel.name}.attention", batch=batch, q_len=q_len, kv_len=kv_len, window=window, **shape, **number
        ),
    ]


# Tracing --------------------------------------------------------------------------------------------------------


def available() -> bool:
    """Is what tracing needs installed?"""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def trace(config: dict) -> Trace:
    """Traces the model of a Hugging Face config.json, or reads its earlier trace from .traces/. Raises InputError
    where transformers is missing or can't build it.
    """
    key = hashlib.sha256(json.dumps([VERSION, config], sort_keys=True).encode()).hexdigest()[:20]
    path = CACHE / f"{key}.json"
    try:
        data = json.loads(path.read_text())
        kernels = {name: tuple(Kernel(**kernel) for kernel in data[name]) for name in ("prefill", "decode")}
        return Trace(**(data | kernels))
    except (OSError, ValueError, TypeError, KeyError):
        traced = _trace(config)  # not there, or damaged
    try:
        CACHE.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(traced)))
        temporary.replace(path)
    except OSError as error:
        print(f"note: the trace is not kept: {CACHE}: {error.strerror}", file=sys.stderr)
    return traced


SAME_CODE = {"kimi_k2": "deepseek_v3"}  # "architectures" of Kimi-K2's config.json: DeepseekV3ForCausalLM


def one_line(error: Exception) -> str:
    """The start of what other people's code says of an error."""
    return " ".join(str(error).split())[:200]


@contextmanager
def built(config: dict):
    """The model of a config.json on tensors without data, under FakeTensorMode for as long as the context lasts. Raises
    InputError where transformers is missing or can't build it.
    """
    try:
        import torch
        import transformers
        from torch._subclasses.fake_tensor import FakeTensorMode
    except ImportError as error:
        raise InputError(f"{error.name} is missing: pip install -r requirements-hf.txt") from error
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


def elements(model) -> int:
    """Numbers in the checkpoint of the language model: parameters, and buffers such as a router's correction, each
    once.
    """
    parts = (model.get_decoder(), model.get_output_embeddings())
    tensors = (tensor for part in parts for tensor in part.state_dict().values() if tensor.is_floating_point())
    return sum({tensor.untyped_storage()._cdata: tensor.numel() for tensor in tensors}.values())


def _trace(config: dict) -> Trace:
    with built(config) as model:
        total, text = elements(model), model.config.get_text_config()
        if getattr(text, "is_encoder_decoder", False) or not getattr(text, "hidden_size", None):
            raise InputError(f"{config.get('model_type')} isn't a decoder whose hidden size transformers knows")
        sizes = {"hidden": text.hidden_size, "max_positions": getattr(text, "max_position_embeddings", None) or 4096}
        try:
            prefill = kernels_at([_record(model, batch, length, 0) for batch, length in PREFILL_POINTS])
            decode = kernels_at([_record(model, batch, 1, length - 1) for batch, length in DECODE_POINTS])
        except InputError:
            raise
        except Exception as error:  # as in `built`
            raise InputError(
                f"the code of {config.get('model_type')} in transformers can't run: {one_line(error)}"
            ) from error
    kernels = {
        "prefill": _fit(prefill, [terms(*point, decode=False) for point in PREFILL_POINTS]),
        "decode": _fit(decode, [terms(*point, decode=True) for point in DECODE_POINTS]),
    }
    return Trace(parameters=total, **sizes, **kernels)


def _build(transformers, hf_config):
    """The language model; the whole of one that sees too, where its language model has no class of its own."""
    try:
        return _with_attention(transformers.AutoModelForCausalLM, hf_config.get_text_config())
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        return _with_attention(transformers.AutoModelForImageTextToText, hf_config)


def _with_attention(auto, hf_config):
    """The model with fused attention, or with attention spelled out where its code has no fused one."""
    try:
        return auto.from_config(hf_config, attn_implementation="sdpa")
    except ValueError as error:
        if "attention implementation" not in str(error):
            raise
        return auto.from_config(hf_config, attn_implementation="eager")


def _fit(records: list[list[dict]], basis: list[list[float]]) -> tuple[Kernel, ...]:
    """Coefficients of every number of every kernel, from the passes traced at the points of `basis`; the same kernel
    in several layers becomes one with a count.
    """
    lengths = {len(record) for record in records}
    if len(lengths) != 1:
        raise InputError("this model launches other kernels at other sizes, which a trace can't follow")
    matrix = np.array(basis, dtype=float)
    kernels: dict[str, dict] = {}
    for entries in zip(*records, strict=True):
        first = entries[0]
        numbers = {}
        for name in (*COUNTS, *first["dims"]):
            values = [entry[name] if name in COUNTS else entry["dims"][name] for entry in entries]
            solved = np.linalg.solve(matrix, np.array(values, dtype=float))
            scale = max(map(abs, values)) or 1.0
            numbers[name] = [
                0.0 if abs(c * matrix[:, i]).max() < 1e-9 * scale else float(_whole(c)) for i, c in enumerate(solved)
            ]
        kernel = {"kind": first["kind"], "unit": first["unit"], "numbers": numbers, "experts": first["experts"]}
        name = re.sub(r"\.\d+(?=\.|$)", "", first["name"]).removeprefix("model.")
        key = json.dumps([name, kernel])
        if key in kernels:
            kernels[key]["count"] += 1
        else:
            kernels[key] = {"name": name, "count": 1} | kernel
    return tuple(Kernel(**kernel) for kernel in kernels.values())


def _whole(value: float) -> float:
    """Counts are whole: take off the rounding of the solution."""
    nearest = round(value)
    return nearest if abs(value - nearest) < 1e-6 * max(1.0, abs(value)) else value


def kernels_at(recorders: list) -> list[list[dict]]:
    """The kernels of passes of several sizes. A module whose code runs a loop over the tokens or chunks of a sequence,
    and so another number of operations at each size, becomes one kernel besides its products with weights.
    """
    counts = [Counter(step["name"] for step in recorder.steps) for recorder in recorders]
    loops = {name for count in counts for name in count if any(other[name] != count[name] for other in counts)}
    return [recorder.finish(loops) for recorder in recorders]


def _record(model, batch: int, q_len: int, past: int):
    """The recorder after one pass over `batch` sequences of `q_len` new tokens after `past` cached ones."""
    import torch
    from transformers import DynamicCache

    ids = torch.zeros(batch, q_len, dtype=torch.long)
    options = {"use_cache": False}
    if past:
        cache = DynamicCache(config=model.config.get_text_config())
        model(torch.zeros(batch, past, dtype=torch.long), past_key_values=cache, use_cache=True)
        options = {"past_key_values": cache, "use_cache": True}
    recorder = make_recorder(model, batch, q_len, past + q_len)
    with recorder:
        model(ids, logits_to_keep=1, **options)
    return recorder


def make_recorder(model, batch: int, q_len: int, kv_len: int):
    """A TorchDispatchMode that reads the kernels off the operations of a pass.

    A value is a storage: views of it are the same value, and so is the copy of a broadcast view (repeat_kv). Only
    what depends on the embedded tokens counts: masks and RoPE's tables are made once. Matrix products, grouped
    products, convolutions and fused attention are kernels of their own; what lies between them in one module is one
    kernel that reads its true inputs and writes what others use.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    def value(tensor) -> int:
        return tensor.untyped_storage()._cdata

    def real_elements(tensor) -> int:
        """Elements that are in memory: broadcast dimensions count once."""
        return int(np.prod([n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or n < 2]))

    class Recorder(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.modules: list[tuple[str, object]] = [("", model)]
            self.weights = {value(p) for p in model.parameters()} | {value(b) for b in model.buffers()}
            self.live: set[int] = set()  # values that depend on the tokens
            self.same: dict[int, int] = {}  # copies of broadcast views, and cached keys and values with new ones
            self.bytes: dict[int, int] = {}
            self.kept: list = []  # a storage's address is its name only while it lives
            self.steps: list[dict] = []
            self.cached: set[int] = set()  # new keys and values, which the cache takes over
            self.group: dict | None = None
            self.operations = 0

        def __enter__(self):
            self.hooks = []
            for name, module in model.named_modules():
                if not any(True for _ in module.parameters()):
                    continue  # an activation function and the like belong to the module that calls them
                self.hooks.append(
                    module.register_forward_pre_hook(lambda m, _, name=name: self.modules.append((name, m)))
                )
                self.hooks.append(module.register_forward_hook(lambda *_: (self.modules.pop(), None)[1]))
            return super().__enter__()

        def __exit__(self, *exception):
            for hook in self.hooks:
                hook.remove()
            return super().__exit__(*exception)

        def origin(self, tensor) -> int:
            name = value(tensor)
            while name in self.same:
                name = self.same[name]
            return name

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.operations += 1
            if self.operations > MOST_OPERATIONS:
                raise InputError("transformers' code takes the prompt token by token in Python: too slow to trace")
            result = function(*args, **(kwargs or {}))
            leaves, _ = torch.utils._pytree.tree_flatten((args, kwargs or {}))
            inputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            outputs = [leaf for leaf in torch.utils._pytree.tree_flatten(result)[0] if isinstance(leaf, torch.Tensor)]
            self.kept += inputs + outputs
            operation = function._schema.name.removeprefix("aten::")
            for tensor in inputs:
                self.bytes.setdefault(self.origin(tensor), real_elements(tensor) * tensor.element_size())
            lives = operation == "embedding" or any(self.origin(t) in self.live for t in inputs)
            known = {value(tensor) for tensor in inputs}
            if all(value(tensor) in known for tensor in outputs) and not operation.endswith("_"):
                return result  # a view
            if not lives:
                if operation in ("_to_copy", "clone") and self.origin(inputs[0]) in self.weights:
                    self.same[value(outputs[0])] = self.origin(inputs[0])  # routers multiply in fp32
                return result
            self.live |= {self.origin(tensor) for tensor in outputs}
            copied = inputs and operation in ("clone", "_to_copy", "contiguous") and real_elements(inputs[0])
            if copied and copied < inputs[0].numel():
                self.same[value(outputs[0])] = self.origin(inputs[0])
                return result
            for tensor in outputs:
                self.bytes.setdefault(self.origin(tensor), tensor.numel() * tensor.element_size())
            old = [t for t in inputs if self.origin(t) not in self.live and t.is_floating_point()]
            if operation == "cat" and old and self.origin(old[0]) not in self.weights:
                self.cached |= {self.origin(t) for t in inputs}  # appending to the cache: engines write in place
                return result
            self.step(operation, inputs, outputs)
            return result

        def step(self, operation: str, inputs: list, outputs: list) -> None:
            name, module = self.modules[-1]
            entry = {"name": name, "module": type(module).__name__, "reads": [self.origin(t) for t in inputs]}
            entry |= {"writes": [self.origin(t) for t in outputs], "experts": 0, "kv_bytes": 0}
            entry["window"] = sliding_window(module)
            product = self.product(operation, inputs)
            if product:
                self.group = None
                activations = [t for t in inputs if self.origin(t) not in self.weights and t.is_floating_point()]
                product["read_bytes"] = sum(real_elements(t) * t.element_size() for t in activations)
                self.steps.append(entry | product)
            elif "scaled_dot_product" in operation:
                self.group = None
                self.steps.append(entry | self.attention(module, *inputs[:3]))
            else:
                elements = sum(tensor.numel() for tensor in outputs)
                if self.group is None or self.group["name"] != name:
                    kind = pointwise_kind(operation, type(module).__name__)
                    self.group = entry | {"kind": kind, "unit": "vector", "flops": 0, "dims": {}}
                    self.steps.append(self.group)
                else:
                    self.group["reads"] += entry["reads"]
                    self.group["writes"] += entry["writes"]
                moves = operation in ("embedding", "cat", "clone", "_to_copy", "index", "copy_", "slice_scatter")
                self.group["flops"] += 0 if moves else elements
                if outputs and outputs[0].ndim:
                    width = outputs[0].shape[-1]
                    self.group["dims"] = {"rows": outputs[0].numel() // max(width, 1), "width": width}

        def product(self, operation: str, inputs: list) -> dict | None:
            """What a matrix product is, or None."""
            if operation in ("addmm", "baddbmm"):
                inputs = inputs[1:]
            if operation in ("mm", "addmm"):
                (m, k), n = inputs[0].shape, inputs[1].shape[1]
                dims = {"m": m, "n": n, "k": k}
                return {"kind": "gemm", "unit": "tensor", "flops": 2 * m * n * k, "dims": dims}
            if operation in ("bmm", "baddbmm"):
                (batch, m, k), n = inputs[0].shape, inputs[1].shape[2]
                dims = {"m": m, "n": n, "k": k, "batch": batch}
                return {"kind": "gemm", "unit": "tensor", "flops": 2 * batch * m * n * k, "dims": dims}
            if operation == "_grouped_mm":
                (m, k), (experts, _, n) = inputs[0].shape, inputs[1].shape
                dims = {"m": m, "n": n, "k": k}
                flops = 2 * m * n * k
                return {"kind": "grouped_gemm", "unit": "tensor", "flops": flops, "dims": dims, "experts": experts}
            return None

        def attention(self, module, q, k, v) -> dict:
            """Fused attention by its true sizes: keys and values before they were repeated for their query heads."""
            batch, heads, _, head_dim = q.shape
            kv_len = k.shape[2]
            kv_heads = self.bytes[self.origin(k)] // (k.element_size() * batch * kv_len * head_dim)
            dims = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "v_head_dim": v.shape[3]}
            dims["window"] = sliding_window(module)
            return {"kind": "attention", "unit": "tensor", "flops": 0, "dims": dims}

        def fuse_attention(self) -> None:
            """Attention that is spelled out (scores, softmax, weighted sum) becomes one fused kernel, as in engines."""
            scores = None
            for index, step in enumerate(self.steps):
                dims = step["dims"]
                if step["kind"] != "gemm" or "batch" not in dims or set(step["reads"]) & self.weights:
                    continue
                heads, rest = divmod(dims["batch"], batch)
                first = self.steps[scores] if scores is not None else None
                if rest or dims["m"] != q_len:
                    continue
                if first is None or not 0 <= dims["k"] - first["dims"]["n"] <= 1:  # one more with an attention sink
                    scores = index
                else:
                    keys, width = first["dims"]["n"], first["dims"]["k"]
                    kv_heads = max(1, self.bytes[first["reads"][1]] // (2 * batch * keys * width))
                    shape = {"heads": heads, "kv_heads": min(kv_heads, heads), "head_dim": width}
                    # a sliding layer's cache holds its window only
                    window = step["window"] or (keys if keys < kv_len else 0)
                    step |= {
                        "kind": "attention",
                        "flops": 0,
                        "dims": shape | {"v_head_dim": dims["n"], "window": window},
                    }
                    step["reads"] = [*first["reads"], step["reads"][1]]
                    for inner in self.steps[scores:index]:
                        inner["dims"], inner["reads"], inner["writes"] = {}, [], []
                    scores = None

        def uses(self) -> dict[int, set[int]]:
            """The steps that read each value."""
            uses: dict[int, set[int]] = {}
            for index, step in enumerate(self.steps):
                for name in step["reads"]:
                    uses.setdefault(name, set()).add(index)
            return uses

        def merge_loops(self, loops: set[str]) -> None:
            """All that a module in `loops` does, but for products with weights, becomes its first such step."""
            first: dict[str, dict] = {}
            for step in self.steps:
                weighted = step["unit"] == "tensor" and set(step["reads"]) & self.weights
                if step["name"] not in loops or weighted or not step["dims"]:
                    continue
                whole = first.setdefault(step["name"], step)
                if whole is not step:
                    for field in ("reads", "writes", "flops"):
                        whole[field] = whole[field] + step[field]
                    step["dims"], step["reads"], step["writes"] = {}, [], []
            for step in first.values():
                step |= {"kind": "elementwise", "unit": "vector", "dims": {"rows": batch * q_len, "width": 1}}
                step.pop("read_bytes", None)

        def finish(self, loops: frozenset[str] = frozenset()) -> list[dict]:
            """The kernels with their bytes; products of one input merged, as engines do."""
            self.fuse_attention()
            self.merge_loops(loops)
            uses = self.uses()
            for index, step in enumerate(self.steps):  # fuse a pointwise chain into its only consumer in the module
                readers = {reader for name in step["writes"] for reader in uses.get(name, ())} - {index}
                target = self.steps[min(readers)] if len(readers) == 1 else None
                if target and step["unit"] == target["unit"] == "vector" and step["name"] == target["name"]:
                    target["reads"] = step["reads"] + target["reads"]
                    target["writes"] = step["writes"] + target["writes"]
                    target["flops"] += step["flops"]
                    step["dims"], step["reads"], step["writes"] = {}, [], []
            uses = self.uses()
            entries: list[dict] = []
            by_input: dict[tuple, dict] = {}
            for index, step in enumerate(self.steps):
                written = set(step["writes"])
                reads = set(step["reads"]) - written
                last = index == len(self.steps) - 1
                used_later = {
                    name for name in written if last or uses.get(name, set()) - {index} or name in self.cached
                }
                entry = {name: step[name] for name in ("name", "kind", "unit", "flops", "dims", "experts", "kv_bytes")}
                entry["weight_bytes"] = sum(self.bytes[name] for name in reads & self.weights)
                entry["in_bytes"] = sum(self.bytes[name] for name in (reads & self.live) - self.weights)
                if step["kind"] == "embedding":
                    entry["weight_bytes"] = sum(self.bytes[name] for name in written)  # the rows it gathers
                elif "read_bytes" in step:
                    entry["in_bytes"] = step["read_bytes"]
                entry["out_bytes"] = sum(self.bytes[name] for name in used_later)
                shared = (*[name for name in step["reads"] if name not in self.weights][:1], entry["dims"].get("k"))
                sibling = by_input.get(shared) if step["kind"] == "gemm" and entry["weight_bytes"] else None
                if sibling:
                    sibling["dims"]["n"] += entry["dims"]["n"]
                    for name in ("flops", "weight_bytes", "out_bytes"):
                        sibling[name] += entry[name]
                    continue
                if step["kind"] == "gemm" and entry["weight_bytes"]:
                    by_input[shared] = entry
                if entry["dims"]:
                    entries.append(entry)
            return entries

    return Recorder()


def sliding_window(module) -> int:
    """Of an attention module; 0: none. Its own, or its config's where all layers are alike."""
    if hasattr(module, "sliding_window"):
        return module.sliding_window or 0
    config = getattr(module, "config", None)
    return 0 if getattr(config, "layer_types", None) else getattr(config, "sliding_window", None) or 0


def pointwise_kind(operation: str, module: str) -> str:
    """Which pointwise kernel a chain of operations resembles."""
    if operation == "embedding":
        return "embedding"
    if "Norm" in module:
        return "norm"
    if "Attention" in module:
        return "rope"
    return "swiglu" if "MLP" in module else "elementwise"
