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


def run(argv: list[str]) -> str:
    def extra(parser):
        parser.add_argument("--output", default="roofline.png", help="PNG or SVG by suffix (default: %(default)s)")

    asked = parse(Case, CHOICES, argv, "visualize.py", __doc__, extra)
    path = picture_path(asked.args.output)
    est = estimate(asked.case)
    save(draw(est, asked.overrides), path)
    return "\n".join([f"{path}: {finding(est)}", *(f"note: {line}" for line in idle(asked, est, estimate))])


if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
