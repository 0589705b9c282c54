"""Both programs as a user runs them: output, refusals, nothing half-written."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from ridgepoint import validate, visualize
from ridgepoint.estimator import Case, estimate, guarded, run
from ridgepoint.inputs import InputError
from ridgepoint.layers.formats import NAMED
from ridgepoint.serving.engines import ENGINES

ROOT = Path(__file__).resolve().parent.parent


def program(*command, cwd=ROOT, **environment):
    known = {"cwd": cwd, "env": os.environ | environment}
    return subprocess.run([sys.executable, *command], **known, capture_output=True, text=True, check=False)


def inside(run, arguments, capsys):
    """The same in this process, which saves its start."""
    status = guarded(run, arguments)
    return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())


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
    assert_refused(inside(run, arguments.split(), capsys), message)


def test_a_refusal_of_the_program_itself():
    assert_refused(program("estimator.py", "--batch", "0"), REFUSED["--batch 0"])


def test_report_and_json():
    text = program("estimator.py")
    assert text.returncode == 0 and text.stderr == ""
    for part in ("---Flash Attention---", "TTFT", "TPOT", "latency", "throughput", "largest batch that runs at once"):
        assert part in text.stdout
    result = program("estimator.py", "--json")
    assert json.loads(result.stdout)["batch"] == 8


def test_notes_say_what_an_estimate_rests_on():
    assert "on this GPU: kernels (0.24.0)" in run(["--hardware", "l40s"])
    assert "whole runs (0.15.1)" in run(["--hardware", "h100-sxm"])
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
    card = " ".join(run(["--hardware", "A100"]).split("---Flash")[0].split())
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
    del named["notes"], apart["notes"]  # which name the flags
    assert named == apart
    assert (named["weights"], named["activations"]) == (weights, activations or dtype)


def test_fp8_weights_alone_say_what_engines_call_fp8():
    hint = "what engines call fp8 has fp8 activations too: --precision fp8"
    assert hint in " ".join(run(["--hardware", "h100", "--weights", "fp8"]).split())
    assert hint not in run(["--hardware", "h100", "--precision", "fp8"])
    assert hint not in run(["--hardware", "a100", "--weights", "fp8"])  # which has no fp8 MMAs


def test_lists():
    runtimes = run(["--list-runtimes"])
    assert all(name in runtimes for name in ENGINES) and "0.8 to 0.13" in runtimes and "0.11.0: h100-sxm" in runtimes
    assert "llama3-8b" in run(["--list-models"])
    assert "a100-40gb-sxm" in run(["--list-hardware"])


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
    assert guarded(visualize.run, ["--batch", "4", "--output", str(output)]) == 0
    start = output.read_bytes()[:100]
    assert start.startswith(b"\x89PNG") if suffix == "png" else b"<?xml" in start
    assert [path.name for path in tmp_path.iterdir()] == [output.name]  # no temporary file left


def test_pictures_refused(tmp_path, capsys):
    for flags, output, message in (
        ([], "missing/roofline.png", "can't write"),
        ([], "r.gif", ".png or .svg"),
        (["--batch", "0"], "r.png", "batch must be"),
    ):
        assert_refused(inside(visualize.run, [*flags, "--output", str(tmp_path / output)], capsys), message)
    assert not list(tmp_path.iterdir())


PROGRAMS = ("estimator.py", "visualize.py", "validate.py")


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_while_a_program_starts_is_one_line(name, tmp_path):
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    result = program(str(ROOT / name), cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted\n")


def raises_again(argv):
    """Some libraries make an error of their own of what interrupts them."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise InputError("torch is missing") from None


@pytest.mark.parametrize("task", [lambda argv: signal.raise_signal(signal.SIGINT), raises_again])
def test_ctrl_c_while_a_program_runs_is_one_line(task, capsys):
    assert guarded(task, []) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    with pytest.raises(ZeroDivisionError):  # another fault stays one
        guarded(lambda argv: 1 / 0, [])


