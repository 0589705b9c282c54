"""Measured rows in a CSV file: the user's own, and validation/end_to_end.csv."""

import csv
from dataclasses import replace
from pathlib import Path

from ridgepoint import ops
from ridgepoint.command import progress
from ridgepoint.estimator import Case, estimate
from ridgepoint.hardware import find_chip
from ridgepoint.inputs import InputError, check_size, pick
from ridgepoint.kernels.architectures import architecture_of
from ridgepoint.kernels.gemm import resident_fraction
from ridgepoint.layers.formats import on_chip, precision_of
from ridgepoint.serving.engines import find_engine
from ridgepoint.serving.intervals import spread
from ridgepoint.validation.pointwise import POINTWISE, pointwise_op

KERNEL_SIZES = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"),
    **dict.fromkeys(POINTWISE, ("tokens", "hidden")),
}
OPTIONAL_SIZES = {"gemm": ("weight_copies",), "rope": ("heads", "kv_heads", "head_dim"), "swiglu": ("intermediate",)}
# Other dtypes than fp16 and bf16: the formats of weights and activations. A gemm row's is the product alone.
NARROW_DTYPES = {
    "fp8": ("fp8", "fp8"),
    "int8": ("int8", "int8"),
    "nvfp4": ("nvfp4", "nvfp4"),
    "int8_wo": ("int8", None),
    "int4_wo": ("int4", None),
    "mxfp4_wo": ("mxfp4", None),
}
END_TO_END_METRICS = ("ttft_s", "tpot_s", "latency_s")


def read_measured(path: Path) -> tuple[list[dict], list[str]]:
    """The usable rows of a CSV file with what each was measured and estimated to take, and why each other row
    was skipped. Raises InputError for a file that can't be read at all.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            if "measured_us" not in header and "measured" not in header:
                raise InputError(
                    f"{path} has no column measured_us (kernel rows) or measured (end-to-end rows); "
                    f"it has: {', '.join(map(str, header)) or 'nothing'}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"can't read {path}: {getattr(error, 'strerror', None) or error}") from error
    done, skipped = [], []
    for line, row in progress(rows, path.name):
        try:
            if None in row or None in row.values():
                raise InputError("it has more or fewer values than the header")
            row = {name.strip(): text.strip() for name, text in row.items()}
            estimated = kernel_row(row) if row.get("measured_us") else end_to_end_row(row)
            done.append({"line": line, **row, **estimated})
        except InputError as error:
            skipped.append(f"line {line}: {error}")
    return done, skipped


def positive(row: dict, name: str) -> float:
    text = row.get(name, "")
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{name} must be a number, not {text!r}") from None
    if not 0 < value < 1e9:
        raise InputError(f"{name} must be a number above 0 and below 1e9, not {text}")
    return value


def size(row: dict, name: str) -> int:
    return check_size(name, positive(row, name))


def kernel_row(row: dict) -> dict:
    """measured, estimated, low and high in seconds of one kernel, as benchmarks run it: again and again, in a CUDA
    graph, at the boost clock. A gemm cycles through `weight_copies` (6) copies of its weights, so that small ones are
    found in the L2. An attention row is the engine's call: it writes the new K and V to the cache, then attends.
    """
    measured_s = positive(row, "measured_us") * 1e-6
    chip = find_chip(row.get("hardware", ""))
    arch = architecture_of(chip)
    kind = pick("kind", row.get("kind", ""), KERNEL_SIZES)
    narrow = NARROW_DTYPES if kind == "gemm" else {}
    dtype = pick("dtype", row.get("dtype") or "fp16", ("fp16", "bf16", *narrow))
    names, others = KERNEL_SIZES[kind], OPTIONAL_SIZES.get(kind, ())
    if kind != "gemm" and not row.get("hidden") and any(row.get(name) for name in others):
        names = ("tokens", *others)  # which then stand in for hidden
    dims = {name: size(row, name) for name in (*names, *others) if name in names or row.get(name)}
    wanted = on_chip(precision_of("bf16", *narrow[dtype]), chip, arch)[0] if dtype in narrow else None
    number = ops.Tail(dtype="bf16" if wanted else dtype, elem_bytes=2)
    engine = find_engine(row.get("runtime") or "vllm")
    resident: ops.Number = 0.0
    if kind == "gemm":
        op = ops.linear(kind, tokens=dims["m"], d_in=dims["k"], d_out=dims["n"], precision=wanted, **number)
        cycle_bytes = dims.get("weight_copies", 6) * op.weight_bytes + op.activation_bytes
        resident = resident_fraction(cycle_bytes, chip, arch)
        kernels = [op]
    elif kind == "attention":
        if dims["heads"] % dims["kv_heads"] or dims["q_len"] > dims["kv_len"]:
            raise InputError("heads must be a multiple of kv_heads, and kv_len at least q_len")
        batch, q_len, kv_len, heads, kv_heads, head_dim = (dims[name] for name in names)
        append = ops.kv_write(kind, tokens=batch * q_len, kv_heads=kv_heads, head_dim=head_dim, **number)
        attended = ops.attention(
            kind,
            batch=batch,
            q_len=q_len,
            kv_len=kv_len,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            **number,
        )
        kernels = engine.launched([append, attended], arch, decode=q_len == 1)
    else:
        kernels = [pointwise_op(kind, dims)]
    estimated = sum(float(sum(engine.causes(op, chip, arch, resident=resident).values())) for op in kernels)
    low, high = spread(kernels[-1], chip)
    return {"measured": measured_s, "estimated": estimated, "low": estimated * low, "high": estimated * high}


def end_to_end_row(row: dict) -> dict:
    """measured, estimated, low and high in seconds of one metric of a static batch."""
    metric = pick("metric", row.get("metric", ""), END_TO_END_METRICS)
    if row.get("tp", "") not in ("", "1", "1.0"):
        raise InputError(f"tp {row['tp']} is not modelled; 1 is")
    dtype = pick("dtype", row.get("dtype") or "fp16", ("fp16", "bf16", *NARROW_DTYPES))
    weights, activations = NARROW_DTYPES.get(dtype, (None, None))
    kv_cache = row.get("kv_dtype") or None
    case = Case(
        hardware=row.get("hardware", ""),
        model=row.get("model", ""),
        dtype="bf16" if weights else dtype,
        weights=weights,
        activations=activations,
        kv_cache=None if kv_cache in ("fp16", "bf16") else kv_cache,
        runtime=row.get("runtime") or "vllm",  # a name, or a profile by itself
        batch=size(row, "batch"),
        input_tokens=size(row, "input_tokens"),
        output_tokens=size(row, "output_tokens"),
    )
    measured_s = positive(row, "measured")
    est = estimate(case)
    if metric == "tpot_s" and not est.decode.steps:
        raise InputError("tpot_s needs at least 2 output_tokens")
    low, high = est.intervals[metric]
    bound = estimate(replace(case, method="roofline"))
    return {
        "measured": measured_s,
        "estimated": float(getattr(est, metric)),
        "low": float(low),
        "high": float(high),
        "bound": float(getattr(bound, metric)),
    }
