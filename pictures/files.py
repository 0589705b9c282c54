"""Where pictures go: paths that are refused, and files that are whole or not there."""

import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from ridgepoint.inputs import InputError, shown

SUFFIXES = (".png", ".svg")


def picture_path(text: str) -> Path:
    """The path of a picture. Raises InputError for a suffix that is not one, or a place where no file can be."""
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"a picture must end in {' or '.join(SUFFIXES)}, not {shown(text)}")
    if not os.path.isdir(path.parent):
        raise InputError(f"can't write {shown(text)}: {shown(str(path.parent))} is not a folder")
    if os.path.lexists(path) and not os.path.isfile(path):
        raise InputError(f"can't write {shown(text)}: it is there, and not a file")
    return path


def save(figure: plt.Figure, path: Path) -> None:
    """Writes PNG or SVG by suffix, to a temporary name beside it, then renamed. Raises InputError."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        try:
            figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"can't write {shown(str(path))}: {error.strerror}") from error
