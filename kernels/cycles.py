"""The expectation: what a good kernel takes on this chip, by cause. Dispatches each `Op` to its kernel model.

Reads the `Op`, `Chip` and `Architecture` records. Whatever the sizes, cycle_s >= roofline_s.

The seconds of a cause are what a higher rate of it would save: its share of the time is d ln(time) / d ln(1 / rate), so
that 1 % more DRAM bandwidth takes 1 % of the share of `dram` off the time. What is hidden behind something longer has
none, however long it takes. The shares add up, since all rates together twice as high halve a time; SMs that idle in
the last wave (wave_tail) idle less also with whatever rate on the chip binds there. tests/test_causes.py holds every
kernel to it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ridgepoint.kernels.architectures import Architecture
from ridgepoint.kernels.attention import decode_attention, index_scores, kv_append, prefill_attention
from ridgepoint.kernels.gemm import gemm, power_share
from ridgepoint.kernels.moe import combine, grouped_gemm, route
from ridgepoint.kernels.pointwise import pointwise
from ridgepoint.kernels.recurrent import scan, state_update
from ridgepoint.ops import Causes, Number, Op, Seconds, few_queries

if TYPE_CHECKING:
    from ridgepoint.hardware import Chip

# Causes, by what would have to be better for the time to shrink.
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
    "l2": "bandwidth of the L2, and of an SM's port to it",
    "wave_tail": "SMs idle in the last wave of CTAs",
    "epilogue": "writing results that the main loop does not hide",
    "latency": "waits: pipeline fill, dependent loads, walks along rows, merging what was split",
    "launch": "gaps between kernels, kernel start and end",
    "host": "the engine on the CPU",
}
# The same in a word or two, as of a phase that spends its time on them.
SHORT = {
    "tensor": "tensor cores",
    "tensor_overhead": "tensor-core overhead",
    "vector": "CUDA cores",
    "softmax": "softmax",
    "shared": "shared memory",
    "dram": "DRAM bandwidth",
    "l2": "L2 bandwidth",
    "wave_tail": "idle SMs",
    "epilogue": "writing results",
    "latency": "waiting for loads",
    "launch": "kernel launches",
    "host": "the host",
}


def cycle_causes(
    op: Op, chip: "Chip", arch: Architecture, *, weights_resident: Number = 0.0, resident: Number = 0.0
) -> Causes:
    """Seconds of one launch of `op` by cause, as above; they add up to cycle_s. Raises KeyError for an unknown kind.

    arch: an Architecture, such as the chip's (kernels.architectures.architecture_of). weights_resident: the part of its
    weights that the kernel finds in the L2 instead of DRAM; resident: of all that a product, attention or an update of
    states reads, as in a benchmark that repeats one call. With both 0 the time is never below the roofline.
    """
    return KERNELS[op.kind](op, chip, arch, weights_resident, resident)


def cycle_s(op: Op, chip: "Chip", arch: Architecture) -> Seconds:
    """Seconds of one launch of `op`. Shape: that of the op's sizes."""
    return sum(cycle_causes(op, chip, arch).values())


if TYPE_CHECKING:
    Timed = Callable[[Op, Chip, Architecture, Number, Number], Causes]  # weights_resident, resident

    class Rereading(Protocol):
        def __call__(self, op: Op, chip: Chip, arch: Architecture, *, resident: Number) -> Causes: ...


def _gemm(op: Op, chip: "Chip", arch: Architecture, weights_resident: Number, resident: Number) -> Causes:
    return gemm(op, chip, arch, resident=resident, weights_resident=weights_resident)


def _attention(op: Op, chip: "Chip", arch: Architecture, _: Number, resident: Number) -> Causes:
    few = few_queries(op.dims["q_len"], op.dims["kv_len"])
    return (decode_attention if few else prefill_attention)(op, chip, arch, resident=resident)


def _rereading(kernel: "Rereading") -> "Timed":
    """`kernel` as KERNELS calls it: its operands may be in the L2, no weights of their own."""
    return lambda op, chip, arch, _, resident: kernel(op, chip, arch, resident=resident)


def _streaming(kernel: "Callable[[Op, Chip, Architecture], Causes]") -> "Timed":
    """`kernel` as KERNELS calls it: nothing that it reads is taken as in the L2."""
    return lambda op, chip, arch, *_: kernel(op, chip, arch)


POINTWISE: tuple[str, ...] = ("norm", "rope", "swiglu", "activation", "residual", "elementwise", "embedding", "softmax")
POINTWISE += ("sample", "quantize", "topk", "pooling", "conv", "conv_update")
KERNELS: "dict[str, Timed]" = {"gemm": _gemm, "attention": _attention}
KERNELS |= {
    kind: _rereading(kernel)
    for kind, kernel in {"kv_write": kv_append, "state_update": state_update, "grouped_gemm": grouped_gemm}.items()
}
KERNELS |= {
    kind: _streaming(kernel)
    for kind, kernel in {"index_scores": index_scores, "scan": scan, "route": route, "combine": combine}.items()
}
KERNELS |= dict.fromkeys(POINTWISE, _streaming(pointwise))


def sustained(arch: Architecture, chip: "Chip") -> Architecture:
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
