"""The import table: data flows one way, counters know no hardware, the estimator loads nothing heavy."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {path.stem for path in ROOT.glob("*.py")} | {"kernels"}
MODULES = {path.stem for path in ROOT.glob("*.py")}
MODULES |= {f"kernels/{path.stem}" for path in (ROOT / "kernels").glob("*.py")} - {"kernels/__init__"}
MAY_IMPORT = {
    "inputs": set(),
    "experts": set(),
    "ops": {"experts"},
    "hardware": {"inputs"},
    "runtimes": set(),
    "kernels/gemm": set(),
    "kernels/attention": set(),
    "kernels/moe": {"experts", "kernels"},
    "loads": set(),
    "kernels/pointwise": set(),
    "kernels/recurrent": set(),
    "cycles": {"kernels", "ops"},
    "intervals": {"hardware", "ops"},
    "precision": {"inputs", "ops"},
    "layers": {"ops", "precision"},
    "model": {"inputs", "layers", "ops", "precision"},
    "roofline": set(),
    "traced": {"inputs", "ops"},
    "configs": {"inputs", "model", "precision", "traced"},
    "variants": {"inputs", "ops"},
    "report": {"cycles", "intervals", "variants"},
    "seed": {"model", "ops", "roofline"},
    "estimator": {"cycles", "hardware", "inputs", "intervals", "model", "ops", "precision"}
    | {"report", "roofline", "runtimes", "seed", "variants"}
    | {"configs", "traced"},
    "visualize": {"cycles", "estimator", "inputs", "report", "roofline"},
    "validate": {"cycles", "estimator", "hardware", "inputs", "intervals", "kernels", "loads", "ops", "precision"}
    | {"roofline", "runtimes", "visualize"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_every_module_is_in_the_table():
    assert set(MAY_IMPORT) == MODULES


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_imports(module):
    found = imports(ROOT / f"{module}.py")
    assert found & OURS <= MAY_IMPORT[module]
    if module not in ("visualize", "validate", "traced"):
        assert not found & {"torch", "matplotlib"}
