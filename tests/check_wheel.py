"""Builds the wheel, installs it in an empty environment, and runs it there: python tests/check_wheel.py (make wheel).

What must hold: one name in site-packages, no tests or caches in it, one command on the path, the same output as
`python estimator.py`, and no writing into the installed package.
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = """
import ridgepoint, sys
from ridgepoint import Case, estimate
from ridgepoint.hardware import A100_80GB_PCIE, Chip
assert isinstance(A100_80GB_PCIE, Chip) and estimate(Case(hardware=A100_80GB_PCIE)).ttft_s == estimate().ttft_s
assert estimate(Case(model="qwen3-8b")).tpot_s > 0  # the catalogue is there
assert not {"hardware", "model", "ops", "estimator"} & set(sys.modules)
try:
    import hardware
except ImportError:
    print(ridgepoint.__file__)
"""


def output(*command: object, cwd: Path) -> str:
    return subprocess.run([*map(str, command)], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def check(folder: Path) -> None:
    """Raises AssertionError or CalledProcessError for what doesn't hold."""
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    output(python, *pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("ridgepoint-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith("-py3-none-any.whl")
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"ridgepoint"}, names
    assert not [name for name in names if "test" in name or "__pycache__" in name or "/." in name]
    output(python, *pip, "install", wheel, cwd=folder)
    empty = folder / "empty"
    empty.mkdir()
    installed = Path(output(python, "-c", IMPORTS, cwd=empty).strip()).parent
    before = sorted(installed.rglob("*"))
    printed = output(python.with_name("ridgepoint"), cwd=empty)
    assert printed == output(sys.executable, ROOT / "estimator.py", cwd=empty)
    assert "TTFT" in output(python, "-m", "ridgepoint.estimator", "--hardware", "h100", cwd=empty)
    assert sorted(installed.rglob("*")) == before and not any(empty.iterdir())
    print(f"{wheel.name}: {len(names)} files, installed and run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        check(Path(name))
