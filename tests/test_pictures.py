"""validate.py's pictures: what they compute from the rows, and what they leave on disk."""

import sys
from subprocess import run as run_program

import numpy as np
import pytest

from ridgepoint import ops, validate
from ridgepoint.hardware import CHIPS
from ridgepoint.validation import pictures
from ridgepoint.validation.package import data_folder
from ridgepoint.validation.rows import Rows
from ridgepoint.validation.sets import PACKAGE

FOLDER = data_folder()


def test_bins_are_centred_on_powers_of_two_and_small_ones_left_out():
    x = np.repeat([1.0, 64.0, 1000.0], [20, 21, pictures.BIN_ROWS - 1])
    error = np.concatenate([np.zeros(20), np.linspace(-0.1, 0.1, 21), np.ones(pictures.BIN_ROWS - 1)])
    places, low, median, high = pictures.binned(x, error, per_octave=1)
    assert places == pytest.approx([1, 64])
    assert median == pytest.approx([0, 0])
    assert (low[1], high[1]) == pytest.approx((-0.08, 0.08))
    assert pictures.binned(x[:3], error[:3], per_octave=1).shape == (4, 0)


def test_products_that_take_longer_than_a_larger_one():
    m, n, k = np.array([[8, 64, 64], [8, 128, 64], [16, 32, 64], [8, 32, 32]], dtype=float).T
    rows = Rows(
        label="a100-80gb-sxm vllm 0",
        kind="gemm",
        chip=CHIPS["a100-80gb-sxm"],
        op=ops.linear("gemm", tokens=m, d_in=k, d_out=n, dtype="bf16", elem_bytes=2),
        measured_s=np.array([3e-6, 2e-6, 1e-6, 1.05e-6]),
    )
    assert pictures.larger_is_faster(rows).tolist() == [True, False, False, False]
    assert pictures.larger_is_faster(rows, by=1.01).tolist() == [True, False, False, True]


@pytest.mark.parametrize("path", ["no/such/folder/a.png", "a.pdf"])
def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path, path):
    command = [sys.executable, validate.__file__, "--plot", str(tmp_path / path)]
    result = run_program(command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1


@pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")
def test_two_pictures_and_nothing_else(tmp_path):
    report = pictures.plot(FOLDER, tmp_path / "a.png")
    names = ["a-residuals.png", "a.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(name in report for name in names)
    assert all((tmp_path / name).stat().st_size < 800_000 for name in names)
