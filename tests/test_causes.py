"""Causes tell the truth: a cause's share of a time is what a higher rate of what it stands for would save of it.

By finite differences: the share of `dram` is d ln(time) / d ln(1 / DRAM bandwidth), and so on for every cause. What is
hidden behind something longer has no share. The slopes to both sides of a rate are compared: where two things tie, a
share may be either.
"""

from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from invariants import any_chips, examples
from kernel_kinds import FP16 as NUMBER
from kernel_kinds import KINDS, experts, made, product

import kernels.attention
from ridgepoint import ops
from ridgepoint.estimator import Case, estimate
from ridgepoint.hardware import A100_80GB_PCIE, CHIPS, Chip, with_tensor_peak
from ridgepoint.inputs import InputError
from ridgepoint.kernels.architectures import ARCHITECTURES, Architecture, architecture_of
from ridgepoint.kernels.cycles import CAUSES, cycle_causes, sustained
from ridgepoint.layers.formats import precision_of
from ridgepoint.serving.engines import ENGINES, Engine, find_engine

POINTS = 0.03  # of share: of the slope over a step, and of a p-norm
STEP = 1.0001  # short: a longer one may reach where another tile is the faster


@dataclass(frozen=True, kw_only=True)
class Call:
    """A kernel, and all that its time comes from."""

    op: ops.Op
    chip: Chip
    arch: Architecture
    engine: Engine
    resident: float = 0.0
    exp_per_clock: float = kernels.attention.EXP_PER_CLOCK

    def causes(self):
        with patch.object(kernels.attention, "EXP_PER_CLOCK", self.exp_per_clock):
            found = self.engine.causes(self.op, self.chip, self.arch, resident=self.resident)
        assert set(found) <= set(CAUSES)
        return {cause: float(seconds) for cause, seconds in found.items()}

    def seconds(self):
        return sum(self.causes().values())

    def with_chip(self, **changes):
        return replace(self, chip=replace(self.chip, **changes))

    def with_fits(self, **parts):
        """With other constants: attention={"launch_clocks": 7000}."""
        changed = {part: replace(getattr(self.arch, part), **changes) for part, changes in parts.items()}
        return replace(self, arch=replace(self.arch, **changed))

    def scaled(self, by, **parts):
        """With these constants times `by`, and where an engine's kernels have values of their own, those too."""

        def of(record, names):
            return {name: getattr(record, name) * by for name in names}

        changed = self.with_fits(**{part: of(getattr(self.arch, part), names) for part, names in parts.items()})
        choices = tuple(
            replace(
                choice,
                **{
                    part: {name: value * (by if name in names else 1) for name, value in getattr(choice, part).items()}
                    for part, names in parts.items()
                    if part in ("attention", "narrow", "recurrent")
                },
            )
            for choice in self.engine.choices
        )
        return replace(changed, engine=replace(self.engine, choices=choices))


# What each cause stands for, `by` times as fast -----------------------------------------------------------------


def dram(call, by):
    return call.with_chip(dram_bytes_per_s=call.chip.dram_bytes_per_s * by)


def tensor(call, by):
    return replace(call, chip=with_tensor_peak(call.chip, call.chip.tensor_flops_per_s("fp16") * by))


def l2(call, by):
    call = call.with_chip(l2_bytes_per_clock=call.chip.l2_bytes_per_clock * by)
    call = call.scaled(by, attention=["sm_bytes_per_clock"])
    return replace(call, arch=replace(call.arch, port_bytes_per_clock=call.arch.port_bytes_per_clock * by))


def shared(call, by):
    return call.with_chip(shared_bytes_per_clock=call.chip.shared_bytes_per_clock * by)


def vector(call, by):
    """CUDA cores come in whole numbers: fewer operations instead."""
    if call.op.kind == "attention":  # widens its cache beside the softmax
        return call
    if call.op.unit == "vector":
        call = replace(call, op=replace(call.op, flops=call.op.flops / by))
    return call.scaled(1 / by, narrow=["dequant8_ops", "dequant4_ops"])


def softmax(call, by):
    if call.op.kind != "attention":
        return call
    call = call.scaled(1 / by, attention=["vector_ops"], narrow=["dequant8_ops", "dequant4_ops"])
    return replace(call, exp_per_clock=call.exp_per_clock * by)


