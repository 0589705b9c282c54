"""The pictures of validate.py --plot: measured against estimated, and errors by shape."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from ridgepoint.pictures.files import save
from ridgepoint.serving.engines import TRTLLM_GROUP
from ridgepoint.validation.attention import attention_rows
from ridgepoint.validation.dense import gemm_rows, narrow_rows
from ridgepoint.validation.rows import Rows, sampled
from ridgepoint.validation.sets import DATA_SETS, LARGE
from ridgepoint.validation.tables import errors

ENGINES = {"vllm": ("vLLM", "#0072B2"), "tensorrt-llm": ("TensorRT-LLM", "#D55E00"), "sglang": ("SGLang", "#009E73")}
OTHER_COLOURS = ("#555555", "#CC79A7")  # beside those of the engines, told apart with any colour vision too
BIN_ROWS = 15  # fewer rows than this don't make a bin of a band
CLOUD = 250  # rows of one series drawn as points
LONG_KV = 4096  # tokens from which decode is all reading of K and V
SHORT_K = 1024  # up to which storing a tile shows beside multiplying it
OfRows = Callable[[Rows], np.ndarray]  # a value for each row


@dataclass(frozen=True, kw_only=True)
class Series:
    """Rows of one colour in a panel: `error` is estimated / measured - 1, `x` what it is drawn over."""

    label: str
    colour: str
    x: np.ndarray
    error: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Errors over one size. `marks`: places on the x axis that the title speaks of, with a word for each."""

    title: str
    x_label: str
    series: tuple[Series, ...]
    limit: float = 60.0  # of the y axis, in percent
    per_octave: int = 1  # bins
    marks: tuple[tuple[float, str], ...] = ()


def plot(folder: Path, path: Path) -> str:
    """Draws both pictures; returns what was drawn."""
    by_hardware = {
        hardware: [data for data in DATA_SETS if data.hardware == hardware] for hardware in ("a100-80gb-sxm", "l40s")
    }
    a100 = {"gemm": [gemm_rows(data, folder) for data in by_hardware["a100-80gb-sxm"]]}
    for phase in ("prefill", "decode"):
        a100[f"{phase} attention"] = [attention_rows(data, folder, phase) for data in by_hardware["a100-80gb-sxm"]]
    l40s = [gemm_rows(data, folder) for data in by_hardware["l40s"]]
    save(accuracy_figure(a100), path)
    l40s_fp8 = [narrow_rows("fp8", data, folder) for data in by_hardware["l40s"]]
    save(residual_figure(residual_panels(a100, l40s, l40s_fp8)), residuals_path(path))
    return (
        f"{path}: measured against estimated, and the error by shape, A100 kernels\n"
        f"{residuals_path(path)}: the rows that miss their goals, by shape"
    )


def residuals_path(path: Path) -> Path:
    """The second picture's, beside the first: accuracy.png, accuracy-residuals.png."""
    return path.with_stem(f"{path.stem}-residuals")


