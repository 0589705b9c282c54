"""How fast an LLM will run on a GPU, and why: TTFT, TPOT, latency, throughput from first principles.

    python estimator.py                                  the home workload
    python estimator.py --batch 32 --hardware h100-sxm   a what-if by flag
    python estimator.py --set hardware.dram_bytes_per_s=3e12 --set model.layers=40
    >>> estimate(Case(batch=1)).tpot_s                   # from Python

or edit the constants in `Case` below.
"""

import sys

from command import flag, guarded, line_parser, number, start, truth

if __name__ == "__main__":
    start("numpy", "tabulate")  # before all that takes a while to import

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from cycles import BOUNDS, CAUSES, sustained
from engines import ENGINES, Engine, cycle_pass, find_engine, resident_weights
from hardware import CHIPS, PEAK_LIMITS, Chip, find_chip, meant, with_tensor_peak
from inputs import MAX_SIZE, InputError, check_quantity, check_size, check_sizes, check_unit, nearest, pick, shown
from intervals import SPREADS, phase_interval, spread
from kernels.architectures import Architecture, architecture_of
from model import ELEM_BYTES, LLAMA3_8B, Model, is_model
from ops import FEW, Number, Op, larger, smaller
from precision import ACTIVATION_FORMATS, KV_FORMATS, NAMED, WEIGHT_FORMATS, Precision, in_dtype, on_chip, precision
from roofline import roofline_causes, roofline_s
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
    runtime: str | Engine = "vllm"  # the engine, its newest version, or another: vllm-0.6; --list-runtimes shows them
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
    "runtime": ENGINES,
    "draft": ("as --model",),
}
ALIASES = {"batch": ("--concurrency",), "input_tokens": ("--isl",), "output_tokens": ("--osl",)}
HELP = {"l2_persistent": "weights that fit in the L2 stay there between passes"}
HELP_NONE = dict.fromkeys(("weights", "activations", "kv_cache"), "dtype") | {
    "peak_tflops": "the chip's",
    "chunked_prefill": "all at once",
    "draft": "guesses cost nothing",
}
MAX_BATCH, MAX_OUTPUT_TOKENS = 2**20, 2**20
LEAST_S = 1e-300  # that a kernel takes where a ratio to its time is asked for: one fused into another may take none


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A case whose names are looked up, sizes checked and formats settled, once: all that its passes are made from."""

    case: Case  # its runtime and its draft are records
    model: Model
    chip: Chip
    arch: Architecture  # the chip's, with the MMA rates that a pass sustains
    precision: Precision | None  # of the layers, as run on the chip; None: `dtype` throughout
    precision_note: str  # where that is not what the case asks for
    draft: "Resolved | None"  # the same of its draft model

    def at(self, **sizes) -> "Resolved":
        """The same at other sizes of its case."""
        draft = self.draft.at(**sizes) if self.draft else None
        return replace(self, case=replace(self.case, **sizes), draft=draft)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel of a phase. `count` is launches per pass; flops, bytes and times are the whole phase's.

    `causes` splits the time by what it is spent on (cycles.CAUSES); it adds up to time_s.
    """

    name: str
    kind: str
    unit: str  # that its FLOPs run on, tensor or vector, and the dtype there
    dtype: str
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

    resolved: Resolved
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
    tokens: Number  # of a sequence, that the decode phase yields: tpot_s is its time over these
    machine: object  # whose peaks bound the kernels: the chip, or the earlier estimator's constants

    @property
    def method(self) -> "Method":
        return METHODS[self.case.method]

    @property
    def case(self) -> Case:
        return self.resolved.case

    @property
    def model(self) -> Model:
        return self.resolved.model

    @property
    def chip(self) -> Chip:
        return self.resolved.chip

    @property
    def precision(self) -> Precision | None:
        return self.resolved.precision

    @property
    def precision_note(self) -> str:
        return self.resolved.precision_note

    @cached_property
    def max_context(self) -> int:
        return max_context(self.resolved, self.memory.weights_bytes)


def named_model(model):
    """The record that a name or a path stands for; a record itself as it is. Raises InputError."""
    if not isinstance(model, str):
        if not is_model(model):
            raise InputError(f"model must be a name, a path or a record, not {shown(model)}")
        return model
    if model == LLAMA3_8B.name:
        return LLAMA3_8B
    import configs  # reads files: only needed beyond the home workload's model

    return configs.find_model(model)


