"""Prefill and decode: the kernels of all passes of a phase, each with its seconds by cause."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ridgepoint.hardware import Chip
from ridgepoint.kernels.cycles import BOUNDS, CAUSES
from ridgepoint.kernels.roofline import roofline_causes, roofline_s
from ridgepoint.ops import Causes, Number, Op, Seconds
from ridgepoint.serving.cases import Resolved
from ridgepoint.serving.display import metric, seconds
from ridgepoint.serving.engines import cycle_pass, resident_weights
from ridgepoint.serving.intervals import SPREADS, familiar, phase_interval, spread
from ridgepoint.serving.memory import by_kernels, scattered
from ridgepoint.serving.passes import Passes, prefill_passes, speculative_contexts

Ends = tuple[Number, Number]  # low and high, of an interval over the estimate
LEAST_S = 1e-300  # that a kernel takes where a ratio to its time is asked for: one fused into another may take none


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel of a phase. `count` is launches per pass; flops, bytes and times are the whole phase's.

    `causes` splits the time by what would have to be faster for it to shrink (cycles.CAUSES); it adds up to time_s.
    """

    name: str
    kind: str
    unit: str  # that its FLOPs run on, tensor or vector, and the dtype there
    dtype: str
    count: Number
    flops: Number
    weight_bytes: Number
    kv_bytes: Number
    activation_bytes: Number
    causes: Causes
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


@dataclass(frozen=True, kw_only=True, repr=False)
class Phase:
    """Prefill (one pass) or decode (output_tokens - 1 passes, `steps`). The last kernel may be the host."""

    steps: Number
    kernels: tuple[Kernel, ...]

    def __repr__(self) -> str:
        passes = metric(self.steps, lambda steps: f"{steps:,.0f}")
        return f"Phase({passes} passes of {len(self.kernels)} kernels, {metric(self.total('time_s'), seconds)})"

    def __add__(self, other: "Phase") -> "Phase":
        """The work of both, one after the other: kernels of one name as one, whose `count` is that of the first."""
        if not isinstance(other, Phase):
            return NotImplemented
        return Phase(steps=self.steps + other.steps, kernels=sum_kernels([self.kernels, other.kernels]))

    def __radd__(self, other: object) -> "Phase":
        return self if other == 0 else NotImplemented  # sum() starts from 0

    def total(self, field: str) -> Number:
        """Sum of one field of Kernel, such as "time_s" or "flops", over the phase."""
        values: list[Number] = [getattr(kernel, field) for kernel in self.kernels]
        return sum(values)

    def interval(self, run: tuple[float, float]) -> tuple[Number, Number]:
        """(low, high) seconds of the whole phase; run: intervals.run_spread."""
        return phase_interval([(k.time_s, k.low_s, k.under_s, k.over_s) for k in self.kernels], run)

    def causes(self) -> Causes:
        """Seconds by cause, in the order of cycles.CAUSES; they add up to total("time_s"). Sums over the kernels: where
        the host's own time exceeds that of the GPU beside it, faster kernels only leave it more to wait for.
        """
        return {
            cause: sum(kernel.causes.get(cause, 0.0) for kernel in self.kernels)
            for cause in CAUSES
            if any(cause in kernel.causes for kernel in self.kernels)
        }


def timed_pass(
    resolved: Resolved, batch: Number, q_len: Number, kv_len: Number, *, decode: bool
) -> list[tuple[Op, Causes, Ends]]:
    """The kernels of one pass, a decode step or a prefill, each with its seconds by cause and the ends of its
    interval over its time: [(op, causes, bounds), ...]. By method cycle the last one is the host.
    """
    case, chip = resolved.case, resolved.chip
    ops = resolved.ops(batch, q_len, kv_len)
    resident = resident_weights(ops, chip, resolved.arch) if case.l2_persistent else 0.0
    if case.method == "roofline":  # of the kernels that the engine launches: one that fuses two moves less
        launched = resolved.engine.launched(ops, resolved.arch, decode=decode)
        return [(op, roofline_causes(op, chip, resident), NO_INTERVAL) for op in launched]
    timed = cycle_pass(
        ops,
        chip,
        resolved.sustained,
        resolved.engine,
        batch=batch,
        tokens=batch * q_len,
        decode=decode,
        weights_resident=resident,
    )
    return [(op, causes, bounds(op, chip, sum(causes.values()), resident)) for op, causes in timed]


def bounds(op: Op, chip: Chip, launch_s: Seconds, weights_resident: float) -> Ends:
    """(low, high): the ends of the 90 % interval over the estimate `launch_s`; never below the roofline."""
    low, high = spread(op, chip)
    if op.kind == "host":
        return low, high
    return np.maximum(low, roofline_s(op, chip, weights_resident) / np.maximum(launch_s, LEAST_S)), high


NO_INTERVAL: Ends = (0, 0)  # both ends of it, by methods that have none


