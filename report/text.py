"""The estimate as text for people: a summary, and the tables that are asked for."""

import re

from ridgepoint.ops import distinct_experts
from ridgepoint.report import tables
from ridgepoint.report.terminal import PROSE, aligned, paint, wrapped
from ridgepoint.serving.display import seconds
from ridgepoint.serving.intervals import validated
from ridgepoint.serving.passes import expected_tokens

GIB = 2**30


def text(
    est,
    overrides: dict[str, str],
    *,
    taken=(),
    idle=(),
    helps=(),
    bound=None,
    flash=None,
    causes=False,
    kernels=False,
    width: int = PROSE,
    room: int = PROSE,
) -> str:
    """The report, in lines of at most `width`, of kernels' tables `room`. `taken`: how words of the command line were
    taken; `idle`: which of them change nothing; `helps`: what would make it faster (explain.savings). `bound`: the same
    case by roofline, `flash`: with flash attention, to be shown beside it; `causes`, `kernels`: with these tables.
    """
    fits = [*queue(est), ""] if not est.memory.fits else []
    lines = [line for part in (*_card(est, overrides), *taken, "", *fits) for line in wrapped(part, width)]
    lines = [re.sub("^(DOES NOT FIT|QUEUE)", lambda found: paint(found[0], "red"), line) for line in lines]
    if est.waves:
        lines += [*_metrics(est, bound, width), "", tables.costs_table(est, width)]
        lines += [*(line for part in _help(est, helps) for line in wrapped(part, width)), ""]
    noted = [*facts(est), *(f"note: {line}" for line in idle)]
    lines += [line for part in (*_memory(est), *noted) for line in wrapped(part, width)]
    further = [tables.versus_table(est, flash, width)] if flash else []
    further += tables.cause_tables(est, room) if causes else []
    further += tables.kernel_tables(est, room) if kernels else []
    return "\n".join([*lines, *(f"\n{part}" for part in further if est.waves)])


def _card(est, overrides) -> list[str]:
    case, chip, model = est.case, est.chip, est.model
    mma_dtype = est.precision.mma_dtype if est.precision else case.dtype
    peak, bandwidth = chip.tensor_flops_per_s(mma_dtype), chip.dram_bytes_per_s
    lines = [
        f"{model.title} ({_parameters(model)}), {case.dtype}, {case.attention} attention",
        f"batch {case.batch}, {case.input_tokens} tokens in, {case.output_tokens} out, on one {chip.title}",
    ]
    if est.precision:
        lines.append(est.precision.describe())
    if est.machine is chip:
        lines.append(
            f"{peak / 1e12:.4g} TFLOP/s {'' if mma_dtype == case.dtype else mma_dtype + ' '}tensor, "
            f"{chip.vector_flops_per_s / 1e12:.3g} FP32, "
            f"{bandwidth / 1e9:,.0f} GB/s DRAM; ridge point {peak / bandwidth:.0f} FLOP/B"
        )
    lines.append(est.method.line.format(runtime=case.runtime.title))
    if est.intervals:
        widened = "" if validated(chip) else ", so the interval is widened"
        lines.append(f"measured of it on this GPU: {measured(case.runtime, chip)}{widened}")
    if overrides:
        lines.append("what-if: " + ", ".join(f"{name} = {value}" for name, value in overrides.items()))
    return lines


def measured(engine, chip) -> str:
    """What of an engine was measured on a chip: "kernels (0.24.0), whole runs (0.15.1)"."""
    found = measured_versions(engine, chip)
    return ", ".join(f"{what.replace('_', ' ')} ({on})" for what, on in found.items() if on) or "nothing"


def measured_versions(engine, chip) -> dict[str, str | None]:
    """The versions of an engine whose kernels and whole runs were measured on a chip; None: of no version."""
    parts = {"kernels": engine.kernels_measured, "whole_runs": engine.runs_measured}
    return {what: on.get(chip.name) if validated(chip) else None for what, on in parts.items()}