def swept(case: Case) -> bool:
    """Is any of its sizes an array?"""
    return any(np.ndim(size) for size in (case.batch, case.input_tokens, case.output_tokens))


def resolve(case: Case) -> Resolved:
    """The case with its sizes checked, and what its names stand for. Raises InputError."""
    for name in ("dtype", "attention", "method"):
        pick(name, getattr(case, name), CHOICES[name])
    if not isinstance(case.runtime, Engine):
        case = replace(case, runtime=find_engine(case.runtime))
    if not isinstance(case.hardware, Chip):
        case = replace(case, hardware=find_chip(case.hardware).name)
    model, chip = named_model(case.model), named_chip(case)
    arch = case.runtime.on(sustained(architecture_of(chip), chip))
    case = checked(case)
    if case.imbalance and not model.experts:
        raise InputError(f"{model.name} has no experts whose loads could have an imbalance (a trace's are all alike)")
    METHODS[case.method].check(case, model)

    def settled(case: Case, model: Model, draft: Resolved | None) -> Resolved:
        model.check(case)
        run_as, note = case_precision(case, model, chip, arch)
        known = {"case": case, "model": model, "chip": chip, "arch": arch, "draft": draft}
        return Resolved(**known, precision=run_as, precision_note=note)

    # the formats that the case names are about its model, not about its draft
    draft_case = replace(case, model=case.draft, draft=None, weights=None, activations=None, kv_cache=None)
    return settled(case, model, settled(draft_case, case.draft, None) if case.draft else None)


def named_chip(case: Case) -> Chip:
    """The chip of a case, with the tensor peak that it names. Raises InputError."""
    chip = case.hardware if isinstance(case.hardware, Chip) else find_chip(case.hardware)
    if case.peak_tflops is None:
        return chip
    check_unit("peak-tflops", case.peak_tflops, *(end / 1e12 for end in PEAK_LIMITS), unit="TFLOP/s")
    return with_tensor_peak(chip, case.peak_tflops * 1e12)


def checked(case: Case) -> Case:
    """The case with its sizes in range, and agreeing with one another; its draft as a record. Raises InputError."""
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
    if case.draft is not None:
        if not case.speculative:
            raise InputError("--draft goes with --speculative K")
        case = replace(case, draft=named_model(case.draft))
    return case


def case_precision(case: Case, model: Model, chip: Chip, arch: Architecture) -> tuple[Precision | None, str]:
    """What the formats of `model` run as on `chip`, with a note where that differs; None where all are `dtype`. The
    formats are those that the case names; where it names none, the checkpoint's.
    """
    weights, activations, kv_cache = named = (case.weights, case.activations, case.kv_cache)
    own, note = model.formats
    if own is None and all(form in (None, case.dtype) for form in named):
        return None, note
    wanted = precision(case.dtype, *named)
    if own is not None and weights is None and activations is None:
        wanted = replace(in_dtype(own, case.dtype), **({"kv_cache": wanted.kv_cache} if kv_cache else {}))
    if wanted == precision(case.dtype):
        return None, ""
    return on_chip(wanted, chip, arch, case.dtype)


def estimate(case: Case | None = None) -> Estimate:
    """TTFT, TPOT, latency, throughput, memory and the kernels behind them. Raises InputError."""
    resolved = resolve(case or Case())
    return METHODS[resolved.case.method].estimate(resolved)


def summed(
    resolved: Resolved, prefill: Phase, decode: Phase, *, tokens: Number, sequences: Number, machine
) -> Estimate:
    """The metrics of these phases where all sequences run at once; without intervals. The last three: see Estimate."""
    ttft_s, decode_s = prefill.total("time_s"), decode.total("time_s")
    with np.errstate(invalid="ignore"):  # no decode step: 0 / 0 is the NaN that tpot_s promises
        tpot_s = np.divide(decode_s, tokens)[()]
    latency_s = ttft_s + decode_s
    per_sequence = resolved.case.output_tokens / latency_s
    return Estimate(
        resolved=resolved,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        latency_s=latency_s,
        batch_latency_s=latency_s,
        throughput_tokens_per_s=per_sequence * sequences,
        throughput_per_sequence_tokens_per_s=per_sequence,
        prefill=prefill,
        decode=decode,
        memory=memory(resolved),
        intervals={},
        tokens=tokens,
        machine=machine,
    )


