"""What a person sees: a report of one screen, lines within the terminal, colours, --help, completion, bars; and what a
program gets beside it: errors and lists as JSON, what an estimate rests on.
"""

import io
import json
import re
import shlex
import sys
from dataclasses import fields, replace

import pytest

from ridgepoint import __version__, flags, validate
from ridgepoint.command import guarded, progress
from ridgepoint.estimator import CHOICES, EXAMPLES, Case, estimate, main, run
from ridgepoint.explain.savings import MOST, WAYS, savings
from ridgepoint.hardware import A100_80GB_PCIE, CHIPS
from ridgepoint.inputs import InputError
from ridgepoint.kernels.cycles import CAUSES
from ridgepoint.readers.catalogue import CATALOGUE, catalogue_names
from ridgepoint.report import data, terminal
from ridgepoint.serving.engines import ENGINES
from ridgepoint.validation import tables
from ridgepoint.validation.measured import NARROW_DTYPES

WHAT_IFS = [
    "",
    "--batch 32 --isl 512 --osl 256",
    "--hardware h100",
    "--hardware h100 --precision fp8 --kv-cache fp8",
    "--set hardware.dram_bytes_per_s=3e12",
    "--runtime tensorrt-llm",
    "--model qwen3-30b-a3b --hardware h200",
    "--method roofline",
]