def test_ctrl_c_while_a_picture_is_written_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert guarded(visualize.run, ["--output", str(tmp_path / "a.png")]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PROGRAMS)
def test_missing_packages_are_one_line_that_names_the_fix(name):
    result = program("-S", name)  # without site-packages
    assert_refused(result, "missing: pip install -r requirements-run.txt")
    assert "numpy" in result.stderr and "tabulate" in result.stderr


@pytest.mark.parametrize("flags", [["--write", "."], ["--plot", "a.png"], ["--write", ""]])
def test_nothing_is_written_of_measurements_that_are_missing(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validate, "data_folder", lambda: None)
    assert_refused(inside(validate.run, flags, capsys), "is missing" if all(flags) else "is not a folder")
    assert not list(tmp_path.iterdir())


def test_a_backend_that_is_none_does_not_matter(tmp_path):
    result = program("visualize.py", "--output", str(tmp_path / "a.png"), MPLBACKEND="nonsense")
    assert (result.returncode, result.stderr) == (0, "") and (tmp_path / "a.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("flags", [[], ["--json"], ["--json", "--batch", "-1"]])
def test_a_full_disk_is_one_line(flags):
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        known = {"cwd": ROOT, "env": buffered, "stdout": full, "stderr": subprocess.PIPE, "text": True, "check": False}
        result = subprocess.run([sys.executable, "estimator.py", *flags], **known)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run_without_docstrings(name):
    result = program("-OO", name, "--help")
    assert result.returncode == 0 and result.stdout.startswith(f"usage: {name}") and not result.stderr


def test_an_encoding_without_the_letters_of_a_title_shows_escapes(tmp_path):
    folder = tmp_path / "Llamä"
    folder.mkdir()
    (folder / "config.json").write_bytes((ROOT / "catalog" / "models" / "llama3-8b.json").read_bytes())
    result = program("estimator.py", "--model", str(folder), PYTHONIOENCODING="ascii")
    assert result.returncode == 0 and result.stderr == "" and result.stdout.startswith(r"Llam\xe4 (8.03 B parameters)")


def test_tables_of_measurements_refused(tmp_path, capsys):
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(2**27)
    for path, message in (
        ("/dev/zero", "it is not a file"),
        (str(tmp_path), "it is not a file"),
        (str(tmp_path / "no.csv"), "there is no such file"),
        (str(large), "is larger than any table of measurements"),
    ):
        assert_refused(inside(validate.run, ["--measured", path], capsys), message)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.png", "it is there, and not a file"),
        ("a\nb.gif", "must end in .png or .svg, not 'a\\nb.gif'"),
        ("a.png/b.png/c.png", "is not a folder"),
        ("", "must end in .png or .svg"),
        (".png", "must end in .png or .svg"),
        ("a" * 300 + ".png", "can't write"),
        ("/dev/null/a.png", "'/dev/null' is not a folder"),
        ("/proc/a.png", "can't write '/proc/a.png'"),
    ],
)
def test_odd_places_for_a_picture_are_refused(output, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").mkdir()
    monkeypatch.chdir(tmp_path)
    assert_refused(inside(visualize.run, ["--output", output], capsys), message)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and not list((tmp_path / "a.png").iterdir())


def test_the_longest_name_that_a_file_may_have_is_a_picture(tmp_path):
    output = tmp_path / ("a" * 251 + ".png")
    assert guarded(visualize.run, ["--output", str(output)]) == 0 and output.is_file()


def test_requirements_agree_and_only_what_needs_it_has_torch():
    files = {path.stem.removeprefix("requirements"): path for path in ROOT.glob("requirements*.txt")}
    pins = {name: dict(re.findall(r"^([\w-]+)==(\S+)", path.read_text(), re.M)) for name, path in files.items()}
    for name, own in pins.items():
        assert all(
            own.get(package, version) == version for other in pins.values() for package, version in other.items()
        )
        assert ("torch" in own) == (name in ("", "-hf"))
    assert {"torch", "numpy", "matplotlib", "tabulate"} <= set(pins[""]) and set(pins["-run"]) < set(pins[""])
    make = (ROOT / "Makefile").read_text()
    assert re.search(r"^\.venv/run\.stamp: requirements-run\.txt$", make, re.M)
