"""The kernels of one pass of a model's real code, read off the torch operations that it runs on tensors without data.

Used by traced.py alone, and only there imported: it needs torch and transformers.
"""

from collections import Counter
from collections.abc import Set
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import DynamicCache

from ridgepoint.inputs import InputError

MOST_OPERATIONS = 400_000  # of one pass, a minute's
MOVES = ("embedding", "cat", "clone", "_to_copy", "index", "copy_", "slice_scatter")  # no arithmetic
COPIES = ("clone", "_to_copy", "contiguous")


Step = dict[str, Any]  # a kernel so far: its name, kind, unit, FLOPs, dims, what it reads and writes


class WatchedCache(DynamicCache):
    """transformers' cache, which tells the recorder of a pass when a layer appends its keys and values."""

    watcher: "Recorder | None" = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.watcher is None:
            return super().update(key_states, value_states, layer_idx, *args, **kwargs)
        self.watcher.appending = True
        result = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        self.watcher.appending = False
        self.watcher.owners[self.watcher.modules[-1][0]] = layer_idx
        return result

    def states(self) -> list[torch.Tensor]:
        """The tensors of recurrent layers, which don't grow with the context."""
        kinds = ("conv_states", "recurrent_states")
        held = [getattr(layer, kind, None) or {} for layer in self.layers for kind in kinds]
        return [tensor for tensors in held for tensor in tensors.values() if tensor is not None]

    def window(self, layer_idx: int) -> int:
        """Tokens that this layer keeps at most; 0: all."""
        return getattr(self.layers[layer_idx], "sliding_window", None) or 0


def storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def real_elements(tensor: torch.Tensor) -> int:
    """Elements that are in memory: broadcast dimensions count once."""
    return prod(n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or n < 2)


