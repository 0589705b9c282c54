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
from inputs import InputError, check_quantity, check_size, check_sizes, check_unit, nearest, pick, shown
from intervals import SPREADS, familiar, phase_interval, run_spread, spread
from kernels.architectures import Architecture, architecture_of
from memory import Memory, by_kernels, max_context, memory, scattered
from model import ELEM_BYTES, LLAMA3_8B, Model, is_model
from ops import Number, Op
from precision import (
    ACTIVATION_FORMATS,
    KV_FORMATS,
    NAMED,
    WEIGHT_FORMATS,
    Precision,
    Unread,
    in_dtype,
    on_chip,
    precision,
)
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
    arch: Architecture  # the chip's, as the engine runs whole passes on it
    precision: Precision | None  # of the layers, as run on the chip; None: `dtype` throughout
    precision_note: str  # where that is not what the case asks for
    draft: "Resolved | None"  # the same of its draft model

    @cached_property
    def sustained(self) -> Architecture:
        """`arch` with the MMA rates that a pass holds on the chip."""
        return sustained(self.arch, self.chip)

    def at(self, **sizes) -> "Resolved":
        """The same at other sizes of its case."""
        draft = self.draft.at(**sizes) if self.draft else None
        return replace(self, case=replace(self.case, **sizes), draft=draft)

    def ops(self, batch: Number, q_len: Number, kv_len: Number) -> list[Op]:
        """The kernels of one pass of the case."""
        case = self.case
        return self.model.forward(
            batch=batch,
            q_len=q_len,
            kv_len=kv_len,
            dtype=case.dtype,
            attention_kernel=case.attention,
            precision=self.precision,
            imbalance=case.imbalance,
            absorb=case.runtime.absorbs_prompts,
        )


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel of a phase. `count` is launches per pass; flops, bytes and times are the whole phase's.

    `causes` splits the time by what would have to be faster for it to shrink (cycles.CAUSES); it adds up to time_s.
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
    under_s: Number = 0.0  # how far below and above its estimate it may lie, where no measured run had its like
    over_s: Number = 0.0

    @property
    def bytes(self) -> Number:
        return self.weight_bytes + self.kv_bytes + self.activation_bytes

    @property
    def time_s(self) -> Number:
        return sum(self.causes.values())

    @property
    def bound(self) -> str:
        """The group of causes with the largest share of a single case: "compute", "memory" or "latency"; the last for a
        host that costs nothing.
        """
        if not self.time_s:
            return "latency"
        return max(BOUNDS, key=lambda bound: sum(self.causes.get(cause, 0.0) for cause in BOUNDS[bound]))


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Prefill (one pass) or decode (output_tokens - 1 passes, `steps`). The last kernel may be the host."""

    steps: Number
    kernels: tuple[Kernel, ...]

    def total(self, field: str) -> Number:
        """Sum of one field of Kernel, such as "time_s" or "flops", over the phase."""
        return sum(getattr(kernel, field) for kernel in self.kernels)

    def interval(self, run: tuple[float, float]) -> tuple[Number, Number]:
        """(low, high) seconds of the whole phase; run: intervals.run_spread."""
        return phase_interval([(k.time_s, k.low_s, k.under_s, k.over_s) for k in self.kernels], run)

    def causes(self) -> dict[str, Number]:
        """Seconds by cause, in the order of cycles.CAUSES; they add up to total("time_s"). Sums over the kernels: where
        the host's own time exceeds that of the GPU beside it, faster kernels only leave it more to wait for.
        """
        return {
            cause: sum(kernel.causes.get(cause, 0.0) for kernel in self.kernels)
            for cause in CAUSES
            if any(cause in kernel.causes for kernel in self.kernels)
        }


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The answer. Times in seconds; every metric is a float, or an array of the case's shape.

    A batch that the engine's memory does not hold runs in waves, one after another, each of as many sequences as fit,
    the last of what is left. The metrics down to the phases are those of a full wave, from its start; those after them
    are of all sequences. Where not one sequence fits, waves is 0, every metric NaN, and the phases are what the passes
    would take.

    ttft_s: the prefill pass, which yields the first token. tpot_s: mean of the output_tokens - 1 decode
    steps, each at its own context length (NaN if there are none). latency_s = ttft_s + the decode steps.
    """

    resolved: Resolved
    ttft_s: Number
    tpot_s: Number
    latency_s: Number
    throughput_per_sequence_tokens_per_s: Number  # output_tokens / latency_s
    prefill: Phase
    decode: Phase
    throughput_tokens_per_s: Number  # of all sequences: batch * output_tokens / batch_latency_s
    batch_latency_s: Number  # until the last sequence is done: latency_s if all run at once
    ttft_mean_s: Number  # of all sequences, with the time in the queue
    ttft_last_s: Number  # of the last wave, with the time in the queue
    waves: Number
    running: Number  # sequences of a full wave
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
        return max_context(self.resolved)


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
    if not isinstance(case.hardware, Chip):
        case = replace(case, hardware=find_chip(case.hardware).name)
    model, chip = named_model(case.model), named_chip(case)
    case = checked(case)
    arch = case.runtime.on(architecture_of(chip))
    if case.imbalance and not model.experts:
        raise InputError(f"{model.name} has no experts whose loads could have an imbalance (a trace's are all alike)")
    METHODS[case.method].check(case, model)

    def settled(case: Case, model: Model, draft: Resolved | None) -> Resolved:
        model.check(case)
        run_as, note = case_precision(case, model, chip, arch)
        known = {"case": case, "model": model, "chip": chip, "arch": arch, "draft": draft}
        return Resolved(**known, precision=run_as, precision_note=note)

    if not case.draft:
        return settled(case, model, None)
    # the formats that the case names are about its model, not about its draft
    draft_case = replace(case, model=case.draft, draft=None, weights=None, activations=None, kv_cache=None)
    return settled(case, model, settled(draft_case, case.draft, None))


