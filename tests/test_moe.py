"""Mixtures of experts: expectations by hand, what must always hold, and accuracy guards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invariants import SLACK, kernel_s
from kernel_kinds import BF16, experts, latent

from ridgepoint import ops
from ridgepoint.hardware import A100_80GB_SXM
from ridgepoint.kernels.architectures import AMPERE
from ridgepoint.ops import distinct_experts, expert_groups, expert_tiles
from ridgepoint.validation.attention import latent_rows
from ridgepoint.validation.fits import MIXTURE_START
from ridgepoint.validation.loads import drawn_loads
from ridgepoint.validation.mixtures import mixture_rows
from ridgepoint.validation.package import data_folder
from ridgepoint.validation.sets import LATENT_SETS, MIXTURE_SETS, PACKAGE

imbalances = st.sampled_from([0.0, 0.0, 0.3, 1.0, 1.5])
mixtures = st.sampled_from([(8, 2), (16, 1), (64, 6), (128, 8), (512, 22), (4, 4)])


def test_expectations_by_hand():
    # two of four experts: one token uses 2; a second finds each of the others with chance 1/2
    assert distinct_experts(2, 4, 2) == 3.0
    # loads as 1 : 1/2, one choice: 2/3 and 1/3. Two tokens: 1 - 1/9 and 1 - 4/9
    assert distinct_experts(2, 2, 1, 1.0) == pytest.approx(8 / 9 + 5 / 9)
    # 100 rows for each of 2 experts, all chosen: 100 / 64 tiles, and half a tile less half a row
    assert expert_tiles(100, 2, 2, 64) == pytest.approx(2 * (100 / 64 + 63 / 128))
    # 10 tokens, one of 8 experts each: rows of a used expert fit in one tile
    assert expert_tiles(10, 8, 1, 128) == pytest.approx(8 * (1 - (7 / 8) ** 10))


def test_the_busiest_experts_take_no_token_twice():
    count, chance = expert_groups(16, 4, 2.0)
    assert (count * chance).sum() == pytest.approx(4)
    assert chance[0] == 1.0 and (np.diff(chance) <= 0).all()


@given(mixtures, imbalances, st.integers(1, 5000), st.sampled_from([16, 64, 256]))
def test_expectations_have_their_limits(mixture, imbalance, tokens, rows):
    experts, top_k = mixture
    used = float(distinct_experts(tokens, experts, top_k, imbalance))
    tiles = float(expert_tiles(tokens, experts, top_k, rows, imbalance))
    pairs = tokens * top_k
    assert 0 < used <= min(experts, pairs) * SLACK
    assert max(used, pairs / rows) <= tiles * SLACK and tiles <= (used + (pairs - used) / rows) * SLACK
    assert used <= distinct_experts(tokens + 1, experts, top_k, imbalance) * SLACK
    assert tiles <= expert_tiles(tokens + 1, experts, top_k, rows, imbalance) * SLACK


@pytest.mark.parametrize("imbalance", [0.0, 1.0])
@pytest.mark.parametrize("tokens", [3, 40, 2000])
def test_expectations_against_random_routing(imbalance, tokens):
    random = np.random.default_rng(0)
    count, chance = expert_groups(32, 1, imbalance) if imbalance else (np.array([32.0]), np.array([1 / 32]))
    chance = np.repeat(chance, count.astype(int))
    rows = random.multinomial(tokens, chance / chance.sum(), size=400)
    assert distinct_experts(tokens, 32, 1, imbalance) == pytest.approx((rows > 0).sum(1).mean(), rel=0.03)
    assert expert_tiles(tokens, 32, 1, 16, imbalance) == pytest.approx(np.ceil(rows / 16).sum(1).mean(), rel=0.08)


def test_more_imbalance_uses_fewer_experts():
    used = [float(distinct_experts(64, 128, 8, imbalance)) for imbalance in (0.0, 0.5, 1.0, 2.0)]
    assert used == sorted(used, reverse=True)


def test_one_expert_is_a_dense_product_of_the_same_bytes_and_flops():
    grouped = experts(4096, (1, 1), 4096, 4096)
    dense = ops.linear("g", tokens=4096, d_in=4096, d_out=4096, **BF16)
    assert (grouped.flops, grouped.bytes) == (dense.flops, dense.bytes)
    assert float(kernel_s(grouped, A100_80GB_SXM)) >= float(kernel_s(dense, A100_80GB_SXM))


@pytest.mark.parametrize("remainder", ["largest", "smallest", "each rank"])
@pytest.mark.parametrize(("count", "ranks", "alpha"), [(1, 1, 1.01), (4, 4, 1.2), (500, 8, 1.01), (3000, 1, 1.2)])
def test_benchmarks_loads(count, ranks, alpha, remainder):
    for rows in drawn_loads(count, 64, 8, ranks, alpha, remainder):
        assert rows.size == 64 // ranks and (rows >= 0).all() and rows.max() <= count
        if ranks == 1 and count > 1 and remainder != "largest":
            assert rows.sum() == pytest.approx(8 * count, rel=0.01)
        assert rows.sum() >= 0.9 * 8 * count / ranks  # the busiest rank


# Latent attention -------------------------------------------------------------------------------------------------


def test_latent_sizes_by_hand():
    # expanded: keys of 192, values of 128; one token, two keys, 3 heads: 2 * (192 + 128) * 3 * 2
    expanded, absorbed = (latent(1, 1, 1, 3, absorbed) for absorbed in (False, True))
    assert expanded.flops == 2 * 320 * 3 * 2 and expanded.kv_bytes == 2 * 3 * 320 * 2
    assert absorbed.flops == 2 * (576 + 512) * 3 * 2 and absorbed.kv_bytes == 2 * 576 * 2


FOLDER = data_folder()
needs_package = pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")


def slow(*values):
    """Loads of these take seconds to draw."""
    return pytest.param(*values, marks=pytest.mark.slow)


@needs_package
@pytest.mark.parametrize(
    ("number", "median", "p90"),
    [(0, 0.115, 0.30), (1, 0.105, 0.28), (2, 0.10, 0.24), slow(3, 0.11, 0.30), slow(4, 0.10, 0.65)],
)
def test_accuracy(number, median, p90):
    rows = mixture_rows(MIXTURE_SETS[number], FOLDER)
    error = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(error) <= median and np.quantile(error, 0.9) <= p90


@needs_package
@pytest.mark.parametrize(
    ("number", "stored", "median", "p90"),
    [
        (2, "int4_wo", 0.22, 0.45),
        slow(4, "fp8", 0.10, 0.55),
        slow(4, "fp8_block", 0.17, 0.45),
        (5, "fp8_block", 0.07, 0.25),
    ],
)
def test_accuracy_of_narrow_mixtures(number, stored, median, p90):
    # nothing was fitted on these: constants of bf16 mixtures and of narrow GEMMs
    rows = mixture_rows(MIXTURE_SETS[number], FOLDER, stored)
    error = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(error) <= median and np.quantile(error, 0.9) <= p90


@needs_package
@pytest.mark.parametrize(
    ("phase", "number", "median", "p90"),
    [
        ("prefill", 0, 0.09, 0.26),
        ("prefill", 1, 0.13, 0.24),
        ("prefill", 2, 0.13, 0.36),
        ("decode", 0, 0.14, 0.36),
        ("decode", 1, 0.10, 0.23),
    ],
)
def test_latent_accuracy(phase, number, median, p90):
    rows = latent_rows(LATENT_SETS[number], FOLDER, phase)
    error = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(error) <= median and np.quantile(error, 0.9) <= p90


def test_constants_are_few():
    assert len(MIXTURE_START) == 3 and AMPERE.moe.turns == 1.0
