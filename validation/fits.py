"""Fits of the constants in kernels/architectures.py and engines.py: python validate.py --fit."""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ridgepoint.command import progress
from ridgepoint.hardware import CHIPS
from ridgepoint.kernels.architectures import (
    AMPERE,
    ARCHITECTURES,
    H100_PER_CLOCK,
    HOPPER,
    NARROW,
    Architecture,
    architecture_of,
)
from ridgepoint.kernels.cycles import sustained
from ridgepoint.serving.engines import VLLM, Engine, find_engine
from ridgepoint.validation.attention import attention_rows, latent_rows, sparse_rows
from ridgepoint.validation.dense import gemm_rows, narrow_rows, quantize_rows
from ridgepoint.validation.measured import end_to_end_row
from ridgepoint.validation.mixtures import mixture_rows
from ridgepoint.validation.pointwise import pointwise_rows, pointwise_s
from ridgepoint.validation.recurrent import recurrent_rows
from ridgepoint.validation.rows import Rows, chosen, halves, sampled
from ridgepoint.validation.served import served_row
from ridgepoint.validation.sets import (
    CSV_FOLDER,
    DATA_SETS,
    H100,
    LARGE,
    LATENT_SETS,
    LAYER_EVENTS_S,
    MIXTURE_SETS,
    NARROW_FITTED,
    RECURRENT_SETS,
    REFITS,
    SUSTAINED_FITTED,
    fit_row,
    served_fit_row,
)
from ridgepoint.validation.widths import fit_widths

Residuals = Callable[[dict[str, float]], np.ndarray]  # of constants: log of estimated / measured
Finding = tuple[str, Mapping[str, Any], dict[str, float]]  # what, the committed record, the constants found
Problem = tuple[str, Mapping[str, Any], tuple[str, ...], Residuals]  # the constants' names, and what they minimise

# Neutral starting points: round numbers of the right order, not the result.
GEMM_START = dict(
    tensor_efficiency=0.9,
    dram_efficiency=0.9,
    dram_ramp_s=2e-6,
    l2_usable=0.8,
    step_clocks=60.0,
    wave_clocks=1000.0,
    epilogue_bytes_per_clock=16.0,
    split_k_s=2e-6,
    overlap=4.0,
    launch_clocks=3000.0,
)
ATTENTION_NAMES = (
    "vector_ops",
    "cta_waits",
    "dram_efficiency",
    "launch_clocks",
    "append_waits",
    "tail",
    "kernel_clocks",
)
ATTENTION_START = dict(zip(ATTENTION_NAMES, (5.0, 4.6, 0.85, 7000.0, 13.0, 0.5, 2700.0), strict=True))
POWER_START = {"power_share": 0.6}  # low enough to bind: where it doesn't, a fit sees no slope
MIXTURE_START = {"tensor_efficiency": 0.9, "overlap": 4.0, "layer_clocks": 20000.0}
RECURRENT_START = {"product_clocks": 1000.0, "waits": 5.0}
AT_MOST_ONE = (
    "stage_efficiency",
    "index_scores",
    "latent_expanded",
    "latent_absorbed",
    "tensor_efficiency",
    "power_share",
    "tensor_sustained_share",
    "mma_efficiency",
    "dram_efficiency",
    "l2_usable",
)
ENGINE_NAMES = {
    "vllm-0.6": ("step_s", "sequence_s"),
    "tensorrt-llm-0.11": ("step_s", "sequence_s", "sm_bytes_per_clock", "dram_efficiency"),
    "tensorrt-llm-0.9": ("dram_efficiency",),
    "eager-4.35": ("launch_s", "pointwise_passes", "kv_copies"),
    "eager-5.17": ("launch_s", "pointwise_passes", "kv_copies"),
}
ENGINE_START = {"step_s": 0.3e-3, "sequence_s": 30e-6, "sm_bytes_per_clock": 30.0, "dram_efficiency": 0.95}
# Of served.csv: which engine's rows show which constants, by which metric.
SERVED_FITS = (("vllm-0.11", "tpot_s", ("step_s", "sequence_s")), ("vllm", "ttft_s", ("request_s",)))
ENGINE_START |= {"request_s": 10e-3, "launch_s": 80e-6, "pointwise_passes": 8.0, "kv_copies": 6.0}


def fit_table(folder: Path | None) -> list[list]:
    """Every fitted constant: what is committed, and what the fit finds now."""
    results = chain(fit_pointwise(), fit_engines())
    if folder:
        kinds = (fit_kernels, fit_sustained, fit_narrow, fit_recurrent, fit_sparse)
        results = chain(results, *(fit(folder) for fit in kinds))
    results = chain(results, fit_widths(folder))
    return [
        [what, name, f"{committed[name]:.4g}", f"{value:.4g}", f"{value / committed[name] - 1:+.1%}"]
        for what, committed, found in progress(results, "fits")
        for name, value in found.items()
    ]


