"""Checks on what people type: a refusal says what is wrong, what is allowed, and the nearest known name."""

from collections.abc import Iterable

import numpy as np

MAX_SIZE = 2**24  # of any one dimension: products of a few stay exact in a float, all far from overflow


class InputError(ValueError):
    """A value from the user that can't be used. The message is one line, ready to print."""


def check_size(name: str, value, *, low: int = 1, high: int = MAX_SIZE) -> int | np.ndarray:
    """`value` as an int, or an array of whole numbers as a float array (numpy ints wrap silently).
    Raises InputError unless everything is a whole number from `low` to `high`.
    """
    allowed = f"{name} must be a whole number from {low} to {high}"
    if isinstance(value, int) and not isinstance(value, bool):  # exact, and fast
        if low <= value <= high:
            return value
        raise InputError(f"{allowed}, not {shown(value)}")
    if not isinstance(value, float | np.ndarray | np.generic | list | tuple):
        raise InputError(f"{allowed}, not {value!r}")
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{allowed}, not {value!r}") from None
    good = (array >= low) & (array <= high) & (array == np.floor(array))
    if not array.size:
        raise InputError(f"{allowed}, not an empty array")
    if not good.all():
        raise InputError(f"{allowed}, not {shown(array[~good].flat[0])}")
    return int(array) if array.ndim == 0 else array


def check_quantity(name: str, value, *, low: float, high: float) -> float:
    """`value` as a float; raises InputError unless it is a number with low <= value <= high (so not NaN)."""
    allowed = f"{name} must be a number from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputError(f"{allowed}, not {value!r}")
    if not low <= value <= high:
        raise InputError(f"{allowed}, not {shown(value)}")
    return float(value)


def shown(value: float) -> str:
    """A number as an error message shows it, however large."""
    try:
        return f"{value:,}" if isinstance(value, int) and abs(value) < 1e15 else f"{float(value):.12g}"
    except OverflowError:
        return "a number beyond 1e308"


def pick(kind: str, name: str, known: Iterable[str]) -> str:
    """`name` if it is one of `known`; otherwise InputError naming the nearest and all of them."""
    known = list(known)
    if name in known:
        return name
    raise InputError(f"unknown {kind} {name!r}{nearest(name, known)}; known: {', '.join(known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)', or nothing if no known name is close."""
    import difflib  # here, since it is only needed once something is wrong

    name, known = str(name).lower(), list(known)
    starts = [other for other in known if name and other.startswith(name)]
    close = starts or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
