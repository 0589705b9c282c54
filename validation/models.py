"""Every config.json at hand: estimated or not, by which way, and whether the real code has as many parameters."""

import json
from pathlib import Path

from ridgepoint.command import progress, to_install
from ridgepoint.estimator import Case, estimate
from ridgepoint.inputs import InputError
from ridgepoint.readers import traced
from ridgepoint.readers.catalogue import CATALOGUE, find_model
from ridgepoint.validation.package import package_folder


def config_files() -> list[Path]:
    """The catalogue's, and those that aiconfigurator-core ships, if it is installed."""
    package = package_folder()
    shipped = sorted((package / "model_configs").glob("*_config.json")) if package else []
    return [*sorted(CATALOGUE.glob("*.json")), *(file for file in shipped if "hf_quant_config" not in file.name)]


def examine(file: Path) -> dict:
    """family, way (explicit, traced, or why it is refused), parameters, active, and code: the parameters of the model
    that transformers builds from the same file, None where it can't.
    """
    try:
        model = find_model(str(file))
        estimate(Case(model=model, batch=1, input_tokens=100, output_tokens=3))
    except InputError as error:
        return {"family": "", "way": f"refused: {error}", "parameters": 0, "active": 0, "code": None}
    code = None
    if traced.available():
        config = {key: value for key, value in json.loads(file.read_text()).items() if not key.startswith("_")}
        try:
            with traced.built(config) as built:
                code = traced.elements(built)
        except InputError:
            pass  # transformers doesn't know it: said in the table
    way = "explicit" if model.explicit else "traced"
    counts = {"parameters": model.parameters, "active": model.active_parameters}
    return {"family": model.family, "way": way, **counts, "code": code}


def models_table() -> tuple[list[list], str]:
    """A row per family: way, configs, smallest and largest model, how many equal the real code; and a sentence."""
    families: dict[str, list[dict]] = {}
    files = config_files()
    for file in progress(files, "config.json files", len(files)):
        examined = examine(file)
        families.setdefault(examined["family"] or examined["way"], []).append(examined)
    table = []
    for family, found in sorted(families.items()):
        sizes = sorted({(entry["parameters"], entry["active"]) for entry in found})
        ends = " to ".join(f"{n / 1e9:.2f} B" for n in dict.fromkeys((sizes[0][0], sizes[-1][0])))
        active = " to ".join(f"{n / 1e9:.2f} B" for n in dict.fromkeys((sizes[0][1], sizes[-1][1])))
        built = [entry for entry in found if entry["code"] is not None]
        equal = sum(entry["code"] == entry["parameters"] for entry in built)
        unknown = "not known there" if traced.available() else "not installed"
        checked = f"{equal} of {len(built)}" if built else unknown
        table.append([family, found[0]["way"], len(found), ends, active, checked])
    every = [entry for found in families.values() for entry in found]
    built = [entry for entry in every if entry["code"] is not None]
    equal = sum(entry["code"] == entry["parameters"] for entry in built)
    refused = sum(entry["way"].startswith("refused") for entry in every)
    summary = f"{len(every)} configs: {len(every) - refused} estimated, {refused} refused; "
    if not traced.available():
        return table, summary + f"transformers is not installed: {to_install('hf', 'traces')}"
    return table, summary + f"of the {len(built)} that transformers can build, {equal} have exactly its parameters"
