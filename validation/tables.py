"""The tables of errors that validate.py prints."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ridgepoint.command import progress
from ridgepoint.inputs import InputError
from ridgepoint.kernels.architectures import architecture_of
from ridgepoint.kernels.roofline import compute_s, memory_s, roofline_s
from ridgepoint.report import terminal
from ridgepoint.serving.engines import find_engine
from ridgepoint.serving.intervals import spread
from ridgepoint.validation.all_sets import kernel_sets
from ridgepoint.validation.measured import read_measured
from ridgepoint.validation.pointwise import pointwise_rows, pointwise_s
from ridgepoint.validation.rows import Rows, sampled
from ridgepoint.validation.served import served_rows
from ridgepoint.validation.sets import CSV_FOLDER, fit_row, served_fit_row

HEADERS: tuple[str, ...] = ("data", "kind", "rows", "left\nout", "median", "mean", "p90", "bias", "in 90 %")
HEADERS += ("roofline\nmedian", "\nmean", "\np90", "2 efficiencies\nmedian", "\nmean", "\np90")
COVERAGE = HEADERS.index("in 90 %")
LEGEND = """\
Absolute error of time in %. bias: median of estimated / measured - 1. in 90 %: share of the measurements inside the
interval. left out: rows that beat the chip's roofline though their data don't fit in its L2, or as said below.
(fit): constants were fitted on these; (refit): two or three of them. (*): a choice made after seeing these data,
so that their error says little: which shapes have tuned tiles on the A100 (mixtures of vLLM and SGLang), above how
many heads TensorRT-LLM takes another kernel, that SGLang's latent prefill is absorbed, which rows of the H200 were
disturbed.
"""


def errors(estimated_s: np.ndarray, measured_s: np.ndarray) -> list[str]:
    """[median, mean, p90] of |estimated / measured - 1|, in percent."""
    error = np.abs(estimated_s / measured_s - 1)
    return [f"{100 * x:.1f}" for x in (np.median(error), np.mean(error), np.quantile(error, 0.9))]


def bias(estimated_s: np.ndarray, measured_s: np.ndarray) -> str:
    return f"{100 * np.median(estimated_s / measured_s - 1):+.1f}"


def coverage(measured_s: np.ndarray, low_s: np.ndarray, high_s: np.ndarray) -> str:
    return f"{100 * np.mean((low_s <= measured_s) & (measured_s <= high_s)):.0f}"


def two_efficiencies(rows: Rows) -> np.ndarray:
    """[3]: shares of peak FLOP/s and of DRAM bandwidth, and a launch time in seconds, that fit `rows` best."""
    from scipy.optimize import minimize

    compute, memory = compute_s(rows.op, rows.chip), memory_s(rows.op, rows.chip)

    def cost(x: np.ndarray) -> float:
        shares = np.exp(x)
        estimated = np.maximum(compute / shares[0], memory / shares[1]) + shares[2]
        return np.mean(np.abs(np.log(estimated / rows.measured_s)))

    return np.exp(minimize(cost, np.log([0.7, 0.7, 5e-6]), method="Nelder-Mead").x)


def fit_marks(rows: Rows) -> str:
    """What fits saw of these rows, and whether a choice was made for them."""
    return (" (fit)" if rows.fitted else " (refit)" if rows.refitted else "") + (" (*)" if rows.chosen_after else "")


def kernel_table(folder: Path) -> tuple[list[list], list[str]]:
    """The rows of the table, and why measurements were left out, where it isn't the one reason of the legend."""
    table, simple, reasons = [], {}, []
    for rows in progress(kernel_sets(folder), "measured kernels"):
        if rows.kind not in simple:
            simple[rows.kind] = two_efficiencies(sampled(rows, 3000))
        shares = simple[rows.kind]
        compute, memory = compute_s(rows.op, rows.chip), memory_s(rows.op, rows.chip)
        ideal_s = np.maximum(compute, memory)
        simple_s = np.maximum(compute / shares[0], memory / shares[1]) + shares[2]
        estimated, measured = rows.estimate_s(), rows.measured_s
        low, high = spread(rows.op, rows.chip)
        table.append(
            [rows.label + fit_marks(rows), rows.kind, measured.size, rows.left_out]
            + [*errors(estimated, measured), bias(estimated, measured)]
            + [coverage(measured, estimated * low, estimated * high)]
            + [*errors(ideal_s, measured), *errors(simple_s, measured)]
        )
        if rows.reasons:
            reasons.append(f"left out of {rows.kind}, {rows.label}: {rows.reasons}")
    return table, reasons


