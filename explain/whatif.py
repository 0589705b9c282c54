"""What a case has of its own: what differs from the defaults, and what of that changes nothing."""

import math
import os
from collections.abc import Callable
from dataclasses import fields, replace

from ridgepoint.flags import flag
from ridgepoint.hardware import CHIPS, Chip
from ridgepoint.inputs import InputError

# What would have to be said besides, for it to matter.
WHY = {
    "hardware.l2_bytes": "only with --l2-persistent does anything stay in the L2",
    "hardware.tdp_w": "the power limit is hardware.tensor_sustained_share",
    "hardware.base_clock_hz": "kernels run at hardware.clock_hz",
    "--runtime": "by this method no engine runs it",
    "--memory-fraction": "all sequences run at once in it",
}
NOTHING, INTERVAL = "nothing here", "nothing here but the interval (no such chip was measured)"
ALWAYS = ("model", "hardware", "method", "batch", "input_tokens", "output_tokens")  # fields of a case that matter


def changed_flags(case) -> dict[str, object]:
    """The fields of a case that aren't its defaults."""
    return {field.name: value for field in fields(case) if (value := getattr(case, field.name)) != field.default}


def differences(est, overrides: dict[str, str]) -> list[str]:
    """What tells a case from the default one, but its model, GPU, sizes and engine: "kv-cache fp8", "l2-persistent",
    and the fields that `overrides`, or a record in place of a name, change.
    """
    flags = [
        flag(name).removeprefix("--") + ("" if value is True else f" {getattr(value, 'name', value)}")
        for name, value in changed_flags(est.case).items()
        if name not in ("model", "hardware", "batch", "input_tokens", "output_tokens", "runtime")
    ]
    own = est.case.hardware
    named = CHIPS.get(own.name, own) if isinstance(own, Chip) else own
    changed = {
        f"hardware.{field.name}": f"{value:g}" if isinstance(value, float) else str(value)
        for field in (fields(own) if named != own else ())
        if (value := getattr(own, field.name)) != getattr(named, field.name)
    }
    return [*flags, *(f"{name}={value}" for name, value in (changed | overrides).items())]


def changed_records(asked, est) -> list[str]:
    """What of the chip and of the model isn't the catalogue's: fields that --set and --peak-tflops change, with what
    they are there, and a model of a file.
    """
    found = []
    for name, text in asked.overrides.items():
        part, _, field = name.partition(".")
        record, before = getattr(est, {"hardware": "chip"}.get(part, part)), asked.before[part]
        if getattr(record, field) != getattr(before, field):
            found.append(f"{name} = {text} (catalogue: {getattr(before, field)})")
    if asked.case.peak_tflops is not None:
        before = asked.before["hardware"].tensor_flops_per_s("fp16") / 1e12
        found.append(f"peak-tflops = {asked.case.peak_tflops:g} (catalogue: {before:.4g})")
    path = asked.plain.model
    if os.path.exists(path) and getattr(est.model, "source", "config.json") in ("config.json", os.path.basename(path)):
        found.append(f"model = {path} (a file)")
    return found


def idle(asked, est, estimate: Callable) -> list[str]:
    """A line for each --set and each flag without which `est`, the estimate of what is `asked`, would be the same. They
    are left out one after another, so that it would be the same without all of them.
    """
    lines, case, last = [], replace(asked.case, model=est.model), est  # a file is read once
    parts = parts_of(asked, case)
    reference = [est, *bound_of(case, est, estimate)] if parts else []
    for name, without in parts:
        try:
            other = without(case)
            found = estimate(other)
            beside = [found, *bound_of(other, found, estimate)]
        except InputError:  # the rest can't do without it
            continue
        if all(figures(one) == figures(two) for one, two in zip(reference, beside, strict=True)):
            if name in asked.overrides and other == case:
                lines.append(f"{name} is {asked.overrides[name]} anyway")
            else:
                what = NOTHING if found.intervals == last.intervals else INTERVAL
                what = what if found.memory == last.memory else "no time here"
                lines.append(f"{name} changes {what}{': ' * (name in WHY)}{WHY.get(name, '')}")
            case, last = other, found
    return lines


def bound_of(case, est, estimate: Callable) -> list:
    """The bound that is shown beside an estimate, if one is."""
    return [estimate(replace(case, method="roofline"))] if est.intervals else []


def parts_of(asked, case) -> list[tuple[str, Callable]]:
    """What may be left out of a case: (name, the function that leaves it out)."""

    def without_field(part: str, field: str) -> Callable:
        default = getattr(asked.before[part], field)
        return lambda case: replace(case, **{part: replace(getattr(case, part), **{field: default})})

    def without_flags(names: tuple[str, ...]) -> Callable:
        defaults = {field.name: field.default for field in fields(case) if field.name in names}
        return lambda case: replace(case, **defaults)

    parts = [(name, without_field(*name.split("."))) for name in asked.overrides]
    formats: tuple[str, ...] = ()
    if asked.args.precision is not None:
        formats = (
            ("dtype", "weights", "activations") if asked.args.precision == case.dtype else ("weights", "activations")
        )
        parts.append(("--precision", without_flags(formats)))
    single = [name for name in changed_flags(asked.plain) if name not in (*ALWAYS, *formats)]
    return parts + [(flag(name), without_flags((name,))) for name in single]


def figures(est) -> tuple:
    """All that a report shows of an estimate, but its interval, its memory beyond what runs at once, and what was asked
    for.
    """
    from ridgepoint.report.text import facts

    metrics = (est.ttft_s, est.tpot_s, est.latency_s, est.batch_latency_s, est.throughput_tokens_per_s)
    kernels = [
        (k.name, k.kind, k.count, k.flops, k.weight_bytes, k.kv_bytes, k.activation_bytes, k.causes)
        for phase in (est.prefill, est.decode)
        for k in phase.kernels
    ]
    names = (est.chip.name, est.chip.title, est.model.name, est.model.title, est.model.parameters)
    return (*(None if math.isnan(x) else x for x in metrics), est.waves, est.running, kernels, names, facts(est))