def named_chip(case: Case) -> Chip:
    """The chip of a case, with the tensor peak that it names. Raises InputError."""
    chip = case.hardware if isinstance(case.hardware, Chip) else find_chip(case.hardware)
    if case.peak_tflops is None:
        return chip
    check_unit("peak-tflops", case.peak_tflops, *(end / 1e12 for end in PEAK_LIMITS), unit="TFLOP/s")
    return with_tensor_peak(chip, case.peak_tflops * 1e12)


def checked(case: Case) -> Case:
    """The case with its sizes in range, and agreeing with one another; runtime and draft as records. Raises
    InputError.
    """
    runtime = case.runtime
    case = replace(
        case,
        runtime=runtime if isinstance(runtime, Engine) else find_engine(runtime),
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
    if isinstance(own, Unread):
        if weights is None and activations is None:
            raise InputError(f"{model.name}: {own.why}; name its formats: --weights {', '.join(WEIGHT_FORMATS)}")
        own = None
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
    resolved: Resolved, used: Memory, prefill: Phase, decode: Phase, *, tokens: Number, sequences: Number, machine
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
        throughput_per_sequence_tokens_per_s=per_sequence,
        prefill=prefill,
        decode=decode,
        throughput_tokens_per_s=per_sequence * sequences,
        batch_latency_s=latency_s,
        ttft_mean_s=ttft_s,
        ttft_last_s=ttft_s,
        waves=1,
        running=resolved.case.batch,
        memory=used,
        intervals={},
        tokens=tokens,
        machine=machine,
    )


def by_passes(resolved: Resolved) -> Estimate:
    """By the passes that the case takes, each kernel timed by its method; without intervals."""
    case, used = resolved.case, memory(resolved)
    full = resolved
    if not np.all(used.fits):
        full = resolved.at(batch=at_once(case.batch, used.max_batch))
    how = {"tokens": case.output_tokens - 1, "sequences": full.case.batch * case.samples, "machine": resolved.chip}
    est = summed(full, used, prefill_phase(full), decode_phase(full), **how)
    return est if full is resolved else in_waves(replace(est, resolved=resolved))


def expectation(resolved: Resolved) -> Estimate:
    """As above, with intervals."""
    est = by_passes(resolved)
    return replace(est, intervals={name: known(est, ends) for name, ends in intervals(est).items()})