def by_passes(resolved: Resolved) -> Estimate:
    """By the passes that the case takes, each kernel timed by its method; without intervals."""
    case, phases = resolved.case, (prefill_phase(resolved), decode_phase(resolved))
    how = {"tokens": case.output_tokens - 1, "sequences": case.batch * case.samples, "machine": resolved.chip}
    est = summed(resolved, *phases, **how)
    return replace(est, batch_latency_s=batch_latency_s(resolved, est.memory, est.latency_s))


def expectation(resolved: Resolved) -> Estimate:
    """As above, with intervals."""
    est = by_passes(resolved)
    return replace(est, intervals=intervals(est.prefill, est.decode, est.tokens))


def earlier(resolved: Resolved) -> Estimate:
    """By the earlier estimator's accounting: its kernels, constants and sampled decode steps, with output_tokens decode
    steps, and a throughput that leaves the batch out.
    """
    import seed  # only needed here

    if resolved.precision is not None:
        raise InputError("method seed knows one format for everything: no --weights, --activations, --kv-cache")
    case, machine = resolved.case, seed.machine_of(resolved.case)
    steps, (prefill_ops, step_ops) = case.output_tokens, seed.passes(case, resolved.model)
    prefill = tuple(phase_kernel(op, roofline_causes(op, machine)) for op in prefill_ops)
    decode = tuple(
        phase_kernel(op, roofline_causes(op, machine), over_steps=lambda x: np.mean(x) * steps) for op in step_ops
    )
    phases = (Phase(steps=1, kernels=prefill), Phase(steps=steps, kernels=decode))
    return summed(resolved, *phases, tokens=steps, sequences=1, machine=machine)


def earlier_check(case: Case, model: Model) -> None:
    """Raises InputError for a case that the earlier estimator can't take."""
    import seed

    seed.check(case, model)


def earlier_waterfall(est: Estimate) -> list[dict]:
    """From the earlier estimator's numbers to ours, correction by correction."""
    import seed

    expected = estimate(replace(est.case, method="cycle"))
    return seed.waterfall(est.case, est.model, est.chip, est.machine, (expected.ttft_s, expected.tpot_s))


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to estimate a case, and what a report says of it."""

    estimate: Callable[[Resolved], Estimate]
    check: Callable[[Case, Model], None] = lambda case, model: None  # raises InputError for what it can't take
    waterfall: Callable[[Estimate], list[dict]] | None = None  # from its numbers to those of method cycle
    line: str  # of the card; {runtime}: the engine
    throughput: str = "whole batch; {per_sequence}"  # what throughput_tokens_per_s counts


METHODS = {
    "cycle": Method(estimate=expectation, line="method: cycle, the expectation, as run by {runtime}"),
    "roofline": Method(
        estimate=by_passes,
        line="method: roofline, a bound: engines take 1.3 to 2 times as long, eager PyTorch 2 to 5",
    ),
    "seed": Method(
        estimate=earlier,
        check=earlier_check,
        waterfall=earlier_waterfall,
        line="method: seed, the earlier estimator's accounting on its own constants (seed.py; see --compare)",
        throughput="output tokens / latency, of one sequence (its definition)",
    ),
}


def batch_latency_s(resolved: Resolved, used: Memory, latency_s: Number) -> Number:
    """Seconds until the last sequence of the batch is done. Where the engine's part of the memory holds only some of
    them, they run in waves, one after another, each at its own size; NaN if it holds none, or for arrays that queue.
    """
    case = resolved.case
    if np.all(np.asarray(used.concurrent) >= case.batch):
        return latency_s
    if swept(case) or not used.concurrent:
        return np.where(np.asarray(used.concurrent) >= case.batch, latency_s, np.nan)[()]
    whole, rest = divmod(case.batch, int(used.concurrent))
    waves = [(size, times) for size, times in ((int(used.concurrent), whole), (rest, 1)) if size and times]
    return sum(times * run_latency_s(resolved.at(batch=size)) for size, times in waves)


def run_latency_s(resolved: Resolved) -> Number:
    """TTFT and the decode steps."""
    return sum(phase(resolved).total("time_s") for phase in (prefill_phase, decode_phase))


def intervals(prefill: Phase, decode: Phase, tokens: Number) -> dict[str, tuple[Number, Number]]:
    """90 % intervals of the metrics. Latency's errors in prefill and decode add up: one card, one engine."""
    ttft, decode_s = prefill.interval("prefill"), decode.interval("decode")
    with np.errstate(invalid="ignore"):
        tpot = tuple(np.divide(end, tokens)[()] for end in decode_s)
    return {"ttft_s": ttft, "tpot_s": tpot, "latency_s": (ttft[0] + decode_s[0], ttft[1] + decode_s[1])}


