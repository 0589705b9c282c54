"""Writes into README.md and docs/ what commands print: python docs/refresh.py.

    <!-- output of: python estimator.py -->      before a fenced block: the block holds what the command prints
    <!-- text of: python docs/chips.py -->        the lines up to <!-- end --> are what it prints, as Markdown

Commands run in the repository's folder, by the Python that runs this file; what takes long (validate.py --models) is
left as it is unless --all is given. tests/test_docs.py holds every block to its command.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FENCED = r"<!-- output of: (?P<{0}command>[^\n]+) -->\n+```\w*\n(?P<{0}shown>.*?)^```$"
PLAIN = r"<!-- text of: (?P<{0}command>[^\n]+) -->\n(?P<{0}shown>.*?)^<!-- end -->$"
MARKED = re.compile(f"{FENCED.format('fenced_')}|{PLAIN.format('plain_')}", re.M | re.S)


def part(match: re.Match, name: str) -> str:
    """ "command" or "shown" of a marked block, of either kind."""
    return match[f"fenced_{name}"] if match["fenced_command"] else match[f"plain_{name}"]


def blocks(page: Path) -> list[tuple[str, str]]:
    """(command, what is shown of it) of each marked block."""
    return [(part(match, "command"), part(match, "shown")) for match in MARKED.finditer(page.read_text())]


def slow(command: str) -> bool:
    return "validate.py" in command and "--measured" not in command


def output(command: str) -> str:
    """What a command prints on stdout, by this Python, 80 columns wide, line ends trimmed."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = os.environ | {"PATH": path, "COLUMNS": "80", "NO_COLOR": "1"}
    ran = subprocess.run(command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    if ran.returncode:
        raise SystemExit(f"{command}: status {ran.returncode}: {ran.stderr.strip()}")
    return "".join(line.rstrip() + "\n" for line in ran.stdout.rstrip().splitlines())


def refreshed(text: str, wanted: Callable[[str], bool]) -> str:
    """A page's text with the blocks of the wanted commands as these print now."""

    def anew(match: re.Match) -> str:
        command, start = part(match, "command"), match.start()
        if not wanted(command):
            return match[0]
        low, high = match.span("fenced_shown" if match["fenced_command"] else "plain_shown")
        return match[0][: low - start] + output(command) + match[0][high - start :]

    return MARKED.sub(anew, text)


if __name__ == "__main__":
    everything = "--all" in sys.argv[1:]
    for page in PAGES:
        before = page.read_text()
        after = refreshed(before, lambda command: everything or not slow(command))
        if after != before:
            page.write_text(after)
            print(f"{page.relative_to(ROOT)}: written")