def epilogue(call, by):
    return call.scaled(by, gemm=["epilogue_bytes_per_clock"]).scaled(1 / by, gemm=["split_k_s"])


def latency(call, by):
    chip, fit = call.chip, call.arch.pointwise
    call = call.with_chip(dram_latency_s=chip.dram_latency_s / by, l2_latency_s=chip.l2_latency_s / by)
    rates = {kind: rate * by for kind, rate in fit.elements_per_clock.items()}
    call = call.with_fits(pointwise={"elements_per_clock": rates, "start_s": fit.start_s / by})
    waits = {"gemm": ["wave_clocks", "step_clocks", "dram_ramp_s"], "narrow": ["dequant_clocks"]}
    return call.scaled(1 / by, recurrent=["product_clocks"], **waits)


def launch(call, by):
    gap_s = call.engine.gap_s
    call = replace(call, engine=replace(call.engine, gap_s=None if gap_s is None else gap_s / by))
    launches = {"gemm": ["launch_clocks"], "pointwise": ["launch_s"], "moe": ["layer_clocks"]}
    return call.scaled(1 / by, attention=["launch_clocks", "kernel_clocks"], **launches)


def latency_and_launch(call, by):
    return launch(latency(call, by), by)


ON_CHIP = {  # whatever of them binds, SMs idle in the last wave wait for it
    ("tensor", "tensor_overhead"): tensor,
    ("vector",): vector,
    ("softmax",): softmax,
    ("shared",): shared,
    ("l2",): l2,
}
OTHERS = {("dram",): dram, ("epilogue",): epilogue, ("latency",): latency, ("launch",): launch}
# The kernel that merges attention's splits, and the small ones before a scan, each are launch and latency together.
TOGETHER = {("dram",): dram, ("epilogue",): epilogue, ("latency", "launch"): latency_and_launch}
SEVERAL_KERNELS = ("attention", "scan")


def savings(call, faster):
    """d ln(time) / d ln(1 / rate) to both sides of the rate, the smaller first."""
    now_s, faster_s, slower_s = (each.seconds() for each in (call, faster(call, STEP), faster(call, 1 / STEP)))
    return sorted(np.log([now_s / faster_s, slower_s / now_s]) / np.log(STEP))


def check_shares(call):
    causes, total_s = call.causes(), call.seconds()
    idle = causes.get("wave_tail", 0.0) / total_s
    knobs = ON_CHIP | (TOGETHER if call.op.kind in SEVERAL_KERNELS else OTHERS)
    least = most = 0.0
    for names, faster in knobs.items():
        share = sum(causes.get(name, 0.0) for name in names) / total_s
        low, high = savings(call, faster)
        assert share - POINTS < high, (names, share, low, high)
        spare = idle if names in ON_CHIP or "latency" in names else 0.0
        assert low < share + spare + POINTS, (names, share, low, high, idle)
        least, most = least + low, most + high
    assert least - POINTS < 1 < most + POINTS  # nothing that takes time is left out


# Kernels of all kinds -------------------------------------------------------------------------------------------


narrow_caches = st.builds(
    lambda b, q, cached, kv_heads, group, elem_bytes: ops.attention(
        "a",
        batch=b,
        q_len=q,
        kv_len=q + cached,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=128,
        kv_elem_bytes=elem_bytes,
        **NUMBER,
    ),
    st.integers(1, 256),
    st.sampled_from([1, 1, 5, 300, 4000]),
    st.integers(0, 8000),
    st.sampled_from([1, 8, 32]),
    st.sampled_from([1, 4, 8]),
    st.sampled_from([0.53125, 1.0, 1.015625]),
)


def fused(op):
    return replace(op, dims=dict(op.dims) | {"fused": True}) if op.kind in ("rope", "kv_write") else op