class Recorder(TorchDispatchMode):
    """Reads the kernels off the operations of a pass over `batch` sequences of `q_len` new tokens.

    A value is a storage: views of it are the same value, and so are the copy of a broadcast view (repeat_kv), and what
    code makes of cached keys and values before attention (a cast, a scaled copy: engines read the cache as it lies).
    Only what depends on the embedded tokens counts: masks and RoPE's tables are made once. Matrix products, grouped
    products and fused attention are kernels of their own; what lies between them in one module is one kernel that
    reads its true inputs and writes what others use.
    """

    def __init__(self, model: torch.nn.Module, batch: int, q_len: int, kv_len: int, cache: WatchedCache) -> None:
        super().__init__()
        self.model, self.batch, self.q_len, self.kv_len, self.cache = model, batch, q_len, kv_len, cache
        self.modules: list[tuple[str, torch.nn.Module]] = [("", model)]
        self.weights = {storage(t) for t in (*model.parameters(), *model.buffers())}
        self.live: set[int] = set()  # values that depend on the tokens
        self.same: dict[int, int] = {}  # values that are other ones, in the sense above
        self.held: dict[int, tuple[float, int]] = {}  # different elements of each value, and bytes of one
        self.unlike: dict[int, float] = {}  # share of a value's elements that differ, where heads were repeated
        self.kept: list[torch.Tensor] = []  # a storage's address is its name only while it lives
        self.steps: list[Step] = []
        self.appending = False  # a layer's new keys and values go into the cache
        self.owners: dict[str, int] = {}  # layers of the cache by the modules that filled them
        self.touched: set[int] = set()  # weights that any operation reads
        self.past: set[int] = set()  # keys and values in the cache
        self.expanded: set[int] = set()  # keys and values that weights make of cached latents
        self.new: set[int] = set()  # those of this pass, which a kernel writes there
        self.group: Step | None = None
        self.operations = 0

    def __enter__(self) -> "Recorder":
        self.hooks, self.cache.watcher = [], self
        for name, module in self.model.named_modules():
            if not any(True for _ in module.parameters()):
                continue  # an activation function and the like belong to the module that calls them
            self.hooks.append(module.register_forward_pre_hook(lambda m, _, name=name: self.modules.append((name, m))))
            self.hooks.append(module.register_forward_hook(lambda *_: (self.modules.pop(), None)[1]))
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.cache.watcher = None
        for hook in self.hooks:
            hook.remove()
        super().__exit__(*exception)

    def origin(self, tensor: torch.Tensor) -> int:
        name = storage(tensor)
        while name in self.same:
            name = self.same[name]
        return name

    def size(self, name: int) -> int:
        """Bytes of a value."""
        elements, elem_bytes = self.held[name]
        return round(elements * elem_bytes)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operations += 1
        if self.operations > MOST_OPERATIONS:
            raise InputError("transformers' code takes the prompt token by token in Python: too slow to trace")
        result = function(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_flatten((args, kwargs or {}))[0] if isinstance(leaf, torch.Tensor)]
        outputs = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, torch.Tensor)]
        self.kept += inputs + outputs
        self.see(function._schema.name.removeprefix("aten::"), inputs, outputs)
        return result

    def see(self, operation: str, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> None:
        """One operation: a view, a copy that is the same value, an append to the cache, or a step of the pass."""
        for tensor in inputs:
            self.held.setdefault(self.origin(tensor), (real_elements(tensor), tensor.element_size()))
        self.touched |= {self.origin(tensor) for tensor in inputs} & self.weights
        living = [tensor for tensor in inputs if self.origin(tensor) in self.live]
        known = {storage(tensor) for tensor in inputs}
        if all(storage(tensor) in known for tensor in outputs) and not operation.endswith("_"):
            return  # a view
        if not living and operation != "embedding":
            if operation in ("_to_copy", "clone") and self.origin(inputs[0]) in self.weights:
                self.same[storage(outputs[0])] = self.origin(inputs[0])  # routers multiply in fp32
            return
        self.live |= {self.origin(tensor) for tensor in outputs}
        product = self.product(operation, inputs)
        if not product and "scaled_dot_product" not in operation and self.copied(operation, inputs, living, outputs):
            return
        if living and {self.origin(tensor) for tensor in living} <= self.past | self.expanded:
            self.expanded |= {self.origin(tensor) for tensor in outputs}
        for tensor in outputs:
            share = self.unlike.get(storage(tensor), 1.0)
            self.held.setdefault(self.origin(tensor), (tensor.numel() * share, tensor.element_size()))
        if self.appending and operation == "cat":
            self.past |= {self.origin(tensor) for tensor in outputs}
            self.new |= {self.origin(tensor) for tensor in living}  # engines write them in place
            return
        self.step(operation, inputs, outputs, product)

    def copied(
        self, operation: str, inputs: list[torch.Tensor], living: list[torch.Tensor], outputs: list[torch.Tensor]
    ) -> bool:
        """Is the output the value of an input again? And if not: how many of its elements can differ, where heads were
        repeated for their query heads.
        """
        first = inputs[0]
        spread = real_elements(first)
        if operation in COPIES and spread and spread < first.numel():
            self.same[storage(outputs[0])] = self.origin(first)
            self.unlike[storage(outputs[0])] = self.unlike.get(storage(first), 1.0) * spread / first.numel()
            return True
        origins = {self.origin(tensor) for tensor in living}
        if living and origins <= self.past and not operation.endswith("_"):
            for tensor in outputs:
                self.same[storage(tensor)] = self.origin(living[0])
            return True
        for tensor in outputs:
            different = [
                self.unlike.get(storage(t), 1.0) * real_elements(t) / max(1, t.numel())
                if t.numel() == tensor.numel() or operation == "cat"
                else 1.0
                for t in living
            ]
            if different and max(different) < 1.0:
                self.unlike[storage(tensor)] = max(different)
        return False

    def step(
        self, operation: str, inputs: list[torch.Tensor], outputs: list[torch.Tensor], product: Step | None
    ) -> None:
        """A kernel of its own, or one more operation of the chain in its module."""
        name, module = self.modules[-1]
        read = inputs[1:] if operation == "copy_" else inputs  # what it overwrites isn't read
        entry: Step = {"name": name, "module": type(module).__name__, "reads": [self.origin(t) for t in read]}
        entry |= {"writes": [self.origin(t) for t in outputs], "experts": 0, "owner": module}
        if product:
            self.group = None
            activations = [t for t in inputs if self.origin(t) not in self.weights and t.is_floating_point()]
            product["read_bytes"] = sum(real_elements(t) * t.element_size() for t in activations)
            self.steps.append(entry | product)
        elif "scaled_dot_product" in operation:
            self.group = None
            q, k, v = inputs[:3]
            shape = {"heads": q.shape[1], "head_dim": q.shape[3], "v_head_dim": v.shape[3]}
            self.steps.append(entry | self.attention(name, module, self.origin(k), k.shape[2], shape))
        else:
            if self.group is None or self.group["name"] != name:
                kind = pointwise_kind(operation, type(module).__name__)
                self.group = entry | {"kind": kind, "unit": "vector", "flops": 0, "dims": {}}
                self.steps.append(self.group)
            else:
                self.group["reads"] += entry["reads"]
                self.group["writes"] += entry["writes"]
            self.group["flops"] += 0 if operation in MOVES else sum(tensor.numel() for tensor in outputs)
            if outputs and outputs[0].ndim:
                width = outputs[0].shape[-1]
                self.group["dims"] = {"rows": outputs[0].numel() // max(width, 1), "width": width}

    def product(self, operation: str, inputs: list[torch.Tensor]) -> Step | None:
        """What a matrix product is, or None."""
        factors = inputs[1:] if operation in ("addmm", "baddbmm") else inputs  # the first is added
        gemm: Step = {"kind": "gemm", "unit": "tensor", "factors": [self.origin(t) for t in factors[:2]]}
        if operation in ("mm", "addmm"):
            (m, k), n = factors[0].shape, factors[1].shape[1]
            return gemm | {"flops": 2 * m * n * k, "dims": {"m": m, "n": n, "k": k}}
        if operation in ("bmm", "baddbmm"):
            (batch, m, k), n = factors[0].shape, factors[1].shape[2]
            return gemm | {"flops": 2 * batch * m * n * k, "dims": {"m": m, "n": n, "k": k, "batch": batch}}
        if operation == "_grouped_mm":
            (m, k), (experts, _, n) = inputs[0].shape, inputs[1].shape
            sizes = {"dims": {"m": m, "n": n, "k": k}, "experts": experts, "flops": 2 * m * n * k}
            return gemm | {"kind": "grouped_gemm"} | sizes
        return None

    def attention(self, name: str, module: torch.nn.Module, key: int, keys: int, shape: dict[str, int]) -> Step:
        """Fused attention by its true sizes: keys before they were repeated for their query heads, and the window of
        its layer in the cache. owns: does the layer fill the cache, or read another layer's?
        """
        kv_heads = round(self.held[key][0] / (self.batch * keys * shape["head_dim"]))
        window = self.cache.window(self.owners[name]) if name in self.owners else sliding_window(module)
        dims = shape | {"kv_heads": max(1, kv_heads), "window": window, "owns": int(name in self.owners)}
        return {"kind": "attention", "unit": "tensor", "flops": 0, "dims": dims}

    def fuse_attention(self) -> None:
        """Attention that is spelled out (scores, softmax, weighted sum) becomes one fused kernel, as in engines: a
        product with cached keys, and the next one with cached values.
        """
        scores, keys = None, self.past | self.expanded
        for index, step in enumerate(self.steps):
            factors = set(step.get("factors", ()))
            if step["kind"] != "gemm" or not factors & keys or factors & self.weights:  # a weight: it expands latents
                continue
            if scores is None:
                scores = index
                continue
            first = self.steps[scores]
            rows = first["dims"]["m"] * first["dims"].get("batch", 1)
            shape = {"heads": rows // (self.batch * self.q_len), "head_dim": first["dims"]["k"]}
            shape["v_head_dim"] = step["dims"]["n"]
            key = next(factor for factor in first["factors"] if factor in keys)
            step |= self.attention(step["name"], step["owner"], key, first["dims"]["n"], shape)
            step["reads"] = [*first["reads"], *step["reads"]]
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

    def merge_loops(self, loops: Set[str]) -> None:
        """All that a module in `loops` does, but for products with weights, becomes its first such step."""
        first: dict[str, Step] = {}
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
            step |= {"kind": "elementwise", "unit": "vector", "dims": {"rows": self.batch * self.q_len, "width": 1}}
            step.pop("read_bytes", None)

    def fuse_chains(self) -> None:
        """A pointwise chain joins its only consumer in the module."""
        uses = self.uses()
        for index, step in enumerate(self.steps):
            readers = {reader for name in step["writes"] for reader in uses.get(name, ())} - {index}
            target = self.steps[min(readers)] if len(readers) == 1 else None
            if target and step["unit"] == target["unit"] == "vector" and step["name"] == target["name"]:
                target["reads"] = step["reads"] + target["reads"]
                target["writes"] = step["writes"] + target["writes"]
                target["flops"] += step["flops"]
                step["dims"], step["reads"], step["writes"] = {}, [], []

    def entry(self, step: Step, used_later: set[int], states: dict[int, int]) -> Step:
        """A step with its bytes by role. The state of a recurrent layer is a cache too: read here, written here."""
        written = set(step["writes"])
        reads = set(step["reads"]) - written - set(states)
        entry: Step = {name: step[name] for name in ("name", "kind", "unit", "flops", "dims", "experts")}
        entry["kv_bytes"] = sum(states.get(name, 0) for part in ("reads", "writes") for name in set(step[part]))
        entry["weight_bytes"] = sum(self.size(name) for name in reads & self.weights)
        entry["in_bytes"] = sum(self.size(name) for name in (reads & self.live) - self.weights)
        if step["kind"] == "embedding":
            entry["weight_bytes"] = sum(self.size(name) for name in written)  # the rows it gathers
        elif "read_bytes" in step:
            entry["in_bytes"] = step["read_bytes"]
        entry["out_bytes"] = sum(self.size(name) for name in used_later - set(states))
        return entry

    def finish(self, loops: Set[str] = frozenset()) -> list[Step]:
        """The kernels with their bytes; products of one input merged, as engines do."""
        self.fuse_attention()
        self.merge_loops(loops)
        self.fuse_chains()
        states = {storage(t): t.numel() * t.element_size() for t in self.cache.states()}
        uses, entries = self.uses(), []
        by_input: dict[tuple[object, ...], Step] = {}
        for index, step in enumerate(self.steps):
            last = index == len(self.steps) - 1
            used = {name for name in step["writes"] if last or uses.get(name, set()) - {index} or name in self.new}
            entry = self.entry(step, used, states)
            weighted = step["kind"] == "gemm" and entry["weight_bytes"]
            shared = (*[name for name in step["reads"] if name not in self.weights][:1], entry["dims"].get("k"))
            sibling = by_input.get(shared) if weighted else None
            if sibling:
                sibling["dims"]["n"] += entry["dims"]["n"]
                for name in ("flops", "weight_bytes", "out_bytes"):
                    sibling[name] += entry[name]
                continue
            if weighted:
                by_input[shared] = entry
            if entry["dims"]:
                entries.append(entry)
        return entries

    def cached(self) -> tuple[dict[int, float], int]:
        """What the cache holds after the pass, of one sequence: elements of keys and values a token, by layer, and
        bytes of recurrent state.
        """
        layers = {}
        for index in set(self.owners.values()):
            both = [t for t in (self.cache.layers[index].keys, self.cache.layers[index].values)]
            shares = [
                self.held[self.origin(t)][0] / max(1, t.untyped_storage().nbytes() // t.element_size()) for t in both
            ]
            tokens = (t.numel() / t.shape[-2] * share / self.batch for t, share in zip(both, shares, strict=True))
            layers[index] = sum(tokens)
        return layers, sum(t.numel() * t.element_size() for t in self.cache.states()) // self.batch


def kernels_at(recorders: list[Recorder]) -> list[list[Step]]:
    """The kernels of passes of several sizes. A module whose code runs a loop over the tokens or chunks of a sequence,
    and so another number of operations at each size, becomes one kernel besides its products with weights.
    """
    counts = [Counter(step["name"] for step in recorder.steps) for recorder in recorders]
    loops = {name for count in counts for name in count if any(other[name] != count[name] for other in counts)}
    return [recorder.finish(loops) for recorder in recorders]


def sliding_window(module: torch.nn.Module) -> int:
    """Of an attention module that fills no cache of its own; 0: none. By its layer's type, where the config has types:
    some modules carry the window in every layer.
    """
    config, index = getattr(module, "config", None), getattr(module, "layer_idx", None)
    types = getattr(config, "layer_types", None)
    if types and isinstance(index, int):
        return (getattr(config, "sliding_window", None) or 0) if "sliding" in types[index] else 0
    return getattr(module, "sliding_window", None) or getattr(config, "sliding_window", None) or 0


def pointwise_kind(operation: str, module: str) -> str:
    """Which pointwise kernel a chain of operations resembles."""
    if operation == "embedding":
        return "embedding"
    if "Norm" in module:
        return "norm"
    if "Attention" in module:
        return "rope"
    return "swiglu" if "MLP" in module else "elementwise"