def pointwise_table() -> list[list]:
    table = []
    for rows in pointwise_rows():
        estimated, measured = pointwise_s(rows, architecture_of(rows.chip)), rows.measured_s
        low, high = spread(rows.op, rows.chip)
        table.append(
            [rows.label + fit_marks(rows), rows.kind, measured.size, 0]
            + [*errors(estimated, measured), bias(estimated, measured)]
            + [coverage(measured, estimated * low, estimated * high)]
            + [*errors(np.asarray(roofline_s(rows.op, rows.chip)), measured)]
        )
    return table


def end_to_end_table(rows: list[dict]) -> list[list]:
    table = []
    for (label, metric), group in end_to_end_groups(rows).items():
        measured, estimated, low, high, bound = (
            np.array([row[name] for row in group]) for name in ("measured", "estimated", "low", "high", "bound")
        )
        table.append(
            [label, f"{metric} ({', '.join(sorted({row['model'] for row in group}))})", len(group), 0]
            + [*errors(estimated, measured), bias(estimated, measured), coverage(measured, low, high)]
            + errors(bound, measured)
        )
    return table


def end_to_end_groups(rows: list[dict]) -> dict[tuple[str, str], list[dict]]:
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        label = f"{row['hardware']} {row['runtime']}" + (" (fit)" if fit_row(row) else "")
        groups.setdefault((label, row["metric"]), []).append(row)
    return dict(sorted(groups.items()))


