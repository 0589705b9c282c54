"""Speed, as ratios and rates measured in one run: python benchmarks/speed.py (or make bench).

Whole-process figures are medians of alternating runs, so that a machine whose speed drifts treats both alike.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from ridgepoint.estimator import Case, estimate  # noqa: E402
from ridgepoint.hardware import A100_80GB_PCIE  # noqa: E402
from ridgepoint.kernels.architectures import AMPERE  # noqa: E402
from ridgepoint.kernels.cycles import cycle_s  # noqa: E402
from ridgepoint.ops import linear  # noqa: E402

RUNS = 20
# as people run it: with bytecode kept between runs, as pip keeps numpy's
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def process_s(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def startup_ratio(method: str) -> float:
    """Median of (python estimator.py) / (python -c "import numpy") over alternating pairs."""
    pairs = []
    for _ in range(RUNS + 1):
        baseline_s = process_s("-c", "import numpy")
        pairs.append(process_s("estimator.py", "--method", method) / baseline_s)
    return statistics.median(pairs[1:])  # the first pair warms the file cache


def estimates_per_s(method: str) -> float:
    case, count = Case(method=method), 0
    estimate(case)
    start = time.perf_counter()
    while (elapsed_s := time.perf_counter() - start) < 1.0:
        estimate(case)
        count += 1
    return count / elapsed_s


def sweep_s(method: str) -> float:
    start = time.perf_counter()
    estimate(Case(method=method, batch=np.arange(1, 10_001)))
    return time.perf_counter() - start


def gemms_s() -> float:
    sizes = np.random.default_rng(0).integers(1, 8192, (3, 10_000)).astype(float)
    op = linear("gemm", tokens=sizes[0], d_in=sizes[1], d_out=sizes[2], dtype="fp16", elem_bytes=2)
    start = time.perf_counter()
    cycle_s(op, A100_80GB_PCIE, AMPERE)
    return time.perf_counter() - start


def heavy_modules() -> list[str]:
    """Heavy packages that the estimator's path loads; should be none."""
    code = (
        "import sys, estimator; estimator.guarded(estimator.run, []);"
        "print(*[m for m in ('torch', 'matplotlib', 'scipy', 'pandas') if m in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return run.stderr.split()


if __name__ == "__main__":
    print(f"heavy packages loaded by the estimator: {heavy_modules() or 'none'}")
    for name in ("roofline", "cycle"):
        print(
            f"{name}: process time / import numpy {startup_ratio(name):.2f}; estimate() {estimates_per_s(name):,.0f} /s"
        )
    print(f"roofline: 10,000 batch sizes, all decode steps, in one call: {sweep_s('roofline'):.2f} s")
    print(f"cycle: 10,000 GEMM shapes in one call: {gemms_s():.2f} s")
