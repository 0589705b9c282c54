"""`--method seed`: the accounting of the estimator that this project grew out of, reproduced exactly, and the
waterfall from its numbers to ours. Known to be wrong in the ways that `CORRECTIONS` lists.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from ridgepoint.hardware import A100_80GB_PCIE
from ridgepoint.inputs import InputError
from ridgepoint.kernels.roofline import Peaks, roofline_causes, roofline_s
from ridgepoint.model import Model, forward
from ridgepoint.ops import Number, Op, visible_keys
from ridgepoint.serving.cases import Resolved
from ridgepoint.serving.estimates import Estimate, summed
from ridgepoint.serving.memory import memory
from ridgepoint.serving.phases import Phase, phase_kernel

if TYPE_CHECKING:
    from ridgepoint.estimator import Case
    from ridgepoint.readers.catalogue import AnyModel

ELEM_BYTES = 2
QUERY_BLOCK = 128  # rows of Q after which it reads all of K and V again
SAMPLES = 8  # decode steps that it samples


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What roofline.py needs to know of a chip. Source of the defaults: the earlier tool's constants."""

    peak_flops_per_s: float = 312e12
    vector_flops_per_s: float = 77.97e12  # its "CUDA core" peak: fp16 without tensor cores, 4 x FP32
    dram_bytes_per_s: float = 1.935e12

    def tensor_flops_per_s(self, dtype: str) -> float:
        return self.peak_flops_per_s


# Fields of a case that it has no say in: only their defaults
FIXED: tuple[str, ...] = ("dtype", "weights", "activations", "kv_cache", "prefix_tokens", "chunked_prefill")
FIXED += ("speculative", "samples", "imbalance", "l2_persistent")


def machine_of(case: "Case") -> Machine:
    """Its constants, with the case's tensor peak if it names one."""
    return Machine() if case.peak_tflops is None else Machine(peak_flops_per_s=case.peak_tflops * 1e12)


def check(case: "Case", model: "AnyModel") -> Model:
    """The model, if the case is one that it knew; else raises InputError. Its constants are one GPU's."""
    if any(np.ndim(size) for size in (case.batch, case.input_tokens, case.output_tokens)):
        raise InputError("method seed takes single sizes, not arrays")
    if case.attention != "flash":
        raise InputError("method seed knows flash attention only")
    if not isinstance(model, Model):
        raise InputError(f"method seed needs an explicit graph, and {model.name} is traced from its code")
    if [letter for _, letter, _ in model.parts] != ["F", "D"] or model.kv_lora_rank:
        raise InputError(f"method seed knows dense models with full attention only, not {model.name}")
    for field in fields(case):
        if field.name in FIXED and getattr(case, field.name) != field.default:
            raise InputError(
                f"method seed knows no {field.name.replace('_', '-')}: leave it out, or take another method"
            )
    if case.hardware not in (A100_80GB_PCIE.name, A100_80GB_PCIE):
        raise InputError(
            f"method seed is about the {A100_80GB_PCIE.name} as it is; of it only --peak-tflops can change"
        )
    return model


CORRECTIONS = (  # in the order of the waterfall: attention's bytes first, so that its FLOPs then count
    ("embedding", "the embedding is a gather, not a GEMM over the vocabulary"),
    ("LM head", "the LM head runs on the last position of each sequence only"),
    ("block re-reads", "K and V blocks come from DRAM once, then from L2"),
    ("GQA reads", "K and V are read once per KV head, not once per query head"),
    ("causality", "a query sees only the keys up to its own position"),
    ("softmax", "softmax runs on CUDA cores beside the MMAs, not on tensor cores"),
    ("missing kernels", "RoPE, KV write, gate x up, sampling added; QKV, gate+up, add+norm fused"),
    ("forgotten prompt", "decode attends to the prompt too; all steps, not 8 samples"),
    ("peaks", "peaks from counts and clock; FP32 rate for CUDA cores"),
    ("real kernels", "from the bound to the expectation: --method cycle"),
)


