"""Sparse attention and its indexer: sizes by hand, what must always hold, and accuracy guards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invariants import any_chips, better_fields, check_better_chip, check_causes_and_roofline, kernel_s

import ops
from hardware import H100_SXM
from validation.package import absorbed_rows, data_folder, sparse_rows, stream_rows
from validation.sets import A100, B200, DATA_SETS, H100, H200, PACKAGE

NUMBER = {"dtype": "bf16", "elem_bytes": 2}


def attention(batch, q_len, cached, heads, top_k):
    kv_len = q_len + cached
    sizes = {"batch": batch, "q_len": q_len, "keys": min(kv_len, top_k * q_len), "window": top_k}
    sizes |= {"heads": heads, "kv_heads": 1, "head_dim": 576, "v_head_dim": 512, "key_elems": 576, "own_keys": True}
    return ops.attention_over("a", pairs=ops.visible_keys(q_len, kv_len, top_k), **sizes, **NUMBER)


def scores(batch, q_len, cached, heads, split):
    kv_len = q_len + cached
    sizes = {"batch": batch, "q_len": q_len, "keys": kv_len, "pairs": ops.visible_keys(q_len, kv_len)}
    return ops.index_scores("i", heads=heads, dim=128, split=split, **sizes, **NUMBER)


def chosen(rows, width, top_k):
    return ops.top_k("t", rows=rows, width=width, top_k=top_k, dtype="fp32", elem_bytes=4)


batches, lengths, contexts = st.integers(1, 128), st.sampled_from([1, 7, 100, 3000]), st.integers(0, 60_000)
kernels = st.one_of(
    st.builds(
        attention,
        batches,
        lengths,
        contexts,
        st.sampled_from([1, 8, 16, 64, 128]),
        st.sampled_from([512, 2048]),
    ),
    st.builds(scores, batches, lengths, contexts, st.sampled_from([1, 4, 32, 64, 200]), st.booleans()),
    st.builds(chosen, st.integers(1, 20_000), st.integers(1, 100_000), st.sampled_from([64, 2048])),
)


def test_sizes_by_hand():
    # 2 sequences, 3 queries after 5 keys: they see 6, 7 and 8
    op = scores(2, 3, 5, 4, False)
    assert op.flops == 2 * 4 * 128 * 2 * 21
    assert op.kv_bytes == 2 * 8 * 128 * 2 and op.out_bytes == 4 * 2 * 21
    assert op.in_bytes == 2 * 3 * 4 * (128 * 2 + 4)
    assert chosen(3, 100, 8).out_bytes == 3 * 8 * 8


def test_a_query_is_a_tile_of_its_own():
    one, full, over = (float(kernel_s(attention(1, n, 9000, 64, 2048), H100_SXM)) for n in (17, 120, 10 * 132))
    assert full == pytest.approx(one, rel=0.1)  # others run on idle SMs
    assert over > 8 * one


@given(kernels, any_chips)
@settings(max_examples=300)
def test_never_below_the_roofline_and_causes_add_up(op, chip):
    check_causes_and_roofline(op, chip)


@given(kernels, any_chips, better_fields, st.floats(1.001, 4))
@settings(max_examples=300)
def test_a_better_chip_is_never_slower(op, chip, field, factor):
    check_better_chip(op, chip, field, factor)


def test_a_sweep_is_an_array():
    sweep = np.array([1.0, 40.0, 3000.0])
    for make in (lambda n: scores(n, 100, 500, 32, False), lambda n: attention(n, 100, 500, 64, 512)):
        one = [float(kernel_s(make(int(n)), H100_SXM)) for n in sweep]
        assert kernel_s(make(sweep), H100_SXM) == pytest.approx(one, rel=1e-12)


FOLDER = data_folder()
needs_package = pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")


@needs_package
@pytest.mark.parametrize(
    ("number", "gpu", "median", "p90"),
    [
        (0, H100, 0.12, 0.40),
        (0, H200, 0.12, 0.42),
        (0, B200, 0.16, 0.43),
        (1, H100, 0.14, 0.37),
        (3, H100, 0.18, 0.46),
        (4, H100, 0.06, 0.15),
        (4, H200, 0.06, 0.14),
        (4, B200, 0.11, 0.76),
    ],
)
def test_accuracy(number, gpu, median, p90):
    rows = sparse_rows(number, gpu, FOLDER)
    error = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(error) <= median and np.quantile(error, 0.9) <= p90


@needs_package
@pytest.mark.parametrize(("gpu", "median", "p90"), [(A100, 0.23, 0.46), (H100, 0.25, 0.41)])
def test_absorbed_accuracy(gpu, median, p90):
    data = next(d for d in DATA_SETS if d.hardware == gpu["hardware"] and d.engine.family == "tensorrt-llm")
    for part in ("mla_gen_pre", "mla_gen_post"):
        rows = absorbed_rows(data, FOLDER, part)
        error = np.abs(rows.estimate_s() / rows.measured_s - 1)
        assert np.median(error) <= median and np.quantile(error, 0.9) <= p90


@needs_package
def test_residual_streams_are_a_stream():
    data = next(d for d in DATA_SETS if (d.hardware, d.engine.family) == ("h100-sxm", "vllm"))
    rows = stream_rows(data, FOLDER)
    ratio = rows.estimate_s() / rows.measured_s
    assert ratio[rows.op.dims["rows"] >= 1024].min() > 0.75 and ratio.max() < 1.1
