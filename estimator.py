"""How fast an LLM will run on a GPU, and why: TTFT, TPOT, latency, throughput from first principles.

    python estimator.py                                  the home workload
    python estimator.py --batch 32 --hardware h100-sxm   a what-if by flag
    python estimator.py --set hardware.dram_bytes_per_s=3e12 --set model.layers=40
    >>> estimate(Case(batch=1)).tpot_s                   # from Python

or edit the constants in `Case` below.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from cycles import BOUNDS, CAUSES, cycle_pass
from hardware import A100_80GB_PCIE, CHIPS, Chip, with_tensor_peak
from inputs import MAX_SIZE, InputError, check_quantity, check_size, check_sizes, nearest, pick, shown
from intervals import phase_interval, spread
from model import ELEM_BYTES, LLAMA3_8B, Model, forward
from ops import Number, Op
from precision import ACTIVATION_FORMATS, KV_FORMATS, WEIGHT_FORMATS, Precision, Unread, in_dtype, on_chip, precision
from roofline import roofline_causes, roofline_s
from runtimes import RUNTIMES, Runtime
from variants import Pass, prefill_passes, speculative_contexts


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is estimated. These are the constants to edit; each is also a flag (batch: --batch).

    In Python, `model` and `hardware` may be records instead of names, and batch, input_tokens and
    output_tokens may be arrays that broadcast: the metrics then have their shape.
    """

    model: str | Model = "llama3-8b"  # python estimator.py --list-models; or the path of a config.json
    hardware: str | Chip = "a100-80gb-pcie"  # python estimator.py --list-hardware
    batch: Number = 8  # sequences, all alike, starting together
    input_tokens: Number = 2048  # prompt, per sequence
    output_tokens: Number = 2048  # generated, per sequence; the first comes out of the prefill pass
    dtype: str = "fp16"  # of weights, activations and KV cache: fp16, bf16
    weights: str | None = None  # another format of the layers' weights: int8, fp8, int4, int4-zero, mxfp4, nvfp4
    activations: str | None = None  # of the GEMMs' inputs, which the tensor cores multiply in: int8, fp8, nvfp4
    kv_cache: str | None = None  # of the KV cache: fp8, int8, int4
    attention: str = "flash"  # flash, or naive (scores through DRAM)
    method: str = "cycle"  # cycle (the expectation), roofline (the bound), seed (the earlier estimator)
    runtime: str | Runtime = "vllm"  # the engine whose host costs are added: vllm, tensorrt-llm, eager, ideal
    peak_tflops: float | None = None  # another tensor-core peak, TFLOP/s; None: the chip's own
    prefix_tokens: int = 0  # of each prompt, in the KV cache already (a shared system prompt)
    chunked_prefill: int | None = None  # prefill at most so many tokens in a pass; None: all at once
    speculative: int = 0  # tokens that a draft guesses per decode step; 0: none
    acceptance: float = 0.8  # probability that a guess is accepted
    draft: str | Model | None = None  # the model that guesses; None: guesses cost nothing (n-gram look-up)
    imbalance: float = 0.0  # of a mixture's experts: the load of the r-th busiest goes with r ** -imbalance
    samples: int = 1  # continuations of each prompt (parallel samples, beams), sharing its KV cache
    memory_fraction: float = 0.9  # of the device memory that the engine may use
    l2_persistent: bool = False  # weights that fit in the L2 stay there between passes (what pinning would buy)


