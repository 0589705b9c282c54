"""The lists of models, GPUs and engines."""

from tabulate import tabulate

from ridgepoint.report.text import GIB


def models_text(models) -> str:
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
    headers = ("name", "model", "family", "parameters", "active", "KV bytes per token, fp16")
    align = ("left", "left", "left", "right", "right", "right")
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align)


def hardware_text(chips) -> str:
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
    headers = ("name", "GPU", "SMs", "fp16 TFLOP/s", "DRAM GB/s", "DRAM GiB", "W")
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)


def runtimes_text(engines) -> str:
    """The engines, the versions that each record stands for, and what of it was measured."""

    def versions(engine) -> str:
        low, high = engine.stands_for
        if not low:
            return ""
        return f"{low} and later" if engine.version == newest[engine.family] else f"{low} to {high}"

    def measured(found) -> str:
        gpus = {version: [gpu for gpu in found if found[gpu] == version] for version in found.values()}
        return "; ".join(f"{version}: {', '.join(names)}" for version, names in gpus.items())

    engines = list(engines)
    newest: dict[str, str] = {}
    for engine in engines:  # the newest of a family comes first
        newest.setdefault(engine.family, engine.version)
    rows = [(e.name, e.title, versions(e), measured(e.kernels_measured), measured(e.runs_measured)) for e in engines]
    headers = ("name", "engine", "stands for", "kernels measured on", "whole runs measured on")
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
