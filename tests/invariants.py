"""What must hold for every kernel model, whatever the kernel and the chip."""

from collections.abc import Iterable
from dataclasses import fields, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from ridgepoint.hardware import CHIPS, LIMITS, Chip
from ridgepoint.kernels.architectures import ARCHITECTURES, architecture_of
from ridgepoint.kernels.cycles import CAUSES, cycle_causes
from ridgepoint.kernels.roofline import roofline_s
from ridgepoint.layers.formats import on_chip

SLACK = 1 + 1e-9
QUICK = 30  # examples of a property in the quick suite, where a test has no number of its own
catalogue_chips = st.sampled_from(list(CHIPS.values()))
BETTER_FIELDS = ("dram_bytes_per_s", "clock_hz", "sm_count", "l2_bytes_per_clock")


def examples(quick: int) -> settings:
    """So many examples in the quick suite, in the thorough one as many times more as of other tests (conftest.py)."""
    return settings(max_examples=quick * settings().max_examples // QUICK)


def slow_but(names: Iterable[str], *quick: str) -> list:
    """Names as parameters of a test, all but the quick ones for `make test-all` alone."""
    names = list(names)
    assert set(quick) <= set(names)
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@st.composite
def random_chips(draw) -> Chip:
    """A chip that nobody builds: each figure of a real one times 1/10 to 10, kernels of any architecture. A rate of 0,
    a dtype that the chip lacks, stays 0.
    """
    chip = draw(catalogue_chips)
    changes = {"architecture": draw(st.sampled_from(sorted(ARCHITECTURES)))}
    for field in fields(Chip):
        value = getattr(chip, field.name)
        if field.type is not str and value:
            low, high = LIMITS[field.name]
            changed = min(max(value * 10 ** draw(st.floats(-1, 1)), low), high)
            changes[field.name] = round(changed) if field.type is int else changed
    return replace(chip, **changes)


any_chips = catalogue_chips | random_chips()


def kernel_causes(op, chip):
    """Seconds of one launch by cause, by the constants of the chip's architecture."""
    return cycle_causes(op, chip, architecture_of(chip))


def kernel_s(op, chip):
    """Seconds of one launch, as above."""
    return sum(kernel_causes(op, chip).values())


def runs_on(wanted, chip, dtype="bf16"):
    """precision.on_chip by the chip's own architecture."""
    return on_chip(wanted, chip, architecture_of(chip), dtype)


def roomy(case):
    """The case on its chip with memory for any batch at once: one that queues has smaller waves the longer it is."""
    chip = case.hardware if isinstance(case.hardware, Chip) else CHIPS[case.hardware]
    return replace(case, hardware=replace(chip, dram_bytes=2**43))


def check_causes_and_roofline(op, chip):
    causes = kernel_causes(op, chip)
    assert set(causes) <= set(CAUSES)
    total_s = sum(causes.values())
    assert all(seconds >= -1e-12 * total_s for seconds in causes.values())
    assert float(total_s) * SLACK >= float(roofline_s(op, chip))


def check_better_chip(op, chip, field, factor):
    """A chip that has `factor` times as much of one field is never slower."""
    value = min(getattr(chip, field) * factor, LIMITS[field][1])
    better = replace(chip, **{field: int(value) + 1 if field == "sm_count" else value})
    assert float(kernel_s(op, better)) <= float(kernel_s(op, chip)) * SLACK
