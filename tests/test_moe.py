"""Mixtures of experts: expectations by hand, what must always hold, and accuracy guards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invariants import (
    SLACK,
    any_chips,
    better_fields,
    check_better_chip,
    check_causes_and_roofline,
    kernel_causes,
    kernel_s,
    runs_on,
)

import ops
from experts import distinct_experts, expert_groups, expert_tiles
from hardware import A100_80GB_SXM
from kernels.architectures import AMPERE
from loads import drawn_loads
from precision import precision
from validation.fits import MIXTURE_START
from validation.package import data_folder, latent_rows, mixture_rows
from validation.sets import LATENT_SETS, MIXTURE_SETS, PACKAGE

NUMBER = {"dtype": "bf16", "elem_bytes": 2}
tokens = st.integers(1, 20_000)
widths = st.integers(1, 128).map(lambda n: 64 * n)
imbalances = st.sampled_from([0.0, 0.0, 0.3, 1.0, 1.5])
mixtures = st.sampled_from([(8, 2), (16, 1), (64, 6), (128, 8), (512, 22), (4, 4)])


formats = st.sampled_from(
    [None, None, ("fp8", "fp8"), ("int4", None), ("mxfp4", None), ("int8", None), ("nvfp4", "nvfp4")]
)


def product(tokens, mixture, d_in, d_out, imbalance=0.0, wanted=None):
    experts, top_k = mixture
    sizes = {"experts": experts, "top_k": top_k, "d_in": d_in, "d_out": d_out}
    return ops.grouped_linear("e", tokens=tokens, imbalance=imbalance, precision=wanted, **sizes, **NUMBER)


def runs_as(named, chip):
    """The Precision of these formats as `chip` runs it."""
    return named and runs_on(precision("bf16", *named), chip)[0]


def around(tokens, mixture, hidden):
    experts, top_k = mixture
    routing = ops.route("r", tokens=tokens, experts=experts, top_k=top_k, **NUMBER)
    return routing, ops.combine("c", tokens=tokens, top_k=top_k, hidden=hidden, **NUMBER)


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


def test_a_sweep_of_tokens_is_an_array():
    sweep = np.array([1.0, 17.0, 4096.0])
    for imbalance in (0.0, 1.0):
        swept = kernel_s(product(sweep, (128, 8), 2048, 1536, imbalance), A100_80GB_SXM)
        one = [float(kernel_s(product(int(n), (128, 8), 2048, 1536, imbalance), A100_80GB_SXM)) for n in sweep]
        assert swept == pytest.approx(one, rel=1e-12)


@given(tokens, mixtures, widths, widths, imbalances, any_chips, formats)
@settings(max_examples=200)
def test_never_below_the_roofline_and_causes_add_up(tokens, mixture, d_in, d_out, imbalance, chip, named):
    wanted = runs_as(named, chip)
    for op in (product(tokens, mixture, d_in, d_out, imbalance, wanted), *around(tokens, mixture, d_in)):
        check_causes_and_roofline(op, chip)
        assert sum(kernel_causes(op, chip).values()) == pytest.approx(float(kernel_s(op, chip)), rel=1e-12)


@given(tokens, mixtures, widths, widths, imbalances, any_chips, better_fields, st.floats(1.001, 4), formats)
@settings(max_examples=300)
def test_a_better_chip_is_never_slower(tokens, mixture, d_in, d_out, imbalance, chip, field, factor, named):
    for op in (product(tokens, mixture, d_in, d_out, imbalance, runs_as(named, chip)), *around(tokens, mixture, d_in)):
        check_better_chip(op, chip, field, factor)


@given(tokens, st.integers(1, 500), mixtures, widths, widths, imbalances, any_chips)
@settings(max_examples=300)
def test_more_tokens_are_never_faster(tokens, more, mixture, d_in, d_out, imbalance, chip):
    few, many = (product(t, mixture, d_in, d_out, imbalance) for t in (tokens, tokens + more))
    assert float(kernel_s(few, chip)) <= float(kernel_s(many, chip)) * SLACK


def test_one_expert_is_a_dense_product_of_the_same_bytes_and_flops():
    grouped = product(4096, (1, 1), 4096, 4096)
    dense = ops.linear("g", tokens=4096, d_in=4096, d_out=4096, **NUMBER)
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


def latent(batch, q_len, cached, heads, absorbed):
    sizes = {"batch": batch, "q_len": q_len, "kv_len": q_len + cached, "heads": heads}
    return ops.latent_attention("m", absorbed=absorbed, **sizes, **NUMBER)


latents = st.builds(
    latent,
    st.integers(1, 128),
    st.sampled_from([1, 1, 7, 500, 3000]),
    st.integers(0, 6000),
    st.sampled_from([1, 8, 16, 128]),
    st.booleans(),
)


def test_latent_sizes_by_hand():
    # expanded: keys of 192, values of 128; one token, two keys, 3 heads: 2 * (192 + 128) * 3 * 2
    expanded, absorbed = (latent(1, 1, 1, 3, absorbed) for absorbed in (False, True))
    assert expanded.flops == 2 * 320 * 3 * 2 and expanded.kv_bytes == 2 * 3 * 320 * 2
    assert absorbed.flops == 2 * (576 + 512) * 3 * 2 and absorbed.kv_bytes == 2 * 576 * 2


@given(latents, any_chips, better_fields, st.floats(1.001, 4))
@settings(max_examples=200)
def test_latent_attention_keeps_the_invariants(op, chip, field, factor):
    check_causes_and_roofline(op, chip)
    check_better_chip(op, chip, field, factor)


FOLDER = data_folder()
needs_package = pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")


@needs_package
@pytest.mark.parametrize(
    ("number", "median", "p90"), [(0, 0.115, 0.30), (1, 0.105, 0.28), (2, 0.10, 0.24), (3, 0.11, 0.30), (4, 0.10, 0.65)]
)
def test_accuracy(number, median, p90):
    rows = mixture_rows(MIXTURE_SETS[number], FOLDER)
    error = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(error) <= median and np.quantile(error, 0.9) <= p90


@needs_package
@pytest.mark.parametrize(
    ("number", "stored", "median", "p90"),
    [(2, "int4_wo", 0.22, 0.45), (4, "fp8", 0.10, 0.55), (4, "fp8_block", 0.17, 0.45), (5, "fp8_block", 0.07, 0.25)],
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
