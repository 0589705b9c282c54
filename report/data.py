"""The estimate as one JSON object (fields: docs/json.md)."""

import json
import math

from ridgepoint.report.text import measured, notes


def as_json(est, overrides: dict[str, str], bound, *, taken=(), idle=()) -> str:
    """One object, SI base units; flops, bytes and time_s of a kernel are its sum over the phase."""
    case = est.case

    def number(value):  # NumPy scalars to Python's; a float that is whole stays a float; NaN to null
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and math.isnan(value) else value

    def phase(part):
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

    def formats():
        """What runs on the chip; null: dtype throughout."""
        if est.precision is None:
            return None
        by_role = {role: getattr(est.precision, role).name for role in ("weights", "activations", "kv_cache")}
        return {"name": est.precision.name, **by_role, "mma_dtype": est.precision.mma_dtype, "note": est.precision_note}

    def seconds_by_cause(causes):
        return {cause: number(value) for cause, value in causes.items()}

    metrics = ["ttft_s", "tpot_s", "latency_s", "batch_latency_s", "throughput_tokens_per_s"]
    metrics += ["throughput_per_sequence_tokens_per_s", "ttft_mean_s", "ttft_last_s", "waves", "running"]
    memory_fields = ["weights_bytes", "kv_cache_bytes", "activation_bytes", "engine_bytes", "total_bytes"]
    memory_fields += ["capacity_bytes", "fits", "max_batch", "concurrent", "kv_room_bytes", "kv_tokens", "sequences"]
    sizes = ["batch", "input_tokens", "output_tokens", "prefix_tokens", "chunked_prefill", "speculative"]
    sizes += ["acceptance", "samples", "memory_fraction", "imbalance", "dtype", "weights", "activations", "kv_cache"]
    sizes += ["attention", "method", "peak_tflops", "l2_persistent"]
    return json.dumps(
        {
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
            **{name: number(getattr(est, name)) for name in metrics},
            "intervals": {name: [number(end) for end in ends] for name, ends in est.intervals.items()},
            "bound": {name: number(getattr(bound, name)) for name in ("ttft_s", "tpot_s", "latency_s")},
            "memory": {name: number(getattr(est.memory, name)) for name in memory_fields}
            | {"max_context": est.max_context},
            "phases": {"prefill": phase(est.prefill), "decode": phase(est.decode)} if est.waves else None,
        },
        allow_nan=False,
    )


def waterfall_json(rows: list[dict]) -> str:
    return json.dumps({"waterfall": rows}, allow_nan=False)