def earlier(resolved: Resolved) -> Estimate:
    """By the earlier estimator's accounting: its kernels, constants and sampled decode steps, with output_tokens decode
    steps, and a throughput that leaves the batch out.
    """
    import seed  # only needed here

    if resolved.precision is not None:
        raise InputError("method seed knows one format for everything: no --weights, --activations, --kv-cache")
    case, machine, used = resolved.case, seed.machine_of(resolved.case), memory(resolved)
    if not used.fits:
        raise InputError(f"method seed knows no queue: {used.max_batch:,} of {case.batch:,} sequences run at once")
    steps, (prefill_ops, step_ops) = case.output_tokens, seed.passes(case, resolved.model)
    prefill = tuple(phase_kernel(op, roofline_causes(op, machine)) for op in prefill_ops)
    decode = tuple(
        phase_kernel(op, roofline_causes(op, machine), over_steps=lambda x: np.mean(x) * steps) for op in step_ops
    )
    phases = (Phase(steps=1, kernels=prefill), Phase(steps=steps, kernels=decode))
    return summed(resolved, used, *phases, tokens=steps, sequences=1, machine=machine)


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


def at_once(batch: Number, most: Number) -> Number:
    """Sequences of a full wave: all, or as many as fit; all where none does, which `known` then leaves out."""
    if np.ndim(batch) or np.ndim(most):
        return np.where(np.asarray(most) > 0, np.minimum(batch, most), batch)
    return min(batch, most) if most else batch


def in_waves(est: Estimate) -> Estimate:
    """The estimate of a full wave as that of a batch whose waves run one after another."""
    case, wave_s = est.case, est.latency_s
    whole, rest = divmod(case.batch, est.running)
    rest_ttft_s, rest_s = run_s(est.resolved, rest)
    started_s = whole * wave_s  # the last wave, if it is not a full one
    batch_latency_s = started_s + rest_s
    waits_s = est.running * (whole * est.ttft_s + wave_s * whole * (whole - 1) / 2) + rest * (started_s + rest_ttft_s)
    found = {
        "ttft_s": est.ttft_s,
        "tpot_s": est.tpot_s,
        "latency_s": wave_s,
        "throughput_per_sequence_tokens_per_s": est.throughput_per_sequence_tokens_per_s,
        "throughput_tokens_per_s": case.batch * case.samples * case.output_tokens / batch_latency_s,
        "batch_latency_s": batch_latency_s,
        "ttft_mean_s": waits_s / case.batch,
        "ttft_last_s": np.where(rest > 0, started_s + rest_ttft_s, started_s - wave_s + est.ttft_s)[()],
    }
    waves = np.where(np.asarray(est.memory.max_batch) > 0, whole + (rest > 0), 0)[()]
    return replace(est, waves=waves, **{name: known(est, (value,))[0] for name, value in found.items()})


def known(est: Estimate, values: tuple) -> tuple:
    """The values, NaN where not one sequence fits."""
    if np.all(est.memory.max_batch):
        return values
    return tuple(np.where(np.asarray(est.memory.max_batch) > 0, value, np.nan)[()] for value in values)


def run_s(resolved: Resolved, batch: Number) -> tuple[Number, Number]:
    """(until the first tokens, until the last ones) of `batch` sequences that run at once; 0 where that is 0."""

    def timed(part: Resolved) -> tuple[Number, Number]:
        ttft_s = prefill_phase(part).total("time_s")
        return ttft_s, ttft_s + decode_phase(part).total("time_s")

    if not np.any(batch):
        return 0.0, 0.0
    if not np.ndim(batch):
        return timed(resolved.at(batch=batch))
    case = resolved.case
    sizes = np.broadcast_arrays(batch, case.input_tokens, case.output_tokens)
    some = sizes[0] > 0
    alike, which = np.unique([size[some] for size in sizes], axis=1, return_inverse=True)  # few sizes are left over
    found = timed(resolved.at(batch=alike[0], input_tokens=alike[1], output_tokens=alike[2]))
    ttft_s, latency_s = (scattered([(some, value[which.ravel()])], some.shape) for value in found)
    return ttft_s, latency_s


