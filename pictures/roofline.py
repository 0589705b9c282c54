"""The roofline picture: kernels under the ceilings of the chip."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from ridgepoint.explain.whatif import differences
from ridgepoint.kernels.cycles import SHORT
from ridgepoint.pictures.labels import LABEL_SHARE, Point, place_labels
from ridgepoint.report.text import queue
from ridgepoint.serving.display import seconds
from ridgepoint.serving.estimates import Estimate
from ridgepoint.serving.phases import Phase

# Okabe and Ito's colours, told apart with any colour vision (jfly.uni-koeln.de/color, 2008)
COLOURS, ROOF_COLOUR = {"prefill": "#0072B2", "decode": "#D55E00"}, "#333333"
NAMED, LEAST_SHARE = 4, 0.0005  # kernels without a label that are named, of each kind, and the share that one must have
WIDTH, WARNING_WIDTH = 128, 46  # letters of a line of the caption and of a warning


def finding(est: Estimate) -> str:
    """The title: what the largest part of each phase's time goes to."""
    parts = []
    for name, phase in est.phases:
        causes = phase.causes()
        cause = max(causes, key=lambda name: causes[name])
        parts.append(f"of {name}: {SHORT[cause]} ({causes[cause] / phase.total('time_s'):.0%})")
    return f"Largest part {', '.join(parts)}"


def caption(est: Estimate, overrides: dict[str, str]) -> str:
    """What was estimated: the case, and all that tells it from the default one."""
    case = est.case
    formats = est.precision.name if est.precision else case.dtype
    sizes = f"batch {case.batch}, {case.input_tokens:,} tokens in, {case.output_tokens:,} out"
    engine = f", {case.runtime.title}" if est.intervals else ""
    changed = differences(est, overrides)
    lines = [f"{est.model.title}, {formats}, {sizes}, {est.chip.title}{engine}"]
    return wrapped([*lines, *([f"changed: {', '.join(changed)}"] if changed else [])], WIDTH)


def wrapped(lines: list[str], width: int) -> str:
    """In lines of at most so many letters, with nothing in them that matplotlib would set as mathematics."""
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width)).replace("$", r"\$")


def shown_share(name: str, share: float) -> str:
    return f"{name} {share:.0%}" if share >= 0.1 else f"{name} {100 * share:.1f}%"


def accounts(phase: Phase) -> dict[str, list[tuple[str, float]]]:
    """The kernels of a phase and their shares of its time: "labelled" ones, those "drawn" but too short for a label,
    and those "not drawn", which have no FLOPs (copies, the host) and so no place in a roofline.
    """
    total_s = phase.total("time_s")
    found: dict[str, list[tuple[str, float]]] = {"labelled": [], "drawn": [], "not drawn": []}
    for kernel in sorted(phase.kernels, key=lambda kernel: -kernel.time_s):
        share = float(kernel.time_s / total_s)
        has_place = kernel.flops and kernel.time_s
        where = "not drawn" if not has_place else "labelled" if share >= LABEL_SHARE else "drawn"
        if share:
            found[where].append((kernel.name, share))
    return found


def statements(name: str, phase: Phase) -> list[str]:
    """Of a phase's time, what the picture has no label for, in a line: the largest by name, the rest together."""
    found, parts = accounts(phase), []
    for where, what in (("not drawn", "not drawn (no FLOPs)"), ("drawn", "drawn without a label")):
        named = [entry for entry in found[where][:NAMED] if entry[1] >= LEAST_SHARE]
        rest = sum(share for _, share in found[where][len(named) :])
        entries = [shown_share(*entry) for entry in named]
        entries += [shown_share(f"{len(found[where]) - len(named)} more", rest)] * int(rest >= LEAST_SHARE)
        parts += [f"{what}: {', '.join(entries)}"] * bool(entries)
    return [f"{name}, {'; '.join(parts)}"] if parts else []


def points(est: Estimate) -> list[Point]:
    """The kernels that have a place in a roofline."""
    return [
        Point(
            COLOURS[name],
            shown_share(kernel.name, share),
            share,
            float(kernel.flops / kernel.bytes),
            float(kernel.flops / kernel.time_s),
        )
        for name, phase in est.phases
        for kernel in phase.kernels
        if kernel.flops and kernel.time_s
        for share in [float(kernel.time_s / phase.total("time_s"))]
    ]


def ceilings(est: Estimate) -> list[tuple[float, str]]:
    """[(FLOP/s, dtypes)] of the tensor cores, the highest first: of those dtypes that a kernel multiplies in."""
    kernels = [kernel for _, phase in est.phases for kernel in phase.kernels]
    used = dict.fromkeys(kernel.dtype for kernel in kernels if kernel.unit == "tensor" and kernel.flops)
    peaks: dict[float, list[str]] = {}
    for dtype in used:
        peaks.setdefault(est.machine.tensor_flops_per_s(dtype), []).append(dtype)
    return [(peak, " and ".join(peaks[peak])) for peak in sorted(peaks, reverse=True)]