def phase_kernel(
    op: Op, causes: Causes, bounds: Ends = NO_INTERVAL, over_steps: Callable[[Number], Number] = lambda x: x
) -> Kernel:
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


def summed(x: "Number | np.ndarray", axis: int | None = None) -> Number:
    """np.sum, whose scalars are floats."""
    found: Number = np.asarray(x).sum(axis=axis)
    return found


def prefill_phase(resolved: Resolved) -> Phase:
    """The passes over the prompts of all sequences; the last kernels yield their first tokens. A draft model, if any,
    takes the prompts too.
    """
    case = resolved.case
    if parts := by_kernels(resolved):
        return joined_phase([(mask, prefill_phase(part)) for mask, part in parts])
    passes = prefill_passes(case.batch, case.input_tokens, case.prefix_tokens, case.chunked_prefill)
    chunked = case.chunked_prefill is not None  # then an array is that of a prompt's chunks, not of cases

    def count(each: Passes) -> int:
        return each.times * (np.size(each.kv_len) if chunked else 1)

    def kernels(resolved: Resolved) -> tuple[Kernel, ...]:
        timed = []
        for each in passes:

            def over_passes(x: Number, each: Passes = each) -> Number:
                return each.times * summed(x) if chunked and np.ndim(x) else x * count(each)

            entries = timed_pass(resolved, each.batch, each.q_len, each.kv_len, decode=False)
            timed.append(tuple(phase_kernel(*entry, over_passes) for entry in entries))
        return sum_kernels(timed)

    drafted = drafts(kernels(resolved.draft), 1) if resolved.draft else ()
    own = kernels(resolved)
    if case.method == "cycle" and resolved.engine.request_s:
        own = (*own[:-1], with_request(own[-1], resolved.engine.request_s))
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


def join_kernels(pieces: Sequence[Kernel], joined: Callable[[list[Number]], Number]) -> Kernel:
    """The same kernel over several passes, or pieces of an array of cases, as one."""
    first, causes = pieces[0], dict.fromkeys(cause for piece in pieces for cause in piece.causes)
    return replace(
        first,
        causes={cause: joined([piece.causes.get(cause, 0.0) for piece in pieces]) for cause in causes},
        flops=joined([piece.flops for piece in pieces]),
        weight_bytes=joined([piece.weight_bytes for piece in pieces]),
        kv_bytes=joined([piece.kv_bytes for piece in pieces]),
        activation_bytes=joined([piece.activation_bytes for piece in pieces]),
        low_s=joined([piece.low_s for piece in pieces]),
        high_s=joined([piece.high_s for piece in pieces]),
        under_s=joined([piece.under_s for piece in pieces]),
        over_s=joined([piece.over_s for piece in pieces]),
    )


def decode_steps(resolved: Resolved, batch: Number, prompt: Number, output: Number) -> tuple[Kernel, ...]:
    """The kernels of the decode steps. Step i (from 1) attends to prompt + i tokens: the prompt, what was generated
    so far, and its own. The steps are one trailing array axis; sizes are single, or arrays of one axis.
    """
    step = np.arange(1.0, np.max(output))
    taken = None  # which steps each element takes, unless all take all
    if isinstance(output, np.ndarray) and output.ndim:
        batch, prompt = np.asarray(batch)[:, None], np.asarray(prompt)[:, None]
        if output.min() != output.max():
            taken = step < output[:, None]

    def over_steps(x: Number) -> Number:
        if taken is not None:
            return summed(x * taken, axis=-1)
        if not isinstance(x, np.ndarray) or not x.ndim:
            return x * step.size
        return summed(x, axis=-1) if x.shape[-1] == step.size else x[..., 0] * step.size

    timed = timed_pass(resolved, batch, 1, prompt + step, decode=True)
    return tuple(phase_kernel(*entry, over_steps) for entry in timed)


def speculative_phase(resolved: Resolved) -> Phase:
    """Decode steps that each verify `speculative` guesses and yield expected_tokens of them; before each, the draft
    model, if any, decodes its guesses one by one at the same context.
    """
    case = resolved.case
    guesses, batch = case.speculative, case.batch * case.samples
    contexts = speculative_contexts(int(case.input_tokens), int(case.output_tokens), guesses, case.acceptance)

    def phase(resolved: Resolved, q_len: int, times: int) -> tuple[Kernel, ...]:
        def over_steps(x: Number) -> Number:
            return times * (summed(x) if np.ndim(x) else x * contexts.size)

        entries = timed_pass(resolved, batch, q_len, contexts, decode=True)
        return tuple(phase_kernel(*entry, over_steps) for entry in entries)

    kernels = phase(resolved, guesses + 1, 1)
    if resolved.draft:
        kernels += drafts(phase(resolved.draft, 1, guesses), guesses)
    return Phase(steps=int(contexts.size), kernels=kernels)
