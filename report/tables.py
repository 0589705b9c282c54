"""The tables of a report: kernels, causes, naive attention against flash, the waterfall."""

from ridgepoint.kernels.cycles import CAUSES
from ridgepoint.report.terminal import aligned, table, wrapped
from ridgepoint.serving.display import seconds, si

MS = 1e-3
NAMES = {"weight": "weights", "kv": "KV cache", "activation": "activations"}  # of the bytes of a phase, by role
KERNEL_COLUMNS = ("kernel", "launches", "time", "share", "FLOPs", "bytes", "FLOP/B", "bound")
LEAST_CAUSE, LEAST_KERNEL = 5e-4, 0.01  # shares of a phase that are shown


def versus_table(naive, flash, width: int) -> str:
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
    return table(rows, headers, width=width, align=("left", "right", "right", "right"))


def costs_table(est, width: int) -> str:
    """The three kernels that take most of the whole run."""
    run_s = est.work.total("time_s")
    every = [(kernel, name, phase) for name, phase in est.phases for kernel in phase.kernels]
    rows = [
        (
            f"{kernel.name}, {name}",
            seconds(kernel.time_s / phase.steps),
            f"{kernel.time_s / phase.total('time_s'):.1%}",
            f"{kernel.time_s / run_s:.1%}",
            kernel.bound,
        )
        for kernel, name, phase in sorted(every, key=lambda entry: -entry[0].time_s)[:3]
    ]
    rows.insert(0, ("largest costs", "per pass", "of its phase", "of the latency", "bound"))
    align = ("left", "right", "right", "right", "left")
    lines = aligned(rows, align)
    if max(map(len, lines)) > width:  # without the share of its phase
        lines = aligned([(*row[:2], *row[3:]) for row in rows], (*align[:2], *align[3:]))
    return "\n".join(lines)


def cause_tables(est, width: int) -> list[str]:
    """Where the time of each phase goes, and of each kernel with 1 % of its phase or more: as many causes as fit, the
    largest of the phase first, the others together. Last what each of the causes is.
    """
    found, said = [], []
    for name, phase in est.phases:
        phase_s, causes = phase.total("time_s"), phase.causes()
        large = sorted((cause for cause in causes if causes[cause] >= LEAST_CAUSE * phase_s), key=lambda c: -causes[c])
        entries = [("whole phase", causes, phase_s)]
        entries += [(k.name, k.causes, k.time_s) for k in phase.kernels if k.time_s >= LEAST_KERNEL * phase_s]
        for count in range(len(large), 0, -1):
            shown = share_table(f"why, {name}", entries, large[:count], others=count < len(large))
            if max(map(len, shown.splitlines())) <= width:
                break
        others = ", ".join(cause.replace("_", " ") for cause in large[count:])
        found.append("\n".join([shown, *(wrapped(f"other: {others}", width) if others else [])]))
        said += large
    legend = (f"{cause.replace('_', ' ')}: {CAUSES[cause]}" for cause in dict.fromkeys(said))
    return [*found, "\n".join(line for text in legend for line in wrapped(text, width))]


def share_table(title: str, entries: list[tuple], causes: list[str], *, others: bool) -> str:
    """Shares of the causes in each of the entries, [(name, seconds by cause, their sum), ...]."""
    rows = []
    for name, by_cause, total_s in entries:
        each = [by_cause.get(cause, 0.0) / total_s for cause in causes]
        each += [1.0 - sum(each)] if others else []
        rows.append((name, *(f"{share:.1%}" if share > 1e-6 else "" for share in each)))
    headers = (title, *(cause.replace("_", "\n") for cause in causes), *(["other"] if others else []))
    return table(rows, headers, width=1000, align=("left", *["right"] * (len(headers) - 1)))


def kernel_tables(est, width: int) -> list[str]:
    """What each kernel of each phase does in a pass, and takes."""
    found = []
    for name, phase in est.phases:
        phase_s, flops = phase.total("time_s"), phase.total("flops")
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
        moved = {role: phase.total(f"{role}_bytes") for role in NAMES}
        total_bytes = sum(moved.values())
        split = ", ".join(f"{NAMES[role]} {moved[role] / total_bytes:.0%}" for role in NAMES)
        per = "one pass" if phase.steps == 1 else f"mean of {phase.steps:,} passes"
        line = (
            f"{name}, {per}: {seconds(phase_s / phase.steps)}, {si(flops / phase.steps, 'FLOP')}, "
            f"{si(total_bytes / phase.steps, 'B')} ({split}), {flops / total_bytes:.3g} FLOP/B"
        )
        align = ("left", *["right"] * 6, "left")
        kept = {"spare": (6, 1), "broken": (0,)}
        found.append("\n".join([*wrapped(line, width), table(rows, KERNEL_COLUMNS, width=width, align=align, **kept)]))
    return found


def waterfall_text(rows: list[dict], width: int) -> str:
    """The waterfall from the earlier estimator to ours, in milliseconds."""
    cells = [
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
    headers = ("correction", "TTFT\nchange", "TTFT\nms", "TPOT\nchange", "TPOT\nms", "why")
    align = ("left", "right", "right", "right", "right", "left")
    return table(cells, headers, width=width, align=align, broken=(5,))
