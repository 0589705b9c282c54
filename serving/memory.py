"""What fits on the device, by the arithmetic of the engine that runs: one answer, for the sequences that run at once,
the longest context and the lines that an engine prints of itself when it starts.

An engine may use `memory_fraction` of what CUDA shows of the device. Weights, its own libraries, the CUDA graphs where
it reserves them, and the activations of one pass of its token budget come off; the rest is the KV cache, in blocks. A
cached prefix, shared by all sequences, is there once. An engine's own limit on sequences is taken to be raised to what
the cache holds.
"""

from dataclasses import dataclass, fields
from functools import reduce

import numpy as np

from ridgepoint.inputs import MAX_SIZE, InputError
from ridgepoint.model import ELEM_BYTES
from ridgepoint.ops import FEW, Number, larger

# What CUDA shows to no program: nvidia-smi's total less torch's total_memory is 0.35 to 0.75 GiB on an RTX 4090, A100,
# L40S, H100, H200 and B200 (engines' logs).
DRIVER_BYTES = 2**29
# Residual streams in memory beside the inputs and outputs of a kernel: vLLM 0.6 takes 110.6 kB for each of 20,000 and
# of 29,000 tokens of Llama-3.1-8B, 3 x 8,192 bytes more than gate x up reads and writes [vllm-project/vllm #10517].
STREAMS = 3
# What an engine's fraction f of the device is of: bytes of the KV cache, from (f * total, total, weights, the rest).
FRACTIONS = {
    "total": lambda share, total, weights, rest: share * total - weights - rest,  # vLLM: everything is in it
    "static": lambda share, total, weights, rest: min(share * total, total - rest) - weights,  # SGLang: these two are
    "free": lambda share, total, weights, rest: share * (total - weights - rest),  # TensorRT-LLM: of what they leave
    "nothing": lambda share, total, weights, rest: total - weights - rest,  # a static batch: as much as it needs
}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on the device at the end of the run, were all sequences of the batch to run at once, and what fits."""

    weights_bytes: Number
    kv_cache_bytes: Number  # of all sequences, a shared prefix once
    activation_bytes: Number  # of a pass
    engine_bytes: Number  # the engine's own: libraries, CUDA graphs
    capacity_bytes: int
    kv_room_bytes: Number  # that the engine has for the KV cache
    kv_tokens: Number  # that the room holds, in whole blocks, of sequences of this length
    sequences: Number  # of this length that the room holds, with the fraction of one: "maximum concurrency"
    max_batch: Number  # whole ones: the largest batch that runs at once
    fits: bool  # does the batch run at once?

    @property
    def total_bytes(self) -> Number:
        return self.weights_bytes + self.kv_cache_bytes + self.activation_bytes + self.engine_bytes

    @property
    def concurrent(self) -> Number:
        """Sequences that run at once."""
        return self.max_batch


def memory(resolved) -> Memory:
    """Of a resolved case: see Memory. A draft model's weights and KV cache count too; samples share their prompt's."""
    if parts := by_kernels(resolved):
        found = [(mask, memory(part)) for mask, part in parts]
        shape = parts[0][0].shape
        known = {field.name: [(mask, getattr(one, field.name)) for mask, one in found] for field in fields(Memory)}
        known["fits"] = [(mask, np.asarray(fits, dtype=bool)) for mask, fits in known["fits"]]
        return Memory(**{name: scattered(values, shape) for name, values in known.items()})
    case, engine, total_bytes = resolved.case, resolved.case.runtime, resolved.chip.dram_bytes
    weights_bytes = sum(weight_bytes(each) for each in models_of(resolved))
    own_bytes, own_tokens, shared_bytes, shared_tokens = cache(resolved)
    each_bytes, pass_bytes = activations(resolved)
    engine_bytes = engine.context_bytes + engine.graph_bytes
    seen_bytes = max(0, total_bytes - DRIVER_BYTES)
    room_bytes = FRACTIONS[engine.fraction_of](
        case.memory_fraction, seen_bytes, weights_bytes, pass_bytes + engine_bytes
    )
    room_bytes = np.maximum(0, np.floor(room_bytes)) if np.ndim(room_bytes) else max(0, int(room_bytes))
    per_sequence = larger(1, own_bytes + each_bytes)
    blocks = room_bytes * (own_tokens // engine.block_tokens) // per_sequence
    max_batch = larger(0, room_bytes - shared_bytes) // per_sequence
    return Memory(
        weights_bytes=weights_bytes,
        kv_cache_bytes=shared_bytes + own_bytes * case.batch,
        activation_bytes=pass_bytes + each_bytes * case.batch,
        engine_bytes=engine_bytes,
        capacity_bytes=total_bytes,
        kv_room_bytes=room_bytes,
        kv_tokens=blocks * engine.block_tokens,
        sequences=larger(0, blocks * engine.block_tokens - shared_tokens) / own_tokens,
        max_batch=max_batch,
        fits=case.batch <= max_batch,
    )


def models_of(resolved) -> list:
    """The model and its draft, if it has one."""
    return [resolved, resolved.draft] if resolved.draft else [resolved]


def weight_bytes(resolved) -> int:
    """Of the weights as the engine keeps them: mxfp4 experts padded to its kernel's multiples."""
    model, engine, formats = resolved.model, resolved.case.runtime, resolved.precision
    kept_bytes = model.weight_bytes(resolved.case.dtype, formats)
    if engine.expert_multiples == (1, 1) or formats is None or not (model.explicit and model.experts):
        return kept_bytes
    form = formats.of("experts").weights
    if form.name != "mxfp4":
        return kept_bytes
    sides = (model.expert_intermediate, model.moe_latent or model.hidden)
    padded = [-(-side // multiple) * multiple for side, multiple in zip(sides, engine.expert_multiples, strict=True)]
    more = (3 if model.gated_mlp else 2) * (padded[0] * padded[1] - sides[0] * sides[1]) * model.experts
    layers = sum(letter in "EHB" for letter in model.mlp_letters)
    return kept_bytes + round(layers * more * form.element_bytes(sides[1]))


def cache(resolved) -> tuple[Number, Number, Number, Number]:
    """(bytes, tokens) of the KV cache of one sequence alone, in whole blocks, and the same of what all share: the whole
    blocks of the prefix.
    """
    case, block = resolved.case, resolved.case.runtime.block_tokens
    shared_tokens = case.prefix_tokens // block * block
    tokens = case.input_tokens + case.samples * case.output_tokens - shared_tokens
    own_tokens = -(-tokens // block) * block

    def kept(tokens: Number) -> Number:
        return sum(each.model.kv_cache_bytes(case.dtype, tokens, each.precision) for each in models_of(resolved))

    own_bytes = kept(own_tokens)
    own_bytes = np.round(own_bytes) if np.ndim(own_bytes) else own_bytes
    return own_bytes, own_tokens, kept(shared_tokens) if shared_tokens else 0, shared_tokens


def activations(resolved) -> tuple[Number, Number]:
    """Bytes of activations: (for each sequence of the batch, of a pass however many there are).

    A pass takes in the engine's token budget, or `chunked_prefill` tokens, and holds what its forward pass or then its
    sampler does at its peak; without either, all prompts at once. An engine reserves for a full pass, even where these
    sequences don't fill one.
    """
    case, engine = resolved.case, resolved.case.runtime
    budget = engine.budget(resolved.chip, resolved.arch)
    prompt, alone = case.input_tokens, isinstance(case.input_tokens, int)
    lower, higher = (min, max) if alone else (np.minimum, np.maximum)
    new = higher(1, prompt - case.prefix_tokens)
    tokens = case.chunked_prefill or (budget and budget.tokens)
    if tokens is None:
        return pass_activation_bytes(resolved, 1, new, prompt), 0
    if engine.token_bytes:
        return 0, engine.token_bytes * max(2048, tokens)
    sequences = budget.sequences if budget else MAX_SIZE
    batch = lower(sequences, higher(1, tokens // new))
    full = new >= tokens if alone else np.all(new >= tokens)
    q_len = tokens if full else lower(tokens, new)  # a single size may run other kernels
    forward_bytes = pass_activation_bytes(resolved, batch, q_len, prompt)
    if not engine.logit_bytes:
        return 0, forward_bytes
    logits = sequences * (resolved.model.vocab or 0)  # None: not known to a trace
    return 0, larger(forward_bytes, int(engine.logit_bytes * logits) + 2 * tokens * stream_bytes(resolved))


def stream_bytes(resolved) -> int:
    """A token's residual stream."""
    return resolved.model.hidden * ELEM_BYTES[resolved.case.dtype]


def pass_activation_bytes(resolved, batch: Number, q_len: Number, kv_len: Number) -> Number:
    """The residual streams of one pass, and the largest inputs and outputs of any of its kernels, in whole bytes."""
    held = [op.activation_bytes for op in resolved.ops(batch, q_len, kv_len)]
    if all(isinstance(each, int | float) for each in held):
        widest = int(max(held))
    else:
        widest = np.floor(reduce(np.maximum, held))
    return STREAMS * stream_bytes(resolved) * batch * q_len + widest


def by_kernels(resolved) -> list[tuple[np.ndarray, object]]:
    """An array of cases in parts whose prefill runs the same kernels, each with the mask of its elements: prompts of
    few new tokens run decode's, which a single size asks for. Empty where all are alike.
    """
    case = resolved.case
    if not np.ndim(case.input_tokens):
        return []
    # not np.unique, whose first call imports numpy.ma: a tenth of `import numpy` itself
    few = sorted(set(case.input_tokens[case.input_tokens - case.prefix_tokens <= FEW].tolist()))
    if not few:
        return []
    names = ("batch", "input_tokens", "output_tokens")
    sizes = dict(zip(names, np.broadcast_arrays(*(getattr(case, name) for name in names)), strict=True))

    def part(mask: np.ndarray, **single) -> tuple:
        return mask, resolved.at(**{name: size[mask] for name, size in sizes.items()} | single)

    parts = [part(sizes["input_tokens"] == prompt, input_tokens=int(prompt)) for prompt in few]
    rest = sizes["input_tokens"] - case.prefix_tokens > FEW
    return [*parts, part(rest)] if rest.any() else parts


def scattered(values: list[tuple[np.ndarray, Number]], shape: tuple) -> np.ndarray:
    """One array from its parts; 0 where there is none."""
    whole = np.zeros(shape, dtype=np.result_type(*(value for _, value in values)))
    for mask, value in values:
        whole[mask] = value
    return whole


def max_context(resolved) -> int:
    """Longest input + output that fits at the case's batch, by a longer prompt: 0 if none does. By halving, where one
    array holds the next few halvings' prompts. Raises InputError for arrays.
    """
    case = resolved.case
    if np.ndim(case.batch) or np.ndim(case.input_tokens) or np.ndim(case.output_tokens):
        raise InputError("the longest context is that of a single case, not of arrays")
    fits: dict[int, bool] = {}
    none = low = case.prefix_tokens
    high = MAX_SIZE
    while low < high:
        middle = (low + high + 1) // 2
        if middle not in fits:
            prompts = halvings(low, high, 6)
            fit = memory(resolved.at(input_tokens=np.array(prompts, dtype=float))).fits
            fits |= zip(prompts, np.broadcast_to(fit, len(prompts)), strict=True)
        low, high = (middle, high) if fits[middle] else (low, middle - 1)
    return low + case.output_tokens if low > none else 0


def halvings(low: int, high: int, times: int) -> list[int]:
    """The middles that so many halvings of low to high may come to."""
    if not times or low >= high:
        return []
    middle = (low + high + 1) // 2
    return [middle, *halvings(low, middle - 1, times - 1), *halvings(middle, high, times - 1)]
