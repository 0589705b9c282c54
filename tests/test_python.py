"""From Python: one spelling or the other, the same records; an estimate as a line, rows, a small table, and in sums."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ridgepoint import Case, InputError, estimate
from ridgepoint.serving.phases import Phase

ROOT = Path(__file__).resolve().parent.parent


def in_python(code: str, cwd: Path, *path: Path) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {[*map(str, path)]}\n{code}"]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "code",
    [
        "from hardware import Chip, A100_80GB_PCIE as chip\nfrom ridgepoint import Case, estimate",
        "from ridgepoint.hardware import A100_80GB_PCIE as chip\nfrom estimator import Case, estimate\n"
        "from hardware import Chip",
        "import estimator, ridgepoint.estimator, kernels.gemm, ridgepoint.kernels.gemm as gemm\n"
        "assert estimator is ridgepoint.estimator and kernels.gemm is gemm\n"
        "from hardware import A100_80GB_PCIE as chip, Chip\nfrom estimator import Case, estimate",
    ],
)
def test_flat_and_package_are_the_same_modules(code, tmp_path):
    same = "assert isinstance(chip, Chip)\nprint(estimate(Case(hardware=chip)).ttft_s)"
    assert float(in_python(f"{code}\n{same}", tmp_path, ROOT)) == estimate().ttft_s


def test_a_module_of_ones_own_may_have_one_of_our_names(tmp_path):
    (tmp_path / "model.py").write_text("mine = True")
    code = "import ridgepoint.estimator, model, ridgepoint.model\nprint(model.mine, model is ridgepoint.model)"
    assert in_python(code, tmp_path, tmp_path, ROOT).split() == ["True", "False"]


def test_a_name_that_the_package_lacks():
    with pytest.raises(ImportError, match="estimates"):
        from ridgepoint import estimates  # noqa: F401
    with pytest.raises(InputError):
        estimate(Case(batch=0))


@pytest.mark.parametrize(
    "case",
    [Case(), Case(batch=500), Case(model="llama3-70b"), Case(output_tokens=1), Case(batch=2.0 ** np.arange(9))],
)
def test_an_estimate_is_a_line(case):
    est = estimate(case)
    line = repr(est)
    assert len(line) < 200 and "\n" not in line and "TTFT" in line and "a100-80gb-pcie" in line
    assert ("DOES NOT FIT" in line) == (not np.all(est.memory.fits))


def test_rows_are_the_kernels():
    est = estimate()
    rows = est.rows()
    json.dumps(rows)  # plain numbers
    assert [row["kernel"] for row in rows if row["phase"] == "decode"] == [k.name for k in est.decode.kernels]
    for name, phase, metric in (("prefill", est.prefill, est.ttft_s), ("decode", est.decode, est.tpot_s * 2047)):
        own = [row for row in rows if row["phase"] == name]
        assert sum(row["time_s"] for row in own) == pytest.approx(metric, rel=1e-12)
        assert sum(row["share"] for row in own) == pytest.approx(1, rel=1e-12)
        assert sum(row["flops"] for row in own) == phase.total("flops")
    batches = np.array([1.0, 8.0])
    swept = estimate(Case(batch=batches)).rows()
    assert swept[2]["time_s"][1] == pytest.approx(rows[2]["time_s"], rel=1e-12) and "bound" not in swept[2]


def test_a_notebook_shows_a_table():
    parser, tags = HTMLParser(), []
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    html = estimate()._repr_html_()
    parser.feed(html)
    rows = [row for row in estimate().rows() if row["share"] >= 0.01]
    assert tags.count("tr") == 1 + len(rows) and "gate_up_proj" in html and "sample" not in html
    assert "<table" not in estimate(Case(batch=np.array([1.0, 2.0])))._repr_html_()
    assert "<table" not in estimate(Case(model="llama3-70b"))._repr_html_()  # nothing fits, nothing is priced


def test_phases_and_estimates_add_up():
    one, two = estimate(), estimate(Case(batch=32, hardware="h100-sxm"))
    for total in (one + two, sum([one, two]), sum([one.prefill, one.decode, two.prefill, two.decode])):
        assert isinstance(total, Phase)
        assert total.total("time_s") == pytest.approx(one.latency_s + two.latency_s, rel=1e-12)
        assert total.total("flops") == one.work.total("flops") + two.work.total("flops")
        assert sum(total.causes().values()) == pytest.approx(total.total("time_s"), rel=1e-12)
        assert total.steps == 2 * 2048
    assert len(repr(one + two)) < 200
    with pytest.raises(TypeError):
        one.prefill + 1
    with pytest.raises(TypeError):
        1 + one.prefill
    with pytest.raises(TypeError):
        one + 1
