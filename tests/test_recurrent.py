"""Linear attention: sizes by hand, what must always hold, and accuracy guards."""

from dataclasses import asdict

import numpy as np
import pytest
from invariants import kernel_causes, kernel_s
from kernel_kinds import recurrence

from ridgepoint.hardware import A100_80GB_SXM, H100_SXM
from ridgepoint.kernels.architectures import ARCHITECTURES
from ridgepoint.validation.package import data_folder
from ridgepoint.validation.recurrent import recurrent_rows
from ridgepoint.validation.sets import PACKAGE, RECURRENT_SETS


def test_sizes_by_hand():
    # one head of 4 x 4, 3 sequences of one token: the fp32 state in and out; q, k, v, a decay and a step in, v out
    update = recurrence(3, 1, 1, 1, 4, "delta")
    assert update.kv_bytes == 3 * 2 * 16 * 4
    assert update.in_bytes == 3 * (4 + 4 + 4 + 1 + 1) * 2 and update.out_bytes == 3 * 4 * 2
    assert update.flops == 3 * 7 * 16
    # many tokens: the state is written once, and only several kernels put that of each chunk to DRAM
    scan = recurrence(3, 128, 1, 1, 4, "delta")
    assert scan.kv_bytes == 3 * 16 * 4
    assert scan.dims["passed_states"] == 3 * 2 * 16 * 2
    assert recurrence(1, 1, 1, 1, 4, "kda").in_bytes == update.in_bytes / 3 + 2 * 3


def test_a_scan_on_few_heads_is_its_walk():
    short, long = (float(kernel_s(recurrence(1, q_len, 1, 2, 128, "delta"), H100_SXM)) for q_len in (6400, 12800))
    step_s = 4 * ARCHITECTURES["hopper"].recurrent.product_clocks / H100_SXM.clock_hz
    assert long - short == pytest.approx(100 * step_s)
    # heads on idle SMs walk at the same time
    more = float(kernel_s(recurrence(1, 6400, 16, 2, 128, "delta"), H100_SXM))
    assert more == pytest.approx(short, rel=0.02)


def test_kernels_before_hopper_pass_more_through_dram():
    op = recurrence(8, 4096, 16, 2, 128, "delta")
    assert not ARCHITECTURES["ampere"].recurrent.fused_delta_rule
    causes = kernel_causes(op, A100_80GB_SXM)
    assert causes["dram"] > 3 * op.bytes / A100_80GB_SXM.dram_bytes_per_s


FOLDER = data_folder()
needs_package = pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")


@needs_package
@pytest.mark.parametrize(
    ("part", "hardware", "engine", "model", "median", "p90"),
    [
        ("scan", "h100-sxm", "vllm", "gdn", 0.08, 0.21),
        ("scan", "h100-sxm", "sglang", "gdn", 0.17, 0.50),
        ("scan", "h200-sxm", "vllm", "gdn", 0.07, 0.16),
        ("scan", "b200-sxm", "vllm", "gdn", 0.34, 0.48),
        ("scan", "h100-sxm", "vllm", "kda", 0.21, 0.36),
        ("scan", "h100-sxm", "sglang", "kda", 0.17, 0.26),
        ("state update", "h100-sxm", "vllm", "gdn", 0.08, 0.20),
        ("state update", "h100-sxm", "sglang", "gdn", 0.08, 0.20),
        ("state update", "a100-80gb-sxm", "sglang", "gdn", 0.10, 0.45),
        ("state update", "b200-sxm", "vllm", "gdn", 0.08, 0.45),
        ("conv", "h100-sxm", "vllm", "gdn", 0.06, 0.35),
        ("conv", "b200-sxm", "sglang", "gdn", 0.17, 0.34),
    ],
)
def test_accuracy(part, hardware, engine, model, median, p90):
    wanted = (hardware, engine, model)
    data = next(data for data in RECURRENT_SETS if (data.hardware, data.engine.family, data.model) == wanted)
    rows = recurrent_rows(data, FOLDER, part)
    error = np.abs(rows.estimate_s() / rows.measured_s - 1)
    assert np.median(error) <= median and np.quantile(error, 0.9) <= p90


def test_constants_are_few():
    fitted = {"product_clocks", "waits", "stage_efficiency"}
    assert set(asdict(ARCHITECTURES["hopper"].recurrent)) == fitted | {"fused_delta_rule"}