def draw(est: Estimate, overrides: dict[str, str] | None = None) -> plt.Figure:
    """Roofline of the kernels: x arithmetic intensity, y FLOP/s, marker area the share of the phase.

    overrides: those of --set.
    """
    machine, kernels = est.machine, points(est)
    highest = max(ceilings(est)[0][0], machine.vector_flops_per_s)
    x_low = min(0.2, *(p.x for p in kernels)) / 1.5
    x_high = max(highest / machine.dram_bytes_per_s * 40, *(p.x for p in kernels)) * 3
    y_low = min(x_low * machine.dram_bytes_per_s, *(p.y for p in kernels)) / 6

    figure, axes = plt.subplots(figsize=(11, 7.4), layout="constrained")
    axes.set(xscale="log", yscale="log", xlim=(x_low, x_high), ylim=(y_low, highest * 6))
    axes.set_xlabel("arithmetic intensity (FLOP per byte of DRAM traffic)")
    axes.set_ylabel(f"performance (FLOP/s), by method {est.case.method}")
    axes.grid(which="major", color="#E4E4E4", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_title(caption(est, overrides or {}), loc="left", fontsize=10, color="#444444")
    title = figure.suptitle(finding(est), ha="left", fontsize=14, fontweight="bold")
    unseen = [line for name, phase in est.phases for line in statements(name, phase)]
    below = figure.supxlabel(wrapped(unseen, WIDTH), ha="left", fontsize=9, color="#444444")
    for (name, _), metric in zip(est.phases, ("TTFT", "TPOT"), strict=False):
        label = f"{name}: {metric} {seconds(float(est.ttft_s if metric == 'TTFT' else est.tpot_s))}"
        axes.scatter([], [], s=150, color=COLOURS[name], alpha=0.7, label=label)
    curves, values = roofs(axes, est, x_low, x_high)
    legend = axes.legend(loc="upper left", title="marker area: share of the phase's time", alignment="left", fontsize=9)
    warning = warn(axes, queue(est))
    for p in kernels:
        axes.scatter(p.x, p.y, s=p.area, color=p.colour, alpha=0.55, ec="white", zorder=3)
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the layout is settled: labels may now be placed in it
    for text in (title, below):
        text.set_x(axes.get_position().x0)
    set_apart(values)
    place_labels(axes, kernels, curves, [legend, *warning])
    return figure


def set_apart(values: list[plt.Annotation]) -> None:
    """Moves the ceilings' values, the highest first, down to where none covers the one above it."""
    floor = np.inf
    for value in values:
        box = value.get_window_extent()
        down = max(0.0, box.y1 + 2 - floor)
        value.xyann = (0, -down * 72 / value.figure.dpi)  # in points
        floor = box.y0 - down


def warn(axes: plt.Axes, lines: list[str]) -> list[plt.Text]:
    """What is wrong with the case, in a box in the corner that no kernel comes near."""
    if not lines:
        return []
    box = {"boxstyle": "round", "fc": "#FFF3B0", "ec": "black", "lw": 1.5}
    place = {"transform": axes.transAxes, "ha": "right", "va": "bottom", "zorder": 5}
    return [
        axes.text(
            0.985, 0.02, wrapped(lines, WARNING_WIDTH), ma="left", fontsize=10, fontweight="bold", bbox=box, **place
        )
    ]


def roofs(axes: plt.Axes, est: Estimate, x_low: float, x_high: float):
    """The ceilings, their values in the margin beside them; slope and ridge points in the legend. Returns points along
    the lines, [n, 2], in data coordinates, and the values, the highest first.
    """
    machine, tensor = est.machine, ceilings(est)
    bandwidth, vector_peak = machine.dram_bytes_per_s, machine.vector_flops_per_s
    top = max(tensor[0][0], vector_peak)
    line, slope = {"color": ROOF_COLOUR, "zorder": 1}, f"{bandwidth / 1e9:,.0f}"
    margin = axes.get_yaxis_transform()  # x a share of the axes, y data
    beside = {"xycoords": margin, "textcoords": "offset points", "va": "center", "annotation_clip": False}
    axes.plot([x_low, top / bandwidth], [x_low * bandwidth, top], lw=2, label=f"DRAM: {slope} GB/s (the slope)", **line)
    for peak, dtypes in tensor:
        ridge = f"ridge point, {dtypes}: {peak / bandwidth:,.0f} FLOP/B"
        axes.plot([peak / bandwidth, x_high], [peak] * 2, lw=2, **line)
        axes.plot([peak / bandwidth] * 2, [axes.get_ylim()[0], peak], lw=0.8, ls=":", label=ridge, **line)
    axes.plot([vector_peak / bandwidth, x_high], [vector_peak] * 2, lw=1, ls="--", **line)
    ceilings_in_use = sorted([*((peak, f"{dtypes} tensor") for peak, dtypes in tensor), (vector_peak, "FP32")])[::-1]
    values = [
        axes.annotate(f"{tera(peak)} TFLOP/s, {what}", (1.01, peak), (0, 0), fontsize=9, color=ROOF_COLOUR, **beside)
        for peak, what in ceilings_in_use
    ]
    xs = np.geomspace(x_low, x_high, 400)
    peaks = (peak for peak, _ in ceilings_in_use)
    slopes = [np.minimum(xs * bandwidth, top), *(np.where(xs > peak / bandwidth, peak, np.nan) for peak in peaks)]
    curves = [points[np.isfinite(points[:, 1])] for points in (np.stack([xs, ys], axis=1) for ys in slopes)]
    least = axes.get_ylim()[0]
    curves += [np.stack([np.full(100, p / bandwidth), np.geomspace(least, p, 100)], axis=1) for p, _ in tensor]
    return curves, values


def tera(flops_per_s: float) -> str:
    """Three digits or more: 70.1, 8,972."""
    return f"{flops_per_s / 1e12:,.0f}" if flops_per_s >= 1e14 else f"{flops_per_s / 1e12:.3g}"