def accuracy_figure(sets: dict[str, list[Rows]]) -> plt.Figure:
    """The A100: measured against estimated above, the error by shape below."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 8.5), layout="constrained")
    shapes = {
        "gemm": ("rows of x, m", size_of("m")),
        "prefill attention": ("query length (tokens)", size_of("q_len")),
        "decode attention": ("batch x KV length (tokens)", size_of("batch", "kv_len")),
    }
    for (top, bottom), (kind, (x_label, size)) in zip(axes.T, shapes.items(), strict=True):
        for rows in sets[kind]:
            label, colour = ENGINES[family(rows)]
            estimated = rows.estimate_s()
            label += f"{' (fitted on)' if rows.fitted else ''}: {errors(estimated, rows.measured_s)[0]} % median"
            drawn = sampled(rows, 4000)
            style = {"s": 3, "alpha": 0.35, "color": colour, "linewidths": 0, "label": label}
            top.scatter(drawn.measured_s * 1e6, drawn.estimate_s() * 1e6, **style)
        low, high = top.get_xlim()
        low = max(low, 2.0)
        top.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="measured (us)")
        top.set_title({"gemm": "GEMM"}.get(kind, kind), loc="left", fontsize=13)
        top.plot([low, high], [low, high], color="#333333", lw=1)
        top.legend(markerscale=4, loc="upper left", fontsize=9.5)
        series = errors_by_engine(sets[kind], size)
        worst = [100 * np.abs(binned(part.x, part.error, 1)[2]).max() for part in series]
        title = f"medians: vLLM within {worst[0]:.0f} %, others within {max(worst[1:]):.0f} %"
        draw_panel(bottom, Panel(title=title, x_label=x_label, series=series), legend="")
    axes[0, 0].set_ylabel("estimated (us)")
    axes[1, 0].set_ylabel("estimated / measured - 1 (%)\nline: median, band: 10th to 90th percentile")
    figure.suptitle(
        "A100-SXM4-80GB: GEMMs carry over to engines that the fit never saw; attention kernels differ by engine",
        fontsize=14,
    )
    return figure


def residual_figure(panels: list[Panel]) -> plt.Figure:
    """The panels in two columns."""
    figure, axes = plt.subplots(len(panels) // 2, 2, figsize=(12, 3.9 * len(panels) // 2), layout="constrained")
    for place, panel in zip(axes.flat, panels, strict=True):
        draw_panel(place, panel)
    for left in axes[:, 0]:
        left.set_ylabel("estimated / measured - 1 (%)")
    figure.suptitle("Where the goals are missed, and what is missing", fontsize=14)
    return figure


def residual_panels(a100: dict[str, list[Rows]], l40s: list[Rows], l40s_fp8: list[Rows]) -> list[Panel]:
    """The rows that miss their goals, over the size that shows why."""
    return [
        *clock_and_cache_panels(a100["gemm"], l40s),
        skinny_panel(a100["gemm"][0]),
        narrow_panel(l40s_fp8),
        prefill_panel(a100["prefill attention"][1:]),
        *decode_panels(*a100["decode attention"][1:]),
    ]


def clock_and_cache_panels(a100: list[Rows], l40s: list[Rows]) -> list[Panel]:
    """GEMM over what the benchmark leaves in the L2, and over its work."""
    chip, mnk = l40s[0].chip, size_of("m", "n", "k")

    def fill(rows: Rows) -> np.ndarray:
        return np.asarray(rows.cycle_bytes) / chip.l2_bytes

    def small(rows: Rows) -> np.ndarray:
        return mnk(rows) < LARGE

    def rates(sets: list[Rows]) -> list[float]:
        """TFLOP/s of large products, median by engine."""
        return [np.median((2e-12 * mnk(rows) / rows.measured_s)[~small(rows)]) for rows in sets]

    cached = errors_by_engine(l40s, fill, small)
    inside, beyond = (
        [100 * np.quantile(np.abs(part.error[where(part.x)]), 0.9) for part in cached]
        for where in (lambda x: x <= 1, lambda x: x > 1)
    )
    large = errors_by_engine(a100[2:], mnk, lambda rows: ~small(rows))[0]
    return [
        Panel(
            title=f"L40S, GEMM: p90 {min(inside):.0f} to {max(inside):.0f} % where the benchmark's operands fit in the "
            f"{chip.l2_bytes / 2**20:.0f} MiB L2, {min(beyond):.0f} to {max(beyond):.0f} % beyond. "
            "Missing: cuBLAS's kernels for one row or few columns, what a cycle of the L2's size finds",
            x_label="bytes that the benchmark cycles through / size of the L2 (m x n x k below $10^{12}$)",
            series=cached,
            per_octave=2,
            marks=((1.0, "the L2's size"),),
        ),
        Panel(
            title="L40S, GEMM: large products run at {:.0f} TFLOP/s on weights that were never initialised (vLLM), "
            "{:.0f} and {:.0f} on random ones. ".format(*rates(l40s))
            + f"Missing: the clock under {chip.tdp_w:.0f} W, which depends on the data",
            x_label="m x n x k",
            series=errors_by_engine(l40s, mnk),
            marks=((LARGE, "large"),),
        ),
        Panel(
            title=f"A100, GEMM: SGLang's large products {-100 * np.median(large.error):.0f} % too fast. They run at "
            "{:.0f} TFLOP/s on weights that were never initialised (vLLM), {:.0f} and {:.0f} on random ones. "
            "Missing: the same clock".format(*rates(a100)),
            x_label="m x n x k",
            series=errors_by_engine(a100, mnk),
            marks=((LARGE, "large"),),
        ),
    ]


def skinny_panel(rows: Rows) -> Panel:
    """GEMM up to m = 16, by whether the library ran the best of its kernels."""
    skinny = np.asarray(rows.op.dims["m"]) <= 16
    slow, megabytes = larger_is_faster(rows)[skinny], np.asarray(rows.op.weight_bytes)[skinny] / 1e6
    error = (rows.estimate_s() / rows.measured_s - 1)[skinny]
    p90 = [100 * np.quantile(np.abs(error[mask]), 0.9) for mask in (slow, ~slow)]
    parts = (
        ("a larger one is over 10 % faster", OTHER_COLOURS[1], slow),
        ("the others", OTHER_COLOURS[0], ~slow),
    )
    return Panel(
        title=f"A100, GEMM up to m = 16 (vLLM): {100 * np.mean(slow):.0f} % of the shapes take over 10 % longer than a "
        f"larger product of the same table; p90 {p90[0]:.0f} % there, {p90[1]:.0f} % elsewhere. "
        "Missing: which kernel cuBLAS chooses",
        x_label="weights (MB)",
        series=tuple(
            Series(label=label, colour=colour, x=megabytes[mask], error=error[mask]) for label, colour, mask in parts
        ),
    )


def narrow_panel(l40s: list[Rows]) -> Panel:
    """fp8 products of the L40S over k, since what vLLM's take too long for does not grow with it."""
    series = errors_by_engine(l40s, size_of("k"))
    short = -100 * np.median(series[0].error[series[0].x <= SHORT_K])
    return Panel(
        title=f"L40S, GEMM in fp8: vLLM's {short:.0f} % too fast (median) up to k = {SHORT_K:,}. Missing: that its "
        "kernels take 2 to 5 \N{MICRO SIGN}s to store their tiles, however short k",
        x_label="k",
        series=series,
        marks=((SHORT_K, f"k = {SHORT_K:,}"),),
    )


