"""The estimate as text for people."""

from tabulate import tabulate

from ridgepoint.kernels.cycles import CAUSES
from ridgepoint.ops import distinct_experts
from ridgepoint.serving.display import seconds, si
from ridgepoint.serving.intervals import validated
from ridgepoint.serving.passes import expected_tokens

MS, GIB = 1e-3, 2**30


def text(est, overrides: dict[str, str], *, taken=(), idle=(), bound=None, flash=None, explain: bool = False) -> str:
    """The report. `taken`: how words of the command line were taken; `idle`: which of them change nothing. `bound`: the
    same case by roofline, `flash`: with flash attention, to be shown beside it; `explain`: with the causes.
    """
    versus = [*_versus(est, flash), ""] if flash else []
    if explain:
        versus += [*_causes(est), ""]
    priced = [*_metrics(est, bound), "", *versus, *_phases(est)] if est.waves else []
    fits = [*queue(est), ""] if not est.memory.fits else []
    noted = [*notes(est), *(f"note: {line}" for line in idle)]
    return "\n".join([*_card(est, overrides), *taken, "", *fits, *priced, *_memory(est), *noted])


def _versus(naive, flash) -> list[str]:
    """Naive attention next to flash attention: the metrics, and what the attention kernels alone take."""

    def attention(est, phase: str, field: str) -> float:
        names = ("attention", "qk_scores", "softmax", "pv")  # of whichever kind of layer
        part = getattr(est, phase)
        return sum(getattr(k, field) for k in part.kernels if k.name.endswith(names)) / (part.steps or 1)

    def row(name: str, show, value) -> tuple[str, ...]:
        a, b = value(naive), value(flash)
        return name, show(a), show(b), f"{a / b:.2f}x" if b else ""  # a model may have no attention at all

    rows = [row("TTFT", seconds, lambda est: est.ttft_s)]
    rows += [row("prefill attention", seconds, lambda est: attention(est, "prefill", "time_s"))]
    rows += [row("prefill attention bytes", lambda x: si(x, "B"), lambda est: attention(est, "prefill", "bytes"))]
    if naive.decode.steps:
        rows += [row("TPOT", seconds, lambda est: est.tpot_s)]
        rows += [row("decode attention", seconds, lambda est: attention(est, "decode", "time_s"))]
        rows += [row("decode attention bytes", lambda x: si(x, "B"), lambda est: attention(est, "decode", "bytes"))]
    rows += [row("activations in memory", lambda x: si(x, "B"), lambda est: est.memory.activation_bytes)]
    headers = ("naive against flash", "naive", "flash", "ratio")
    return [tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=COLUMNS[:4])]


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
            f"{chip.vector_flops_per_s / 1e12:.3g} TFLOP/s FP32, "
            f"{bandwidth / 1e9:,.0f} GB/s DRAM; ridge point {peak / bandwidth:.0f} FLOP/B"
        )
    lines.append(est.method.line.format(runtime=case.runtime.title))
    if est.intervals:
        lines.append(f"measured of it on this GPU: {measured(case.runtime, chip)}")
    if overrides:
        lines.append("what-if: " + ", ".join(f"{name} = {value}" for name, value in overrides.items()))
    return lines


def measured(engine, chip) -> str:
    """What of an engine was measured on a chip: "kernels (0.24.0), whole runs (0.15.1)"."""
    parts = (("kernels", engine.kernels_measured), ("whole runs", engine.runs_measured))
    if not validated(chip):
        return "nothing"
    return ", ".join(f"{what} ({on[chip.name]})" for what, on in parts if chip.name in on) or "nothing"


def _parameters(model) -> str:
    active = model.active_parameters or model.parameters  # a trace doesn't know
    less = f", {active / 1e9:.2f} B active" if active < model.parameters else ""
    return f"{model.parameters / 1e9:.2f} B parameters{less}"


def _metrics(est, bound) -> list[str]:
    def beside(name: str) -> str:
        """The interval and the bound of a metric: "(12.8 - 15.2, 90 %)   bound 9.47 ms"."""
        if name not in est.intervals or getattr(est, name) != getattr(est, name):  # NaN: no such time
            return ""
        unit = seconds(getattr(est, name)).split()[1]
        scale = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
        low, high = (f"{end * scale:.4g}" for end in est.intervals[name])
        against = f", bound {seconds(getattr(bound, name))}" if bound else ""
        return f"({low} - {high}, 90 %){against}"

    per_sequence = f"{est.throughput_per_sequence_tokens_per_s:,.1f} token/s per sequence"
    throughput = f"{est.throughput_tokens_per_s:,.1f} token/s"
    steps = f"mean of {est.decode.steps:,} decode steps"
    if est.case.speculative:
        steps = f"per token; {est.decode.steps:,} decode steps"
    rows = [
        ("TTFT", seconds(est.ttft_s), beside("ttft_s"), "prefill pass, including the first token"),
        ("TPOT", seconds(est.tpot_s), beside("tpot_s"), steps),
        ("latency", seconds(est.latency_s), beside("latency_s"), f"TTFT + {est.tokens:,} x TPOT"),
        ("throughput", throughput, "", est.method.throughput.format(per_sequence=per_sequence)),
    ]
    if est.waves > 1:
        rows[3] = ("throughput", throughput, "", f"all {est.waves:,} waves; {per_sequence}")
    headline = "Flash Attention" if est.case.attention == "flash" else "Naive Attention"
    return [f"---{headline}---", tabulate(rows, tablefmt="plain", disable_numparse=True)]