def _parameters(model) -> str:
    active = model.active_parameters or model.parameters  # a trace doesn't know
    less = f", {active / 1e9:.2f} B active" if active < model.parameters else ""
    return f"{model.parameters / 1e9:.2f} B parameters{less}"


def _metrics(est, bound, width: int) -> list[str]:
    def beside(name: str) -> str:
        """The interval and the bound of a metric: "(12.8 - 15.2, 90 %), bound 9.47 ms"."""
        if name not in est.intervals or getattr(est, name) != getattr(est, name):  # NaN: no such time
            return ""
        unit = seconds(getattr(est, name)).split()[1]
        scale = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
        ends = (end * scale for end in est.intervals[name])
        low, high = (f"{end:.4g}" if end < 1e4 else f"{end:,.0f}" for end in ends)
        against = f", bound {seconds(getattr(bound, name))}" if bound else ""
        return f"({low} - {high}, 90 %){against}"

    steps = f"{est.decode.steps:,} decode steps"
    rows = [
        ("TTFT", seconds(est.ttft_s), beside("ttft_s"), "prefill pass"),
        ("TPOT", seconds(est.tpot_s), beside("tpot_s"), steps),
        ("latency", seconds(est.latency_s), beside("latency_s"), f"TTFT + {est.tokens:,} x TPOT"),
    ]
    per_sequence = f"{est.throughput_per_sequence_tokens_per_s:,.1f} token/s per sequence"
    whose = est.method.throughput.format(per_sequence=per_sequence)
    if est.waves > 1:
        whose = f"all {est.waves:,} waves; {per_sequence}"
    headline = "Flash Attention" if est.case.attention == "flash" else "Naive Attention"
    rows = [(f"{row[0]:{len('throughput')}}", *row[1:]) for row in rows]
    lines = aligned(rows, ("left",) * 4)
    if max(map(len, lines)) > width:
        lines = aligned([row[:3] for row in rows], ("left",) * 3)
    rate = est.throughput_tokens_per_s
    shown = f"{rate:,.1f}" if rate >= 1 else f"{rate:.3g}"
    lines += wrapped(f"throughput  {shown} token/s, {whose}", width, " " * (len("throughput") + 2))
    return [paint(f"---{headline}---", "bold"), *lines]


def _help(est, helps) -> list[str]:
    """What would help most, in one line: by how much, and the cause that it is about."""
    if not helps:
        return []
    whole = "latency" if est.waves == 1 else f"time of all {est.waves:,} waves"
    parts = [
        f"{saving.what} saves {saving.share:.1%}{f' of the {whole}' if saving is helps[0] else ''}"
        + (f" ({saving.because}: {saving.because_share:.1%})" if saving.because else "")
        for saving in helps
    ]
    return [f"what would help most: {'; '.join(parts)}"]


def _memory_sum(memory) -> str:
    return (
        f"{memory.total_bytes / GIB:.2f} GiB of {memory.capacity_bytes / GIB:.0f} GiB "
        f"({memory.total_bytes / memory.capacity_bytes:.0%})"
    )


def _memory(est) -> list[str]:
    memory, case = est.memory, est.case
    own = f", engine {memory.engine_bytes / GIB:.2f}" if memory.engine_bytes else ""
    length = case.input_tokens + case.samples * case.output_tokens
    return [
        f"memory: {memory.total_bytes / GIB:.2f} of {memory.capacity_bytes / GIB:.0f} GiB: "
        f"weights {memory.weights_bytes / GIB:.2f}, KV {memory.kv_cache_bytes / GIB:.2f}, "
        f"activations {memory.activation_bytes / GIB:.2f}{own}",
        f"KV cache: {memory.kv_tokens:,} tokens ({memory.kv_room_bytes / GIB:.2f} GiB); "
        f"{memory.sequences:,.2f} sequences of {length:,} tokens",
        f"largest batch that runs at once: {memory.max_batch:,}; "
        f"longest context at batch {case.batch:,}: {_context(est)}",
    ]


def _context(est) -> str:
    return f"{est.max_context:,} tokens" if est.max_context else "none with this many output tokens"