CHOICES = {
    "model": ("a name of --list-models or the hub", "the path of a config.json or of its folder"),
    "hardware": CHIPS,
    "dtype": ELEM_BYTES,
    "weights": WEIGHT_FORMATS,
    "activations": ACTIVATION_FORMATS,
    "kv_cache": KV_FORMATS,
    "attention": ("flash", "naive"),
    "method": ("cycle", "roofline", "seed"),
    "runtime": RUNTIMES,
    "draft": ("as --model",),
}
HELP = {"l2_persistent": "weights that fit in the L2 stay there between passes"}
HELP_NONE = dict.fromkeys(("weights", "activations", "kv_cache"), "dtype") | {
    "peak_tflops": "the chip's",
    "chunked_prefill": "all at once",
    "draft": "guesses cost nothing",
}
MAX_BATCH, MAX_OUTPUT_TOKENS = 2**20, 2**20


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel of a phase. `count` is launches per pass; flops, bytes and times are the whole phase's.

    `causes` splits the time by what it is spent on (cycles.CAUSES); it adds up to time_s.
    """

    name: str
    kind: str
    count: int
    flops: Number
    weight_bytes: Number
    kv_bytes: Number
    activation_bytes: Number
    causes: dict[str, Number]
    low_s: Number  # the 90 % interval of time_s; both 0 where the method has none
    high_s: Number

    @property
    def bytes(self) -> Number:
        return self.weight_bytes + self.kv_bytes + self.activation_bytes

    @property
    def time_s(self) -> Number:
        return sum(self.causes.values())

    @property
    def bound(self) -> str:
        """The group of causes with the largest share of a single case: "compute", "memory" or "latency"."""
        return max(BOUNDS, key=lambda bound: sum(self.causes.get(cause, 0.0) for cause in BOUNDS[bound]))


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Prefill (one pass) or decode (output_tokens - 1 passes, `steps`). The last kernel may be the host."""

    steps: Number
    kernels: tuple[Kernel, ...]

    def total(self, field: str) -> Number:
        """Sum of one field of Kernel, such as "time_s" or "flops", over the phase."""
        return sum(getattr(kernel, field) for kernel in self.kernels)

    def interval(self, name: str) -> tuple[Number, Number]:
        """(low, high) seconds of the whole phase, `name`d prefill or decode."""
        return phase_interval([(k.time_s, k.low_s, k.high_s) for k in self.kernels], name)

    def causes(self) -> dict[str, Number]:
        """Seconds by cause, in the order of cycles.CAUSES; they add up to total("time_s")."""
        return {
            cause: sum(kernel.causes.get(cause, 0.0) for kernel in self.kernels)
            for cause in CAUSES
            if any(cause in kernel.causes for kernel in self.kernels)
        }


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on the device at the end of the run, against its capacity."""

    weights_bytes: Number
    kv_cache_bytes: Number
    activation_bytes: Number
    capacity_bytes: int
    max_batch: Number
    concurrent: Number  # sequences that run at once in the part of the memory that the engine may use

    @property
    def total_bytes(self) -> Number:
        return self.weights_bytes + self.kv_cache_bytes + self.activation_bytes

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.capacity_bytes


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The answer. Times in seconds; every metric is a float, or an array of the case's shape.

    ttft_s: the prefill pass, which yields the first token. tpot_s: mean of the output_tokens - 1 decode
    steps, each at its own context length (NaN if there are none). latency_s = ttft_s + the decode steps.
    """

    case: Case
    model: Model
    chip: Chip
    ttft_s: Number
    tpot_s: Number
    latency_s: Number
    batch_latency_s: Number  # until the last sequence is done: latency_s, or more where the KV cache makes them queue
    throughput_tokens_per_s: Number  # whole batch: batch * output_tokens / latency_s
    throughput_per_sequence_tokens_per_s: Number  # output_tokens / latency_s
    prefill: Phase
    decode: Phase
    memory: Memory
    intervals: dict[str, tuple[Number, Number]]  # 90 %, of ttft_s, tpot_s, latency_s; empty unless method is cycle
    precision: Precision | None = None  # as run on the chip; None: `dtype` throughout
    precision_note: str = ""  # where that is not what the case asks for

    @property
    def max_context(self) -> int:
        return max_context(self)


def named_model(model):
    """The record that a name or a path stands for; a record itself as it is. Raises InputError."""
    if not isinstance(model, str):
        if not hasattr(model, "kv_cache_bytes"):
            raise InputError(f"model must be a name, a path or a record, not {shown(model)}")
        return model
    if model == LLAMA3_8B.name:
        return LLAMA3_8B
    import configs  # reads files: only needed beyond the home workload's model

    return configs.find_model(model)


def swept(case: Case) -> bool:
    """Is any of its sizes an array?"""
    return any(np.ndim(size) for size in (case.batch, case.input_tokens, case.output_tokens))


