"""What must hold for every kernel model, whatever the kernel and the chip."""

from dataclasses import replace

from hypothesis import strategies as st

from cycles import CAUSES, cycle_causes
from kernels.architectures import architecture_of
from precision import on_chip
from roofline import roofline_s

SLACK = 1 + 1e-9
better_fields = st.sampled_from(["dram_bytes_per_s", "clock_hz", "sm_count", "l2_bytes_per_clock"])


def kernel_causes(op, chip):
    """Seconds of one launch by cause, by the constants of the chip's architecture."""
    return cycle_causes(op, chip, architecture_of(chip))


def kernel_s(op, chip):
    """Seconds of one launch, as above."""
    return sum(kernel_causes(op, chip).values())


def runs_on(wanted, chip, dtype="bf16"):
    """precision.on_chip by the chip's own architecture."""
    return on_chip(wanted, chip, architecture_of(chip), dtype)


def check_causes_and_roofline(op, chip):
    causes = kernel_causes(op, chip)
    assert set(causes) <= set(CAUSES)
    assert all(seconds >= -1e-15 for seconds in causes.values())
    assert float(kernel_s(op, chip)) * SLACK >= float(roofline_s(op, chip))


def check_better_chip(op, chip, field, factor):
    """A chip that has `factor` times as much of one field is never slower."""
    value = getattr(chip, field) * factor
    better = replace(chip, **{field: int(value) + 1 if field == "sm_count" else value})
    assert float(kernel_s(op, better)) <= float(kernel_s(op, chip)) * SLACK
