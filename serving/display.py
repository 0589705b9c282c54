"""How an estimate shows itself in Python: in a line, as rows, as a small table in a notebook."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgepoint.ops import Number

if TYPE_CHECKING:
    from ridgepoint.serving.estimates import Estimate


def seconds(value: float) -> str:
    """With the unit a person would use: 9.469 ms, 20.19 s, 12.3 us."""
    for limit, scale, unit in ((1e-3, 1e6, "us"), (10.0, 1e3, "ms"), (math.inf, 1.0, "s")):
        if value < limit:
            return f"{value * scale:.4g} {unit}" if value * scale < 1e4 else f"{value * scale:,.0f} {unit}"
    return "n/a"  # NaN: there is no such time


def si(value: float, unit: str) -> str:
    """1.94e12, "B" -> "1.94 TB"."""
    for scale, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def metric(value: Number, show: Callable[[float], str]) -> str:
    """A number with its unit; of an array its ends: "1.11 s", "0.21 s to 1.11 s"."""
    if np.ndim(value) == 0:
        return show(float(value))
    least, most = float(np.nanmin(value)), float(np.nanmax(value))
    return show(least) if least == most else f"{show(least)} to {show(most)}"


def line(est: "Estimate") -> str:
    """Model, GPU, engine and the metrics, in under 200 letters."""
    what = f"{est.model.name[:40]} on {est.chip.name[:30]}, {est.case.method}"
    rate = metric(est.throughput_tokens_per_s, lambda value: f"{value:,.0f}")
    metrics = f"TTFT {metric(est.ttft_s, seconds)}, TPOT {metric(est.tpot_s, seconds)}, {rate} token/s"
    return f"Estimate({what}: {metrics}{'' if np.all(est.memory.fits) else ', DOES NOT FIT'})"


def rows(est: "Estimate") -> list[dict[str, Any]]:
    """One dict for each kernel of each phase: plain numbers, SI units, sums over the phase, as pandas.DataFrame takes
    them; of an array of cases, arrays.
    """
    numbers = ("count", "flops", "weight_bytes", "kv_bytes", "activation_bytes", "bytes", "time_s", "low_s", "high_s")
    found = []
    for name, phase in est.phases:
        phase_s = phase.total("time_s")
        for kernel in phase.kernels:
            row: dict[str, Any] = {
                "phase": name,
                "kernel": kernel.name,
                "kind": kernel.kind,
                "steps": plain(phase.steps),
            }
            row |= {field: plain(getattr(kernel, field)) for field in numbers}
            with np.errstate(invalid="ignore"):
                row["share"] = plain(np.divide(kernel.time_s, phase_s))
            found.append(row | ({} if np.ndim(kernel.time_s) else {"bound": kernel.bound}))
    return found


def plain(value: object) -> object:
    """A NumPy scalar as Python's; an array as it is."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value


def html(est: "Estimate") -> str:
    """The line above, and of a single case a table of its kernels of 1 % of their phase or more, with bars."""
    from html import escape  # only needed here

    head = f"<p>{escape(line(est))}</p>"
    if np.ndim(est.latency_s) or not est.waves:
        return head
    bar = '<div style="background:#0072B2;height:0.7em;width:{:.0f}px"></div>'
    body = "".join(
        f"<tr><td>{escape(row['phase'])}</td><td>{escape(row['kernel'])}</td>"
        f"<td style='text-align:right'>{seconds(row['time_s'] / row['steps'])}</td>"
        f"<td style='text-align:right'>{row['share']:.0%}</td><td>{bar.format(100 * row['share'])}</td>"
        f"<td>{row['bound']}</td></tr>"
        for row in rows(est)
        if row["share"] >= 0.01
    )
    names = ("phase", "kernel", "time of a pass", "share", "", "bound")
    return f"{head}<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{body}</table>"
