"""The estimate as one JSON object (fields: docs/json.md)."""

import json
import math

from ridgepoint.command import VERSION
from ridgepoint.report.text import measured, measured_versions, notes
from ridgepoint.serving.display import plain

SCHEMA = 2  # grows where a field changes its meaning or goes; new fields leave it


def number(value):
    """NumPy scalars to Python's; a float that is whole stays a float; NaN to null."""
    value = plain(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def seconds_by_cause(causes: dict) -> dict:
    return {cause: number(value) for cause, value in causes.items()}


def phase(part) -> dict:
    fields = ["name", "kind", "count", "flops", "bytes", "weight_bytes", "kv_bytes"]
    fields += ["activation_bytes", "time_s", "low_s", "high_s", "bound"]
    return {
        "steps": part.steps,
        **{name: number(part.total(name)) for name in ("flops", "bytes", "time_s")},
        "causes": seconds_by_cause(part.causes()),
        "ops": [
            {name: number(getattr(k, name)) for name in fields} | {"causes": seconds_by_cause(k.causes)}
            for k in part.kernels
        ],
    }


def as_json(est, overrides: dict[str, str], bound, *, taken=(), idle=(), differs=()) -> str:
    """One object, SI base units; flops, bytes and time_s of a kernel are its sum over the phase. `differs`: what of the
    chip and the model isn't the catalogue's.
    """
    case = est.case

    def formats():
        """What runs on the chip; null: dtype throughout."""
        if est.precision is None:
            return None
        by_role = {role: getattr(est.precision, role).name for role in ("weights", "activations", "kv_cache")}
        return {"name": est.precision.name, **by_role, "mma_dtype": est.precision.mma_dtype, "note": est.precision_note}

    metrics = ["ttft_s", "tpot_s", "latency_s", "batch_latency_s", "throughput_tokens_per_s"]
    metrics += ["throughput_per_sequence_tokens_per_s", "ttft_mean_s", "ttft_last_s", "waves", "running"]
    memory_fields = ["weights_bytes", "kv_cache_bytes", "activation_bytes", "engine_bytes", "total_bytes"]
    memory_fields += ["capacity_bytes", "fits", "max_batch", "concurrent", "kv_room_bytes", "kv_tokens", "sequences"]
    sizes = ["batch", "input_tokens", "output_tokens", "prefix_tokens", "chunked_prefill", "speculative"]
    sizes += ["acceptance", "samples", "memory_fraction", "imbalance", "dtype", "weights", "activations", "kv_cache"]
    sizes += ["attention", "method", "peak_tflops", "l2_persistent"]
    return json.dumps(
        {
            "schema": SCHEMA,
            "version": VERSION,
            "model": est.model.name,
            "parameters": est.model.parameters,
            "active_parameters": est.model.active_parameters,
            "hardware": est.chip.name,
            **{name: getattr(case, name) for name in sizes},
            "draft": case.draft.name if case.draft else None,
            "runtime": case.runtime.name,
            "engine": {"title": case.runtime.title, "measured": measured(case.runtime, est.chip)},
            "precision": formats(),
            "overrides": overrides,
            "notes": [*taken, *(note.removeprefix("note: ") for note in notes(est)), *idle],
            "basis": basis(est, list(differs)),
            **{name: number(getattr(est, name)) for name in metrics},
            "intervals": {name: [number(end) for end in ends] for name, ends in est.intervals.items()},
            "bound": {name: number(getattr(bound, name)) for name in ("ttft_s", "tpot_s", "latency_s")},
            "memory": {name: number(getattr(est.memory, name)) for name in memory_fields}
            | {"max_context": est.max_context},
            "phases": {"prefill": phase(est.prefill), "decode": phase(est.decode)} if est.waves else None,
        },
        allow_nan=False,
    )


# Formats of weights and activations that validate.py --measured has a name for.
CHECKED = ("fp8", "int8", "nvfp4", "int8_wo", "int4_wo", "mxfp4_wo")
# Fields of a case that a row of measurements has no column for.
UNCHECKED: tuple[str, ...] = ("prefix_tokens", "chunked_prefill", "speculative", "draft", "imbalance", "samples")
UNCHECKED += ("l2_persistent", "memory_fraction", "peak_tflops")


def basis(est, differs: list[str]) -> dict:
    """What the estimate rests on, and how to check it. An engine, where the method has one run the case."""
    engine, runs = est.case.runtime, "{runtime}" in est.method.line
    return {
        "method": est.case.method,
        "engine": engine.family if runs else None,
        "engine_version": engine.version or None if runs else None,
        "measured_on_this_chip": measured_versions(engine, est.chip) if runs else {},
        "differs_from_catalogue": differs,
        "check": check(est, differs),
    }


def check(est, differs: list[str]) -> str:
    """How to hold the estimate against a measurement: the lines of a table, and the command that judges it."""
    case = est.case
    dtype, left = case.dtype, [name for name in UNCHECKED if getattr(case, name) != getattr(type(case), name)]
    if (case.weights or dtype, case.activations or dtype) != (dtype, dtype):
        dtype = f"{case.weights}{'' if case.activations == case.weights else '_wo'}"
        if dtype not in CHECKED or case.activations not in (None, case.weights):
            dtype, left = case.dtype, [*left, "weights", "activations"]
    left += ["attention"] * (case.attention != type(case).attention) + differs
    row = {
        "hardware": est.chip.name,
        "model": getattr(case.model, "name", case.model),
        "dtype": dtype,
        "kv_dtype": case.kv_cache or "",
        "batch": case.batch,
        "input_tokens": case.input_tokens,
        "output_tokens": case.output_tokens,
        "runtime": case.runtime.name,
        "metric": "latency_s",
        "measured": "SECONDS",
    }
    without = f" (it has no column for {', '.join(left)})" if left else ""
    lines = (",".join(row), ",".join(f"{value}" for value in row.values()))
    return f"python validate.py --measured FILE.csv, where FILE.csv has the lines {lines[0]} and {lines[1]}{without}"


def waterfall_json(rows: list[dict]) -> str:
    return json.dumps({"waterfall": rows}, allow_nan=False)
