"""All measured kernels of the package aiconfigurator-core, set by set."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from ridgepoint.serving.engines import TENSORRT_LLM, VLLM
from ridgepoint.validation.attention import attention_rows, latent_rows, sparse_rows
from ridgepoint.validation.dense import absorbed_rows, gemm_rows, narrow_rows, quantize_rows, stream_rows
from ridgepoint.validation.mixtures import mixture_formats, mixture_rows
from ridgepoint.validation.recurrent import RECURRENT_PARTS, recurrent_rows
from ridgepoint.validation.rows import Rows, halves
from ridgepoint.validation.sets import (
    B200,
    DATA_SETS,
    H100,
    H200,
    LATENT_SETS,
    MIXTURE_SETS,
    NARROW_MIXTURES,
    NARROW_SETS,
    RECURRENT_SETS,
    SPARSE_PARTS,
    DataSet,
)

Data = TypeVar("Data", bound=DataSet)


def on_gpu(sets: Iterable[Data], hardware: str | None) -> list[Data]:
    """The data sets of one GPU; None: of all."""
    return [data for data in sets if hardware in (None, data.hardware)]


def kernel_sets(folder: Path, hardware: str | None = None) -> Iterator[Rows]:
    """All data sets of the package, the fitted one first, or those of one GPU."""
    own = on_gpu(DATA_SETS, hardware)
    for data in own:
        yield gemm_rows(data, folder)
    for phase in ("prefill", "decode"):
        for data in own:
            yield attention_rows(data, folder, phase)
    for data in own:
        if data.engine is TENSORRT_LLM:
            yield attention_rows(data, folder, "decode", wide=True)
    for _, name, _, sets in NARROW_SETS:
        for data in own:
            if (data.hardware, data.engine) in sets:
                rows = narrow_rows(name, data, folder)
                yield from halves(rows) if rows.refitted else (rows,)
    yield from (rows for rows in further_sets(folder, hardware) if rows is not None and rows.measured_s.size)


def further_sets(folder: Path, hardware: str | None) -> Iterator[Rows | None]:
    """The sets beyond products and attention over a bf16 cache. Some are empty: the A100 has no fp8 cache, SGLang's
    prefill over one is Triton's.
    """
    own = on_gpu(DATA_SETS, hardware)
    for phase in ("prefill", "decode"):
        for data in own:
            yield attention_rows(data, folder, phase, "fp8")
    for data in own:
        if data.engine is VLLM and not data.hardware.startswith("a100"):
            yield quantize_rows(data, folder)
    for stored in ("bfloat16", *NARROW_MIXTURES):
        for mixture in on_gpu(MIXTURE_SETS, hardware):
            if stored in mixture_formats(mixture, folder):
                yield mixture_rows(mixture, folder, stored)
    for phase in ("prefill", "decode"):
        for data in on_gpu(LATENT_SETS, hardware):
            yield latent_rows(data, folder, phase)
    for entry in range(len(SPARSE_PARTS)):
        for gpu in (H100, H200, B200):
            if hardware in (None, gpu["hardware"]):
                yield sparse_rows(entry, gpu, folder)
    for op_name in ("mla_gen_pre", "mla_gen_post"):
        for data in own:
            yield absorbed_rows(data, folder, op_name)
    for data in own:
        yield stream_rows(data, folder)
    for part in RECURRENT_PARTS:
        for linear in on_gpu(RECURRENT_SETS, hardware):
            yield recurrent_rows(linear, folder, part)