def served_table(folder: Path | None) -> list[list]:
    """TPOT of served requests, and TTFT where it was said, by engine and GPU."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in served_rows(folder):
        for metric in ("tpot_s", "ttft_s"):
            if row[metric]:
                label = f"{row['hardware']} {find_engine(row['runtime']).name}"
                label += " (fit)" if served_fit_row(row, metric) else ""
                groups.setdefault((label, metric), []).append(row)
    table = []
    for (label, metric), rows in sorted(groups.items()):
        measured = np.array([float(row[metric]) for row in rows])
        estimated, low, high = (
            np.array([row[name] for row in rows]) for name in (f"{metric[:4]}_estimated", "low", "high")
        )
        inside = coverage(measured, low, high) if metric == "tpot_s" else ""
        models = ", ".join(sorted({row["model"].split("/")[-1] for row in rows}))
        figures = [*errors(estimated, measured), bias(estimated, measured), inside]
        table.append([label, f"served {metric} ({models})", len(rows), 0, *figures])
    return table


def summary(table: list[list], kind: str) -> list:
    """[kind, sets, rows, median errors from the best set to the worst, share of all rows inside the interval], of the
    sets in `table` that no fit saw.
    """
    unseen = [row for row in table if "fit)" not in row[0]] or table
    count = sum(row[2] for row in unseen)
    medians = sorted(float(row[HEADERS.index("median")]) for row in unseen)
    inside = sum(float(row[COVERAGE]) * row[2] for row in unseen) / count
    ends = f"{medians[0]:.1f} to {medians[-1]:.1f}" if len(medians) > 1 else f"{medians[0]:.1f}"
    return [kind, len(unseen), count, ends, f"{inside:.0f}"]


@dataclass(frozen=True)
class Table:
    """Cells under their headers."""

    cells: list[list]
    headers: tuple[str, ...]

    def text(self, width: int | None) -> str:
        """Within `width`; None: as wide as it is."""
        return show(self.cells, self.headers) if width is None else printed(self.cells, self.headers, width)


def texts(parts: Sequence[str | Table], width: int | None) -> list[str]:
    """The parts of a report as text, within `width`; None: as they are."""
    found = []
    for part in parts:
        if isinstance(part, Table):
            found.append(part.text(width))
        elif width is None:
            found.append(part)
        else:
            lines = [" ".join(part.split()), ""] if part is LEGEND else part.split("\n")
            found.append("\n".join(short for line in lines for short in terminal.wrapped(line, width)))
    return found


def accuracy_report(folder: Path | None) -> list[str | Table]:
    """Errors of kernels (where the package is installed), pointwise kernels and whole runs, and what the intervals
    cover.
    """
    kernels, reasons = kernel_table(folder) if folder else ([], [])
    rows, _ = read_measured(CSV_FOLDER / "end_to_end.csv")
    pointwise, runs = pointwise_table(), end_to_end_table(rows)
    parts: list[str | Table] = [LEGEND]
    parts += [Table(kernels, HEADERS), "", *reasons, ""] if kernels else []
    parts += [Table(pointwise, HEADERS[:12]), "", Table(runs, HEADERS[:12]), ""]
    requests = served_table(folder)
    parts += [Table(requests, HEADERS[:9]), ""]
    kinds = dict.fromkeys(row[1] for row in kernels)
    summaries = [summary([row for row in kernels if row[1] == kind], kind) for kind in kinds]
    summaries += [summary(pointwise, "pointwise"), summary(runs, "end to end")]
    summaries += [summary([row for row in requests if "tpot" in row[1]], "served, TPOT")]
    headers = ("of all that no fit saw", "sets", "rows", "median error", "in 90 %")
    return [*parts, Table(summaries, headers)]


def report_measured(path: Path, as_json: bool) -> str:
    """The user's own rows. As JSON one object; as text a table, with the reasons for skipped rows on stderr."""
    rows, skipped = read_measured(path)
    for reason in skipped:
        print(f"{path}: skipped {reason}", file=sys.stderr)
    if not rows:
        raise InputError(f"{path} has no usable row; {len(skipped)} skipped")
    if as_json:
        return json.dumps({"rows": rows, "skipped": len(skipped)}, allow_nan=False)
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        what = row["kind"] if row.get("measured_us") else f"{row.get('runtime') or 'vllm'} {row['metric']}"
        groups.setdefault((row["hardware"], what), []).append(row)
    table = []
    for (hardware, what), group in groups.items():
        columns = [np.array([row[name] for row in group]) for name in ("measured", "estimated", "low", "high")]
        measured, estimated, low, high = columns
        figures = [*errors(estimated, measured), bias(estimated, measured), coverage(measured, low, high)]
        table.append([hardware, what, len(group), *figures])
    headers = ("hardware", "what", "rows", "median", "mean", "p90", "bias", "in 90 %")
    return f"{printed(table, headers, terminal.columns(terminal.TABLE))}\n{len(rows)} rows, {len(skipped)} skipped"


def printed(table: list[list], headers: tuple[str, ...], width: int, broken: tuple[int, ...] = (0, 1)) -> str:
    """The table in a terminal of that width: without the further columns of the comparisons where they don't fit, which
    --write keeps, and with long names over several lines.
    """
    align = ["right" if column > 1 else "left" for column in range(len(headers))]
    # as indices, since some headers are alike: the spreads of the efficiencies, of the roofline, our own mean
    spare = [column for column in (14, 13, 11, 10, 5) if len(headers) > COVERAGE and column < len(headers)]
    heads = [name.replace("efficiencies", "effi-\nciencies") for name in headers]
    return terminal.table(table, heads, width=width, align=align, spare=spare, broken=broken)


def show(table: list[list], headers: tuple[str, ...]) -> str:
    align = ["right" if column > 1 else "left" for column in range(len(headers))]
    return tabulate(table, headers, tablefmt="simple", disable_numparse=True, colalign=align)
