"""The import table: data flows one way, counters know no hardware, the estimator loads nothing heavy."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {path.stem for path in ROOT.glob("*.py")}
for package in ("kernels", "validation"):
    MODULES |= {f"{package}/{path.stem}" for path in (ROOT / package).glob("*.py")} - {f"{package}/__init__"}
OURS = MODULES | {"kernels", "validation"}
MAY_IMPORT = {
    "inputs": set(),
    "command": {"inputs"},
    "whatif": {"command", "hardware", "inputs", "report"},
    "experts": set(),
    "ops": {"experts"},
    "hardware": {"inputs"},
    "engines": {"cycles", "inputs", "kernels", "ops"},
    "kernels/architectures": {"inputs"},
    "kernels/gemm": {"kernels"},
    "kernels/attention": {"kernels"},
    "kernels/moe": {"experts", "kernels"},
    "kernels/pointwise": set(),
    "kernels/recurrent": set(),
    "cycles": {"kernels", "ops"},
    "intervals": {"hardware", "ops"},
    "precision": {"inputs", "ops"},
    "layers": {"ops", "precision"},
    "model": {"inputs", "layers", "ops", "precision"},
    "memory": {"inputs", "model", "ops"},
    "roofline": set(),
    "recorder": {"inputs"},
    "traced": {"inputs", "ops", "recorder"},
    "configs": {"inputs", "model", "precision", "traced"},
    "variants": {"inputs", "ops"},
    "report": {"cycles", "experts", "hardware", "intervals", "variants"},
    "seed": {"hardware", "inputs", "model", "ops", "roofline"},
    "estimator": {"cycles", "hardware", "inputs", "intervals", "kernels", "memory", "model", "ops", "precision"}
    | {"report", "roofline", "engines", "seed", "variants", "command", "whatif"}
    | {"configs", "traced"},
    "visualize": {"command", "cycles", "estimator", "inputs", "report", "whatif"},
    "validation/sets": {"engines"},
    "validation/rows": {"engines", "hardware", "kernels", "ops"},
    "validation/package": {"validation/sets"},
    "validation/loads": set(),
    "validation/dense": {"engines", "hardware", "kernels", "ops", "precision", "roofline"}
    | {"validation/package", "validation/rows", "validation/sets"},
    "validation/attention": {"engines", "hardware", "kernels", "ops", "precision", "roofline"}
    | {"validation/package", "validation/rows", "validation/sets"},
    "validation/mixtures": {"engines", "hardware", "kernels", "ops", "precision", "roofline", "validation/dense"}
    | {"validation/loads", "validation/package", "validation/rows", "validation/sets"},
    "validation/recurrent": {"engines", "hardware", "ops", "roofline"}
    | {"validation/package", "validation/rows", "validation/sets"},
    "validation/all_sets": {"engines", "validation/attention", "validation/dense", "validation/mixtures"}
    | {"validation/recurrent", "validation/rows", "validation/sets"},
    "validation/pointwise": {"cycles", "hardware", "kernels", "ops", "validation/rows", "validation/sets"},
    "validation/measured": {"engines", "estimator", "hardware", "inputs", "intervals", "kernels", "ops"}
    | {"precision", "validation/pointwise"},
    "validation/tables": {"engines", "inputs", "intervals", "kernels", "roofline", "validation/all_sets"}
    | {"validation/measured", "validation/pointwise", "validation/rows", "validation/served", "validation/sets"},
    "validation/fits": {"cycles", "hardware", "kernels", "engines", "validation/attention", "validation/dense"}
    | {"validation/measured", "validation/mixtures", "validation/pointwise", "validation/recurrent"}
    | {"validation/rows", "validation/served", "validation/sets", "validation/widths"},
    "validation/served": {"engines", "estimator", "hardware", "inputs", "intervals", "ops", "validation/sets"},
    "validation/widths": {"engines", "intervals", "kernels", "validation/all_sets", "validation/measured"}
    | {"validation/pointwise", "validation/rows", "validation/served", "validation/sets"},
    "validation/pictures": {"engines", "visualize", "validation/attention", "validation/dense", "validation/rows"}
    | {"validation/sets", "validation/tables"},
    "validation/models": {"configs", "estimator", "inputs", "traced", "validation/package"},
    "validate": {"estimator", "inputs", "validation/fits", "validation/models", "validation/package", "validation/sets"}
    | {"validation/tables", "validation/pictures", "visualize", "command"},
}


def imports(path: Path) -> set[str]:
    """The packages and modules that a file names: of validation's the modules, of other packages the package."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.replace(".", "/") if name.startswith("validation.") else name.split(".")[0] for name in names}


def test_every_module_is_in_the_table():
    assert set(MAY_IMPORT) == MODULES


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_imports(module):
    found = imports(ROOT / f"{module}.py")
    assert found & OURS <= MAY_IMPORT[module]
    if module not in ("visualize", "validation/pictures", "traced", "recorder"):
        assert not found & {"torch", "matplotlib"}
