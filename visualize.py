"""Draws the roofline picture of a case: python visualize.py [--output FILE], with estimator.py's flags."""

import sys

from command import guarded, start

if __name__ == "__main__":
    start("numpy", "tabulate", "matplotlib")

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import Bbox

from cycles import BOUNDS
from estimator import Estimate, Phase, estimate, parse
from inputs import InputError, shown
from report import seconds
from roofline import ridge_point_flops_per_byte
from whatif import idle

# Okabe and Ito's colours, told apart with any colour vision (jfly.uni-koeln.de/color, 2008)
PREFILL_COLOUR, DECODE_COLOUR, ROOF_COLOUR = "#0072B2", "#D55E00", "#333333"
SUFFIXES = (".png", ".svg")
LABEL_SHARE = 0.01  # of a phase's time, below which a kernel stays unlabelled


def bound_share(phase: Phase) -> tuple[str, float]:
    """What binds most of the phase's time, and its share: ("memory", 0.98)."""
    causes, total_s = phase.causes(), phase.total("time_s")
    shares = {bound: sum(causes.get(cause, 0.0) for cause in names) / total_s for bound, names in BOUNDS.items()}
    bound = max(shares, key=shares.get)
    return bound, shares[bound]


def finding(est: Estimate) -> str:
    """The title: what the picture shows, in a sentence."""
    parts = []
    for name, phase in (("prefill", est.prefill), ("decode", est.decode)):
        if phase.steps:
            bound, share = bound_share(phase)
            parts.append(f"{name} is {bound}-bound ({share:.0%} of its time)")
    return ", ".join(parts).capitalize()


@dataclass(frozen=True)
class Point:
    """A kernel in the picture."""

    colour: str
    label: str
    share: float  # of its phase's time
    x: float  # FLOP per byte
    y: float  # FLOP/s

    @property
    def area(self) -> float:  # of the marker, in square points
        return 20 + 2500 * self.share


def points(est: Estimate) -> list[Point]:
    """The kernels that have FLOPs (copies, such as the KV write, have no place in a roofline)."""
    return [
        Point(
            colour,
            f"{kernel.name} {share:.0%}",
            share,
            kernel.flops / kernel.bytes,
            kernel.flops / kernel.time_s,
        )
        for colour, phase in ((PREFILL_COLOUR, est.prefill), (DECODE_COLOUR, est.decode))
        for kernel in phase.kernels
        if kernel.flops and kernel.time_s
        for share in [kernel.time_s / phase.total("time_s")]
    ]


def neighbours(kernels: list[Point]) -> list[list[Point]]:
    """The labelled kernels in groups of one colour that touch; each group gets one label."""
    groups: list[list[Point]] = []
    for point in sorted(kernels, key=lambda p: (p.colour, p.x)):
        last = groups[-1][-1] if groups else None
        close = last and max(point.x / last.x, point.y / last.y, last.y / point.y) < 1.6
        if close and point.colour == last.colour:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [sorted(group, key=lambda p: -p.share) for group in groups]


def draw(est: Estimate) -> plt.Figure:
    """Roofline of the kernels: x arithmetic intensity, y FLOP/s, marker area the share of the phase."""
    chip, case = est.chip, est.case
    kernels = points(est)
    mma_dtype = est.precision.mma_dtype if est.precision else case.dtype
    ridge = ridge_point_flops_per_byte(chip, mma_dtype)
    x_low = min(0.2, *(p.x for p in kernels)) / 1.5
    x_high = max(ridge * 40, *(p.x for p in kernels)) * 3
    y_low = min(x_low * chip.dram_bytes_per_s, *(p.y for p in kernels)) / 2

    figure, axes = plt.subplots(figsize=(11, 7), layout="constrained")
    axes.set(xscale="log", yscale="log", xlim=(x_low, x_high))
    axes.set_ylim(y_low, chip.tensor_flops_per_s(mma_dtype) * 6)
    axes.set_xlabel("arithmetic intensity (FLOP per byte of DRAM traffic)")
    axes.set_ylabel(f"performance (FLOP/s), by method {case.method}")
    axes.grid(which="major", color="#E4E4E4", lw=0.6)
    formats = est.precision.name if est.precision else case.dtype
    axes.set_title(
        f"{finding(est)}\n{est.model.title}, {formats}, batch {case.batch}, "
        f"{case.input_tokens:,} tokens in, {case.output_tokens:,} out, {chip.title}",
        loc="left",
        fontsize=12,
    )
    for colour, phase, name, value_s in (
        (PREFILL_COLOUR, est.prefill, "prefill: TTFT", est.ttft_s),
        (DECODE_COLOUR, est.decode, "decode: TPOT", est.tpot_s),
    ):
        if phase.steps:
            axes.scatter([], [], s=150, color=colour, alpha=0.7, label=f"{name} {seconds(value_s)}")
    title = f"marker area: share of the phase's time\n(kernels under {LABEL_SHARE:.0%} unlabelled)"
    curves = roofs(axes, est, ridge, x_low, x_high)
    axes.legend(loc="upper left", title=title, alignment="left")
    for p in kernels:
        axes.scatter(p.x, p.y, s=p.area, color=p.colour, alpha=0.55, ec="white", zorder=3)
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the layout is settled: labels may now be placed in it
    place_labels(axes, kernels, curves)
    return figure


