"""README and docs: what they show of commands is what these print, every command runs, links lead somewhere, every flag
is explained, and the pages on extending it work when followed to the letter.
"""

import doctest
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from ridgepoint import estimator, visualize

ROOT = Path(__file__).resolve().parent.parent


def program(name: str):
    """A program of docs/, which is no package."""
    spec = util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = program("refresh")
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text() for page in refresh.PAGES}
README = PAGES["README.md"]
EXTEND = [name for name in PAGES if name.startswith("docs/extend/")]
# An edit that a page on extending it asks for, and the commands after it.
EDIT = re.compile(
    r"<!-- (?:file: (?P<file>\S+)|in (?P<path>\S+), (?P<where>before|after|instead of|at the end of): "
    r"(?P<line>[^\n]+)) -->\n"
    r"```\w*\n(?P<content>.*?)^```$",
    re.M | re.S,
)
RUN = re.compile(r"<!-- run -->\n((?:    .+\n)+)")
# Flags of other programs that the pages speak of.
OTHERS = {"--gpu-memory-utilization", "--all", "--mem-fraction-static"}


def some_slow(slow, value):
    return pytest.param(value, marks=pytest.mark.slow) if slow else value


# Blocks that hold a command's output ------------------------------------------------------------------------------

BLOCKS = [(name, command, shown) for name, text in PAGES.items() for command, shown in refresh.blocks(ROOT / name)]


@pytest.mark.parametrize("block", [some_slow(refresh.slow(block[1]), block) for block in BLOCKS], ids=lambda b: b[1])
def test_a_marked_block_is_what_its_command_prints(block):
    name, command, shown = block
    for package in ("transformers", "aiconfigurator_core") if refresh.slow(command) else ():
        pytest.importorskip(package, reason="needs requirements-dev.txt")
    assert shown == refresh.output(command), (
        f"{name}: python docs/refresh.py{' --all' * refresh.slow(command)} writes it anew"
    )


def test_every_marker_has_its_block():
    for name, text in PAGES.items():
        assert len(re.findall(r"^<!-- (?:output|text) of: ", text, re.M)) == sum(name == block[0] for block in BLOCKS)


# Commands ---------------------------------------------------------------------------------------------------------


def commands(text: str) -> list[str]:
    """The command lines of a page: lines of its blocks, fenced or indented, that start with a program of ours."""
    blocks = [fenced or indented for fenced, indented in re.findall(r"(?ms)^```\w*\n(.*?)^```$|^    ([^\n]+)", text)]
    lines = "\n".join(blocks).splitlines()
    started = re.compile(r"(?:\$ )?((?:python \w+\.py|python -m ridgepoint\.\w+|ridgepoint)\b(?: [^#|]*)?)")
    return [found[1].strip() for line in lines if (found := started.match(line.strip()))]


COMMANDS = sorted({command for name, text in PAGES.items() if name not in EXTEND for command in commands(text)})
PROGRAMS = {"estimator": estimator, "visualize": visualize}


def called(command: str) -> tuple[str, list[str]]:
    """(program, its arguments): python visualize.py, python -m ridgepoint.visualize, ridgepoint."""
    words = shlex.split(command)
    if words[0] == "ridgepoint":
        return "estimator", words[1:]
    program = words[2] if words[1] == "-m" else words[1]
    return program.removesuffix(".py").removeprefix("ridgepoint."), words[3 if words[1] == "-m" else 2 :]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(command, tmp_path, monkeypatch):
    program, arguments = called(command)
    if program not in PROGRAMS:
        assert program == "validate"  # minutes: its blocks are slow tests, its flags are held below
        return
    (tmp_path / "path" / "to").mkdir(parents=True)
    shutil.copy(ROOT / "catalog" / "models" / "llama3.2-1b.json", tmp_path / "path" / "to" / "config.json")
    monkeypatch.chdir(tmp_path)
    try:
        assert PROGRAMS[program].run(arguments)
    except SystemExit as end:  # --version, --help
        assert not end.code


def flags(program: str) -> set[str]:
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, str(ROOT / f"{program}.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60).stdout
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", shown))


def test_every_flag_is_in_the_pages_and_every_flag_in_the_pages_exists():
    known = flags("estimator") | flags("visualize") | flags("validate")
    text = "\n".join(text for name, text in PAGES.items() if name != "CHANGELOG.md")
    text = re.sub(r"^.*\b(pip|pytest|git|ruff) .*$", "", text, flags=re.M)
    said = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text.replace("<!--", "").replace("-->", "")))
    assert known - said == set()
    assert said - known - OTHERS == set()


# Words ------------------------------------------------------------------------------------------------------------


def test_values_of_chips_as_people_write_them():
    assert doctest.testmod(program("chips")) == (0, 1)


