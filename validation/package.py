"""Where the package aiconfigurator-core keeps its measurements, and how they are read."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ridgepoint.validation.sets import PACKAGE_NAMES, DataSet

if TYPE_CHECKING:
    import pandas


def package_folder() -> Path | None:
    """Where the package is, or None if it isn't installed."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def data_folder() -> Path | None:
    """Where the package keeps its measurements, or None if it isn't installed."""
    package = package_folder()
    return package / "systems" / "data" if package else None


def perf_path(data: DataSet, folder: Path, kind: str, name: str) -> Path:
    """The file of a set's measurements of this kind."""
    return folder / data.folder / kind / PACKAGE_NAMES[data.engine.family] / data.version / f"{name}_perf.parquet"


def perf_table(
    data: DataSet, folder: Path, kind: str, name: str, columns: list[str] | None = None
) -> "pandas.DataFrame":
    """A set's measurements of this kind, those columns of them; `latency` is in milliseconds."""
    import pandas

    return pandas.read_parquet(perf_path(data, folder, kind, name), columns=columns)


def medians(table: "pandas.DataFrame", sizes: list[str]) -> tuple[list[np.ndarray], np.ndarray]:
    """The columns `sizes`, an array each, and the measured seconds; repeated shapes reduced to their median."""
    table = table.groupby(sizes, as_index=False).latency.median()
    return [table[size].to_numpy(dtype=float) for size in sizes], table.latency.to_numpy() * 1e-3