def place_labels(axes: plt.Axes, kernels: list[Point], curves: list[np.ndarray]) -> list[Bbox]:
    """A label for each group of kernels, with a leader, where it covers no label, marker, roof or the legend: the
    nearest such place, tried outwards in a few directions. Returns the labels' boxes, in pixels.
    """
    figure, inside = axes.figure, axes.get_window_extent().padded(-4)
    taken = [axes.get_legend().get_window_extent().padded(4)]
    avoid = np.concatenate([*(rim(axes, p) for p in kernels), *curves])
    avoid = axes.transData.transform(avoid)
    boxes = []
    groups = neighbours([p for p in kernels if p.share >= LABEL_SHARE])
    for group in sorted(groups, key=lambda group: -group[0].share):
        target = axes.transData.transform((group[0].x, group[0].y))
        label = axes.text(0, 0, "\n".join(p.label for p in group), color=group[0].colour, transform=None, zorder=4)
        size = np.array(label.get_window_extent().size)
        best, least = None, np.inf
        for distance in (0.6, 1.0, 1.5, 2.2, 3.0, 4.0, 5.5, 7.0):
            for degrees in (-30, -60, -90, 0, -120, 30, 60, 90, 150, 180, -150):
                turn = np.radians(degrees)
                way = np.array([np.cos(turn), np.sin(turn)])
                centre = target + way * (distance * 40 * figure.dpi / 100 + np.abs(way) @ size / 2)
                box = Bbox([centre - size / 2, centre + size / 2])
                if not (inside.contains(*box.min) and inside.contains(*box.max)):
                    continue
                margin = box.padded(3)
                covered = ((avoid > margin.min) & (avoid < margin.max)).all(axis=1).sum()
                hits = covered + 1000 * sum(margin.overlaps(other) for other in taken)
                if hits < least:
                    best, least = box, hits
            if not least:
                break
        best = best or Bbox([target, target + size])
        taken.append(best)
        boxes.append(best)
        label.set_transform(axes.transData)  # from pixels to data: the file may have other pixels
        label.set_position(axes.transData.inverted().transform(best.min))
        end = np.clip(target, best.min, best.max)
        line = axes.transData.inverted().transform([target, end])
        axes.plot(*line.T, color="#888888", lw=0.7, zorder=2)
    return boxes


def rim(axes: plt.Axes, point: Point) -> np.ndarray:
    """Points [12, 2], of a marker's rim and centre, in data coordinates: labels keep clear of them."""
    radius = np.sqrt(point.area / np.pi) * axes.figure.dpi / 72  # pixels
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    circle[0] = 0
    return axes.transData.inverted().transform(axes.transData.transform((point.x, point.y)) + circle)


def roofs(axes: plt.Axes, est: Estimate, ridge: float, x_low: float, x_high: float) -> list[np.ndarray]:
    """The ceilings, their values in the margin beside them; slope and ridge point in the legend. Returns points along
    the lines, [n, 2], in data coordinates.
    """
    machine, dtype = est.machine, est.precision.mma_dtype if est.precision else est.case.dtype
    peak, vector_peak = machine.tensor_flops_per_s(dtype), machine.vector_flops_per_s
    bandwidth = machine.dram_bytes_per_s
    line = {"color": ROOF_COLOUR, "zorder": 1}
    slope = f"DRAM: {bandwidth / 1e9:,.0f} GB/s (the slope)"
    axes.plot([x_low, ridge, x_high], [x_low * bandwidth, peak, peak], lw=2, label=slope, **line)
    axes.plot([vector_peak / bandwidth, x_high], [vector_peak] * 2, lw=1, ls="--", **line)
    axes.axvline(ridge, lw=0.8, ls=":", label=f"ridge point: {ridge:.0f} FLOP/B", **line)
    beside = {"xycoords": ("axes fraction", "data"), "va": "center", "color": ROOF_COLOUR, "annotation_clip": False}
    axes.annotate(f"tensor cores,\n{dtype}:\n{peak / 1e12:.1f} TFLOP/s", (1.01, peak), **beside)
    axes.annotate(f"CUDA cores,\nFP32:\n{vector_peak / 1e12:.1f} TFLOP/s", (1.01, vector_peak), **beside)
    xs = np.geomspace(x_low, x_high, 400)
    slopes = np.minimum(xs * bandwidth, peak), np.where(xs > vector_peak / bandwidth, vector_peak, np.nan)
    return [points[np.isfinite(points[:, 1])] for points in (np.stack([xs, ys], axis=1) for ys in slopes)]


def picture_path(text: str) -> Path:
    """The path of a picture. Raises InputError for a suffix that is not one, or a place where no file can be."""
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"a picture must end in {' or '.join(SUFFIXES)}, not {shown(text)}")
    if not os.path.isdir(path.parent):
        raise InputError(f"can't write {shown(text)}: {shown(str(path.parent))} is not a folder")
    if os.path.lexists(path) and not os.path.isfile(path):
        raise InputError(f"can't write {shown(text)}: it is there, and not a file")
    return path


def save(figure: plt.Figure, path: Path) -> None:
    """Writes PNG or SVG by suffix, to a temporary name beside it, then renamed. Raises InputError."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        try:
            figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"can't write {shown(str(path))}: {error.strerror}") from error


def run(argv: list[str]) -> str:
    def extra(parser):
        parser.add_argument("--output", default="roofline.png", help="PNG or SVG by suffix (default: %(default)s)")

    asked = parse(argv, "visualize.py", __doc__, extra)
    path = picture_path(asked.args.output)
    est = estimate(asked.case)
    save(draw(est), path)
    return "\n".join([f"{path}: {finding(est)}", *(f"note: {line}" for line in idle(asked, est, estimate))])


if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
