"""The widths of the intervals, from residuals: python validate.py --fit finds every constant of intervals.py again."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ridgepoint.kernels.architectures import architecture_of
from ridgepoint.serving.engines import find_engine
from ridgepoint.serving.intervals import ELSEWHERE, SKINNY, SPREADS, regime
from ridgepoint.validation.all_sets import kernel_sets
from ridgepoint.validation.measured import end_to_end_row
from ridgepoint.validation.pointwise import pointwise_rows, pointwise_s
from ridgepoint.validation.rows import Rows
from ridgepoint.validation.served import served_rows
from ridgepoint.validation.sets import CSV_FOLDER, fit_row, served_fit_row

JUDGEMENTS = ("host", "naive attention")  # of which there are no rows
FEWEST = 4  # rows of which a range is made
Ratios = dict[tuple[str, str, str], list[tuple[float, bool]]]  # what run_ratios returns


def fit_widths(folder: Path | None) -> Iterator[tuple[str, dict[str, float], dict[str, float]]]:
    """(what, committed, found) of every width: kernels' by kind, whole runs' by engine and GPU, and those pooled."""
    if folder:
        spreads = kernel_spreads(folder)
        for kind in (kind for kind in SPREADS if kind not in JUDGEMENTS):
            yield f"interval, {kind}", low_high(SPREADS[kind]), low_high(spreads[kind])
    runs = run_ratios(folder)
    for (name, hardware), phases in run_spreads(runs).items():
        committed = find_engine(name).run_spread.get(hardware, ELSEWHERE)
        for phase, found in phases.items():
            yield f"interval, {name} on {hardware}, {phase}", low_high(committed[phase]), low_high(found)
    for phase, found in pooled(runs).items():
        yield f"interval, elsewhere, {phase}", low_high(ELSEWHERE[phase]), low_high(found)


def low_high(interval: tuple[float, float]) -> dict[str, float]:
    return dict(zip(("low", "high"), interval, strict=True))


def kernel_spreads(folder: Path) -> dict[str, tuple[float, float]]:
    """5th and 95th percentile of measured / estimated by kind, over the sets that no fit saw, each set alike."""
    ratios = defaultdict(list)
    for rows, estimated_s in estimated_kernels(folder):
        if rows.fitted or rows.refitted or rows.kind == "residual streams":  # several streams' mix: docs/limits.md
            continue
        ratio, kind = rows.measured_s / estimated_s, regime(rows.op)
        if kind == "gemm":
            skinny = np.asarray(rows.op.dims["m"]) <= SKINNY
            ratios["gemm, m <= 16"].append(ratio[skinny])
            ratio = ratio[~skinny]
        ratios[kind].append(ratio)
    return {kind: weighted_range(sets) for kind, sets in ratios.items()}


def estimated_kernels(folder: Path) -> Iterator[tuple[Rows, np.ndarray]]:
    """All measured kernels with what they are estimated to take."""
    for rows in kernel_sets(folder):
        yield rows, rows.estimate_s()
    for rows in pointwise_rows():
        yield rows, pointwise_s(rows, architecture_of(rows.chip))


def weighted_range(sets: list[np.ndarray]) -> tuple[float, float]:
    """5th and 95th percentile of all sets together, each with the same weight however many rows it has."""
    values = np.concatenate(sets)
    weights = np.concatenate([np.full(one.size, 1 / one.size) for one in sets if one.size])
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    low, high = (float(values[order][np.searchsorted(share, level)]) for level in (0.05, 0.95))
    return low, high


def run_ratios(folder: Path | None) -> Ratios:
    """(measured / estimated, did a fit see it) of whole runs, by engine, GPU and phase: TTFT is prefill's, the other
    metrics decode's. Served runs by their TPOT.
    """
    found = defaultdict(list)
    with open(CSV_FOLDER / "end_to_end.csv", newline="") as file:
        for row in csv.DictReader(file):
            phase = "prefill" if row["metric"] == "ttft_s" else "decode"
            judged = end_to_end_row(row)
            key = find_engine(row["runtime"]).name, row["hardware"], phase
            found[key].append((judged["measured"] / judged["estimated"], fit_row(row)))
    for row in served_rows(folder):
        key = find_engine(row["runtime"]).name, row["hardware"], "decode"
        found[key].append((float(row["tpot_s"]) / row["tpot_estimated"], served_fit_row(row, "tpot_s")))
    return found


def run_spreads(runs: Ratios) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """Of each engine and GPU: the range of rows that no fit saw, or of all where those are few; of prefill, which is
    the GPU's, of all engines that compile or fuse; where there are too few of those too, of all runs.
    """
    everywhere, spreads = pooled(runs), {}
    for name, hardware, _ in runs:
        own = {}
        for phase in ("prefill", "decode"):
            rows = runs.get((name, hardware, phase), [])
            if phase == "prefill" and len(rows) < FEWEST:
                rows = [row for key, rows in runs.items() if key[1:] == (hardware, phase) for row in rows]
            unseen = [ratio for ratio, seen in rows if not seen]
            ratios = unseen if len(unseen) >= FEWEST else [ratio for ratio, _ in rows]
            own[phase] = prediction([np.array(ratios)]) if len(ratios) >= FEWEST else everywhere[phase]
        spreads[name, hardware] = own
    return spreads


def pooled(runs: Ratios) -> dict[str, tuple[float, float]]:
    """Of a run of an engine on a GPU where none was measured: that of all unseen runs, each engine and GPU alike."""
    found = {}
    for phase in ("prefill", "decode"):
        sets = [np.array([ratio for ratio, seen in rows if not seen]) for key, rows in runs.items() if key[2] == phase]
        found[phase] = prediction([one for one in sets if one.size])
    return found


def prediction(sets: list[np.ndarray]) -> tuple[float, float]:
    """Where one more ratio lies, nine times in ten: mean and spread of the logarithms, each set alike, with Student's t
    for few sets or, of a single one, few ratios.
    """
    from scipy.stats import t

    logs = np.log(np.concatenate(sets))
    weights = np.concatenate([np.full(one.size, 1 / one.size) for one in sets]) / len(sets)
    many = len(sets) if len(sets) > 1 else logs.size
    mean = float(weights @ logs)
    deviation = np.sqrt(weights @ (logs - mean) ** 2 * many / (many - 1))
    reach = t.ppf(0.95, many - 1) * deviation * np.sqrt(1 + 1 / many)
    low, high = np.exp(mean - reach), np.exp(mean + reach)
    return float(min(low, 0.99)), float(max(high, 1.01))  # the estimate itself is inside
