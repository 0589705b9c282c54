"""What must hold for every kind of kernel, whatever its sizes and the chip."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from invariants import (
    BETTER_FIELDS,
    SLACK,
    any_chips,
    check_better_chip,
    check_causes_and_roofline,
    examples,
    kernel_causes,
    kernel_s,
)
from kernel_kinds import KINDS, NARROW, made

from ridgepoint.hardware import CHIPS
from ridgepoint.inputs import InputError

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def draw(data, kind, chip):
    """(sizes, the op of them); no example where the chip has no MMAs of its formats."""
    sizes = data.draw(st.fixed_dictionaries(kind.sizes))
    try:
        return sizes, made(kind, sizes, chip)
    except InputError:
        assume(False)


@every_kind
@given(st.data(), any_chips)
@examples(75)
def test_never_below_the_roofline_and_causes_add_up(kind, data, chip):
    _, op = draw(data, kind, chip)
    check_causes_and_roofline(op, chip)
    assert sum(kernel_causes(op, chip).values()) == pytest.approx(float(kernel_s(op, chip)), rel=1e-12)


@every_kind
@given(st.data(), any_chips, st.floats(1.001, 4))
@examples(50)
def test_a_better_chip_is_never_slower(kind, data, chip, factor):
    _, op = draw(data, kind, chip)
    for field in BETTER_FIELDS:
        check_better_chip(op, chip, field, factor)


MORE = {f"{name}, {size}": (kind, size) for name, kind in KINDS.items() for size in kind.more}


@pytest.mark.parametrize(("kind", "size"), MORE.values(), ids=MORE)
@given(st.data(), any_chips, st.integers(1, 500))
@examples(100)
def test_more_is_never_faster(kind, size, data, chip, more):
    sizes, op = draw(data, kind, chip)
    larger = made(kind, sizes | {size: sizes[size] + more}, chip)
    assert float(kernel_s(op, chip)) <= float(kernel_s(larger, chip)) * SLACK


@every_kind
@given(st.data(), any_chips)
@examples(12)
def test_arrays_equal_a_loop(kind, data, chip):
    sizes, _ = draw(data, kind, chip)
    count = data.draw(st.integers(1, 5))
    lists = {name: data.draw(st.lists(kind.sizes[name], min_size=count, max_size=count)) for name in kind.swept}
    arrays = {name: np.array(values, dtype=float) for name, values in lists.items()}
    swept = kernel_s(made(kind, sizes | arrays, chip), chip)
    for index in range(count):
        one = made(kind, sizes | {name: values[index] for name, values in lists.items()}, chip)
        assert swept[index] == pytest.approx(float(kernel_s(one, chip)), rel=1e-12)


@pytest.mark.parametrize("formats", NARROW, ids=str)
def test_arrays_along_k_equal_a_loop_in_narrow_formats(formats):
    """Of operands as wide as at 4,096 elements: the bytes of a row's scale depend on its length."""
    chip = CHIPS["b200-sxm"]
    m, k, n = np.array([(1, 4096, 4096), (300, 8192, 1024), (5000, 1024, 28672)], dtype=float).T
    op = made(KINDS["narrow product"], {"m": m, "k": 4096, "n": n, "formats": formats}, chip)
    op = replace(op, dims=op.dims | {"k": k})
    one = [replace(op, dims=op.dims | {"m": m[i], "k": k[i], "n": n[i]}) for i in range(3)]
    assert kernel_s(op, chip) == pytest.approx([float(kernel_s(o, chip)) for o in one])
