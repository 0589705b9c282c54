"""The expectation: what a good kernel takes on this chip, by cause. Dispatches each `Op` to its kernel model.

Reads the `Op`, `Chip` and `Runtime` records. Whatever the sizes, cycle_s >= roofline_s.
"""

from dataclasses import replace

import numpy as np

from kernels.attention import decode_attention, index_scores, kv_append, prefill_attention
from kernels.gemm import gemm, power_share, usable_l2_bytes
from kernels.moe import combine, grouped_gemm, route
from kernels.pointwise import pointwise
from kernels.recurrent import scan, state_update
from ops import Number, Op, few_queries, host

# What time is spent on, by what would have to be better for it to shrink.
BOUNDS = {
    "compute": ("tensor", "tensor_overhead", "vector", "softmax", "shared", "l2"),  # and what feeds them on the chip
    "memory": ("dram",),
    "latency": ("wave_tail", "epilogue", "latency", "launch", "host"),
}
CAUSES = {
    "tensor": "tensor cores at their peak rate",
    "tensor_overhead": "tensor cores: padding, issue gaps, sustained clock",
    "vector": "CUDA cores",
    "softmax": "softmax, and widening a narrow cache, that the tensor cores' work does not hide",
    "shared": "shared-memory bandwidth",
    "dram": "DRAM bandwidth",
    "l2": "L2 bandwidth",
    "wave_tail": "SMs idle in the last wave of CTAs",
    "epilogue": "writing results that the main loop does not hide",
    "latency": "pipeline fill, dependent loads",
    "launch": "gaps between kernels, kernel start and end",
    "host": "the engine on the CPU",
}


def cycle_causes(op: Op, chip, arch, *, weights_resident: float = 0.0, resident: Number = 0.0) -> dict[str, Number]:
    """Seconds of one launch of `op` by cause; they add up to cycle_s. Raises KeyError for an unknown kind.

    arch: an Architecture, such as the chip's (kernels.architectures.architecture_of). weights_resident: the part of its
    weights that the kernel finds in the L2 instead of DRAM; resident: of all that a product, attention or an update of
    states reads, as in a benchmark that repeats one call. With both 0 the time is never below the roofline.
    """
    return KERNELS[op.kind](op, chip, arch, weights_resident, resident)


def cycle_s(op: Op, chip, arch) -> Number:
    """Seconds of one launch of `op`. Shape: that of the op's sizes."""
    return sum(cycle_causes(op, chip, arch).values())


def _gemm(op, chip, arch, weights_resident, resident):
    return gemm(op, chip, arch, resident=resident, weights_resident=weights_resident)


def _attention(op, chip, arch, _, resident):
    few = few_queries(op.dims["q_len"], op.dims["kv_len"])
    return (decode_attention if few else prefill_attention)(op, chip, arch, resident=resident)


def _kv_append(op, chip, arch, _, resident):
    return kv_append(op, chip, arch, resident=resident)


def _index_scores(op, chip, arch, *_):
    return index_scores(op, chip, arch)


def _scan(op, chip, arch, *_):
    return scan(op, chip, arch)


def _state_update(op, chip, arch, _, resident):
    return state_update(op, chip, arch, resident=resident)


def _pointwise(op, chip, arch, *_):
    return pointwise(op, chip, arch)


def _mixture(op, chip, arch, *_):
    return {"grouped_gemm": grouped_gemm, "route": route, "combine": combine}[op.kind](op, chip, arch)


POINTWISE = ("norm", "rope", "swiglu", "activation", "residual", "elementwise", "embedding", "softmax", "sample")
POINTWISE += ("quantize", "topk", "pooling", "conv", "conv_update")
KERNELS = {"gemm": _gemm, "attention": _attention, "kv_write": _kv_append}
KERNELS |= {"index_scores": _index_scores, "scan": _scan, "state_update": _state_update}
KERNELS |= dict.fromkeys(POINTWISE, _pointwise) | dict.fromkeys(("grouped_gemm", "route", "combine"), _mixture)


def sustained(arch, chip):
    """`arch` with MMA rates that hold on `chip`: benchmarks of one kernel run at boost clock and often on zeros, a
    model's pass at the clock that the power limit leaves for data that flips bits.
    """
    share = chip.tensor_sustained_share
    dense = replace(arch.gemm, tensor_efficiency=min(arch.gemm.tensor_efficiency, share), power_share=share)
    arch = replace(arch, gemm=dense)
    return replace(
        arch,
        narrow=replace(arch.narrow, tensor_efficiency=min(arch.narrow.tensor_efficiency, power_share("fp8", arch))),
        moe=replace(arch.moe, tensor_efficiency=min(arch.moe.tensor_efficiency, share)),
        attention=replace(arch.attention, mma_efficiency=min(arch.attention.mma_efficiency, share)),
    )


def cycle_pass(ops: list[Op], chip, arch, runtime, *, batch: Number, decode: bool, l2_persistent: bool = False):
    """[(op, causes), ...] of one pass as `runtime` runs it, the host last. arch: `sustained` on the chip.

    The host launches ahead of the GPU, so it shows only where its launches take longer than the kernels, and
    for what it does between passes.
    """
    if decode and runtime.attention:
        arch = replace(arch, attention=replace(arch.attention, **runtime.attention))
    weights_resident = 0.0
    if l2_persistent:  # the L2 holds this part of what a pass reads
        weights_bytes = sum(op.count * op.weight_bytes for op in ops if op.kind == "gemm")
        weights_resident = min(1.0, usable_l2_bytes(chip, arch) / weights_bytes)
    timed = []
    for op in ops:
        causes = cycle_causes(op, chip, arch, weights_resident=weights_resident)
        if op.kind == "attention" and decode and runtime.kv_copies:
            copied = runtime.kv_copies * op.kv_bytes * op.dims["heads"] / op.dims["kv_heads"]
            causes["dram"] = causes["dram"] + copied / chip.dram_read_bytes_per_s
        elif KERNELS[op.kind] is _pointwise:
            causes = {cause: seconds * runtime.pointwise_passes for cause, seconds in causes.items()}
        if not runtime.gaps:
            del causes["launch"]
        elif decode and op.kind in runtime.fused_into_attention:  # no launch or wait of its own, but its stream
            causes = {cause: causes[cause] for cause in ("dram", "vector") if np.any(causes.get(cause, 0.0))}
        timed.append((op, causes))
    if not runtime.gaps:
        return timed
    gpu_s = sum(op.count * sum(causes.values()) for op, causes in timed)
    launches = 0 if decode and runtime.graph_decode else sum(op.count for op in ops)
    pass_s = np.maximum(gpu_s, launches * runtime.host_launch_s) + runtime.step_s + batch * runtime.sequence_s
    if not decode:
        pass_s = np.maximum(pass_s, runtime.prefill_floor_s)
    return [*timed, (host(), {"host": pass_s - gpu_s})]
