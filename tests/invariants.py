"""What must hold for every kernel model, whatever the kernel and the chip."""

from dataclasses import replace

from hypothesis import strategies as st

from cycles import CAUSES, cycle_causes, cycle_s
from roofline import roofline_s

SLACK = 1 + 1e-9
better_fields = st.sampled_from(["dram_bytes_per_s", "clock_hz", "sm_count", "l2_bytes_per_clock"])


def check_causes_and_roofline(op, chip):
    causes = cycle_causes(op, chip)
    assert set(causes) <= set(CAUSES)
    assert all(seconds >= -1e-15 for seconds in causes.values())
    assert float(cycle_s(op, chip)) * SLACK >= float(roofline_s(op, chip))


def check_better_chip(op, chip, field, factor):
    """A chip that has `factor` times as much of one field is never slower."""
    value = getattr(chip, field) * factor
    better = replace(chip, **{field: int(value) + 1 if field == "sm_count" else value})
    assert float(cycle_s(op, better)) <= float(cycle_s(op, chip)) * SLACK
