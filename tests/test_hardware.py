"""Derived peaks against the data sheets, and what-ifs on a chip."""

from dataclasses import replace

import pytest

from hardware import A100_80GB_PCIE, CHIPS, H100_SXM, with_tensor_peak
from inputs import InputError
from roofline import ridge_point_flops_per_byte


def test_a100_peaks_agree_with_the_data_sheet():
    assert A100_80GB_PCIE.tensor_cores == 432
    assert A100_80GB_PCIE.fp32_cores == 6912
    # 108 * 4 * 256 * 2 * 1.41e9; the data sheet says 312, 624 and 19.5
    assert A100_80GB_PCIE.tensor_flops_per_s("fp16") == pytest.approx(311.869e12, rel=1e-5)
    assert A100_80GB_PCIE.tensor_flops_per_s("int8") == pytest.approx(624e12, rel=1e-3)
    assert A100_80GB_PCIE.vector_flops_per_s == pytest.approx(19.5e12, rel=1e-3)
    assert ridge_point_flops_per_byte(A100_80GB_PCIE, "fp16") == pytest.approx(311.869e12 / 1.935e12, rel=1e-5)


def test_h100_peak_is_the_dense_one():
    assert H100_SXM.tensor_flops_per_s("fp16") == pytest.approx(989.4e12, rel=1e-3)  # 1,979 with sparsity
    assert H100_SXM.tensor_flops_per_s("fp8") == pytest.approx(1978.9e12, rel=1e-3)


def test_capacities_are_binary_bandwidths_decimal():
    assert A100_80GB_PCIE.dram_bytes == 80 * 2**30
    assert A100_80GB_PCIE.dram_bytes_per_s == 1_935_000_000_000


def test_a_missing_rate_is_an_error_that_says_what_there_is():
    with pytest.raises(InputError, match="has no fp8 tensor-core rate; it has fp16, bf16, int8"):
        A100_80GB_PCIE.tensor_flops_per_s("fp8")


def test_another_tensor_peak_leaves_the_rest_alone():
    chip = with_tensor_peak(A100_80GB_PCIE, 614e12)
    assert chip.tensor_flops_per_s("bf16") == pytest.approx(614e12, rel=1e-12)
    assert chip.vector_flops_per_s == A100_80GB_PCIE.vector_flops_per_s
    assert chip.l2_bytes_per_s == A100_80GB_PCIE.l2_bytes_per_s


@pytest.mark.parametrize(
    "change",
    [
        {"sm_count": 0},
        {"sm_count": 1.5},
        {"clock_hz": float("nan")},
        {"dram_bytes_per_s": -1.0},
        {"dram_bytes_per_s": float("inf")},
        {"fp16_fma_per_clock": 0.0},
        {"fp16_fma_per_clock": 1e-300},
        {"dram_bytes": "80"},
        {"name": ""},
    ],
)
def test_a_chip_refuses_nonsense(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(A100_80GB_PCIE, **change)


def test_names_are_keys():
    assert all(chip.name == name for name, chip in CHIPS.items())
