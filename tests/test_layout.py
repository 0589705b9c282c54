"""The layout: small files and functions; data flows one way, counters know no hardware, nothing heavy loads early."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What each room, a file or a folder, may import: only rooms above it, so that there is no circle and no import upwards.
MAY_IMPORT = {
    "ridgepoint": set(),
    "inputs": set(),
    "command": {"inputs"},
    "ops": set(),
    "hardware": {"inputs"},
    "kernels": {"inputs", "ops"},
    "layers": {"inputs", "ops"},
    "model": {"inputs", "layers", "ops"},
    "readers": {"command", "inputs", "layers", "model", "ops"},
    "serving": {"hardware", "inputs", "kernels", "layers", "model", "ops", "readers"},
    "flags": {"command", "hardware", "inputs", "layers", "model", "readers", "serving"},
    "report": {"command", "kernels", "ops", "serving"},
    "explain": {"flags", "hardware", "inputs", "kernels", "model", "ops", "report", "serving"},
    "estimator": {"command", "explain", "flags", "hardware", "inputs", "layers", "model", "ops", "readers", "report"}
    | {"serving"},
    "pictures": {"explain", "inputs", "kernels", "report", "serving"},
    "visualize": {"command", "estimator", "explain", "flags", "pictures"},
    "validation": {"command", "estimator", "hardware", "inputs", "kernels", "layers", "ops", "pictures", "readers"}
    | {"report", "serving"},
    "validate": {"command", "flags", "inputs", "pictures", "report", "validation"},
}
HEAVY = {"readers/traced.py": {"torch", "transformers"}, "readers/recorder.py": {"torch", "transformers"}}
HEAVY |= {place: {"matplotlib"} for place in ("pictures", "validation/pictures.py")}
NAMED = ("estimator", "visualize", "hardware", "model", "ops")  # the first-order story, read end to end


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).glob("*.py")) if (ROOT / room).is_dir() else [ROOT / f"{room}.py"]


def imports(path: Path) -> set[str]:
    """The modules that a file names anywhere in it, but for the types of annotations alone."""
    names, tree = set(), ast.parse(path.read_text())
    typed = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    skipped = {id(inner) for node in typed for inner in ast.walk(node)}
    for node in (node for node in ast.walk(tree) if id(node) not in skipped):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_room_is_in_the_table():
    modules = {path.stem for path in ROOT.glob("*.py")}
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(MAY_IMPORT) == modules | folders
    assert len(modules) <= 10


def test_no_room_may_import_upwards():
    rooms = list(MAY_IMPORT)
    for room, allowed in MAY_IMPORT.items():
        assert allowed <= set(rooms[: rooms.index(room)]), room


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports(room):
    for path in files(room):
        found = imports(path)
        ours = {name.split(".")[1] for name in found if name.startswith("ridgepoint.")} - {room}
        assert ours <= MAY_IMPORT[room], path
        assert not {name.split(".")[0] for name in found} & set(MAY_IMPORT) - {"ridgepoint"}, path  # never flat
        place = path.relative_to(ROOT).as_posix()
        heavy = {name.split(".")[0] for name in found} & {"torch", "transformers", "matplotlib"}
        assert heavy <= HEAVY.get(place, HEAVY.get(room, set())), path


def test_no_circle_within_a_room():
    graph = {}
    for room in MAY_IMPORT:
        for path in files(room):
            module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            graph[module] = imports(path)
    for module, names in graph.items():
        graph[module] = {other for other in graph for name in names if name == f"ridgepoint.{other}"} | {
            other for other in graph for name in names if name.rpartition(".")[0] == f"ridgepoint.{other}"
        }
    done = set()
    while len(done) < len(graph):
        free = {module for module in graph if graph[module] <= done} - done
        assert free, f"a circle among {sorted(set(graph) - done)}"
        done |= free


def test_the_named_files_are_short():
    assert sum(len((ROOT / f"{name}.py").read_text().splitlines()) for name in NAMED) <= 2000


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_functions_are_short(room):
    for path in files(room):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name}"