def fit_constants(residuals: Residuals, start: dict[str, float], steps: int) -> dict[str, float]:
    """The positive constants that bring `residuals` (a function of them: log estimated / measured) nearest to 0.
    Robust least squares in the logarithms for the start, Nelder-Mead on a robust mean for the finish, since the
    models have kinks (the choice of tile, whole waves).
    """
    from scipy.optimize import least_squares, minimize

    names = list(start)
    high = np.array([0.0 if name in AT_MOST_ONE else np.inf for name in names])

    def constants(x: np.ndarray) -> dict[str, float]:
        return dict(zip(names, np.exp(np.minimum(x, high)).tolist(), strict=True))

    def cost(x: np.ndarray) -> float:
        return float(np.mean(np.sqrt(1 + (residuals(constants(x)) / 0.05) ** 2)))

    x = np.minimum(np.log(list(start.values())), high - 0.01)
    robust = {"loss": "soft_l1", "f_scale": 0.05, "diff_step": 1e-2, "max_nfev": 20}
    x = least_squares(lambda x: residuals(constants(x)), x, **robust).x
    for _ in range(2 if steps else 0):
        simplex = np.vstack([x, x - 0.12 * np.eye(x.size)])
        x = minimize(cost, x, method="Nelder-Mead", options={"maxfev": steps, "initial_simplex": simplex}).x
    return constants(x)


def fit_part(part: str, base: Architecture, start: dict[str, float], sets: list[Rows], steps: int) -> dict[str, float]:
    """Constants named in `start` of one part ("gemm" or "attention") of the Architecture `base`, on `sets`."""

    def residuals(constants: dict[str, float]) -> np.ndarray:
        arch = replace(base, **{part: replace(getattr(base, part), **constants)})
        return np.concatenate([np.log(rows.estimate_s(arch) / rows.measured_s) for rows in sets])

    return fit_constants(residuals, start, steps)


def fit_kernels(folder: Path) -> Iterator[Finding]:
    """(what, committed, found) of every constant of GEMM and attention."""
    first = DATA_SETS[0]
    gemm_found = fit_part("gemm", AMPERE, GEMM_START, [gemm_rows(first, folder)], 500)
    phases = ("prefill", "decode")
    sets = [sampled(attention_rows(first, folder, phase), 1500) for phase in phases]
    attention_found = fit_part("attention", AMPERE, ATTENTION_START, sets, 500)
    yield "ampere gemm", asdict(AMPERE.gemm), gemm_found
    yield "ampere attention", asdict(AMPERE.attention), attention_found
    for phase, form in (("prefill", "expanded"), ("decode", "absorbed")):
        sets = [sampled(latent_rows(LATENT_SETS[0], folder, phase), 1500)]
        start = {f"latent_{form}": 0.8}
        yield f"ampere mla {phase}", asdict(AMPERE.attention), fit_part("attention", AMPERE, start, sets, 60)
    sets = [sampled(mixture_rows(MIXTURE_SETS[0], folder), 1500)]
    yield "ampere moe", asdict(AMPERE.moe), fit_part("moe", AMPERE, MIXTURE_START, sets, 200)
    for name, hardware, gemm_names, attention_names in REFITS:
        committed = ARCHITECTURES[name]
        # what was not refitted is Ampere's; what the kernels are and what power leaves is the architecture's own
        gemm = replace(AMPERE.gemm, power_share=committed.gemm.power_share, **gemm_found)
        gemm_base = replace(committed, gemm=gemm)
        own = [data for data in DATA_SETS if data.hardware == hardware]
        sets = [sampled(gemm_rows(data, folder), 1000) for data in own]
        start = {field: POWER_START.get(field, getattr(gemm_base.gemm, field)) for field in gemm_names}
        yield f"{name} gemm", asdict(committed.gemm), fit_part("gemm", gemm_base, start, sets, 120)
        sets = [sampled(attention_rows(own[0], folder, phase), 1500) for phase in phases]
        start = {field: getattr(AMPERE.attention, field) for field in attention_names}
        yield f"{name} attention", asdict(committed.attention), fit_part("attention", committed, start, sets, 100)


