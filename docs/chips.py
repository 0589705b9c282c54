"""The chips as Markdown, each value with its unit and the comment beside it in hardware.py: python docs/chips.py."""

import ast
import sys
import tokenize
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ridgepoint.hardware import CHIPS, UNIT_OF, Chip  # noqa: E402
from ridgepoint.serving.engines import ENGINES  # noqa: E402

SOURCE = ROOT / "hardware.py"
SCALES = {  # of a unit: (from, factor, what it is then called)
    "Hz": (1e6, "MHz"),
    "B/s": (1e9, "GB/s"),
    "s": (1e-9, "ns"),
    "(a share of 1)": (1, ""),
}


def sources() -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """(by the chip's name the comment beside each field that its block sets, the chip that it is made from, if any)."""
    with SOURCE.open("rb") as stream:
        tokens = tokenize.tokenize(stream.readline)
        comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    found, bases, names = {}, {}, {}
    for node in ast.parse(SOURCE.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value).count("name="):
            keywords = {keyword.arg: keyword.value for keyword in node.value.keywords}
            name = names[node.targets[0].id] = ast.literal_eval(keywords["name"])
            found[name] = {field: comments.get(value.end_lineno, "") for field, value in keywords.items()}
            if node.value.args:
                bases[name] = names[node.value.args[0].id]
    return found, bases


def shown(name: str, value) -> str:
    """A value in the unit that people use.
    >>> shown("clock_hz", 1.41e9), shown("l2_bytes", 41943040), shown("sm_count", 108)
    ('1,410 MHz', '40 MiB', '108')
    """
    unit = UNIT_OF[name]
    if unit == "B":
        power = next(power for power in (30, 20, 10, 0) if value >= 2**power)
        factor, unit = 2**power, {30: "GiB", 20: "MiB", 10: "KiB", 0: "B"}[power]
    else:
        factor, unit = SCALES.get(unit, (1, unit))
    number = value / factor
    return f"{number:,.0f}" * (number >= 1000) + f"{number:.4g}" * (number < 1000) + f" {unit}".rstrip()


def measured(chip: Chip) -> list[str]:
    """What of it was measured, engine by engine."""
    lines = []
    for engine in ENGINES.values():
        what = {"kernels": engine.kernels_measured, "whole runs": engine.runs_measured}
        parts = [f"{name} ({found[chip.name]})" for name, found in what.items() if chip.name in found]
        if parts:
            lines.append(f"{engine.name}: {', '.join(parts)}")
    return lines


def page() -> str:
    known, bases = sources()
    lines = []
    for chip in CHIPS.values():
        base, own = bases.get(chip.name), known[chip.name]
        lines += [f"## {chip.name}", "", f"{chip.title}. Measured: {'; '.join(measured(chip)) or 'nothing'}."]
        lines += [f"As [{base}](#{base}), but:"] if base else []
        lines += ["", "| field | value | source |", "|---|---|---|"]
        for field in fields(Chip):
            if field.name in own and field.name not in ("name", "title"):
                value = getattr(chip, field.name)
                text = value if isinstance(value, str) else shown(field.name, value)
                lines.append(f"| `{field.name}` | {text} | {own[field.name]} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