def resolve(case: Case) -> tuple[Case, Model, Chip]:
    """The case with its sizes checked, and the records that its names stand for. Raises InputError."""
    model = named_model(case.model)
    chip = case.hardware
    if not isinstance(chip, Chip):
        chip = CHIPS[pick("hardware", chip, CHIPS)]
    for name in ("dtype", "attention", "method"):
        pick(name, getattr(case, name), CHOICES[name])
    if not isinstance(case.runtime, Runtime):
        case = replace(case, runtime=RUNTIMES[pick("runtime", case.runtime, RUNTIMES)])
    if case.peak_tflops is not None:
        peak = check_quantity("peak-tflops", case.peak_tflops, low=1e-3, high=1e9)
        chip = with_tensor_peak(chip, peak * 1e12)
    case = replace(
        case,
        batch=check_sizes("batch", case.batch, high=MAX_BATCH),
        input_tokens=check_sizes("input-tokens", case.input_tokens),
        output_tokens=check_sizes("output-tokens", case.output_tokens, high=MAX_OUTPUT_TOKENS),
        prefix_tokens=check_size("prefix-tokens", case.prefix_tokens, low=0),
        speculative=check_size("speculative", case.speculative, low=0, high=64),
        acceptance=check_quantity("acceptance", case.acceptance, low=0.0, high=1.0),
        samples=check_size("samples", case.samples, high=1024),
        imbalance=check_quantity("imbalance", case.imbalance, low=0.0, high=8.0),
        memory_fraction=check_quantity("memory-fraction", case.memory_fraction, low=0.01, high=1.0),
    )
    try:
        np.broadcast_shapes(*(np.shape(size) for size in (case.batch, case.input_tokens, case.output_tokens)))
    except ValueError:
        raise InputError("batch, input-tokens and output-tokens are arrays of shapes that don't broadcast") from None
    if not isinstance(case.l2_persistent, bool):
        raise InputError(f"l2-persistent must be true or false, not {shown(case.l2_persistent)}")
    if case.chunked_prefill is not None:
        case = replace(case, chunked_prefill=check_size("chunked-prefill", case.chunked_prefill))
    if case.speculative and swept(case):
        raise InputError("speculative takes single sizes, not arrays")
    if case.acceptance != Case.acceptance and not case.speculative:
        raise InputError("--acceptance goes with --speculative K")
    if case.imbalance and not getattr(model, "experts", 0):
        raise InputError(f"{model.name} has no experts whose loads could have an imbalance (a trace's are all alike)")
    if case.draft is not None:
        if not case.speculative:
            raise InputError("--draft goes with --speculative K")
        case = replace(case, draft=named_model(case.draft))
    return case, model, chip


def draft_case(case: Case) -> Case:
    """The case of its draft model: the formats that it names are about its model, not about this one."""
    return replace(case, model=case.draft, draft=None, weights=None, activations=None, kv_cache=None)


def case_precision(case: Case, model: Model, chip: Chip) -> tuple[Precision | None, str]:
    """What the formats of `model` run as on `chip`, with a note where that differs; None where all are `dtype`. The
    formats are those that the case names; where it names none, the checkpoint's.
    """
    weights, activations, kv_cache = named = (case.weights, case.activations, case.kv_cache)
    own = model.quantization
    if isinstance(own, Unread) and isinstance(model, Model):
        if weights is None and activations is None:
            raise InputError(f"{model.name}: {own.why}; name its formats: --weights {', '.join(WEIGHT_FORMATS)}")
        own = None
    if own is not None and not isinstance(model, Model):
        return None, f"{model.name} is traced, in 16 bits: its checkpoint's formats ({own.name}) aren't applied"
    if own is None and all(form in (None, case.dtype) for form in named):
        return None, ""
    wanted = precision(case.dtype, *named)
    if own is not None and weights is None and activations is None:
        wanted = replace(in_dtype(own, case.dtype), **({"kv_cache": wanted.kv_cache} if kv_cache else {}))
    if wanted == precision(case.dtype):
        return None, ""
    if case.method == "seed":
        raise InputError("method seed knows one format for everything: no --weights, --activations, --kv-cache")
    return on_chip(wanted, chip, case.dtype)


def estimate(case: Case | None = None) -> Estimate:
    """TTFT, TPOT, latency, throughput, memory and the kernels behind them. Raises InputError."""
    case, model, chip = resolve(case or Case())
    if case.method == "seed":
        prefill, decode = seed_phases(case, model)
    else:
        prefill, decode = prefill_phase(case, model, chip), decode_phase(case, model, chip)
    ttft_s, decode_s = prefill.total("time_s"), decode.total("time_s")
    with np.errstate(invalid="ignore"):  # no decode step: 0 / 0 is the NaN that tpot_s promises
        tokens = decode.steps if case.method == "seed" else case.output_tokens - 1  # per sequence
        tpot_s = np.divide(decode_s, tokens)[()]
    latency_s = ttft_s + decode_s
    per_sequence = case.output_tokens / latency_s
    used = memory(case, model, chip)
    run_as, note = case_precision(case, model, chip)
    return Estimate(
        case=case,
        model=model,
        chip=chip,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        latency_s=latency_s,
        batch_latency_s=batch_latency_s(case, model, chip, used, latency_s),
        # the earlier estimator left the batch out of its throughput
        throughput_tokens_per_s=per_sequence * (1 if case.method == "seed" else case.batch * case.samples),
        throughput_per_sequence_tokens_per_s=per_sequence,
        prefill=prefill,
        decode=decode,
        memory=used,
        intervals=intervals(prefill, decode, tokens) if case.method == "cycle" else {},
        precision=run_as,
        precision_note=note,
    )