def queue(est) -> list[str]:
    """What happens to a batch that does not fit in what the engine may use: nothing, if it does."""
    if est.memory.fits:
        return []
    memory, case = est.memory, est.case
    needed = f"DOES NOT FIT: {_memory_sum(memory)}, of which the engine may use {case.memory_fraction:.0%}"
    if not memory.max_batch:
        return [f"{needed}: not one sequence runs, and nothing is estimated"]
    lines = [f"{needed}; {memory.max_batch:,} of {case.batch:,} sequences run at once"]
    if est.waves > 1:
        lines.append(
            f"QUEUE: {est.waves:,} waves, one after another; shown is one of {est.running:,} sequences. With the "
            f"queue, TTFT is {seconds(est.ttft_mean_s)} on average, {seconds(est.ttft_last_s)} in the last wave, and "
            f"the last sequence is done after {seconds(est.batch_latency_s)}"
        )
    return lines


def assumptions(case) -> list[str]:
    """What each variant of the run takes for granted, in a line."""
    lines = []
    if case.prefix_tokens:
        lines.append(f"the first {case.prefix_tokens:,} tokens of every prompt are in the KV cache and not computed")
    if case.chunked_prefill:
        chunk = f"{case.chunked_prefill:,}"
        lines.append(
            f"prefill takes whole prompts up to {chunk} tokens a pass, or {chunk} of one; TTFT is the last one's"
        )
    if case.speculative:
        yielded = expected_tokens(case.speculative, case.acceptance)
        cost = f"{case.draft.name} decodes them" if case.draft else "they cost nothing"
        lines.append(
            f"each of {case.speculative} guesses is accepted with probability {case.acceptance:g} (so {yielded:.2f} "
            f"tokens a step); {cost}; all sequences advance alike"
        )
    if case.samples > 1:
        lines.append(f"{case.samples} samples of a prompt share its KV cache in memory; each reads all of it by itself")
    return lines


def notes(est) -> list[str]:
    """What the estimate takes for granted, and what a reader may not expect of it."""
    return [*facts(est), *_measured(est)]


def facts(est) -> list[str]:
    """notes, but how far the estimate can be trusted."""
    notes = [f"assumed: {line}" for line in assumptions(est.case)]
    experts = est.model.experts
    if experts:
        batch = est.running * est.case.samples
        used = distinct_experts(batch, experts, est.model.experts_per_token, est.case.imbalance)
        choice = (
            f"the r-th busiest with r ** -{est.case.imbalance:g}" if est.case.imbalance else "all alike (--imbalance)"
        )
        notes.append(f"assumed: tokens choose experts at random, {choice}: a decode step reads {used:.1f} of {experts}")
    notes += [f"note: {est.model.note}"] if est.model.note else []
    notes += [f"note: {est.precision_note}"] if est.precision_note else []
    notes += _half_named(est)
    vocab, drafted = est.model.vocab, est.case.draft and est.case.draft.vocab  # None: not known to a trace
    if vocab and drafted and drafted != vocab:
        sizes = f"{drafted:,} tokens, not {vocab:,}"
        notes.append(
            f"note: {est.case.draft.title}'s vocabulary has {sizes}: an engine can't use its guesses as they are"
        )
    context = est.case.input_tokens + est.case.output_tokens
    if context > est.model.max_positions:
        trained = f"{est.model.title} was trained for {est.model.max_positions:,}"
        notes.append(f"note: {context:,} tokens of context; {trained}")
    return notes


def _measured(est) -> list[str]:
    """What of the chip was never measured."""
    if est.intervals and not validated(est.chip):
        return [f"note: no measurements of {est.chip.name} as it is here: the interval is widened"]
    return []


def _half_named(est) -> list[str]:
    """Weights in a format that the chip multiplies in, with 16-bit activations: seldom what was meant."""
    named, rates = est.case.weights, est.chip.fma_rates()
    if named not in ("fp8", "nvfp4") or not est.precision.weight_only or not rates["fp8" if named == "fp8" else "fp4"]:
        return []
    engines = f"what engines call {named} has {named} activations too: --precision {named}"
    return [f"note: {named} weights alone are widened for 16-bit MMAs; {engines}"]