@st.composite
def calls(draw, name):
    """A launch of a kind of kernel, as an engine runs it in a pass or in a benchmark."""
    chip = draw(any_chips)
    if name == "narrow cache":
        op = draw(narrow_caches)
    else:
        kind = KINDS[name]
        try:
            op = made(kind, {size: draw(values) for size, values in kind.sizes.items()}, chip)
        except InputError:  # formats that this chip can't multiply
            assume(False)
        op = draw(st.sampled_from([op, fused(op)]))
    assume(chip.tensor_flops_per_s("fp16") < 0.9e18)  # a higher peak is refused
    engine, arch = draw(st.sampled_from(list(ENGINES.values()))), architecture_of(chip)
    if draw(st.booleans()):
        arch = engine.on(sustained(arch, chip))
    resident = draw(st.sampled_from([0.0, 0.0, 0.0, 0.6, 1.0]))
    return Call(op=op, chip=chip, arch=arch, engine=engine, resident=resident)


@pytest.mark.parametrize("kind", [*KINDS, "narrow cache"])
@given(st.data())
@examples(20)
def test_a_share_is_what_a_higher_rate_would_save(kind, data):
    check_shares(data.draw(calls(kind)))


def recurrence(rule, q_len):
    shape = {"key_heads": 16, "value_heads": 32, "key_dim": 256, "value_dim": 256, "chunk": 256, "decays": 1}
    shape |= {"delta_rule": True, "decays": 256} if rule == "kda" else {"delta_rule": rule == "delta"}
    return ops.recurrence("r", batch=4, q_len=q_len, state_elem_bytes=4, weights=0, **shape, **NUMBER)


def attention(batch, q_len, kv_len=3000):
    sizes = {"batch": batch, "q_len": q_len, "kv_len": kv_len, "heads": 32, "kv_heads": 8, "head_dim": 128}
    return ops.attention("a", **sizes, **NUMBER)


def indexed(split):
    sizes = {"batch": 8, "q_len": 1 if split else 500, "keys": 4000, "pairs": 4000 if split else 500 * 3750}
    return ops.index_scores("i", heads=64, dim=128, split=split, **sizes, **NUMBER)


def elementwise(count):
    yield ops.rms_norm("n", tokens=count, hidden=4096, **NUMBER)
    yield ops.swiglu("s", tokens=count, intermediate=14336, **NUMBER)
    yield ops.rope("r", tokens=count, heads=32, kv_heads=8, head_dim=128, **NUMBER)
    yield ops.kv_write("w", tokens=count, kv_heads=8, head_dim=128, **NUMBER)
    yield ops.route("r", tokens=count, experts=256, top_k=8, **NUMBER)
    yield ops.combine("c", tokens=count, top_k=8, hidden=4096, **NUMBER)


USUAL = [op for count in (8, 700, 16384) for op in elementwise(count)]
USUAL += [fused(op) for op in USUAL if op.kind in ("rope", "kv_write")]
USUAL += [ops.linear("g", tokens=m, d_in=4096, d_out=n, **NUMBER) for m in (1, 100, 16384) for n in (1024, 28672)]
USUAL += [product(precision_of("fp16", "int8"), m, 4096, 4096) for m in (1, 100, 16384)]
USUAL += [experts(m, (64, 6), 2048, 1408) for m in (1, 100, 16384)]
USUAL += [attention(1, 1), attention(40, 1), attention(1, 500), attention(40, 3000)]
USUAL += [recurrence(rule, q_len) for rule in ("mamba", "delta", "kda") for q_len in (1, 4000)]
USUAL += [indexed(split) for split in (True, False)]


@pytest.mark.parametrize("runtime", ["vllm", "pytorch"])
@pytest.mark.parametrize("name", ["a100-80gb-sxm", "l40s", "h100-sxm", "b200-sxm"])
def test_shares_of_usual_kernels(name, runtime):
    chip, engine = CHIPS[name], find_engine(runtime)
    arch = engine.on(sustained(architecture_of(chip), chip))
    for op in USUAL:
        for resident in (0.0, 0.7):
            check_shares(Call(op=op, chip=chip, arch=arch, engine=engine, resident=resident))


def norm_s_and_causes(dram_bytes_per_s):
    est = estimate(Case(hardware=replace(A100_80GB_PCIE, dram_bytes_per_s=dram_bytes_per_s)))
    kernel = next(kernel for kernel in est.prefill.kernels if kernel.name == "attn_add_norm")
    return kernel.time_s, kernel.causes


