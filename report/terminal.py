"""What a terminal shows: how wide it is, bold and red, and text and tables that keep within it."""

import os
import sys
from collections.abc import Sequence

PROSE, TABLE = 80, 100  # columns where nobody says how many there are
NARROWEST = 40
STYLES = {"bold": "1", "red": "1;31"}


def columns(otherwise: int) -> int:
    """Of the terminal: what COLUMNS says, or the terminal itself; `otherwise` where stdout is none. As
    shutil.get_terminal_size finds it, whose import would cost a thirtieth of numpy's.
    """
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return max(int(said), NARROWEST)
    try:
        found = os.get_terminal_size(sys.stdout.fileno()).columns
    except (AttributeError, ValueError, OSError):
        found = 0
    return max(found or otherwise, NARROWEST)


def paint(text: str, style: str) -> str:
    """`text` in a style, on a terminal alone, and not where NO_COLOR is set (no-color.org)."""
    shown = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if shown and not os.environ.get("NO_COLOR") else text


def wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    """`text` as lines of at most `width`, all but the first indented."""
    if len(text) <= width and "\n" not in text:
        return [text]
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False) or [""]


def aligned(rows: Sequence[Sequence[str]], align: Sequence[str]) -> list[str]:
    """A few short rows as lines whose cells stand below one another, "left" or "right"."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = {"left": "<", "right": ">"}
    lines = (
        "  ".join(f"{cell:{sides[side]}{size}}" for cell, side, size in zip(row, align, sizes, strict=True))
        for row in rows
    )
    return [line.rstrip() for line in lines]


def table(
    rows: Sequence[Sequence],
    headers: Sequence[str],
    *,
    width: int,
    align: Sequence[str] = (),
    spare: Sequence[int] = (),
    broken: Sequence[int] = (),
) -> str:
    """A table of at most `width` where that can be: without the columns `spare` (numbers), as many of the first as it
    takes, then with the words of the columns `broken` over several lines.
    """
    import tabulate as library  # only needed for tables; as a module for its MIN_PADDING

    cells = [[str(cell) for cell in row] for row in rows]
    kept, leaving = list(range(len(headers))), list(spare)
    natural = [max(map(letters, column)) for column in zip(headers, *cells, strict=True)]

    def total() -> int:
        return sum(natural[index] for index in kept) + 2 * (len(kept) - 1)

    while total() > width and leaving:
        kept.remove(leaving.pop(0))
    over = [index for index in broken if index in kept]
    room = shares([natural[index] for index in over], width - total() + sum(natural[index] for index in over))
    for index, most in zip(over, room, strict=True):
        for row in cells:
            row[index] = "\n".join(line for part in row[index].splitlines() for line in wrapped(part, most, ""))
    style = {"tablefmt": "simple", "disable_numparse": True}
    if align and cells:
        style["colalign"] = [align[index] for index in kept]
    padding, library.MIN_PADDING = library.MIN_PADDING, 0  # of headers, beyond their letters
    try:
        shown = [[row[index] for index in kept] for row in (headers, *cells)]
        made = library.tabulate(shown[1:], shown[0], **style)
    finally:
        library.MIN_PADDING = padding
    return "\n".join(line.rstrip() for line in made.splitlines())


def letters(cell: str) -> int:
    """The width of a cell: that of its longest line."""
    return max(map(len, cell.splitlines()), default=0)


def shares(wanted: list[int], room: int) -> list[int]:
    """How much each of some columns gets of the room that they share: what it wants, where that is less than its part.
    >>> shares([10, 40, 50], 60)
    [10, 25, 25]
    """
    given = dict.fromkeys(range(len(wanted)), 0)
    for left, index in enumerate(sorted(given, key=lambda index: wanted[index])):
        given[index] = max(1, min(wanted[index], (room - sum(given.values())) // (len(wanted) - left)))
    return list(given.values())
