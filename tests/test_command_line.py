"""Both programs as a user runs them: output, refusals, nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engines import ENGINES
from estimator import Case, estimate, guarded, run
from precision import NAMED

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
    "--hardware 4090": "unknown hardware '4090'; known:",
    "--hardware v100": "unknown hardware 'v100'; known:",
    "--hardware l40": "did you mean l40s?",
    "--tp 2": "one GPU only: --tp must be 1, not 2",
    "--tp two": "--tp must be a number, not 'two'",
    "--precision fp9": "did you mean fp8?",
    "--precision fp8 --weights fp8": "leave --weights and --activations out",
    "--precision int8 --activations int8": "leave --weights and --activations out",
    "--precision fp16 --dtype bf16": "contradict each other",
    "--precision w4a8": "a100-80gb-pcie has no fp8 tensor-core rate",
    "--set hardware.clock_hz=1410": "1e+10 Hz, not 1410 (did you mean 1410e6?)",
    "--set hardware.dram_bytes=80": "did you mean 80e9?",
    "--set hardware.dram_bytes_per_s=2000": "B/s, not 2000 (did you mean 2000e9?)",
    "--peak-tflops 312e12": "TFLOP/s, not 3.12e+14 (did you mean 312?)",
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
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys):
    status = guarded(run, arguments.split())
    out, err = capsys.readouterr()
    assert_refused(subprocess.CompletedProcess(arguments, status, out, err), message)


def test_a_refusal_of_the_program_itself():
    assert_refused(program("estimator.py", "--batch", "0"), REFUSED["--batch 0"])


def test_report_and_json():
    text = program("estimator.py")
    assert text.returncode == 0 and text.stderr == ""
    for part in ("---Flash Attention---", "TTFT", "TPOT", "latency", "throughput", "largest batch that fits"):
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


def asked(*arguments) -> dict:
    return json.loads(run([*arguments, "--json"]))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("H100", "h100-sxm"),
        ("h100", "h100-sxm"),
        ("H100 SXM", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("A100", "a100-80gb-sxm"),
        ("a100-80gb", "a100-80gb-sxm"),
        ("a100_80g_pcie", "a100-80gb-pcie"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb-sxm"),
        ("A100 80GB PCIe", "a100-80gb-pcie"),
        ("nvidia-l40s", "l40s"),
        ("H200", "h200-sxm"),
        ("NVIDIA B200", "b200-sxm"),
        ("B200-SXM", "b200-sxm"),
    ],
)
def test_a_gpu_has_the_names_that_people_and_nvidia_smi_give_it(typed, name):
    assert asked("--hardware", typed)["hardware"] == name
    assert estimate(Case(hardware=typed)).chip.name == name


def test_a_name_that_may_mean_several_says_which_was_taken():
    card = run(["--hardware", "A100"]).split("---Flash")[0]
    assert "hardware 'A100': taken as a100-80gb-sxm; there is also a100-80gb-pcie, a100-40gb-sxm" in card
    assert any("taken as a100-80gb-sxm" in note for note in asked("--hardware", "A100")["notes"])
    assert "taken as" not in run(["--hardware", "A100-80GB-SXM"])


def test_words_that_people_type_are_flags():
    words = asked("--isl", "100", "--osl", "20", "--concurrency", "3", "--tp", "1")
    assert (words["input_tokens"], words["output_tokens"], words["batch"]) == (100, 20, 3)
    assert words["ttft_s"] == asked("--input-tokens", "100", "--output-tokens", "20", "--batch", "3")["ttft_s"]


@pytest.mark.parametrize("name", NAMED)
def test_a_precision_by_its_name_is_its_weights_and_activations(name):
    weights, activations = NAMED[name]
    flags = ["--hardware", "b200", "--isl", "64", "--osl", "2"]
    named = asked(*flags, "--precision", name.upper())
    dtype = name if name in ("fp16", "bf16") else "fp16"
    apart = asked(*flags, "--dtype", dtype, "--weights", weights, "--activations", activations or dtype)
    assert named == apart
    assert (named["weights"], named["activations"]) == (weights, activations or dtype)


def test_fp8_weights_alone_say_what_engines_call_fp8():
    hint = "what engines call fp8 has fp8 activations too: --precision fp8"
    assert hint in run(["--hardware", "h100", "--weights", "fp8"])
    assert hint not in run(["--hardware", "h100", "--precision", "fp8"])
    assert hint not in run(["--hardware", "a100", "--weights", "fp8"])  # which has no fp8 MMAs


def test_lists():
    runtimes = program("estimator.py", "--list-runtimes").stdout
    assert all(name in runtimes for name in ENGINES) and "0.8 to 0.13" in runtimes and "0.11.0: h100-sxm" in runtimes
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
