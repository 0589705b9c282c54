"""Served requests: what a client sees of an engine that batches continuously, in closed form.

Requests are alike and arrive one by one, at a rate or in a closed loop: `concurrency` clients, each of which sends its
next request when its last is done. In the steady state every step decodes the sequences that run, and takes in the
prompts that came since the step before: their tokens join the step's products, their attention is added.
With B sequences decoding, r requests a second, D seconds for a step that decodes alone and M for one that takes in a
prompt as well, a step lasts s = D + r s (M - D), and B = r s (output_tokens - 1): TPOT is s. Validation only: no
queue, no spread of sizes, no burst. Measured rows: served.csv, and closed loops in aiconfigurator-core.
"""

import csv
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from ridgepoint.command import progress
from ridgepoint.estimator import Case, estimate
from ridgepoint.hardware import CHIPS
from ridgepoint.inputs import InputError, check_quantity, check_size
from ridgepoint.ops import Op
from ridgepoint.serving.cases import Resolved, resolve
from ridgepoint.serving.engines import ATTENTION, cycle_pass, find_engine
from ridgepoint.serving.intervals import run_spread
from ridgepoint.validation.sets import CSV_FOLDER

TOKEN_BUDGET = 8192  # of a pass; vLLM's and TensorRT-LLM's default on large GPUs
ROUNDS, CLOSE = 200, 1e-4  # of the fixed point, and the change in a round that ends it


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a client sees on average, in seconds."""

    ttft_s: float
    tpot_s: float
    decoding: float  # sequences that decode in a step


def served(case: Case, *, rate_per_s: float | None = None, concurrency: int | None = None) -> Served:
    """Requests of `case` (its batch is not used) at a rate or in a closed loop. Raises InputError if no steady state
    exists: the rate is more than the engine serves.
    """
    resolved = resolve(case)
    engine = resolved.engine
    if concurrency is not None:
        concurrency = min(concurrency, int(estimate(replace(case, batch=1)).memory.concurrent))
    tokens = int(resolved.case.output_tokens) - 1
    kv_len = int(resolved.case.input_tokens) + tokens / 2
    first_s, before_s = pass_s(resolved, 0.0, kv_len, 1.0), 0.0
    step_s = pass_s(resolved, 1.0, kv_len, 0.0)
    for _ in range(ROUNDS):
        if abs(step_s - before_s) < CLOSE * step_s:
            break
        before_s = step_s
        if concurrency is None:
            assert rate_per_s is not None  # one of the two is given
            rate = rate_per_s
        else:
            rate = concurrency / (tokens * step_s + first_s)
        decoding = rate * tokens * step_s
        if decoding > 1e5:
            raise InputError(f"{rate:g} requests a second are more than one engine serves")
        prompts = rate * step_s  # that come during a step
        mixed = min(prompts, 1.0)  # part of the steps that take any in
        alone_s = pass_s(resolved, decoding, kv_len, 0.0)
        together_s = pass_s(resolved, decoding, kv_len, prompts / mixed)
        step_s = 0.5 * step_s + 0.5 * ((1 - mixed) * alone_s + mixed * together_s)
        first_s = pass_s(resolved, decoding, kv_len, max(prompts, 1.0))
    wait_s = (1.5 if engine.asynchronous else 0.5) * step_s  # until the step that takes it in
    busy = min(decoding, 1.0)  # an idle engine starts at once
    return Served(ttft_s=engine.request_s + busy * wait_s + first_s, tpot_s=step_s, decoding=decoding)


def pass_s(resolved: Resolved, decoding: float, kv_len: float, prompts: float) -> float:
    """Seconds of a pass that decodes `decoding` sequences and takes in `prompts` prompts, long ones in chunks."""
    case = resolved.case
    new = int(case.input_tokens) - case.prefix_tokens
    chunks = -(-new // TOKEN_BUDGET)
    total_s = 0.0
    for chunk in range(chunks if prompts else 1):
        context = case.prefix_tokens + new * (chunk + 1) / chunks
        pass_ops = mixed_ops(resolved, decoding, kv_len, prompts, new / chunks, context)
        timed = cycle_pass(
            pass_ops,
            resolved.chip,
            resolved.sustained,
            resolved.engine,
            batch=decoding + prompts,
            tokens=decoding + prompts * new / chunks,
            decode=not prompts,
        )
        total_s += float(sum(op.count * sum(causes.values()) for op, causes in timed))
    # a decode step goes on in each of the chunks' passes: only what they take longer is theirs
    alone_s = 0.0 if chunks == 1 or not prompts or not decoding else pass_s(resolved, decoding, kv_len, 0.0)
    return total_s - (chunks - 1) * alone_s


def mixed_ops(
    resolved: Resolved, decoding: float, kv_len: float, prompts: float, new: float, context: float
) -> list[Op]:
    """The kernels of one pass: what works on tokens on all of them together, attention on each part by itself."""

    def forward(batch: float, q_len: float, kv_len: float) -> list[Op]:
        return resolved.model.forward(
            batch=batch,
            q_len=q_len,
            kv_len=kv_len,
            dtype=resolved.case.dtype,
            precision=resolved.precision,
            absorb=resolved.engine.absorbs_prompts,
        )

    found = [
        op
        for op in forward(decoding + prompts * new, 1, 1)
        if op.kind not in ATTENTION and op.name not in ("lm_head", "sample")
    ]
    found += [op for op in forward(decoding + prompts, 1, 1) if op.name in ("lm_head", "sample")]
    if prompts:
        found += [op for op in forward(prompts, new, context) if op.kind in ATTENTION]
    if decoding:
        found += [op for op in forward(decoding, 1, kv_len) if op.kind in ATTENTION]
    return found


@cache
def served_rows(folder: Path | None) -> list[dict]:
    """The rows of served.csv, and those of the package in `folder`, with the estimates of their metrics."""
    with open(CSV_FOLDER / "served.csv", newline="") as file:
        rows = [*csv.DictReader(file), *(silicon_rows(folder) if folder else ())]
    return [row | served_row(row) for row in progress(rows, "served requests")]


def served_row(row: dict) -> dict:
    """Estimates of one row: ttft_s and tpot_s, floats."""
    engine = find_engine(row["runtime"]) if isinstance(row["runtime"], str) else row["runtime"]
    case = Case(
        hardware=row["hardware"],
        model=row["model"],
        dtype=row["dtype"] or "bf16",
        runtime=engine,
        batch=1,
        input_tokens=check_size("input_tokens", float(row["input_tokens"])),
        output_tokens=check_size("output_tokens", float(row["output_tokens"]), low=2),
        prefix_tokens=check_size("cached_tokens", float(row["cached_tokens"] or 0), low=0),
    )
    if row["rate_per_s"]:
        found = served(case, rate_per_s=check_quantity("rate_per_s", float(row["rate_per_s"]), low=1e-6, high=1e6))
    else:
        found = served(case, concurrency=check_size("concurrency", float(row["concurrency"])))
    low, high = run_spread(engine, CHIPS[row["hardware"]], "decode")
    ends = {"low": low * found.tpot_s, "high": high * found.tpot_s}
    return {"ttft_estimated": found.ttft_s, "tpot_estimated": found.tpot_s, "decoding": found.decoding, **ends}


def silicon_rows(folder: Path) -> list[dict]:
    """Closed loops of aiconfigurator-core on one GPU in 16 bits, means only, exact duplicates left out; in the form of
    served.csv. Their TTFT says nothing: requests of one length run in lock-step. But where most of a request's time is
    the wait for its first token, the KV cache holds only some of them: `concurrency` is then how many decoded at once,
    by Little's law.
    """
    import pandas

    table = pandas.read_csv(folder.parent / "silicon_sample.csv", low_memory=False)
    one = (table["mode"] == "agg") & (table.tp_size == 1) & table.precision.isna() & table.gemm_quant_mode.isna()
    sizes = ["system", "backend", "backend_version", "model_path", "isl", "osl", "batch_size", "silicon_tpot_ms"]
    table = table[one][[*sizes, "silicon_ttft_ms"]].drop_duplicates()
    decode_ms = table.silicon_tpot_ms * (table.osl - 1)
    share = decode_ms / (decode_ms + table.silicon_ttft_ms)
    running = np.where(share < 0.5, np.maximum(np.rint(table.batch_size * share), 1), table.batch_size)
    table = table.assign(running=running.astype(int))
    names = {"trtllm": "tensorrt-llm"}
    return [
        {
            "hardware": row.system.replace("_", "-"),
            "runtime": f"{names.get(row.backend, row.backend)}-{row.backend_version}",
            "model": row.model_path,
            "dtype": "bf16",
            "rate_per_s": "",
            "concurrency": str(row.running),
            "input_tokens": str(row.isl),
            "cached_tokens": "0",
            "output_tokens": str(row.osl),
            "tpot_s": str(row.silicon_tpot_ms / 1e3),
            "ttft_s": "",
        }
        for row in table.itertuples()
    ]