def fit_sustained(folder: Path) -> Iterator[Finding]:
    """(what, committed, found): what a pass sustains, by large products on random data, TensorRT-LLM's and SGLang's."""
    for together in SUSTAINED_FITTED:
        own = [data for data in DATA_SETS if data.hardware in together and data.engine is not VLLM]
        sets = [gemm_rows(data, folder) for data in own]
        large = [chosen(rows, np.flatnonzero(rows.op.flops >= 2 * LARGE)) for rows in sets]

        def residuals(constants: dict[str, float], large: list[Rows] = large) -> np.ndarray:
            found, share = [], constants["tensor_sustained_share"]
            for rows in large:
                arch = sustained(architecture_of(rows.chip), replace(rows.chip, tensor_sustained_share=share))
                found.append(np.log(rows.estimate_s(arch) / rows.measured_s))
            return np.concatenate(found)

        found = fit_constants(residuals, {"tensor_sustained_share": 0.7}, 60)
        yield f"a pass on the {' and '.join(together)}", asdict(CHIPS[together[0]]), found


def fit_narrow(folder: Path) -> Iterator[Finding]:
    """(what, committed, found): weight-only formats with the profiler's share on half of their rows, then the kernel
    that narrows activations.
    """

    def seen_half(name: str, hardware: str, engine: Engine) -> Rows:
        data = next(data for data in DATA_SETS if (data.hardware, data.engine) == (hardware, engine))
        return halves(narrow_rows(name, data, folder))[0]

    weight_only = [seen_half(*entry) for entry in NARROW_FITTED]

    def residuals(constants: dict[str, float]) -> np.ndarray:
        narrow: dict[str, Any] = {field: value for field, value in constants.items() if field != "layer_events_s"}
        found = []
        for rows in weight_only:
            rows = replace(rows, extra_s=constants["layer_events_s"])
            arch = architecture_of(rows.chip)
            arch = replace(arch, narrow=replace(arch.narrow, **narrow))
            found.append(np.log(rows.estimate_s(arch) / rows.measured_s))
        return np.concatenate(found)

    start = {"dequant8_ops": 1.5, "dequant4_ops": 1.5, "dequant_clocks": 300.0, "layer_events_s": 5e-6}
    committed = asdict(NARROW) | {"layer_events_s": LAYER_EVENTS_S}
    yield "weight-only products", committed, fit_constants(residuals, start, 200)
    rows = quantize_rows(next(data for data in DATA_SETS if data.hardware == "h100-sxm"), folder)
    yield "quantisation, elements per clock", H100_PER_CLOCK, fit_rate(rows, {"quantize": 2.0})


def fit_rate(rows: Rows, start: dict[str, float]) -> dict[str, float]:
    """The elements per clock of one pointwise kind, and chosen_walks, from its kernels in the package."""

    def residuals(constants: dict[str, float]) -> np.ndarray:
        arch = architecture_of(rows.chip)
        fields = {name: value for name, value in constants.items() if name == "chosen_walks"}
        rates = {name: value for name, value in constants.items() if name not in fields}
        rates = arch.pointwise.elements_per_clock | rates
        fit = replace(arch.pointwise, elements_per_clock=rates, **fields)
        return np.log(rows.estimate_s(replace(arch, pointwise=fit)) / rows.measured_s)

    return fit_constants(residuals, start, 60)


def fit_recurrent(folder: Path) -> Iterator[Finding]:
    """(what, committed, found) of linear attention, on the H100: vLLM's one kernel for a scan and its update, SGLang's
    scan in several kernels, vLLM's convolution.
    """
    vllm, sglang = RECURRENT_SETS[:2]
    committed = asdict(HOPPER.recurrent)
    whole = [sampled(recurrent_rows(vllm, folder, part), 200) for part in ("scan", "state update")]  # as many of each
    yield "scan and state update", committed, fit_part("recurrent", HOPPER, RECURRENT_START, whole, 120)
    staged = [sampled(recurrent_rows(sglang, folder, "scan"), 1500)]
    yield "scan in stages", committed, fit_part("recurrent", HOPPER, {"stage_efficiency": 0.7}, staged, 60)
    rate = fit_rate(sampled(recurrent_rows(vllm, folder, "conv"), 1500), {"conv": 2.0})
    yield "convolution, elements per clock", H100_PER_CLOCK, rate


def fit_sparse(folder: Path) -> Iterator[Finding]:
    """(what, committed, found) of sparse attention's indexer, on SGLang's kernels on the H100."""
    scores, top_keys = (sampled(sparse_rows(number, H100, folder), 1500) for number in (0, 3))
    found = fit_part("attention", HOPPER, {"index_scores": 0.7}, [scores], 60)
    yield "index scores", asdict(HOPPER.attention), found
    committed = H100_PER_CLOCK | {"chosen_walks": HOPPER.pointwise.chosen_walks}
    yield "top-k, elements per clock", committed, fit_rate(top_keys, {"topk": 1.0, "chosen_walks": 4.0})