def test_the_readme_is_short():
    assert len(README.encode()) <= 12_000


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    text = re.sub(r"^```.*?^```", "", PAGES[name], flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            file = (ROOT / name).parent / path if path else ROOT / name
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text()), target


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\(((?:docs/)?[\w./-]+\.md)\)", README))
    assert {name for name in PAGES if name != "README.md"} - linked == set()


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if ">>> " in EDIT.sub("", text)])
def test_python_in_the_pages(name):
    text = re.sub(r"^```.*$", "", EDIT.sub("", PAGES[name]), flags=re.M)  # a fence is no output
    test = doctest.DocTestParser().get_doctest(text, {}, name, str(ROOT / name), 0)
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0


def test_every_field_of_the_json_is_explained():
    text, result = PAGES["docs/json.md"], json.loads(estimator.run(["--json"]))
    keys = {
        *result,
        *result["memory"],
        *result["phases"],
        *result["phases"]["decode"],
        *result["phases"]["decode"]["ops"][0],
    }
    assert {key for key in keys if not re.search(rf"(?<!\w){key}(?!\w)", text)} == set()


def test_the_accuracy_in_the_readme_is_that_of_its_page():
    page = (ROOT / "docs" / "accuracy.md").read_text().split("of all that no fit saw")[1]
    rows = re.findall(r"^(\S.*?)  +(\d+)  +(\d+)  +([\d.]+)(?: to ([\d.]+))?  +(\d+)$", page, re.M)
    found = {
        kind: [int(sets), int(n), float(low), float(high or low), int(inside)]
        for kind, sets, n, low, high, inside in rows
    }
    first = [["end to end"], ["served, TPOT"], ["gemm"], ["prefill attention", "decode attention"]]
    rest = [kind for kind in found if [kind] not in first[:3] and kind not in first[3]]
    table = re.findall(
        r"^\| .* \| ([\d,]+) \| ([\d,.]+(?: million)?) \| ([\d.]+) to ([\d.]+) % \| (.+) % \|$", README, re.M
    )
    assert len(table) == 5
    for kinds, (sets, count, low, high, inside) in zip([*first, rest], table, strict=True):
        those = list(zip(*(found[kind] for kind in kinds), strict=True))
        total = sum(those[1])
        assert int(sets) == sum(those[0])
        assert count == (f"{total:,}" if total < 1e6 else f"{total / 1e6:.1f} million")
        assert (float(low), float(high)) == (min(those[2]), max(those[3]))
        ends = sorted({min(those[4]), max(those[4])})
        assert inside == " to ".join(map(str, ends))


# The pages on extending it, followed to the letter ------------------------------------------------------------------


def named(edit: re.Match, lines: list[str]) -> list[int]:
    """Which lines an edit is about: the one that is what it says, or begins so."""
    line = edit["line"].strip()
    if edit["where"] == "at the end of":
        return [index for index, other in enumerate(lines) if other.startswith(line)]
    return [index for index, other in enumerate(lines) if other.strip() == line]


def follow(text: str, folder: Path) -> None:
    """Makes the edits of a page in a copy of the project."""
    for edit in EDIT.finditer(text):
        if edit["file"]:
            assert not (folder / edit["file"]).exists()
            (folder / edit["file"]).write_text(edit["content"])
            continue
        path, content = folder / edit["path"], edit["content"]
        lines = path.read_text().splitlines(keepends=True)
        at = named(edit, lines)
        assert len(at) == 1, f"{edit['path']} has {len(at)} lines {edit['line']!r}"
        if edit["where"] == "at the end of":
            lines[at[0]] = f"{lines[at[0]].rstrip()}{content}"
            path.write_text("".join(lines))
            continue
        start, end = (at[0] + (edit["where"] == "after"), at[0] + (edit["where"] != "before"))
        path.write_text("".join([*lines[:start], content, *lines[end:]]))


@pytest.mark.parametrize("name", EXTEND)
def test_the_lines_that_a_page_names_are_there(name):
    for edit in EDIT.finditer(PAGES[name]):
        text = (ROOT / edit["path"]).read_text() if edit["path"] else ""
        if text and edit["content"] not in text:  # where the page has been followed, and kept
            assert len(named(edit, text.splitlines())) == 1, edit["line"]


# as make lint
LINT = ["python -m ruff check .", "python -m ruff format --check ."]
LINT += ["mkdir -p .mypy_cache/path && ln -sfn ../.. .mypy_cache/path/ridgepoint && cd .mypy_cache/path && "]
LINT[-1] += "python -m mypy --config-file ../../pyproject.toml -p ridgepoint"


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTEND)
def test_a_page_on_extending_it_works_to_the_letter(name, tmp_path):
    skipped = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=skipped)
    follow(PAGES[name], tmp_path / "copy")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    lines = [line.strip() for block in RUN.findall(PAGES[name]) for line in block.splitlines()]
    assert lines
    for command in [*lines, *LINT]:
        ran = subprocess.run(
            command, shell=True, cwd=tmp_path / "copy", env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