def lines(arguments: str, width: int, monkeypatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    return run(arguments.split()).splitlines()


@pytest.mark.parametrize("arguments", WHAT_IFS)
def test_the_report_is_one_screen(arguments, monkeypatch):
    shown = lines(arguments, 80, monkeypatch)
    assert len(shown) <= 24 and max(map(len, shown)) <= 80
    text = "\n".join(shown)
    for part in ("---Flash Attention---", "TTFT", "TPOT", "latency", "throughput", "largest costs", "memory: "):
        assert part in text
    assert "what would help most: " in text and "launches" not in text.split("what would")[0]


WIDE = [
    "--kernels",
    "--explain",
    "--explain --kernels --hardware h200 --model deepseek-v3 --weights int4 --set model.layers=10",
    "--kernels --speculative 3 --draft llama3.2-1b",
    "--method seed --compare",
    "--method seed --explain",
    "--attention naive --kernels",
    "--batch 500 --isl 100000 --samples 2 --prefix-tokens 1000",
    "--hardware A100 --weights fp8 --dtype bf16 --model gpt-oss-20b --set hardware.l2_bytes=1e5",
    f"--model {CATALOGUE / 'llama3-8b.json'} --set hardware.dram_bytes=8e9",
    "--list-models",
    "--list-hardware",
    "--list-runtimes",
]


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("arguments", WIDE)
def test_no_line_is_wider_than_the_terminal(arguments, width, monkeypatch):
    assert max(map(len, lines(arguments, width, monkeypatch))) <= width


@pytest.mark.parametrize("width", [80, 100])
def test_validation_s_tables_fit_too(width, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    path = tmp_path / "mine.csv"
    names = "hardware,runtime,model,metric,measured,batch,input_tokens,output_tokens"
    path.write_text(f"{names}\nh100-sxm,tensorrt-llm-0.11,llama3-8b,latency_s,16,8,2048,2048\n")
    assert max(map(len, validate.run(["--measured", str(path)]).splitlines())) <= width
    row = ["a100-80gb-sxm tensorrt-llm 1.3.0rc20 (refit) (*)", "prefill attention, narrow cache", 152166, 12]
    row += ["12.3", "12.3", "112.3", "+12.3", "100", "112.3", "112.3", "112.3", "112.3", "112.3", "112.3"]
    parts = [tables.LEGEND, tables.Table([row] * 3, tables.HEADERS), tables.Table([row[:9]], tables.HEADERS[:9])]
    fitted = [["interval, tensorrt-llm-0.11 on a100-40gb-sxm, prefill", "index_scores", "0.1234", "0.1234", "+0.1%"]]
    parts.append(tables.Table(fitted, ("what", "constant", "committed", "found now", "difference")))
    shown = "\n".join(tables.texts(parts, width)).splitlines()
    assert max(map(len, shown)) <= width and "in 90 %" in "\n".join(shown)
    models = [["glm4_moe_lite", "explicit", 12, "743.38 B to 1743.91 B", "141.25 B to 141.78 B", "not known there"]]
    monkeypatch.setattr("ridgepoint.validation.models.models_table", lambda: (models, "12 configs"))
    assert max(map(len, validate.run(["--models"]).splitlines())) <= width
    assert tables.texts(parts[:2], None) == [tables.LEGEND, tables.show([row] * 3, tables.HEADERS)]


def test_a_table_loses_its_spare_columns_first_then_breaks_words():
    rows, headers = [("some long words here", "1", "2"), ("b", "33", "44")], ("what", "spare", "kept")
    how = {"align": ("left", "right", "right"), "spare": (1,), "broken": (0,)}
    assert "spare" in terminal.table(rows, headers, width=40, **how)
    narrow = terminal.table(rows, headers, width=20, **how).splitlines()
    assert "spare" not in narrow[0] and max(map(len, narrow)) <= 20 and narrow[2].startswith("some long")


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_bold_and_red_on_a_terminal_alone(monkeypatch):
    plain = run(["--batch", "500"])
    assert "\x1b" not in plain
    monkeypatch.setattr(sys, "stdout", Screen())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    painted = run(["--batch", "500"])
    assert "\x1b[1m---Flash Attention---\x1b[0m" in painted and "\x1b[1;31mDOES NOT FIT\x1b[0m" in painted
    assert "\x1b[1;31mQUEUE\x1b[0m" in painted
    assert "\x1b" not in run(["--json"])
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert run(["--batch", "500"]) == plain


def test_a_bar_in_a_terminal_alone(monkeypatch):
    steps = [1, 2, 3]
    assert progress(steps, "fits") is steps  # no terminal
    monkeypatch.setattr(sys, "stderr", Screen())
    assert list(progress(steps, "fits")) == steps and type(progress(steps, "fits")).__name__ == "tqdm"
    assert sys.stderr.getvalue() == ""  # in less than two seconds nothing is drawn
    monkeypatch.setitem(sys.modules, "tqdm", None)  # not installed
    assert progress(steps, "fits") is steps


# --help, --version, completion -----------------------------------------------------------------------------


def printed(arguments: list[str], capsys, run=run) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(arguments)
    assert not stopped.value.code
    return capsys.readouterr().out


def test_help_explains_every_flag_in_groups(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(["--help"], capsys)
    flat = " ".join(text.split())
    assert "a number" not in text and max(map(len, text.splitlines())) <= 80
    for group in (*flags.GROUPS, "output"):
        assert f"\n{group}:\n" in text
    said = flags.comments(Case)
    assert (
        set(said) == {field.name for field in fields(Case)} == {name for own in flags.GROUPS.values() for name in own}
    )
    for name, comment in said.items():
        assert f" {flags.flag(name)} " in flat and comment.partition("; None: ")[0] in flat
    for names in CHOICES.values():  # each of which can be typed as it stands there
        assert all(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", flat) for name in names)
    for aliases in (*flags.ALIASES.values(), ("--tensor-parallel-size", "--kernels", "--version")):
        assert all(name in text for name in aliases)


def test_the_examples_of_help_run_as_they_are(capsys):
    text = printed(["-h"], capsys)
    assert len(EXAMPLES) == 5
    for example in EXAMPLES:
        assert f"\n  python estimator.py {example}\n" in text
        assert run(shlex.split(example))


def test_a_program_has_the_name_that_it_was_called_by(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ridgepoint", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = capsys.readouterr().out
    assert text.startswith("usage: ridgepoint ") and f"\n  ridgepoint {EXAMPLES[0]}\n" in text


def test_version(capsys):
    assert printed(["--version"], capsys) == f"ridgepoint {__version__}\n"
    assert printed(["--version"], capsys, validate.run) == f"ridgepoint {__version__}\n"


@pytest.mark.parametrize("shell", flags.SHELLS)
def test_completion_knows_flags_and_names(shell, capsys):
    pytest.importorskip("shtab")
    script = printed(["--print-completion", shell], capsys)
    for name in ("--kernels", "qwen3-30b-a3b", "h200-sxm", "tensorrt-llm-1.3", "w4a8-int8", "roofline"):
        assert name.removeprefix("--") in script, name


def test_completion_without_shtab_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert guarded(run, ["--print-completion", "bash"]) == 2
    assert capsys.readouterr() == ("", "error: shtab is missing: pip install shtab\n")


# JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["--json --batch 0", "--json --bacth 3", "--tp 2 --json", "--json --compare"])
def test_an_error_is_json_too(arguments, capsys):
    assert guarded(run, arguments.split()) == 2
    out, err = capsys.readouterr()
    assert list(json.loads(out)) == ["error"] and err == f"error: {json.loads(out)['error']}\n"


def test_lists_as_json():
    models = json.loads(run(["--list-models", "--json"]))
    assert [model["name"] for model in models] == list(catalogue_names())
    llama = next(model for model in models if model["name"] == "llama3-8b")
    assert llama["parameters"] == 8_030_261_248 and llama["kv_bytes_per_token"] == 131072 and llama["source"]
    chips = json.loads(run(["--list-hardware", "--json"]))
    assert [chip["name"] for chip in chips] == list(CHIPS)
    assert chips[0]["dram_bytes_per_s"] == 1935e9 and chips[0]["tensor_flops_per_s"]["fp16"] == pytest.approx(
        312e12, 1e-3
    )
    engines = json.loads(run(["--list-runtimes", "--json"]))
    assert [engine["name"] for engine in engines] == list(ENGINES)
    assert engines[0]["runs_measured"] == {"h100-sxm": "0.15.1"}


def asked(arguments: str) -> dict:
    return json.loads(run([*arguments.split(), "--json"]))


def test_json_says_its_schema_and_what_it_rests_on():
    found = asked("--hardware h100-sxm")
    assert (found["schema"], found["version"]) == (data.SCHEMA, __version__)
    basis = found["basis"]
    assert (basis["method"], basis["engine"], basis["engine_version"]) == ("cycle", "vllm", "0.24")
    assert basis["measured_on_this_chip"] == {"kernels": "0.24.0", "whole_runs": "0.15.1"}
    assert basis["differs_from_catalogue"] == []
    changed = asked("--hardware h100-sxm --set hardware.sm_count=100 --peak-tflops 600")["basis"]
    assert changed["measured_on_this_chip"] == {"kernels": None, "whole_runs": None}
    differs = ["hardware.sm_count = 100 (catalogue: 132)", "peak-tflops = 600 (catalogue: 989.4)"]
    assert changed["differs_from_catalogue"] == differs and "no column for peak_tflops" in changed["check"]
    assert asked("--set hardware.sm_count=108")["basis"]["differs_from_catalogue"] == []
    path = CATALOGUE / "llama3-8b.json"
    assert asked(f"--model {path}")["basis"]["differs_from_catalogue"] == [f"model = {path} (a file)"]
    assert asked("--set model.layers=2")["basis"]["differs_from_catalogue"] == ["model.layers = 2 (catalogue: 32)"]
    seed = asked("--method seed")["basis"]
    assert (seed["method"], seed["engine"], seed["measured_on_this_chip"]) == ("seed", None, {})


@pytest.mark.parametrize(
    "arguments",
    ["", "--precision fp8 --kv-cache fp8 --hardware h100-sxm", "--weights int4 --dtype bf16", "--model qwen3-0.6b"],
)
def test_the_check_of_an_estimate_can_be_run_as_it_is_written(arguments, tmp_path):
    found = asked(f"{arguments} --isl 100 --osl 9 --runtime sglang")
    command, header, row = re.fullmatch(
        r"(.*), where FILE.csv has the lines (\S+) and (\S+)", found["basis"]["check"]
    ).groups()
    path = tmp_path / "FILE.csv"
    path.write_text(f"{header}\n{row}\n".replace("SECONDS", "1.5"))
    words = command.replace("FILE.csv", str(path)).split()
    assert words[:2] == ["python", "validate.py"]
    (judged,) = json.loads(validate.run([*words[2:], "--json"]))["rows"]
    assert judged["estimated"] == pytest.approx(found["latency_s"], rel=1e-9) and judged["measured"] == 1.5


def test_the_formats_of_a_check_are_those_that_measurements_may_have():
    assert set(data.CHECKED) == set(NARROW_DTYPES)
    assert set(data.UNCHECKED) <= {field.name for field in fields(Case)}


# What would help most --------------------------------------------------------------------------------------


CASES = [
    Case(),
    Case(hardware="h100-sxm", batch=64, input_tokens=8000, output_tokens=20),
    Case(hardware="b200-sxm", model="gpt-oss-20b"),
    Case(model="qwen3-0.6b", batch=1, output_tokens=50),
    Case(batch=300, output_tokens=100),
    Case(method="roofline"),
    Case(peak_tflops=100.0, input_tokens=8000, output_tokens=2),
]


@pytest.mark.parametrize("case", CASES)
def test_a_saving_is_the_difference_of_two_estimates(case):
    calls = []

    def counted(other):
        calls.append(other)
        return estimate(other)

    est = estimate(case)
    found = savings(est, counted)
    assert found and len(calls) <= MOST == 2
    for saving in found:
        assert saving.saved_s == est.batch_latency_s - estimate(saving.case).batch_latency_s > 0
        assert saving.share == pytest.approx(saving.saved_s / est.batch_latency_s)
    shares = [saving.share for saving in found]
    assert shares == sorted(shares, reverse=True)


def test_a_saving_is_that_of_the_what_if_that_one_would_type():
    est = estimate(Case())
    by_name = {saving.what: saving for saving in savings(est, estimate)}
    faster = replace(A100_80GB_PCIE, dram_bytes_per_s=2 * A100_80GB_PCIE.dram_bytes_per_s)
    saved = est.latency_s - estimate(Case(hardware=faster)).latency_s
    assert by_name["twice the DRAM bandwidth"].saved_s == pytest.approx(saved, rel=1e-12)
    assert f"twice the DRAM bandwidth saves {saved / est.latency_s:.1%} of the latency" in run([])
    narrower = asked("--precision int8")["latency_s"]
    assert by_name["--precision int8"].saved_s == pytest.approx(est.latency_s - narrower, rel=1e-12)
    assert by_name["twice the DRAM bandwidth"].because == "DRAM bandwidth"


def test_every_way_is_about_causes_and_changes_the_case():
    case = replace(estimate(Case()).case, hardware=A100_80GB_PCIE)
    base = estimate(case).latency_s
    for causes, what, way in WAYS:
        assert set(causes) <= set(CAUSES) and estimate(way(case)).latency_s < base, what


def test_what_has_no_chip_to_change_has_no_savings():
    assert savings(estimate(Case(method="seed")), estimate) == []
    assert savings(estimate(Case(hardware=replace(A100_80GB_PCIE, dram_bytes=8 * 2**30))), estimate) == []

    def refused(case):
        raise InputError("no such chip")

    assert savings(estimate(Case()), refused) == []