def prefill_panel(others: list[Rows]) -> Panel:
    """Prefill attention by the engines that the fit never saw."""
    return Panel(
        title="A100, prefill: from 64 tokens on TensorRT-LLM's kernel is slower than estimated by the same share; "
        "SGLang's is slower when short, faster when long. Missing: each kernel's own rate; ours is vLLM's",
        x_label="query length (tokens)",
        series=errors_by_engine(others, size_of("q_len")),
    )


def decode_panels(trtllm: Rows, sglang: Rows) -> list[Panel]:
    """Decode attention by the engines that the fit never saw: how their CTAs and heads are laid out."""
    ctas, sms = size_of("batch", "kv_heads"), trtllm.chip.sm_count
    ctas_label = "batch x KV heads (CTAs, if the KV range isn't split)"
    error = {rows.label: rows.estimate_s() / rows.measured_s - 1 for rows in (trtllm, sglang)}

    def parts(rows: Rows, *masks: tuple[str, str, np.ndarray]) -> tuple[Series, ...]:
        return tuple(
            Series(label=label, colour=colour, x=ctas(rows)[mask], error=error[rows.label][mask])
            for label, colour, mask in masks
        )

    kv_len, at = np.asarray(sglang.op.dims["kv_len"]), ctas(sglang)
    idle = -100 * np.median(error[sglang.label][(kv_len >= LONG_KV) & ((at == 64) | (at == 128))])
    group = np.asarray(trtllm.op.dims["heads"] / trtllm.op.dims["kv_heads"])
    return [
        Panel(
            title=f"A100, decode by SGLang: long caches {idle:.0f} % too fast where 64 or 128 CTAs leave "
            f"{100 - 100 * 64 / sms:.0f} % of the {sms} SMs' turns idle. Missing: that it "
            "doesn't split the KV range to fill them; its fixed time; its rate at 256 to 1,024 tokens",
            x_label=ctas_label,
            series=parts(
                sglang,
                (f"KV from {LONG_KV:,} tokens", ENGINES["sglang"][1], kv_len >= LONG_KV),
                ("257 to 1,024", OTHER_COLOURS[1], (kv_len > 256) & (kv_len <= 1024)),
                ("up to 256", OTHER_COLOURS[0], kv_len <= 256),
            ),
            marks=((64, "64"), (128, "128")),
        ),
        Panel(
            title="A100, decode by TensorRT-LLM: with many CTAs faster than estimated for single heads, slower for "
            "grouped ones. Missing: how long one of its CTAs takes, beside the bytes it reads",
            x_label=ctas_label,
            series=parts(
                trtllm,
                ("one query head per KV head", ENGINES["tensorrt-llm"][1], group == 1),
                (f"2 to {TRTLLM_GROUP}", OTHER_COLOURS[0], group > 1),
            ),
            limit=100.0,
        ),
    ]


