import sys

import pytest
from hypothesis import settings
from invariants import QUICK

# `make test` draws the same few examples in every run, `make test-all` many more, others each time.
settings.register_profile("default", max_examples=QUICK, deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", max_examples=20 * QUICK, deadline=None, print_blob=True)
settings.load_profile("default")


@pytest.fixture(autouse=True, scope="module")
def figures_are_closed():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