def pass_ops(resolved: Resolved, batch: Number, q_len: Number, kv_len: Number) -> list[Op]:
    """The kernels of one pass of the case."""
    case = resolved.case
    return resolved.model.forward(
        batch=batch,
        q_len=q_len,
        kv_len=kv_len,
        dtype=case.dtype,
        attention_kernel=case.attention,
        precision=resolved.precision,
        imbalance=case.imbalance,
        absorb=case.runtime.absorbs_prompts,
    )


def timed_pass(resolved: Resolved, batch: Number, q_len: Number, kv_len: Number, *, decode: bool):
    """The kernels of one pass, a decode step or a prefill, each with its seconds by cause and the ends of its
    interval over its time: [(op, causes, bounds), ...]. By method cycle the last one is the host.
    """
    case, chip = resolved.case, resolved.chip
    ops = pass_ops(resolved, batch, q_len, kv_len)
    resident = resident_weights(ops, chip, resolved.arch) if case.l2_persistent else 0.0
    if case.method == "roofline":
        return [(op, roofline_causes(op, chip, resident), (0, 0)) for op in ops]
    how = {"batch": batch, "tokens": batch * q_len, "decode": decode, "weights_resident": resident}
    timed = cycle_pass(ops, chip, resolved.arch, case.runtime, **how)
    return [(op, causes, bounds(op, chip, sum(causes.values()), resident)) for op, causes in timed]


def bounds(op: Op, chip: Chip, launch_s: Number, weights_resident: float) -> tuple:
    """(low, high): the ends of the 90 % interval over the estimate `launch_s`; never below the roofline."""
    low, high = spread(op, chip)
    if op.kind == "host":
        return low, high
    return np.maximum(low, roofline_s(op, chip, weights_resident) / np.maximum(launch_s, LEAST_S)), high


def phase_kernel(op: Op, causes, bounds=(0, 0), over_steps: Callable = lambda x: x) -> Kernel:
    """`op` as a kernel of a phase; `bounds` are the ends of its interval over its time; `over_steps` sums a
    quantity of one pass over the passes of the phase.
    """
    launch_s, (low, high) = sum(causes.values()), bounds
    return Kernel(
        name=op.name,
        kind=op.kind,
        unit=op.unit,
        dtype=op.dtype,
        count=op.count,
        flops=over_steps(op.count * op.flops),
        weight_bytes=over_steps(op.count * op.weight_bytes),
        kv_bytes=over_steps(op.count * op.kv_bytes),
        activation_bytes=over_steps(op.count * op.activation_bytes),
        causes={cause: over_steps(op.count * seconds) for cause, seconds in causes.items()},
        low_s=over_steps(op.count * low * launch_s),
        high_s=over_steps(op.count * high * launch_s),
    )


def prefill_phase(resolved: Resolved) -> Phase:
    """The passes over the prompts of all sequences; the last kernels yield their first tokens. A draft model, if any,
    takes the prompts too.
    """
    case = resolved.case
    passes = prefill_passes(case.batch, case.input_tokens, case.prefix_tokens, case.chunked_prefill)
    chunked = case.chunked_prefill is not None  # then an array is that of a prompt's chunks, not of cases

    def count(each: Pass) -> int:
        return each.times * (np.size(each.kv_len) if chunked else 1)

    def kernels(resolved: Resolved) -> tuple[Kernel, ...]:
        timed = []
        for each in passes:

            def over_passes(x: Number, each: Pass = each) -> Number:
                return each.times * np.sum(x) if chunked and np.ndim(x) else x * count(each)

            entries = timed_pass(resolved, each.batch, each.q_len, each.kv_len, decode=False)
            timed.append(tuple(phase_kernel(*entry, over_passes) for entry in entries))
        return sum_kernels(timed)

    drafted = drafts(kernels(resolved.draft), 1) if resolved.draft else ()
    own = kernels(resolved)
    if case.method == "cycle" and case.runtime.request_s:
        own = (*own[:-1], with_request(own[-1], case.runtime.request_s))
    return Phase(steps=sum(map(count, passes)), kernels=own + drafted)


