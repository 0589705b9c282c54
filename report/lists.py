"""The lists of models, GPUs and engines: tables for people, arrays of objects in SI units for programs."""

import json
from dataclasses import asdict

from ridgepoint.report.terminal import TABLE, table
from ridgepoint.report.text import GIB


def models_text(models, width: int) -> str:
    rows = [
        (
            m.name,
            m.title,
            m.family,
            f"{m.parameters / 1e9:,.2f} B",
            f"{m.active_parameters / 1e9:,.2f} B",
            f"{m.kv_bytes_per_token('fp16'):,}",
        )
        for m in models
    ]
    headers = ("name", "model", "family", "parameters", "active", "KV bytes per\ntoken, fp16")
    align = ("left", "left", "left", "right", "right", "right")
    spare = (1,) if width < TABLE else ()  # which says little more than the name
    return table(rows, headers, width=width, align=align, spare=spare, broken=(1,))


def models_json(models) -> str:
    """parameters: all, and those that one token uses; kv_bytes_per_token: of a 16-bit cache."""
    return _array(
        {name: getattr(m, name) for name in ("name", "title", "family", "source", "parameters", "active_parameters")}
        | {"kv_bytes_per_token": m.kv_bytes_per_token("fp16"), "max_positions": m.max_positions}
        for m in models
    )


def hardware_text(chips, width: int) -> str:
    rows = [
        (
            c.name,
            c.title,
            c.sm_count,
            f"{c.tensor_flops_per_s('fp16') / 1e12:.1f}",
            f"{c.dram_bytes_per_s / 1e9:,.0f}",
            f"{c.dram_bytes / GIB:.0f}",
            f"{c.tdp_w:.0f}",
        )
        for c in chips
    ]
    headers = ("name", "GPU", "SMs", "fp16\nTFLOP/s", "DRAM\nGB/s", "DRAM\nGiB", "W")
    return table(rows, headers, width=width, align=("left", "left", *["right"] * 5), broken=(1,))


def hardware_json(chips) -> str:
    """All fields of hardware.Chip, whose sources stand beside them in hardware.py, and the peaks that follow."""
    return _array(
        asdict(c)
        | {"tensor_flops_per_s": {name: c.tensor_flops_per_s(name) for name, rate in c.fma_rates().items() if rate}}
        | {"vector_flops_per_s": c.vector_flops_per_s}
        for c in chips
    )


def runtimes_text(engines, width: int) -> str:
    """The engines, the versions that each record stands for, and what of it was measured."""

    def versions(engine) -> str:
        low, high = engine.stands_for
        if not low:
            return ""
        return f"{low} and later" if engine.version == newest[engine.family] else f"{low} to {high}"

    def measured(what: str, found) -> list[str]:
        gpus = {version: [gpu for gpu in found if found[gpu] == version] for version in found.values()}
        return [f"{what} measured, {version}: {', '.join(names)}" for version, names in gpus.items()]

    engines = list(engines)
    newest: dict[str, str] = {}
    for engine in engines:  # the newest of a family comes first
        newest.setdefault(engine.family, engine.version)
    rows = []
    for e in engines:
        said = [e.title, *measured("kernels", e.kernels_measured), *measured("whole runs", e.runs_measured)]
        rows.append((e.name, versions(e), "\n".join(said)))
    headers = ("name", "stands for", "engine, and what of it was measured")
    return table(rows, headers, width=width, broken=(2,))


def runtimes_json(engines) -> str:
    """stands_for: versions, from and to; ..._measured: the version measured on each GPU."""
    fields = ["name", "family", "version", "title", "stands_for", "kernels_measured", "runs_measured"]
    fields += ["launch_s", "step_s", "sequence_s", "request_s", "asynchronous"]
    return _array({name: _plain(getattr(e, name)) for name in fields} for e in engines)


def _plain(value):
    return dict(value) if hasattr(value, "keys") else value


def _array(entries) -> str:
    return json.dumps(list(entries), allow_nan=False)
