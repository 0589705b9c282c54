"""Sparse attention and its indexer: sizes by hand, what must always hold, and accuracy guards."""

import numpy as np
import pytest
from invariants import kernel_s
from kernel_kinds import index_scores, sparse_attention, top_k

from ridgepoint.hardware import H100_SXM
from ridgepoint.validation.attention import sparse_rows
from ridgepoint.validation.dense import absorbed_rows, stream_rows
from ridgepoint.validation.package import data_folder
from ridgepoint.validation.sets import A100, B200, DATA_SETS, H100, H200, PACKAGE


def test_sizes_by_hand():
    # 2 sequences, 3 queries after 5 keys: they see 6, 7 and 8
    op = index_scores(2, 3, 5, 4, False)
    assert op.flops == 2 * 4 * 128 * 2 * 21
    assert op.kv_bytes == 2 * 8 * 128 * 2 and op.out_bytes == 4 * 2 * 21
    assert op.in_bytes == 2 * 3 * 4 * (128 * 2 + 4)
    assert top_k(3, 100, 8).out_bytes == 3 * 8 * 8


def test_a_query_is_a_tile_of_its_own():
    one, full, over = (float(kernel_s(sparse_attention(1, n, 9000, 64, 2048), H100_SXM)) for n in (17, 120, 10 * 132))
    assert full == pytest.approx(one, rel=0.1)  # others run on idle SMs
    assert over > 8 * one


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