def test_a_norm_whose_rows_walk_longer_than_dram_streams_has_no_dram():
    (slow_s, causes), (fast_s, _) = norm_s_and_causes(1.8e12), norm_s_and_causes(100e12)
    assert slow_s == fast_s and causes["dram"] == 0.0
    assert norm_s_and_causes(1e12)[1]["latency"] < 0.02 * norm_s_and_causes(1e12)[0]


@pytest.mark.parametrize("name", CHIPS)
def test_where_the_power_limit_binds_nothing_on_the_chip_but_the_tensor_cores_does(name):
    chip, large = CHIPS[name], ops.linear("g", tokens=16384, d_in=8192, d_out=8192, **NUMBER)
    arch = architecture_of(chip)
    low, none = (
        cycle_causes(large, chip, replace(arch, gemm=replace(arch.gemm, power_share=share))) for share in (0.3, 1.0)
    )
    hidden = ("vector", "shared", "wave_tail", "epilogue")
    assert all(low[cause] == 0.0 for cause in hidden) and low["tensor_overhead"] > 2 * low["tensor"]
    assert none["epilogue"] > 0.0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_causes_of_an_array_are_those_of_its_elements(name):
    chip = next(chip for chip in CHIPS.values() if chip.architecture == name)
    arch, sweep = architecture_of(chip), np.array([1.0, 40.0, 700.0, 9000.0])

    for make in (
        lambda n: ops.linear("g", tokens=n, d_in=4096, d_out=1024, **NUMBER),
        lambda n: product(precision_of("fp16", "int8"), n, 4096, 1024),
        lambda n: experts(n, (8, 2), 4096, 1024),
        lambda n: attention(n, 1),
        lambda n: attention(n, 500),
        lambda n: ops.rms_norm("n", tokens=n, hidden=4096, **NUMBER),
        lambda n: ops.kv_write("w", tokens=n, kv_heads=8, head_dim=128, **NUMBER),
    ):
        swept = cycle_causes(make(sweep), chip, arch)
        for index, size in enumerate(sweep):
            one = cycle_causes(make(int(size)), chip, arch)
            total_s = sum(one.values())
            for cause in swept:
                found = np.broadcast_to(swept[cause], sweep.shape)[index]
                assert found == pytest.approx(float(one[cause]), rel=1e-9, abs=1e-9 * total_s), cause


# Whole estimates ------------------------------------------------------------------------------------------------

FORMATS = ({}, {"weights": "fp8", "activations": "fp8"}, {"weights": "int4"})
CASES = [
    *(Case(hardware=name, **form) for name in ("a100-80gb-sxm", "h100-sxm", "l40s", "b200-sxm") for form in FORMATS),
    *(Case(hardware=name, model="mixtral-8x7b", batch=32) for name in ("a100-80gb-sxm", "h100-sxm")),
    *(Case(hardware=name, model="deepseek-v3") for name in ("h200-sxm", "b200-sxm")),
]
CORES = ("tensor", "tensor_overhead", "vector", "softmax", "shared", "l2")  # all of which go with the clock
BY_CLOCKS = ("wave_tail", "epilogue", "latency", "launch")  # some of whose constants are clocks, some seconds


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.hardware}-{case.model}-{case.weights}")
def test_shares_of_a_phase(case):
    case = replace(case, output_tokens=16)
    chip = CHIPS[case.hardware]

    def total_s(phase, **changes):
        return getattr(estimate(replace(case, hardware=replace(chip, **changes))), phase).total("time_s")

    def slopes(phase, field):
        """To both sides, as `savings`."""
        slower_s, now_s, faster_s = (total_s(phase, **{field: getattr(chip, field) * by}) for by in (1 / STEP, 1, STEP))
        return sorted(np.log([now_s / faster_s, slower_s / now_s]) / np.log(STEP))

    for phase in ("prefill", "decode"):
        now = getattr(estimate(case), phase)
        share = {cause: seconds / now.total("time_s") for cause, seconds in now.causes().items()}
        low, high = slopes(phase, "dram_bytes_per_s")
        assert low - POINTS < share["dram"] < high + POINTS
        low, high = slopes(phase, "clock_hz")
        cores, others = (sum(share.get(cause, 0.0) for cause in group) for group in (CORES, BY_CLOCKS))
        assert cores - POINTS < high and low < cores + others + POINTS
