"""Both programs as a user runs them: output, refusals, nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from estimator import run

ROOT = Path(__file__).resolve().parent.parent


def program(*command, cwd=ROOT):
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)


REFUSED = {
    "--batch 0": "batch must be a whole number from 1 to",
    "--batch -3": "not -3",
    "--batch 2.5": "not 2.5",
    "--batch nan": "not nan",
    "--batch 99999999999999999999999999999": "batch must be",
    "--input-tokens 1e400": "not inf",
    "--output-tokens eight": "--output-tokens must be a number, not 'eight'",
    "--batch": "expected one argument",
    "--model llama3-8bb": "did you mean llama3-8b?",
    "--hardware A100-80GB-PCI": "did you mean a100-80gb-pcie?",
    "--dtype fp61": "did you mean fp16?",
    "--attention flesh": "did you mean flash?",
    "--method roofing": "did you mean roofline?",
    "--bacth 3": "did you mean --batch?",
    "--set hardware.dram_bytes_per_sec=3e12": "did you mean hardware.dram_bytes_per_s?",
    "--set model.layer=3": "did you mean model.layers?",
    "--set model.layers": "--set takes FIELD=VALUE",
    "--set model.layers=": "--set takes FIELD=VALUE",
    "--set model.layers=2.5": "model.layers must be a whole number",
    "--set model.layers=1e999": "model.layers must be a whole number",
    "--set hardware.clock_hz=nan": "hardware.clock_hz must be a number from",
    "--set model.kv_heads=7": "model.heads (32) must be a multiple of model.kv_heads (7)",
    "--set model.head_dim=127": "model.head_dim must be even",
    "--peak-tflops 0": "peak-tflops must be a number from",
    "--peak-tflops inf": "peak-tflops must be a number from",
    "--compare": "--compare goes with --method seed",
    "--method seed --hardware h100-sxm": "method seed is about the a100-80gb-pcie",
    "--method seed --set hardware.sm_count=50": "method seed is about the a100-80gb-pcie",
    "--method seed --attention naive": "method seed knows flash attention only",
}


def assert_refused(result, message):
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    assert message in result.stderr


@pytest.mark.parametrize(("arguments", "message"), REFUSED.items())
def test_bad_input_is_one_line_and_status_2(arguments, message):
    assert_refused(program("estimator.py", *arguments.split()), message)


def test_report_and_json():
    text = program("estimator.py")
    assert text.returncode == 0 and text.stderr == ""
    for part in ("---Flash Attention---", "TTFT", "TPOT", "latency", "throughput", "largest batch that runs at once"):
        assert part in text.stdout
    result = program("estimator.py", "--json")
    assert json.loads(result.stdout)["batch"] == 8


def test_notes_say_what_an_estimate_rests_on():
    assert "but no whole pass" in run(["--hardware", "l40s"])
    assert "but no whole pass" not in run(["--hardware", "h100-sxm"])
    assert "hardware.tdp_w times nothing" in run(["--set", "hardware.tdp_w=150"])
    drafted = ["--speculative", "3", "--draft"]
    assert "vocabulary has 151,936 tokens, not 128,256" in run([*drafted, "qwen3-0.6b"])
    assert "vocabulary" not in run([*drafted, "llama3.2-1b"])


def test_lists():
    assert "llama3-8b" in program("estimator.py", "--list-models").stdout
    assert "a100-40gb-sxm" in program("estimator.py", "--list-hardware").stdout


def test_the_estimator_imports_nothing_heavy():
    code = (
        "import sys, estimator; estimator.guarded(estimator.run, []);"
        "print([m for m in ('torch', 'matplotlib', 'scipy', 'pandas') if m in sys.modules])"
    )
    assert program("-c", code).stdout.splitlines()[-1] == "[]"


def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} estimator.py | head -n 1"
    result = subprocess.run(command, cwd=ROOT, shell=True, capture_output=True, text=True, check=False)
    assert result.stderr == ""


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_picture(tmp_path, suffix):
    output = tmp_path / f"roofline.{suffix}"
    result = program("visualize.py", "--batch", "4", "--output", str(output))
    assert result.returncode == 0, result.stderr
    start = output.read_bytes()[:100]
    assert start.startswith(b"\x89PNG") if suffix == "png" else b"<?xml" in start
    assert [path.name for path in tmp_path.iterdir()] == [output.name]  # no temporary file left


def test_pictures_refused(tmp_path):
    missing = tmp_path / "missing" / "roofline.png"
    assert_refused(program("visualize.py", "--output", str(missing)), "can't write")
    assert_refused(program("visualize.py", "--output", str(tmp_path / "r.gif")), ".png or .svg")
    assert_refused(program("visualize.py", "--batch", "0", "--output", str(tmp_path / "r.png")), "batch must be")
    assert not list(tmp_path.iterdir())