def batch_latency_s(case: Case, model: Model, chip: Chip, used: Memory, latency_s: Number) -> Number:
    """Seconds until the last sequence of the batch is done. Where the engine's part of the memory holds only some of
    them, they run in waves, one after another, each at its own size; NaN if it holds none, or for arrays that queue.
    """
    if np.all(np.asarray(used.concurrent) >= case.batch) or case.method == "seed":
        return latency_s
    if swept(case) or not used.concurrent:
        return np.where(np.asarray(used.concurrent) >= case.batch, latency_s, np.nan)[()]
    whole, rest = divmod(case.batch, int(used.concurrent))
    waves = [(size, times) for size, times in ((int(used.concurrent), whole), (rest, 1)) if size and times]
    return sum(times * run_latency_s(replace(case, batch=size), model, chip) for size, times in waves)


def run_latency_s(case: Case, model: Model, chip: Chip) -> Number:
    """TTFT and the decode steps of a resolved case."""
    return sum(phase(case, model, chip).total("time_s") for phase in (prefill_phase, decode_phase))


def intervals(prefill: Phase, decode: Phase, tokens: Number) -> dict[str, tuple[Number, Number]]:
    """90 % intervals of the metrics. Latency's errors in prefill and decode add up: one card, one engine."""
    ttft, decode_s = prefill.interval("prefill"), decode.interval("decode")
    with np.errstate(invalid="ignore"):
        tpot = tuple(np.divide(end, tokens)[()] for end in decode_s)
    return {"ttft_s": ttft, "tpot_s": tpot, "latency_s": (ttft[0] + decode_s[0], ttft[1] + decode_s[1])}


def pass_ops(case: Case, model: Model, chip: Chip, batch: Number, q_len: Number, kv_len: Number) -> list[Op]:
    """The kernels of one pass of the case."""
    if not isinstance(model, Model):
        return traced_ops(case, model, batch, q_len, kv_len)
    return forward(
        model,
        batch=batch,
        q_len=q_len,
        kv_len=kv_len,
        dtype=case.dtype,
        attention_kernel=case.attention,
        precision=case_precision(case, model, chip)[0],
        imbalance=case.imbalance,
    )


def traced_ops(case: Case, model, batch: Number, q_len: Number, kv_len: Number) -> list[Op]:
    """The kernels of one pass of a model that is known by its trace. Raises InputError for what a trace can't vary."""
    import traced

    if case.attention != "flash" or case.method == "seed":
        raise InputError(f"{model.name} is traced from its code: flash attention only, and not by method seed")
    if any((case.weights, case.activations, case.kv_cache)):
        raise InputError(f"{model.name} is traced from its code, in 16 bits: --weights and the like need another model")
    return traced.forward(model.trace, batch=batch, q_len=q_len, kv_len=kv_len, dtype=case.dtype)


def timed_pass(case: Case, model, chip: Chip, batch: Number, q_len: Number, kv_len: Number, *, decode: bool):
    """The kernels of one pass, a decode step or a prefill, each with its seconds by cause and the ends of its
    interval over its time: [(op, causes, bounds), ...]. By method cycle the last one is the host.
    """
    ops = pass_ops(case, model, chip, batch, q_len, kv_len)
    if case.method == "roofline":
        return [(op, roofline_causes(op, chip), (0, 0)) for op in ops]
    runtime = case.runtime
    if case.chunked_prefill is not None:  # its floor was measured for a prompt, not for each chunk of one
        runtime = replace(runtime, prefill_floor_s=0.0)
    timed = cycle_pass(ops, chip, runtime, batch=batch, decode=decode, l2_persistent=case.l2_persistent)
    return [(op, causes, bounds(op, chip, sum(causes.values()))) for op, causes in timed]


def bounds(op: Op, chip: Chip, launch_s: Number) -> tuple:
    """(low, high): the ends of the 90 % interval over the estimate `launch_s`; never below the roofline."""
    low, high = spread(op, chip)
    if op.kind == "host":
        return low, high
    return np.maximum(low, roofline_s(op, chip) / launch_s), high


