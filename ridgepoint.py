"""How fast an LLM will run on a GPU, and why.

>>> from ridgepoint import Case, estimate
>>> round(float(estimate(Case(batch=1)).tpot_s), 4)
0.013

The package is the files beside this one: `ridgepoint.hardware` is hardware.py. Run as a script, or imported by its flat
name from this folder (`import hardware`), a file is the same module, so that there is one kind of each record.
"""

import importlib
import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))
__path__ = [_FOLDER]
__all__ = ["Case", "InputError", "__version__", "estimate"]  # noqa: F822 (see __getattr__)


class _Flat:
    """Finds `hardware` as `ridgepoint.hardware`, where the first would be a file of this folder."""

    @staticmethod
    def find_spec(name: str, path=None, target=None):
        parent = name.rpartition(".")[0]
        if sys.modules.get(parent) is not sys.modules.get(f"ridgepoint.{parent}") if parent else name not in _OWN:
            return None
        from importlib.machinery import ModuleSpec, PathFinder

        found = PathFinder.find_spec(name, path)  # another file of that name may come first
        if not found or not str(found.origin).startswith(_FOLDER + os.sep):
            return None
        return ModuleSpec(name, _Flat)  # type: ignore[arg-type]  # a class, whose static methods are a Loader's

    @staticmethod
    def create_module(spec):
        module = importlib.import_module(f"ridgepoint.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    @staticmethod
    def exec_module(module) -> None:
        module.__spec__ = module.__spec__.loader_state


_HOMES = {"Case": "estimator.Case", "estimate": "estimator.estimate", "InputError": "inputs.InputError"}
_HOMES |= {"__version__": "command.VERSION"}


def __getattr__(name: str) -> object:
    """What the package offers by its own name: loaded when asked for, since this file comes before all others."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ridgepoint' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(".")
    return getattr(importlib.import_module(f"ridgepoint.{module}"), attribute)


if os.path.basename(__file__) == "ridgepoint.py":  # not installed: the folder itself may be on the path
    _OWN = {name.partition(".")[0] for name in os.listdir(_FOLDER) if name[:1].isalpha()} - {"ridgepoint", "tests"}
    for _name, _module in list(sys.modules.items()):
        _file = getattr(_module, "__file__", None) or ""
        if os.path.dirname(os.path.abspath(_file)) == _FOLDER and _file.endswith(".py") and _name != "ridgepoint":
            _own_name = os.path.basename(_file)[:-3]
            sys.modules["ridgepoint." + _own_name] = globals()[_own_name] = _module
    sys.meta_path.insert(0, _Flat)