def fit_pointwise() -> Iterator[Finding]:
    """(what, committed, found) of the pointwise kernels: A100, then one factor on the rates for Hopper."""
    sets = [rows for rows in pointwise_rows() if rows.kind in AMPERE.pointwise.elements_per_clock]
    kinds = sorted({rows.kind for rows in sets})

    def residuals(constants: dict[str, float], base: Architecture, seen: list[Rows]) -> np.ndarray:
        rates = {kind: constants.get(kind, 1.0) * constants.get("factor", 1.0) for kind in kinds}
        if "factor" in constants:
            rates = {kind: AMPERE.pointwise.elements_per_clock[kind] * constants["factor"] for kind in kinds}
        fit = replace(base.pointwise, elements_per_clock=rates)
        if "start_s" in constants:
            fit = replace(fit, start_s=constants["start_s"])
        arch = replace(base, pointwise=fit)
        return np.concatenate([np.log(pointwise_s(rows, arch) / rows.measured_s) for rows in seen])

    start = dict.fromkeys(kinds, 1.0) | {"start_s": 1e-6}
    ampere_sets = [rows for rows in sets if rows.fitted]
    found = fit_constants(lambda x: residuals(x, AMPERE, ampere_sets), start, 400)
    committed = AMPERE.pointwise.elements_per_clock | {"start_s": AMPERE.pointwise.start_s}
    yield "ampere pointwise, elements per clock", committed, found
    hopper = ARCHITECTURES["hopper"]
    hopper_sets = [rows for rows in sets if rows.chip.architecture == "hopper"]
    found = fit_constants(lambda x: residuals(x, hopper, hopper_sets), {"factor": 1.0}, 100)
    factor = hopper.pointwise.elements_per_clock["norm"] / AMPERE.pointwise.elements_per_clock["norm"]
    yield "hopper pointwise, rates over ampere's", {"factor": factor}, found


def with_constants(engine: Engine, constants: dict[str, float]) -> Engine:
    """`engine` with other constants: its own, or those of attention in the last of its choices that names them."""
    own: dict[str, Any] = {name: value for name, value in constants.items() if name in engine.__dataclass_fields__}
    choices = list(engine.choices)
    for name in constants.keys() - own.keys():
        last = max(index for index, choice in enumerate(choices) if name in choice.attention)
        attention = dict(choices[last].attention) | {name: constants[name]}
        choices[last] = replace(choices[last], attention=attention)
    return replace(engine, choices=tuple(choices), **own)


def committed_constants(engine: Engine) -> dict[str, float]:
    """Its constants by name, those of attention among them."""
    own = {name: getattr(engine, name) for name in engine.__dataclass_fields__}
    for choice in engine.choices:
        own |= choice.attention
    return own


def engine_problems() -> Iterator[Problem]:
    """(what, committed, names of its constants, residuals) of the engines' records, on the rows of end_to_end.csv that
    fit_row names.
    """
    with open(CSV_FOLDER / "end_to_end.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if fit_row(row)]
    for name, names in ENGINE_NAMES.items():
        committed, own = find_engine(name), [row for row in rows if row["runtime"] == name]

        def residuals(constants: dict[str, float], committed: Engine = committed, own: list[dict] = own) -> np.ndarray:
            engine = with_constants(committed, constants)
            estimated = [end_to_end_row(row | {"runtime": engine})["estimated"] for row in own]
            return np.log(np.array(estimated) / [float(row["measured"]) for row in own])

        yield f"engine {name}", committed_constants(committed), names, residuals


def served_problems() -> Iterator[Problem]:
    """The same of the hosts of engines that served requests, on rows of served.csv."""
    with open(CSV_FOLDER / "served.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for name, metric, names in SERVED_FITS:
        committed = find_engine(name)
        own = [row for row in rows if row["runtime"] == name and served_fit_row(row, metric)]

        def residuals(
            constants: dict[str, float], committed: Engine = committed, own: list[dict] = own, metric: str = metric
        ) -> np.ndarray:
            engine = with_constants(committed, constants)
            estimated = [served_row(row | {"runtime": engine})[f"{metric[:4]}_estimated"] for row in own]
            return np.log(np.array(estimated) / [float(row[metric]) for row in own])

        yield f"engine {name}, served", committed_constants(committed), names, residuals


def fit_engines() -> Iterator[Finding]:
    """(what, committed, found) of the engines' records."""
    for what, committed, names, residuals in (*engine_problems(), *served_problems()):
        yield what, committed, fit_constants(residuals, {name: ENGINE_START[name] for name in names}, 0)