def phase_kernel(op: Op, causes, bounds=(0, 0), over_steps: Callable = lambda x: x) -> Kernel:
    """`op` as a kernel of a phase; `bounds` are the ends of its interval over its time; `over_steps` sums a
    quantity of one pass over the passes of the phase.
    """
    launch_s, (low, high) = sum(causes.values()), bounds
    return Kernel(
        name=op.name,
        kind=op.kind,
        count=op.count,
        flops=over_steps(op.count * op.flops),
        weight_bytes=over_steps(op.count * op.weight_bytes),
        kv_bytes=over_steps(op.count * op.kv_bytes),
        activation_bytes=over_steps(op.count * op.activation_bytes),
        causes={cause: over_steps(op.count * seconds) for cause, seconds in causes.items()},
        low_s=over_steps(op.count * low * launch_s),
        high_s=over_steps(op.count * high * launch_s),
    )


def prefill_phase(case: Case, model: Model, chip: Chip) -> Phase:
    """The passes over the prompts of all sequences; the last kernels yield their first tokens. A draft model, if any,
    takes the prompts too.
    """
    passes = prefill_passes(case.batch, case.input_tokens, case.prefix_tokens, case.chunked_prefill)
    chunked = case.chunked_prefill is not None  # then an array is that of a prompt's chunks, not of cases

    def count(each: Pass) -> int:
        return each.times * (np.size(each.kv_len) if chunked else 1)

    def kernels(case: Case, model: Model) -> tuple[Kernel, ...]:
        timed = []
        for each in passes:

            def over_passes(x: Number, each: Pass = each) -> Number:
                return each.times * np.sum(x) if chunked and np.ndim(x) else x * count(each)

            entries = timed_pass(case, model, chip, each.batch, each.q_len, each.kv_len, decode=False)
            timed.append(tuple(phase_kernel(*entry, over_passes) for entry in entries))
        return sum_kernels(timed)

    drafted = drafts(kernels(draft_case(case), case.draft), 1) if case.draft else ()
    return Phase(steps=sum(map(count, passes)), kernels=kernels(case, model) + drafted)


def drafts(kernels: tuple[Kernel, ...], passes: int) -> tuple[Kernel, ...]:
    """Kernels of a draft model that runs `passes` times in each pass of the model."""
    return tuple(replace(kernel, name=f"draft {kernel.name}", count=passes * kernel.count) for kernel in kernels)


def sum_kernels(passes: list[tuple[Kernel, ...]]) -> tuple[Kernel, ...]:
    """The kernels of several passes of one model, each summed over those that launch it."""
    if len(passes) == 1:
        return passes[0]
    by_name: dict[str, list[Kernel]] = {}
    for kernel in (kernel for kernels in passes for kernel in kernels):
        by_name.setdefault(kernel.name, []).append(kernel)
    return tuple(join_kernels(pieces, sum) for pieces in by_name.values())