def _causes(est) -> list[str]:
    """Where the time of each phase goes, and of each kernel with 1 % of its phase or more."""
    lines = []
    for title, phase in (("prefill", est.prefill), ("decode", est.decode)):
        if not phase.steps:
            continue
        phase_s, causes = phase.total("time_s"), phase.causes()
        shown = sorted((cause for cause in causes if causes[cause] >= 5e-4 * phase_s), key=lambda c: -causes[c])
        rows = [("whole phase", *(f"{causes[cause] / phase_s:.1%}" for cause in shown))]
        for kernel in phase.kernels:
            if kernel.time_s >= 0.01 * phase_s:
                shares = (kernel.causes.get(cause, 0.0) / kernel.time_s for cause in shown)
                rows.append((kernel.name, *(f"{share:.1%}" if share else "" for share in shares)))
        headers = (f"why, {title}", *(cause.replace("_", " ") for cause in shown))
        align = ("left", *["right"] * len(shown))
        lines.append(tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align))
        lines += [f"{cause.replace('_', ' ')}: {CAUSES[cause]}" for cause in shown]
        lines.append("")
    return lines[:-1]


def _phases(est) -> list[str]:
    lines = []
    for title, phase in (("prefill", est.prefill), ("decode", est.decode)):
        if not phase.steps:
            continue
        phase_s = phase.total("time_s")
        rows = [
            (
                kernel.name,
                kernel.count,
                seconds(kernel.time_s / phase.steps),
                f"{kernel.time_s / phase_s:.1%}",
                si(kernel.flops / phase.steps, "FLOP"),
                si(kernel.bytes / phase.steps, "B"),
                f"{kernel.flops / kernel.bytes:.3g}" if kernel.kind != "host" else "",
                kernel.bound,
            )
            for kernel in phase.kernels
        ]
        headers = ("kernel", "launches", "time", "share", "FLOPs", "bytes", "FLOP/B", "bound")
        roles = ("weight", "kv", "activation")
        moved = {role: phase.total(f"{role}_bytes") for role in roles}
        total_bytes = sum(moved.values())
        split = ", ".join(
            f"{name} {moved[role] / total_bytes:.0%}"
            for role, name in zip(roles, ("weights", "KV cache", "activations"), strict=True)
        )
        per = "one pass" if phase.steps == 1 else f"mean of {phase.steps:,} passes"
        flops = phase.total("flops")
        lines += [
            f"{title}, {per}: {seconds(phase_s / phase.steps)}, {si(flops / phase.steps, 'FLOP')}, "
            f"{si(total_bytes / phase.steps, 'B')} ({split}), {flops / total_bytes:.3g} FLOP/B",
            tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=COLUMNS),
            "",
        ]
    return lines


COLUMNS = ("left", "right", "right", "right", "right", "right", "right", "left")


def _memory_sum(memory) -> str:
    return (
        f"{memory.total_bytes / GIB:.2f} GiB of {memory.capacity_bytes / GIB:.0f} GiB "
        f"({memory.total_bytes / memory.capacity_bytes:.0%})"
    )


def _memory(est) -> list[str]:
    memory, case = est.memory, est.case
    own = f" + engine {memory.engine_bytes / GIB:.2f} GiB" if memory.engine_bytes else ""
    length = case.input_tokens + case.samples * case.output_tokens
    return [
        f"memory: weights {memory.weights_bytes / GIB:.2f} GiB"
        f" + KV cache {memory.kv_cache_bytes / GIB:.2f} GiB"
        f" + activations {memory.activation_bytes / GIB:.2f} GiB{own} = {_memory_sum(memory)}",
        f"KV cache: {memory.kv_tokens:,} tokens ({memory.kv_room_bytes / GIB:.2f} GiB); "
        f"{memory.sequences:,.2f} sequences of {length:,} tokens",
        f"largest batch that runs at once: {memory.max_batch:,}; longest context at this batch: {_context(est)}",
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


def waterfall_text(rows: list[dict]) -> str:
    """The waterfall from the earlier estimator to ours, in milliseconds."""
    table = [
        (
            row["correction"],
            f"{row['ttft_change_s'] / MS:+.3f}" if "ttft_change_s" in row else "",
            f"{row['ttft_s'] / MS:.3f}",
            f"{row['tpot_change_s'] / MS:+.4f}" if "tpot_change_s" in row else "",
            f"{row['tpot_s'] / MS:.4f}",
            row["why"],
        )
        for row in rows
    ]
    headers = ("correction", "TTFT change", "TTFT ms", "TPOT change", "TPOT ms", "why")
    align = ("left", "right", "right", "right", "right", "left")
    return tabulate(table, headers, tablefmt="simple", disable_numparse=True, colalign=align)