def sampled_kv_len(output_tokens: int) -> np.ndarray:
    """The context lengths of the decode steps it samples: 2, 258, 514, ..., 1794 for 2,048 output tokens."""
    return 2.0 + max(1, output_tokens // SAMPLES) * np.arange(SAMPLES)


def seed_ops(model: Model, *, batch: int, q_len: int, kv_len: Number, fixed: frozenset[str] = frozenset()) -> list[Op]:
    """Its kernels for one pass, with the corrections named in `fixed` (first six of CORRECTIONS) applied."""
    hidden, heads, head_dim = model.hidden, model.heads, model.head_dim
    tokens = batch * q_len

    def op(name: str, kind: str, flops: Number, elems: Number, count: int = 1) -> Op:
        unit = "tensor" if kind in ("gemm", "attention") else "vector"
        nbytes = ELEM_BYTES * elems
        return Op(name=name, kind=kind, unit=unit, dtype="fp16", flops=flops, in_bytes=nbytes, count=count, dims={})

    def gemm(name: str, rows: int, d_in: int, d_out: int, count: int = 1) -> Op:
        elems = d_in * d_out + rows * d_in + rows * d_out
        return op(name, "gemm", 2 * rows * d_in * d_out, elems, count)

    layers, kv_width = model.layers, model.kv_heads * head_dim
    pairs = visible_keys(q_len, kv_len) if "causality" in fixed else q_len * kv_len
    softmax_flops = 0 if "softmax" in fixed else 5 * batch * heads * pairs
    read_heads = model.kv_heads if "GQA reads" in fixed else heads
    reads = 1 if "block re-reads" in fixed else -(-q_len // QUERY_BLOCK)
    q_elems, kv_elems = batch * heads * q_len * head_dim, 2 * batch * read_heads * kv_len * head_dim
    elems = tokens * hidden
    if "embedding" in fixed:
        first = op("embedding", "embedding", 0, 2 * elems)
    else:
        first = gemm("embedding", tokens, model.vocab, hidden)
    head_rows = batch if "LM head" in fixed else tokens
    return [
        first,
        op("norm", "norm", 7 * elems, 2 * elems, 2 * layers + 1),
        gemm("q_proj", tokens, hidden, heads * head_dim, layers),
        gemm("k_proj", tokens, hidden, kv_width, layers),
        gemm("v_proj", tokens, hidden, kv_width, layers),
        op(
            "attention",
            "attention",
            4 * batch * heads * head_dim * pairs + softmax_flops,
            2 * q_elems + kv_elems * reads,
            layers,
        ),
        gemm("o_proj", tokens, heads * head_dim, hidden, layers),
        op("residual_add", "residual", elems, 3 * elems, 2 * layers),
        gemm("gate_proj", tokens, hidden, model.intermediate, layers),
        gemm("up_proj", tokens, hidden, model.intermediate, layers),
        op("silu", "swiglu", 5 * tokens * model.intermediate, 2 * tokens * model.intermediate, layers),
        gemm("down_proj", tokens, model.intermediate, hidden, layers),
        gemm("lm_head", head_rows, hidden, model.vocab),
    ]


def passes(case: "Case", model: Model) -> tuple[list[Op], list[Op]]:
    """Its kernels of the prefill, and of the decode steps that it samples, as arrays."""
    batch, prompt, output = int(case.batch), int(case.input_tokens), int(case.output_tokens)
    prefill = seed_ops(model, batch=batch, q_len=prompt, kv_len=prompt)
    return prefill, seed_ops(model, batch=batch, q_len=1, kv_len=sampled_kv_len(output))


def estimated(resolved: Resolved) -> Estimate:
    """TTFT and TPOT by its kernels, constants and sampled decode steps, with output_tokens decode steps, and a
    throughput that leaves the batch out. Raises InputError for a case that it can't take.
    """
    case, model = resolved.case, check(resolved.case, resolved.model)
    if resolved.precision is not None:
        raise InputError("method seed knows one format for everything: no --weights, --activations, --kv-cache")
    machine, used = machine_of(case), memory(resolved)
    if not used.fits:
        raise InputError(f"method seed knows no queue: {used.max_batch:,} of {case.batch:,} sequences run at once")
    steps, (prefill_ops, step_ops) = case.output_tokens, passes(case, model)
    prefill = tuple(phase_kernel(op, roofline_causes(op, machine)) for op in prefill_ops)
    decode = tuple(
        phase_kernel(op, roofline_causes(op, machine), over_steps=lambda x: float(np.mean(x)) * steps)
        for op in step_ops
    )
    phases = (Phase(steps=1, kernels=prefill), Phase(steps=steps, kernels=decode))
    return summed(resolved, used, *phases, tokens=steps, sequences=1, machine=machine)


def waterfall(est: Estimate, expected: Estimate) -> list[dict]:
    """One row per correction: TTFT and TPOT after it, and what it changed, in seconds. The first row is the
    earlier tool's result, the last but one the roofline's, the last `expected`, by the cycle model;
    the changes add up to the difference.
    """
    case, model, chip, machine = est.case, check(est.case, est.model), est.chip, est.machine
    batch, prompt, output = int(case.batch), int(case.input_tokens), int(case.output_tokens)
    sampled, own = sampled_kv_len(output), prompt + np.arange(1.0, max(output, 2))

    def times(prefill_ops: list[Op], decode_ops: list[Op], on: Peaks) -> tuple[float, float]:
        def pass_s(ops: list[Op]) -> float:
            return float(sum(np.mean(op.count * roofline_s(op, on)) for op in ops))

        return pass_s(prefill_ops), pass_s(decode_ops)

    def earlier(fixed: frozenset[str]) -> tuple[float, float]:
        return times(
            seed_ops(model, batch=batch, q_len=prompt, kv_len=prompt, fixed=fixed),
            seed_ops(model, batch=batch, q_len=1, kv_len=sampled, fixed=fixed),
            machine,
        )

    def ours(kv_len: np.ndarray, on: Peaks) -> tuple[float, float]:
        return times(
            forward(model, batch=batch, q_len=prompt, kv_len=prompt, dtype=case.dtype),
            forward(model, batch=batch, q_len=1, kv_len=kv_len, dtype=case.dtype),
            on,
        )

    names = [name for name, _ in CORRECTIONS]
    stages = [earlier(frozenset(names[:done])) for done in range(7)]
    stages += [ours(sampled, machine), ours(own, machine), ours(own, chip)]
    stages.append((float(expected.ttft_s), float(expected.tpot_s)))
    rows = [
        {
            "correction": "earlier estimator",
            "why": "--method seed",
            "ttft_s": stages[0][0],
            "tpot_s": stages[0][1],
        }
    ]
    for (name, why), before, after in zip(CORRECTIONS, stages[:-1], stages[1:], strict=True):
        rows.append(
            {
                "correction": name,
                "why": why,
                "ttft_s": after[0],
                "tpot_s": after[1],
                "ttft_change_s": after[0] - before[0],
                "tpot_change_s": after[1] - before[1],
            }
        )
    return rows