def with_request(kernel: Kernel, request_s: float) -> Kernel:
    """The host's kernel with what a request costs before its first token beside the passes."""
    low, high = SPREADS["host"]
    return replace(
        kernel,
        causes={"host": kernel.causes["host"] + request_s},
        low_s=kernel.low_s + low * request_s,
        high_s=kernel.high_s + high * request_s,
    )


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


def decode_phase(resolved: Resolved) -> Phase:
    """All output_tokens - 1 decode steps of the case, or of each element of an array of cases: a few elements at a
    time, so that elements times steps stay in cache.
    """
    case = resolved.case
    if case.speculative:
        return speculative_phase(resolved)
    sizes = (case.batch * case.samples, case.input_tokens, case.output_tokens)
    shape = np.broadcast_shapes(*(np.shape(size) for size in sizes))
    if not shape:
        return Phase(steps=case.output_tokens - 1, kernels=decode_steps(resolved, *sizes))
    flat = [np.broadcast_to(np.asarray(size, dtype=float), shape).ravel() for size in sizes]
    rows = max(1, 2**17 // int(flat[2].max()))
    pieces = [
        decode_steps(resolved, *(column[start : start + rows] for column in flat))
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


def decode_steps(resolved: Resolved, batch: Number, prompt: Number, output: Number) -> tuple[Kernel, ...]:
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

    timed = timed_pass(resolved, batch, 1, prompt + step, decode=True)
    return tuple(phase_kernel(*entry, over_steps) for entry in timed)


def speculative_phase(resolved: Resolved) -> Phase:
    """Decode steps that each verify `speculative` guesses and yield expected_tokens of them; before each, the draft
    model, if any, decodes its guesses one by one at the same context.
    """
    case = resolved.case
    guesses, batch = case.speculative, case.batch * case.samples
    contexts = speculative_contexts(case.input_tokens, case.output_tokens, guesses, case.acceptance)

    def phase(resolved: Resolved, q_len: int, times: int) -> tuple[Kernel, ...]:
        def over_steps(x):
            return times * (np.sum(x) if np.ndim(x) else x * contexts.size)

        entries = timed_pass(resolved, batch, q_len, contexts, decode=True)
        return tuple(phase_kernel(*entry, over_steps) for entry in entries)

    kernels = phase(resolved, guesses + 1, 1)
    if resolved.draft:
        kernels += drafts(phase(resolved.draft, 1, guesses), guesses)
    return Phase(steps=int(contexts.size), kernels=kernels)


def memory(resolved: Resolved) -> Memory:
    """Weights; a KV cache with room for input + output tokens of each sequence; activations: the residual stream plus
    the largest inputs and outputs of any one prefill kernel. The last two grow linearly with batch, so the largest
    batch that fits is a division. A draft model's weights and KV cache count too; samples share their prompt's cache.
    """
    case, chip = resolved.case, resolved.chip
    weights_bytes = sum(each.model.weight_bytes(case.dtype, each.precision) for each in models_of(resolved))
    kv_per_sequence, activation_bytes = prompt_bytes(resolved, case.input_tokens)
    per_sequence, shared_bytes = kv_per_sequence, 0
    if case.chunked_prefill is None:
        per_sequence, activation_bytes = per_sequence + activation_bytes, activation_bytes * case.batch
    else:
        shared_bytes = activation_bytes
    room = max(0, chip.dram_bytes - weights_bytes - shared_bytes)
    usable = max(0, int(case.memory_fraction * chip.dram_bytes) - weights_bytes - shared_bytes)
    return Memory(
        weights_bytes=weights_bytes,
        kv_cache_bytes=kv_per_sequence * case.batch,
        activation_bytes=activation_bytes,
        capacity_bytes=chip.dram_bytes,
        max_batch=room // per_sequence,
        concurrent=usable // per_sequence,
    )


def models_of(resolved: Resolved) -> list[Resolved]:
    """The model and its draft, if it has one."""
    return [resolved, resolved.draft] if resolved.draft else [resolved]


def prompt_bytes(resolved: Resolved, prompt: Number) -> tuple[Number, Number]:
    """(KV cache of one sequence, activations) at prompts of `prompt` tokens. Activations are of one sequence; with
    chunked prefill of a pass, which holds a chunk however many sequences there are: a full one, as engines reserve it,
    even where these sequences don't fill one.
    """
    case = resolved.case
    tokens = prompt + case.samples * case.output_tokens
    kv_bytes = sum(each.model.kv_cache_bytes(case.dtype, tokens, each.precision) for each in models_of(resolved))
    batch, new, chunk = 1, prompt - case.prefix_tokens, case.chunked_prefill
    if chunk is not None:
        batch, new = larger(1, chunk // new), smaller(chunk, new)
    return kv_bytes, pass_activation_bytes(resolved, batch, new, prompt)


def pass_activation_bytes(resolved: Resolved, batch: Number, q_len: Number, kv_len: Number) -> Number:
    """The residual stream of one pass, and the largest inputs and outputs of any of its kernels, in whole bytes."""
    ops = pass_ops(resolved, batch, q_len, kv_len)
    widest = ops[0].activation_bytes
    for op in ops[1:]:
        widest = np.maximum(widest, op.activation_bytes)
    stream_bytes = resolved.model.hidden * ELEM_BYTES[resolved.case.dtype] * batch * q_len
    return stream_bytes + (int(widest) if np.ndim(widest) == 0 else np.floor(widest))


def max_context(resolved: Resolved, weights_bytes: Number) -> int:
    """Longest input + output that fits at the case's batch beside `weights_bytes`, by a longer prompt: 0 if none does.
    By halving, where one array holds the next few halvings' prompts. Raises InputError for arrays.
    """
    case = resolved.case
    if swept(case):
        raise InputError("the longest context is that of a single case, not of arrays")
    batches = case.batch if case.chunked_prefill is None else 1

    def fit(prompt: Number):
        kv_bytes, activation_bytes = prompt_bytes(resolved, prompt)
        used_bytes = weights_bytes + np.round(kv_bytes) * case.batch + activation_bytes * batches
        return used_bytes <= resolved.chip.dram_bytes

    def few(prompt: int) -> bool:
        """Does a pass have so few new tokens that it runs other kernels? An array's are all of the other kind."""
        return min(prompt - case.prefix_tokens, case.chunked_prefill or MAX_SIZE) <= FEW

    fits: dict[int, bool] = {}
    none = low = case.prefix_tokens
    high = MAX_SIZE
    while low < high:
        middle = (low + high + 1) // 2
        if middle not in fits:
            if few(middle):
                fits[middle] = fit(middle)
            else:
                prompts = [prompt for prompt in halvings(low, high, 6) if not few(prompt)]
                fits |= zip(prompts, fit(np.array(prompts, dtype=float)), strict=True)
        low, high = (middle, high) if fits[middle] else (low, middle - 1)
    return low + case.output_tokens if low > none else 0


def halvings(low: int, high: int, times: int) -> list[int]:
    """The middles that so many halvings of low to high may come to."""
    if not times or low >= high:
        return []
    middle = (low + high + 1) // 2
    return [middle, *halvings(low, middle - 1, times - 1), *halvings(middle, high, times - 1)]


# The command line ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command line asks for."""

    args: object  # argparse's namespace
    case: Case
    plain: Case  # the same without --set
    overrides: dict[str, str]  # of --set, by name
    before: dict[str, object]  # the records that these change: "hardware", "model"
    notes: tuple[str, ...]  # how its words were taken


def parse(argv: list[str], prog: str, description: str | None, extra: Callable) -> Asked:
    """What `argv` asks of a program; `extra` adds the flags that are its own. Raises InputError."""
    parser = line_parser(prog, description)
    add_flags(parser)
    extra(parser)
    args = parser.parse_args(argv)
    for field in fields(Case):
        text = getattr(args, field.name)
        if field.type not in (bool, str, str | None) and field.name not in CHOICES and isinstance(text, str):
            setattr(args, field.name, number(flag(field.name), text))
    if number("--tp", args.tp) != 1:
        raise InputError(f"one GPU only: --tp must be 1, not {args.tp}")
    if args.precision is not None:
        set_precision(args)
    chips = meant(args.hardware)
    typed, args.hardware = args.hardware, find_chip(args.hardware).name
    others = ", ".join(chip.name for chip in chips[1:])
    notes = (f"hardware {shown(typed)}: taken as {args.hardware}; there is also {others}",) if others else ()
    plain = Case(**{field.name: getattr(args, field.name) for field in fields(Case)})
    case, overrides, before = with_overrides(plain, args.set)
    return Asked(args=args, case=case, plain=plain, overrides=overrides, before=before, notes=notes)


def add_flags(parser) -> None:
    """A flag for each field of a case, by its name and what people call it, and those that set several."""
    for field in fields(Case):
        names = (flag(field.name), *ALIASES.get(field.name, ()))
        known = CHOICES.get(field.name)
        if field.type is bool:
            parser.add_argument(*names, action="store_true", help=HELP[field.name])
            continue
        default = HELP_NONE[field.name] if field.default is None else field.default
        parser.add_argument(
            *names,
            dest=field.name,
            default=field.default,
            help=f"{', '.join(known) if known else 'a number'} (default: {default})",
            metavar="NAME" if known else "N",
        )
    parser.add_argument(
        "--precision",
        metavar="NAME",
        help=f"weights and activations together, as engines name them: {', '.join(NAMED)}",
    )
    parser.add_argument("--tp", "--tensor-parallel-size", default="1", metavar="N", help="GPUs: 1, so far")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another value for any field of the chip or the model, such as hardware.dram_bytes_per_s=3e12",
    )


def set_precision(args) -> None:
    """Weights and activations, and a 16-bit dtype, by the name of --precision. Raises InputError."""
    if args.weights is not None or args.activations is not None:
        raise InputError("--precision sets weights and activations: leave --weights and --activations out")
    name = pick("precision", args.precision.lower(), NAMED)
    if name in ELEM_BYTES:
        if args.dtype not in (Case.dtype, name):
            raise InputError(f"--precision {name} and --dtype {args.dtype} contradict each other")
        args.dtype = name
    pick("dtype", args.dtype, ELEM_BYTES)
    args.weights, args.activations = (form or args.dtype for form in NAMED[name])


def with_overrides(case: Case, assignments: list[str]) -> tuple[Case, dict[str, str], dict[str, object]]:
    """The case with each "hardware.FIELD=VALUE" or "model.FIELD=VALUE" applied, those by name, and the records as they
    were before. Raises InputError.
    """
    records = {"hardware": find_chip(case.hardware), "model": LLAMA3_8B}
    if any(assignment.startswith("model.") for assignment in assignments):
        records["model"] = named_model(case.model)  # a file is read once
        if not records["model"].explicit:
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
    return replace(case, **changed), overrides, records


def run(argv: list[str]) -> str:
    import report

    def extra(parser):
        parser.add_argument("--json", action="store_true", help="one JSON object (SI units) instead of text")
        parser.add_argument("--explain", action="store_true", help="with the share of time by cause")
        parser.add_argument("--compare", action="store_true", help="with --method seed: from its numbers to ours")
        parser.add_argument("--list-models", action="store_true", help="the models, and exit")
        parser.add_argument("--list-hardware", action="store_true", help="the GPUs, and exit")
        parser.add_argument("--list-runtimes", action="store_true", help="the engines and their versions, and exit")

    asked = parse(argv, "estimator.py", __doc__, extra)
    args, case = asked.args, asked.case
    if args.list_models:
        import configs

        return report.models_text(configs.catalogue())
    if args.list_hardware:
        return report.hardware_text(CHIPS.values())
    if args.list_runtimes:
        return report.runtimes_text(ENGINES.values())
    est = estimate(case)
    if args.compare:
        if est.method.waterfall is None:
            raise InputError("--compare goes with --method seed")
        rows = est.method.waterfall(est)
        return report.waterfall_json(rows) if args.json else report.waterfall_text(rows)
    bound = estimate(replace(case, method="roofline")) if case.method == "cycle" else est
    idle = []
    if asked.overrides or asked.plain != Case():
        import whatif  # only needed now

        idle = whatif.idle(asked, est, estimate)
    if args.json:
        return report.as_json(est, asked.overrides, bound, taken=asked.notes, idle=idle)
    flash = estimate(replace(case, attention="flash")) if case.attention == "naive" else None
    bound = bound if case.method == "cycle" else None
    said = {"taken": asked.notes, "idle": idle}
    return report.text(est, asked.overrides, bound=bound, flash=flash, explain=args.explain, **said)


if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
