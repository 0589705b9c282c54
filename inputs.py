"""Checks on what people type: a refusal says what is wrong, what is allowed, and the nearest known name."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

if TYPE_CHECKING:
    from ridgepoint.ops import Floats

Real = int | float | np.integer[Any] | np.floating[Any]

# Powers of ten by which people miss a unit.
POWERS: dict[str, tuple[int, ...]] = {"(a share of 1)": (-2,)}
POWERS |= dict.fromkeys(("Hz", "B", "B/s", "W", "s", "FLOP/s", "TFLOP/s"), (3, 6, 9, 12, -3, -6, -9, -12))
MAX_SIZE = 2**24  # of any one dimension: products of a few stay exact in a float, all far from overflow


class InputError(ValueError):
    """A value from the user that can't be used. The message is one line, ready to print."""


def is_number(value: object) -> TypeGuard[Real]:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def check_size(name: str, value: object, *, low: int = 1, high: int = MAX_SIZE) -> int:
    """`value` as an int; raises InputError unless it is a whole number from `low` to `high`."""
    if is_number(value) and low <= value <= high and value == int(value):
        return int(value)
    raise InputError(f"{name} must be a whole number from {low} to {high}, not {shown(value)}")


def check_sizes(name: str, value: object, *, low: int = 1, high: int = MAX_SIZE) -> "int | Floats":
    """check_size, or for an array its elements: as a float array, since numpy ints wrap silently."""
    if not isinstance(value, np.ndarray | list | tuple):
        return check_size(name, value, low=low, high=high)
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be whole numbers from {low} to {high}, not {value!r:.60}") from None
    good = (array >= low) & (array <= high) & (array == np.floor(array))
    if not array.size or not good.all():
        bad = shown(array[~good].flat[0]) if array.size else "an empty array"
        raise InputError(f"{name} must be whole numbers from {low} to {high}, not {bad}")
    return array


def check_quantity(name: str, value: object, *, low: float, high: float) -> float:
    """`value` as a float; raises InputError unless it is a number with low <= value <= high (so not NaN)."""
    if is_number(value) and low <= value <= high:
        return float(value)
    raise InputError(f"{name} must be a number from {low:g} to {high:g}, not {shown(value)}")


def check_unit(name: str, value: object, low: float, high: float, *, unit: str, whole: bool = False) -> None:
    """Raises InputError unless `value` is a number (a whole one) from low to high. It names the unit, and what may have
    been meant where the value is in range in another one (MHz for Hz, GB for B, ns for s, % for a share).
    """
    if is_number(value) and low <= value <= high and (not whole or value == int(value)):
        return
    kind = "a whole number" if whole else "a number"
    meant = meant_unit(value, low, high, POWERS.get(unit, ())) if is_number(value) else ""
    raise InputError(f"{name} must be {kind} from {low:g} to {high:g}{unit and ' '}{unit}, not {shown(value)}{meant}")


def meant_unit(value: Real, low: float, high: float, powers: Iterable[int]) -> str:
    """' (did you mean 1410e6?)': by that power of ten which brings `value` nearest to the middle of its range; nothing
    where none does.
    """
    with np.errstate(all="ignore"):
        scaled = {power: float(value) * 10.0**power for power in powers} if -1e300 < value < 1e300 else {}
        inside = {power: abs(np.log(x / low) + np.log(x / high)) for power, x in scaled.items() if low <= x <= high}
    if not inside:
        return ""
    power = min(inside, key=lambda power: inside[power])
    text = shown(value)
    return f" (did you mean {f'{scaled[power]:.6g}' if 'e' in text else f'{text}e{power}'}?)"


def shown(value: object) -> str:
    """A value as an error message shows it: on one line, and short however large."""
    if is_number(value):
        try:
            return f"{value}" if isinstance(value, int) and abs(value) < 1e15 else f"{float(value):.12g}"
        except OverflowError:
            return "a number beyond 1e308"
    text = repr(value)
    return text if len(text) < 80 else text[:76] + " ..."


def pick(kind: str, name: object, known: Iterable[str]) -> str:
    """`name` if it is one of `known`; otherwise InputError naming the nearest and all of them."""
    known = list(known)
    if isinstance(name, str) and name in known:
        return name
    raise InputError(f"unknown {kind} {shown(name)}{nearest(name, known)}; known: {', '.join(known)}")


def nearest(name: object, known: Iterable[str]) -> str:
    """' (did you mean X?)', or nothing if no known name is close."""
    import difflib  # here, since it is only needed once something is wrong

    name, known = str(name).lower(), list(known)
    starts = [other for other in known if name and other.startswith(name)]
    close = starts or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
