"""Draws the roofline picture of a case: python visualize.py [--output FILE], with estimator.py's flags."""

import sys

from ridgepoint.command import guarded, start

if __name__ == "__main__":
    start("numpy", "platformdirs", "tabulate", "matplotlib")

from ridgepoint.estimator import CHOICES, Case, estimate
from ridgepoint.explain.whatif import idle
from ridgepoint.flags import parse
from ridgepoint.pictures.files import picture_path, save
from ridgepoint.pictures.roofline import draw, finding

EXAMPLES = ("--output roofline.svg", "--hardware h100 --batch 32 --precision fp8")


def run(argv: list[str]) -> str:
    def extra(group):
        text = "PNG or SVG by suffix (default: %(default)s)"
        group.add_argument("--output", default="roofline.png", metavar="FILE", help=text)

    asked = parse(Case, CHOICES, argv, "visualize.py", __doc__, extra, EXAMPLES)
    path = picture_path(asked.args.output)
    est = estimate(asked.case)
    save(draw(est, asked.overrides), path)
    return "\n".join([f"{path}: {finding(est)}", *(f"note: {line}" for line in idle(asked, est, estimate))])


if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