def draw_panel(axes: plt.Axes, panel: Panel, legend: str = "upper left") -> None:
    """A cloud of points under each series' median line and 10-90 % band."""
    for series in panel.series:
        picked = np.random.default_rng(0).permutation(series.x.size)[:CLOUD]
        points = {"s": 2, "alpha": 0.2, "color": series.colour, "linewidths": 0}
        axes.scatter(series.x[picked], 100 * series.error[picked], zorder=1, **points)
        x, low, median, high = binned(series.x, series.error, panel.per_octave)
        axes.fill_between(x, 100 * low, 100 * high, color=series.colour, alpha=0.16, lw=0, zorder=2)
        axes.plot(x, 100 * median, color=series.colour, lw=2.2, label=series.label, zorder=3)
    for place, word in panel.marks:
        axes.axvline(place, color="#333333", lw=1, ls=":")
        axes.annotate(
            word, (place, 0.02), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points"
        )
    axes.axhline(0, color="#333333", lw=1, zorder=2)
    axes.set(xscale="log", ylim=(-panel.limit, panel.limit), xlabel=panel.x_label)
    title = panel.title.replace(" %", "\N{NO-BREAK SPACE}%")
    axes.set_title("\n".join(textwrap.wrap(title, 66)), loc="left", fontsize=10.5)
    axes.grid(axis="y", color="#E4E4E4", lw=0.6)
    if legend:
        axes.legend(loc=legend, fontsize=9, ncols=3, framealpha=0.8)


def errors_by_engine(sets: list[Rows], size: OfRows, keep: OfRows | None = None) -> tuple[Series, ...]:
    """One series for each data set: its errors over `size`, where `keep` holds."""
    found = []
    for rows in sets:
        mask = np.ones(rows.measured_s.size, bool) if keep is None else keep(rows)
        error, (label, colour) = rows.estimate_s() / rows.measured_s - 1, ENGINES[family(rows)]
        x = np.broadcast_to(size(rows), error.shape)
        found.append(Series(label=label, colour=colour, x=x[mask], error=error[mask]))
    return tuple(found)


def family(rows: Rows) -> str:
    return rows.label.split()[1]


def sizes_of(rows: Rows, names: Sequence[str]) -> list[np.ndarray]:
    dims: Mapping[str, object] = rows.op.dims
    return [np.asarray(dims[name]) for name in names]


def size_of(*names: str) -> OfRows:
    """The product of these sizes."""
    return lambda rows: np.prod(sizes_of(rows, names), axis=0)


def binned(x: np.ndarray, error: np.ndarray, per_octave: int) -> np.ndarray:
    """[4, bins]: geometric mean of x, then 10th, 50th and 90th percentile of the errors, in bins of equal width in
    log x around the powers of two. Bins of fewer than BIN_ROWS are left out.
    """
    which = np.round(np.log2(x) * per_octave)
    parts = [(x[which == place], error[which == place]) for place in np.unique(which)]
    columns = [
        [np.exp(np.mean(np.log(places))), *np.quantile(values, [0.1, 0.5, 0.9])]
        for places, values in parts
        if values.size >= BIN_ROWS
    ]
    return np.array(columns).reshape(-1, 4).T


def larger_is_faster(rows: Rows, by: float = 1.1) -> np.ndarray:
    """Products for which the same table has one at least as large in m, n and k that takes less than 1 / `by` of the
    time: the library's kernel for them isn't its best.
    """
    sizes = np.stack(sizes_of(rows, "mnk"), axis=1)
    best = [rows.measured_s[(sizes >= size).all(axis=1)].min() for size in sizes]
    return rows.measured_s > by * np.array(best)
