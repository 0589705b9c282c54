"""Derived peaks against the data sheets, and what-ifs on a chip."""

import re
from dataclasses import fields, replace

import pytest

from ridgepoint.hardware import A100_80GB_PCIE, CHIPS, H100_SXM, LIMITS, Chip, with_tensor_peak
from ridgepoint.inputs import InputError
from ridgepoint.kernels.roofline import ridge_point_flops_per_byte


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


def test_every_number_of_a_chip_has_limits_with_room_for_a_decade():
    numbers = {field.name for field in fields(Chip) if field.type is not str}
    assert set(LIMITS) == numbers
    for chip in CHIPS.values():
        for name in numbers:
            value, (low, high) = getattr(chip, name), LIMITS[name]
            assert not value or name.endswith("_share") or low <= value / 10 or low == 1
            assert name.endswith("_share") or value * (3.9 if name.endswith("clock_hz") else 10) <= high


OTHER_UNITS = {  # what a data sheet prints, typed as it stands: the field, the factor to SI units
    "clock_hz": (1e6, 1e9),
    "base_clock_hz": (1e6, 1e9),
    "dram_bytes": (2**20, 1e9, 2**30),
    "dram_bytes_per_s": (1e9, 1e12),
    "dram_latency_s": (1e-9, 1e-6),
    "l2_latency_s": (1e-9,),
    "l2_bytes": (1e6, 2**20),
    "shared_bytes_per_sm": (2**10,),
    "dram_read_share": (0.01,),
    "tensor_sustained_share": (0.01,),
    "tdp_w": (1e3,),
}


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
@pytest.mark.parametrize("field", OTHER_UNITS)
def test_a_figure_in_another_unit_is_refused_with_the_value_that_was_meant(chip, field):
    for unit in OTHER_UNITS[field]:
        whole = next(known.type for known in fields(Chip) if known.name == field) is int
        typed = getattr(chip, field) / unit
        if whole and (typed := round(typed)) * unit != getattr(chip, field):
            continue
        with pytest.raises(InputError, match=r"\(did you mean .*\?\)") as refused:
            replace(chip, **{field: typed})
        meant = float(re.search(r"did you mean (\S+)\?", str(refused.value))[1])
        assert meant == pytest.approx(getattr(chip, field), rel=0.08)  # a GiB is 1.07 GB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock_hz": 1410}, "from 1e+08 to 1e+10 Hz, not 1410 (did you mean 1410e6?)"),
        ({"dram_bytes": 80}, "from 1e+08 to 1e+14 B, not 80 (did you mean 80e9?)"),
        ({"dram_bytes_per_s": 2000}, "from 1e+08 to 1e+15 B/s, not 2000 (did you mean 2000e9?)"),
        ({"fp32_cores_per_sm": 18176}, "from 1 to 4096 per SM, not 18176"),
    ],
)
def test_limits_say_their_unit(change, message):
    with pytest.raises(InputError) as refused:
        replace(A100_80GB_PCIE, **change)
    assert str(refused.value).endswith(message)


def test_names_are_keys():
    assert all(chip.name == name for name, chip in CHIPS.items())
