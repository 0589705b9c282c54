"""The causes of a time as a Markdown table: python docs/causes.py, for metrics.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ridgepoint.kernels.cycles import BOUNDS, CAUSES

print("| cause | bound | what it is |\n|---|---|---|")
for cause, text in CAUSES.items():
    bound = next(name for name, causes in BOUNDS.items() if cause in causes)
    print(f"| `{cause}` | {bound} | {text} |")