def decode_phase(case: Case, model: Model, chip: Chip) -> Phase:
    """All output_tokens - 1 decode steps of the case, or of each element of an array of cases: a few elements at a
    time, so that elements times steps stay in cache.
    """
    if case.speculative:
        return speculative_phase(case, model, chip)
    sizes = (case.batch * case.samples, case.input_tokens, case.output_tokens)
    shape = np.broadcast_shapes(*(np.shape(size) for size in sizes))
    if not shape:
        return Phase(steps=case.output_tokens - 1, kernels=decode_steps(case, model, chip, *sizes))
    flat = [np.broadcast_to(np.asarray(size, dtype=float), shape).ravel() for size in sizes]
    rows = max(1, 2**17 // int(flat[2].max()))
    pieces = [
        decode_steps(case, model, chip, *(column[start : start + rows] for column in flat))
        for start in range(0, flat[0].size, rows)
    ]
    lengths = [min(rows, flat[0].size - start) for start in range(0, flat[0].size, rows)]

    def joined(values: list[Number]) -> np.ndarray:
        parts = (np.broadcast_to(value, length) for value, length in zip(values, lengths, strict=True))
        return np.concatenate(list(parts)).reshape(shape)

    return Phase(
        steps=case.output_tokens - 1, kernels=tuple(join_kernels(k, joined) for k in zip(*pieces, strict=True))
    )


def join_kernels(pieces: list[Kernel], joined: Callable) -> Kernel:
    """The same kernel over several passes, or pieces of an array of cases, as one."""
    first, causes = pieces[0], dict.fromkeys(cause for piece in pieces for cause in piece.causes)
    numbers = ("flops", "weight_bytes", "kv_bytes", "activation_bytes", "low_s", "high_s")
    return replace(
        first,
        causes={cause: joined([piece.causes.get(cause, 0.0) for piece in pieces]) for cause in causes},
        **{name: joined([getattr(piece, name) for piece in pieces]) for name in numbers},
    )


def decode_steps(case: Case, model: Model, chip: Chip, batch: Number, prompt: Number, output: Number):
    """The kernels of the decode steps. Step i (from 1) attends to prompt + i tokens: the prompt, what was generated
    so far, and its own. The steps are one trailing array axis; sizes are single, or arrays of one axis.
    """
    step = np.arange(1.0, np.max(output))
    taken = None  # which steps each element takes, unless all take all
    if np.ndim(output):
        batch, prompt = batch[:, None], prompt[:, None]
        if output.min() != output.max():
            taken = step < output[:, None]

    def over_steps(x):
        if taken is not None:
            return np.sum(x * taken, axis=-1)
        if np.ndim(x) and x.shape[-1] == step.size:
            return x.sum(axis=-1)
        return (x[..., 0] if np.ndim(x) else x) * step.size

    timed = timed_pass(case, model, chip, batch, 1, prompt + step, decode=True)
    return tuple(phase_kernel(*entry, over_steps) for entry in timed)


def speculative_phase(case: Case, model: Model, chip: Chip) -> Phase:
    """Decode steps that each verify `speculative` guesses and yield expected_tokens of them; before each, the draft
    model, if any, decodes its guesses one by one at the same context.
    """
    guesses, batch = case.speculative, case.batch * case.samples
    contexts = speculative_contexts(case.input_tokens, case.output_tokens, guesses, case.acceptance)

    def phase(case: Case, model: Model, q_len: int, times: int) -> tuple[Kernel, ...]:
        def over_steps(x):
            return times * (np.sum(x) if np.ndim(x) else x * contexts.size)

        entries = timed_pass(case, model, chip, batch, q_len, contexts, decode=True)
        return tuple(phase_kernel(*entry, over_steps) for entry in entries)

    kernels = phase(case, model, guesses + 1, 1)
    if case.draft:
        kernels += drafts(phase(draft_case(case), case.draft, 1, guesses), guesses)
    return Phase(steps=int(contexts.size), kernels=kernels)


def seed_machine(case: Case):
    """The earlier estimator's constants, with the case's tensor peak if it names one."""
    import seed  # only needed here

    return seed.Machine() if case.peak_tflops is None else seed.Machine(peak_flops_per_s=case.peak_tflops * 1e12)


def seed_phases(case: Case, model: Model) -> tuple[Phase, Phase]:
    """The phases by the earlier estimator's accounting: its kernels, constants and sampled decode steps, with
    output_tokens decode steps. Its constants are one GPU's, so any other is an InputError.
    """
    import seed  # only needed here

    prompt, steps = case.input_tokens, case.output_tokens
    if swept(case):
        raise InputError("method seed takes single sizes, not arrays")
    if case.attention != "flash":
        raise InputError("method seed knows flash attention only")
    if not isinstance(model, Model):
        raise InputError(f"method seed needs an explicit graph, and {model.name} is traced from its code")
    fixed = (
        "dtype",
        "weights",
        "activations",
        "kv_cache",
        "prefix_tokens",
        "chunked_prefill",
        "speculative",
        "samples",
        "imbalance",
    )
    if [letter for _, letter, _ in model.parts] != ["F", "D"] or model.kv_lora_rank:
        raise InputError(f"method seed knows dense models with full attention only, not {model.name}")
    for field in fields(Case):
        if field.name in (*fixed, "l2_persistent") and getattr(case, field.name) != field.default:
            raise InputError(
                f"method seed knows no {field.name.replace('_', '-')}: leave it out, or take another method"
            )
    if case.hardware not in (A100_80GB_PCIE.name, A100_80GB_PCIE):
        raise InputError(
            f"method seed is about the {A100_80GB_PCIE.name} as it is; of it only --peak-tflops can change"
        )
    machine = seed_machine(case)
    prefill_ops = seed.seed_ops(model, batch=case.batch, q_len=prompt, kv_len=prompt)
    step_ops = seed.seed_ops(model, batch=case.batch, q_len=1, kv_len=seed.sampled_kv_len(steps))
    prefill = tuple(phase_kernel(op, roofline_causes(op, machine)) for op in prefill_ops)
    decode = tuple(
        phase_kernel(op, roofline_causes(op, machine), over_steps=lambda x: np.mean(x) * steps) for op in step_ops
    )
    return Phase(steps=1, kernels=prefill), Phase(steps=steps, kernels=decode)


def memory(case: Case, model: Model, chip: Chip) -> Memory:
    """Weights; a KV cache with room for input + output tokens of each sequence; activations: the residual stream plus
    the largest inputs and outputs of any one prefill kernel. The last two grow linearly with batch, so the largest
    batch that fits is a division. A draft model's weights and KV cache count too; samples share their prompt's cache.
    """
    models = [(model, case_precision(case, model, chip)[0])]
    if case.draft:
        models.append((case.draft, case_precision(draft_case(case), case.draft, chip)[0]))
    weights_bytes = sum(each.weight_bytes(case.dtype, formats) for each, formats in models)
    tokens = case.input_tokens + case.samples * case.output_tokens
    kv_per_sequence = sum(each.kv_cache_bytes(case.dtype, tokens, formats) for each, formats in models)
    room = max(0, chip.dram_bytes - weights_bytes)
    usable = max(0, int(case.memory_fraction * chip.dram_bytes) - weights_bytes)
    elem_bytes = ELEM_BYTES[case.dtype]
    if case.chunked_prefill is None:
        new = case.input_tokens - case.prefix_tokens
        activation_per_sequence = pass_activation_bytes(case, model, chip, 1, new, case.input_tokens, elem_bytes)
        activation_bytes, per_sequence = activation_per_sequence * case.batch, kv_per_sequence + activation_per_sequence
    else:  # a pass holds a chunk, however many sequences there are
        # a full chunk, as engines reserve it, even where these sequences don't fill one
        new = case.input_tokens - case.prefix_tokens
        sizes = (max(1, case.chunked_prefill // new), min(case.chunked_prefill, new), case.input_tokens)
        activation_bytes, per_sequence = pass_activation_bytes(case, model, chip, *sizes, elem_bytes), kv_per_sequence
        room, usable = max(0, room - activation_bytes), max(0, usable - activation_bytes)
    return Memory(
        weights_bytes=weights_bytes,
        kv_cache_bytes=kv_per_sequence * case.batch,
        activation_bytes=activation_bytes,
        capacity_bytes=chip.dram_bytes,
        max_batch=room // per_sequence,
        concurrent=usable // per_sequence,
    )


def pass_activation_bytes(case: Case, model, chip: Chip, batch, q_len, kv_len, elem_bytes: int) -> Number:
    """The residual stream of one pass, and the largest inputs and outputs of any of its kernels."""
    ops = pass_ops(case, model, chip, batch, q_len, kv_len)
    widest = ops[0].activation_bytes
    for op in ops[1:]:
        widest = np.maximum(widest, op.activation_bytes)
    return model.hidden * elem_bytes * batch * q_len + (int(widest) if np.ndim(widest) == 0 else widest)


def max_context(est: Estimate) -> int:
    """Longest input + output that fits at the case's batch, by a longer prompt: 0 if none does. By halving. Raises
    InputError for arrays.
    """
    if swept(est.case):
        raise InputError("the longest context is that of a single case, not of arrays")
    none = low = est.case.prefix_tokens
    high = MAX_SIZE
    while low < high:
        middle = (low + high + 1) // 2
        fits = memory(replace(est.case, input_tokens=middle), est.model, est.chip).fits
        low, high = (middle, high) if fits else (low, middle - 1)
    return low + est.case.output_tokens if low > none else 0


# The command line ----------------------------------------------------------------------------------------


def line_parser(prog: str, description: str):
    """An argparse parser whose refusals are one line: an InputError."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message):
            unknown = message.removeprefix("unrecognized arguments: ").split()[0]
            hint = nearest(unknown, self._option_string_actions) if unknown.startswith("-") else ""
            raise InputError(f"{message}{hint}; see --help")

    return Parser(prog=prog, description=description.splitlines()[0], allow_abbrev=False)


def parse(argv: list[str], prog: str, description: str, extra: Callable):
    """argparse's namespace, the Case it asks for, and the what-ifs of --set by name. `extra` adds the flags
    of another program. Raises InputError.
    """
    parser = line_parser(prog, description)
    numbers = tuple(
        field.name for field in fields(Case) if field.type not in (bool, str, str | None) and field.name not in CHOICES
    )
    for field in fields(Case):
        flag = "--" + field.name.replace("_", "-")
        known = CHOICES.get(field.name)
        if field.type is bool:
            parser.add_argument(flag, action="store_true", help=HELP[field.name])
            continue
        parser.add_argument(
            flag,
            default=field.default,
            help=(", ".join(known) if known else "a number")
            + f" (default: {HELP_NONE[field.name] if field.default is None else field.default})",
            metavar="NAME" if known else "N",
        )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another value for any field of the chip or the model, such as hardware.dram_bytes_per_s=3e12",
    )
    extra(parser)
    args = parser.parse_args(argv)
    for name in numbers:
        text = getattr(args, name)
        if isinstance(text, str):
            setattr(args, name, number("--" + name.replace("_", "-"), text))
    case = Case(**{field.name: getattr(args, field.name) for field in fields(Case)})
    case, overrides = with_overrides(case, args.set)
    return args, case, overrides


def number(name: str, text: str) -> int | float:
    """int where `text` is one, otherwise float: 8, 3e12. Raises InputError."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name} must be a number, not {text!r}") from None


def truth(name: str, text: str) -> bool:
    """true or false. Raises InputError."""
    return {"true": True, "false": False}[pick(name, text.lower(), ("true", "false"))]


def with_overrides(case: Case, assignments: list[str]) -> tuple[Case, dict[str, str]]:
    """The case with each "hardware.FIELD=VALUE" or "model.FIELD=VALUE" applied, and those by name."""
    records = {"hardware": CHIPS[pick("hardware", case.hardware, CHIPS)], "model": LLAMA3_8B}
    if any(assignment.startswith("model.") for assignment in assignments):
        records["model"] = named_model(case.model)  # a file is read once
        if not isinstance(records["model"], Model):
            raise InputError(f"{case.model} is traced from its code: edit its config.json instead of --set model.FIELD")
        case = replace(case, model=records["model"])
    known = {f"{part}.{field.name}": field.type for part, record in records.items() for field in fields(record)}
    del known["model.quantization"]  # --weights and the like
    changes: dict[str, dict] = {"hardware": {}, "model": {}}
    overrides = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not text:
            raise InputError(f"--set takes FIELD=VALUE, such as model.layers=40, not {assignment!r}")
        part, _, field = name.partition(".")
        if name not in known:
            allowed = [other for other in known if other.startswith(part + ".")]
            names = ", ".join(allowed) or "hardware.FIELD, model.FIELD"
            raise InputError(f"unknown field {name!r}{nearest(name, known)}; known: {names}")
        value = text if known[name] is str else number(name, text) if known[name] is not bool else truth(name, text)
        if known[name] is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # 4e9 is a whole number too
        changes[part][field] = value
        overrides[name] = text
    changed = {part: replace(records[part], **change) for part, change in changes.items() if change}
    return replace(case, **changed), overrides


def guarded(run: Callable[[list[str]], str], argv: list[str]) -> int:
    """Prints what `run` returns; the exit status. Bad input is one line on stderr and status 2."""
    try:
        text = run(argv)
        try:
            print(text, flush=True)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise InputError(f"can't write the output: {error.strerror}") from error
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def run(argv: list[str]) -> str:
    import report

    def extra(parser):
        parser.add_argument("--json", action="store_true", help="one JSON object (SI units) instead of text")
        parser.add_argument("--explain", action="store_true", help="with the share of time by cause")
        parser.add_argument("--compare", action="store_true", help="with --method seed: from its numbers to ours")
        parser.add_argument("--list-models", action="store_true", help="the models, and exit")
        parser.add_argument("--list-hardware", action="store_true", help="the GPUs, and exit")

    args, case, overrides = parse(argv, "estimator.py", __doc__, extra)
    if args.list_models:
        import configs

        return report.models_text(configs.catalogue())
    if args.list_hardware:
        return report.hardware_text(CHIPS.values())
    est = estimate(case)
    if args.compare:
        if case.method != "seed":
            raise InputError("--compare goes with --method seed")
        import seed

        expected = estimate(replace(case, method="cycle"))
        times = (expected.ttft_s, expected.tpot_s)
        rows = seed.waterfall(est.case, est.model, est.chip, seed_machine(case), times)
        return report.waterfall_json(rows) if args.json else report.waterfall_text(rows)
    bound = estimate(replace(case, method="roofline")) if case.method == "cycle" else est
    if args.json:
        return report.as_json(est, overrides, bound)
    flash = estimate(replace(case, attention="flash")) if case.attention == "naive" else None
    bound = bound if case.method == "cycle" else None
    return report.text(est, overrides, bound=bound, flash=flash, explain=args.explain)


if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
