"""The answer: TTFT, TPOT, latency, throughput from the phases of a resolved case, in waves where it does not fit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgepoint.hardware import Chip
from ridgepoint.layers.formats import Precision
from ridgepoint.ops import Number
from ridgepoint.serving import display
from ridgepoint.serving.cases import Resolved
from ridgepoint.serving.intervals import run_spread
from ridgepoint.serving.memory import Memory, max_context, memory, scattered
from ridgepoint.serving.phases import Phase, decode_phase, prefill_phase

if TYPE_CHECKING:
    from ridgepoint.estimator import Case
    from ridgepoint.kernels.roofline import Peaks
    from ridgepoint.readers.catalogue import AnyModel


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
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
    machine: "Peaks"  # whose peaks bound the kernels: the chip, or the earlier estimator's constants
    method: "Method | None" = None  # that made it

    def __repr__(self) -> str:
        return display.line(self)

    def _repr_html_(self) -> str:
        return display.html(self)

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each kernel of each phase: see display.rows."""
        return display.rows(self)

    @property
    def phases(self) -> list[tuple[str, Phase]]:
        """(name, phase) of those that have passes: with one output token there is no decode."""
        return [
            (name, phase) for name, phase in (("prefill", self.prefill), ("decode", self.decode)) if np.any(phase.steps)
        ]

    @cached_property
    def work(self) -> Phase:
        """Prefill and decode as one."""
        return self.prefill + self.decode

    def __add__(self, other: "Estimate | Phase") -> Phase:
        """The work of both, one after the other; estimates also add up by sum()."""
        return self.work + (other.work if isinstance(other, Estimate) else other)

    def __radd__(self, other: "int | Phase") -> Phase:
        return self.work if other == 0 else other + self.work

    @property
    def case(self) -> "Case":
        return self.resolved.case

    @property
    def model(self) -> "AnyModel":
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


def summed(
    resolved: Resolved,
    used: Memory,
    prefill: Phase,
    decode: Phase,
    *,
    tokens: Number,
    sequences: Number,
    machine: "Peaks",
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
    est = summed(
        full,
        used,
        prefill_phase(full),
        decode_phase(full),
        tokens=case.output_tokens - 1,
        sequences=full.case.batch * case.samples,
        machine=resolved.chip,
    )
    return est if full is resolved else in_waves(replace(est, resolved=resolved))


def expectation(resolved: Resolved) -> Estimate:
    """As above, with intervals."""
    est = by_passes(resolved)
    found = {name: (known(est, low), known(est, high)) for name, (low, high) in intervals(est).items()}
    return replace(est, intervals=found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A way to estimate a case, and what a report says of it."""

    estimate: Callable[[Resolved], Estimate]
    waterfall: Callable[[Estimate], list[dict[str, Any]]] | None = None  # from its numbers to those of method cycle
    line: str  # of the card; {runtime}: the engine
    throughput: str = "whole batch; {per_sequence}"  # what throughput_tokens_per_s counts


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
    last_s = np.where(rest > 0, started_s + rest_ttft_s, started_s - wave_s + est.ttft_s)[()]
    return replace(
        est,
        waves=np.where(np.asarray(est.memory.max_batch) > 0, whole + (rest > 0), 0)[()],
        ttft_s=known(est, est.ttft_s),
        tpot_s=known(est, est.tpot_s),
        latency_s=known(est, wave_s),
        throughput_per_sequence_tokens_per_s=known(est, est.throughput_per_sequence_tokens_per_s),
        throughput_tokens_per_s=known(est, case.batch * case.samples * case.output_tokens / batch_latency_s),
        batch_latency_s=known(est, batch_latency_s),
        ttft_mean_s=known(est, waits_s / case.batch),
        ttft_last_s=known(est, last_s),
    )


def known(est: Estimate, value: Number) -> Number:
    """The value, NaN where not one sequence fits."""
    if np.all(est.memory.max_batch):
        return value
    return np.where(np.asarray(est.memory.max_batch) > 0, value, np.nan)[()]


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
    ttft_s, latency_s = (scattered([(some, np.asarray(value)[which.ravel()])], some.shape) for value in found)
    return ttft_s, latency_s


def intervals(est: "Estimate") -> dict[str, tuple[Number, Number]]:
    """90 % intervals of the metrics. Latency's errors in prefill and decode add up: one card, one engine."""
    engine = est.resolved.engine
    ttft = est.prefill.interval(run_spread(engine, est.chip, "prefill"))
    decode_s = est.decode.interval(run_spread(engine, est.chip, "decode"))
    with np.errstate(invalid="ignore"):
        low, high = (np.divide(end, est.tokens)[()] for end in decode_s)
    return {"ttft_s": ttft, "tpot_s": (low, high), "latency_s": (ttft[0] + decode_s[0], ttft[1] + decode_s[1])}
