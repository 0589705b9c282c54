"""The model types that have an explicit graph, in lines: python docs/families.py, for models.md."""

import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ridgepoint.readers.families import FAMILIES

print(textwrap.fill(" ".join(FAMILIES), 100, break_on_hyphens=False))