def intervals(est: "Estimate") -> dict[str, tuple[Number, Number]]:
    """90 % intervals of the metrics. Latency's errors in prefill and decode add up: one card, one engine."""
    ttft, decode_s = (
        getattr(est, phase).interval(run_spread(est.case.runtime, est.chip, phase)) for phase in ("prefill", "decode")
    )
    with np.errstate(invalid="ignore"):
        tpot = tuple(np.divide(end, est.tokens)[()] for end in decode_s)
    return {"ttft_s": ttft, "tpot_s": tpot, "latency_s": (ttft[0] + decode_s[0], ttft[1] + decode_s[1])}


def timed_pass(resolved: Resolved, batch: Number, q_len: Number, kv_len: Number, *, decode: bool):
    """The kernels of one pass, a decode step or a prefill, each with its seconds by cause and the ends of its
    interval over its time: [(op, causes, bounds), ...]. By method cycle the last one is the host.
    """
    case, chip = resolved.case, resolved.chip
    ops = resolved.ops(batch, q_len, kv_len)
    resident = resident_weights(ops, chip, resolved.arch) if case.l2_persistent else 0.0
    if case.method == "roofline":  # of the kernels that the engine launches: one that fuses two moves less
        launched = case.runtime.launched(ops, resolved.arch, decode=decode)
        return [(op, roofline_causes(op, chip, resident), NO_INTERVAL) for op in launched]
    how = {"batch": batch, "tokens": batch * q_len, "decode": decode, "weights_resident": resident}
    timed = cycle_pass(ops, chip, resolved.sustained, case.runtime, **how)
    return [(op, causes, bounds(op, chip, sum(causes.values()), resident)) for op, causes in timed]


def bounds(op: Op, chip: Chip, launch_s: Number, weights_resident: float) -> tuple:
    """(low, high): the ends of the 90 % interval over the estimate `launch_s`; never below the roofline."""
    low, high = spread(op, chip)
    if op.kind == "host":
        return low, high
    return np.maximum(low, roofline_s(op, chip, weights_resident) / np.maximum(launch_s, LEAST_S)), high


NO_INTERVAL = (0, 0)  # both ends of it, by methods that have none


def phase_kernel(op: Op, causes, bounds=NO_INTERVAL, over_steps: Callable = lambda x: x) -> Kernel:
    """`op` as a kernel of a phase; `bounds` are the ends of its interval over its time; `over_steps` sums a
    quantity of one pass over the passes of the phase.
    """
    launch_s, (low, high) = sum(causes.values()), bounds
    strange = bounds is not NO_INTERVAL and not familiar(op)
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
        under_s=over_steps(op.count * (1 - low) * launch_s) if strange else 0.0,
        over_s=over_steps(op.count * (high - 1) * launch_s) if strange else 0.0,
    )


def prefill_phase(resolved: Resolved) -> Phase:
    """The passes over the prompts of all sequences; the last kernels yield their first tokens. A draft model, if any,
    takes the prompts too.
    """
    case = resolved.case
    if parts := by_kernels(resolved):
        return joined_phase([(mask, prefill_phase(part)) for mask, part in parts])
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


def joined_phase(parts: list[tuple[np.ndarray, Phase]]) -> Phase:
    """The phase of an array of cases, from those of its parts and their masks."""
    by_name: dict[str, list[tuple[np.ndarray, Kernel]]] = {}
    for mask, phase in parts:
        for kernel in phase.kernels:
            by_name.setdefault(kernel.name, []).append((mask, kernel))
    kernels = []
    for pieces in by_name.values():
        masks = [mask for mask, _ in pieces]

        def joined(values: list[Number], masks: list[np.ndarray] = masks) -> np.ndarray:
            return scattered(list(zip(masks, values, strict=True)), masks[0].shape)

        kernels.append(join_kernels([kernel for _, kernel in pieces], joined))
    return Phase(steps=parts[0][1].steps, kernels=tuple(kernels))


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
    numbers = ("flops", "weight_bytes", "kv_bytes", "activation_bytes", "low_s", "high_s", "under_s", "over_s")
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
