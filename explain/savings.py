"""What would make a run faster, found by estimating it: the chip or the host without its largest cause, a format."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ridgepoint.hardware import with_tensor_peak
from ridgepoint.inputs import InputError
from ridgepoint.kernels.cycles import SHORT

LEAST = 0.02  # of the time: what saves less is not worth a word
MOST = 2  # ways that are estimated


def chip_with(**factors: float) -> Callable:
    """The case on a chip whose fields are so many times as large."""

    def changed(case):
        chip = case.hardware
        return replace(case, hardware=replace(chip, **{name: k * getattr(chip, name) for name, k in factors.items()}))

    return changed


def with_twice_the_tensor_peak(case):
    chip = case.hardware
    return replace(case, hardware=with_tensor_peak(chip, 2 * chip.tensor_flops_per_s("fp16")))


def without_a_host(case):
    """The case run by the same kernels, without a gap between them, and by a host that costs nothing."""
    costs = dict.fromkeys(("launch_s", "step_s", "sequence_s", "request_s", "gap_s"), 0.0)
    return replace(case, runtime=replace(case.runtime, **costs))


# What would have less of these causes: (causes, what it is, the case with it). Idle SMs and epilogues have none.
WAYS = (
    (("dram",), "twice the DRAM bandwidth", chip_with(dram_bytes_per_s=2.0)),
    (("tensor", "tensor_overhead"), "twice the tensor-core rate", with_twice_the_tensor_peak),
    (("vector", "softmax"), "twice the CUDA cores", chip_with(fp32_cores_per_sm=2)),
    (("shared",), "twice the shared-memory bandwidth", chip_with(shared_bytes_per_clock=2.0)),
    (("l2",), "twice the L2 bandwidth", chip_with(l2_bytes_per_clock=2.0)),
    (("latency",), "half the latency of DRAM and L2", chip_with(dram_latency_s=0.5, l2_latency_s=0.5)),
    (("launch", "host"), "no host and no gaps between kernels", without_a_host),
)


class Saving(NamedTuple):
    """What a run would save with one thing changed: the difference of two estimates."""

    what: str
    because: str  # the cause that it is about, in a word or two, and that cause's share of the time; "" for a format
    because_share: float
    saved_s: float  # of the time until the last sequence is done
    share: float  # of that time
    case: object  # with the change


def savings(est, estimate: Callable) -> list[Saving]:
    """The one or two of WAYS, and of the narrower formats, that the causes of the whole run point to, those that save
    most first: at most MOST estimates. Nothing for what runs on no real chip, or not at all.
    """
    if est.machine is not est.chip or not est.waves or np.ndim(est.latency_s):
        return []
    case = replace(est.case, model=est.model, hardware=est.chip, peak_tflops=None)
    total = {cause: float(value) for cause, value in est.work.causes().items()}
    whole_s = sum(total.values())
    parts = [({cause: total.get(cause, 0.0) for cause in causes}, what, way) for causes, what, way in WAYS]
    parts.sort(key=lambda part: -sum(part[0].values()))
    found = [part for part in parts[:MOST] if sum(part[0].values()) >= LEAST * whole_s]
    largest = max(total, key=lambda cause: total[cause])
    if est.precision is None and largest in ("dram", "tensor", "tensor_overhead"):
        found.insert(1, ({}, *narrower(est)))
    saved = []
    for causes, what, way in found[:MOST]:
        try:
            changed = way(case)
            saved_s = float(est.batch_latency_s - estimate(changed).batch_latency_s)
        except InputError:  # the chip or the model has no such
            continue
        because = SHORT[max(causes, key=lambda cause: causes[cause])] if causes else ""
        saved.append(
            Saving(
                what=what,
                case=changed,
                because=because,
                because_share=sum(causes.values()) / whole_s,
                saved_s=saved_s,
                share=saved_s / float(est.batch_latency_s),
            )
        )
    return sorted((one for one in saved if one.share >= LEAST), key=lambda one: -one.share)


def narrower(est) -> tuple[str, Callable]:
    """The flag of a narrower format that the chip multiplies in, or that its cache is kept in where that is read most;
    and what it makes of a case.
    """
    if est.decode.steps and est.decode.total("kv_bytes") > est.decode.total("weight_bytes"):
        return "--kv-cache fp8", lambda case: replace(case, kv_cache="fp8")
    name = "fp8" if est.chip.fma_rates()["fp8"] else "int8"
    return f"--precision {name}", lambda case: replace(case, weights=name, activations=name)
