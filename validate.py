"""How far the estimates are from measured GPUs: python validate.py [--fit|--models|--plot FILE|--measured FILE.csv].

Kernel timings come from the package aiconfigurator-core (development requirement, Linux x86-64); end-to-end and
pointwise timings from validation/*.csv, each row with its source. Without the package the rest still runs.
"""

import sys

from ridgepoint.command import guarded, start, to_install

if __name__ == "__main__":
    start("numpy", "platformdirs", "tabulate")

import importlib.util
import os
from pathlib import Path

from ridgepoint.flags import line_parser
from ridgepoint.inputs import InputError, shown
from ridgepoint.report.terminal import TABLE, columns
from ridgepoint.validation.fits import fit_table
from ridgepoint.validation.package import data_folder
from ridgepoint.validation.sets import PACKAGE
from ridgepoint.validation.tables import Table, accuracy_report, printed, report_measured, texts

MAX_TABLE_BYTES = 2**26  # some half a million rows


def table_path(text: str) -> Path:
    """The path of a table of measurements. Raises InputError for what is no file, or larger than any such table."""
    if not os.path.exists(text):
        raise InputError(f"can't read {shown(text)}: there is no such file")
    if not os.path.isfile(text):
        raise InputError(f"can't read {shown(text)}: it is not a file")
    if os.path.getsize(text) > MAX_TABLE_BYTES:
        raise InputError(f"{shown(text)} is larger than any table of measurements ({MAX_TABLE_BYTES:,} bytes)")
    return Path(text)


def run(argv: list[str]) -> str:
    parser = line_parser("validate.py", __doc__)
    parser.add_argument("--fit", action="store_true", help="fit the constants again, beside what is committed")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="also draw measured against estimated, and FILE-residuals: errors by shape (PNG, SVG)",
    )
    parser.add_argument("--write", metavar="FOLDER", help="write all tables to FOLDER/accuracy.md too")
    parser.add_argument(
        "--measured", metavar="FILE.csv", help="judge your own measurements (format: docs/measurements.md)"
    )
    parser.add_argument("--models", action="store_true", help="every config.json at hand against its real code")
    parser.add_argument("--json", action="store_true", help="with --measured: one JSON object")
    args = parser.parse_args(argv)
    if args.json and not args.measured:
        raise InputError("--json goes with --measured")
    if sum(map(bool, (args.measured, args.fit, args.models, args.plot, args.write))) > 1:
        raise InputError("--measured, --fit, --models, --plot and --write go one at a time")
    if args.write is not None and not Path(args.write or "-").is_dir():
        raise InputError(f"can't write {args.write}/accuracy.md: {args.write} is not a folder")
    if args.plot:
        if importlib.util.find_spec("matplotlib") is None:
            raise InputError(f"matplotlib is missing: {to_install('run', 'pictures')}")
        from ridgepoint.pictures.files import picture_path

        picture_path(args.plot)
    width = columns(TABLE)
    if args.measured:
        return report_measured(table_path(args.measured), args.json)
    if args.models:
        from ridgepoint.validation.models import models_table

        table, summary = models_table()
        names = ("family", "way", "configs", "parameters", "active", "equal in\ntransformers")
        return f"{printed(table, names, width, broken=(0, 1, 3, 4))}\n\n{summary}"
    folder = data_folder()
    if folder is None and (args.plot or args.write):
        raise InputError(f"{PACKAGE} is missing, whose measurements these are: {to_install('dev', 'validation')}")
    if (args.fit or folder) and importlib.util.find_spec("scipy") is None:
        raise InputError(f"scipy is missing: {to_install('dev', 'validation')}")
    if args.fit:
        parts: list[str | Table] = [
            Table(fit_table(folder), ("what", "constant", "committed", "found now", "difference"))
        ]
    else:
        parts = accuracy_report(folder)
    if folder is None:
        how = f"{to_install('dev', 'validation')} (Linux x86-64) brings their measurements, those of {PACKAGE}"
        parts.append(f"\nGEMM and attention left out: {how}")
    elif args.plot:
        from ridgepoint.validation.pictures import plot

        parts.append("\n" + plot(folder, Path(args.plot)))
    if args.write:
        parts.append("\n" + write_accuracy(Path(args.write) / "accuracy.md", "\n".join(texts(parts, None))))
    return "\n".join(texts(parts, width))


def write_accuracy(path: Path, tables: str) -> str:
    """Writes the page of the tables, under a temporary name first; returns what was written. Raises InputError."""
    head = "# How far it is from real GPUs\n\nWritten by `python validate.py --write docs`, never by hand. "
    head += "What the tables say, and where the model is weak: [limits.md](limits.md).\n\n"
    temporary = path.with_name(".accuracy.md.tmp")
    try:
        temporary.write_text(f"{head}```\n{tables.rstrip()}\n```\n")
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror}") from error
    return f"{path}: written"


if __name__ == "__main__":
    sys.exit(guarded(run, sys.argv[1:]))
