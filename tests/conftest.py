import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from invariants import QUICK

# traces, and what libraries keep, stay in this folder, for programs that tests start too
os.environ.setdefault("XDG_CACHE_HOME", str(Path(__file__).resolve().parent.parent / ".cache"))

# `make test` draws the same few examples in every run, `make test-all` many more, others each time.
settings.register_profile("default", max_examples=QUICK, deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", max_examples=20 * QUICK, deadline=None, print_blob=True)
settings.load_profile("default")


@pytest.fixture(autouse=True, scope="module")
def figures_are_closed():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
