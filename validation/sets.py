"""What was measured, by which engine and benchmark, and which of it a fit saw."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ridgepoint.serving.engines import SGLANG, TENSORRT_LLM, VLLM, Engine

CSV_FOLDER = Path(__file__).resolve().parent  # of the CSV files
PACKAGE = "aiconfigurator-core==0.12.0"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Measured kernels of one GPU and engine, whose record says which version. `weight_copies`: how many copies of its
    weights the benchmark cycles through, which decides what it finds in the L2 (aiconfigurator's collectors); "l2":
    min(5, ceil(L2 / weights)). version: where it isn't the record's.
    """

    hardware: str
    folder: str
    engine: Engine
    version: str = ""
    weight_copies: int | str = 6
    x_copies: int = 1
    fitted: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", self.version or self.engine.kernels_measured[self.hardware])

    @property
    def label(self) -> str:
        """What the tables call it."""
        return f"{self.hardware} {self.engine.family} {self.version}"


PACKAGE_NAMES = {"vllm": "vllm", "tensorrt-llm": "trtllm", "sglang": "sglang"}  # of engines, in the package


class Gpu(TypedDict):
    """Of a DataSet."""

    hardware: str
    folder: str


A100, H100, H200, L40S, B200 = (
    Gpu(hardware=hardware, folder=folder)
    for hardware, folder in (
        ("a100-80gb-sxm", "a100_sxm"),
        ("h100-sxm", "h100_sxm"),
        ("h200-sxm", "h200_sxm"),
        ("l40s", "l40s"),
        ("b200-sxm", "b200_sxm"),
    )
)
DATA_SETS = (
    DataSet(**A100, engine=VLLM, fitted=True),
    DataSet(**A100, engine=TENSORRT_LLM),
    DataSet(**A100, engine=SGLANG, x_copies=6),
    *(
        DataSet(**gpu, engine=engine, weight_copies=weight_copies, x_copies=x_copies)
        for gpu in (H100, H200, L40S, B200)
        for engine, weight_copies, x_copies in ((VLLM, 6, 1), (TENSORRT_LLM, "l2", 1), (SGLANG, 6, 6))
    ),
)
LATENT_SETS = (
    DataSet(**A100, engine=TENSORRT_LLM, fitted=True),
    DataSet(**H100, engine=TENSORRT_LLM),
    DataSet(**H100, engine=SGLANG),
    DataSet(**H200, engine=TENSORRT_LLM),
    DataSet(**H200, engine=SGLANG),
    DataSet(**B200, engine=TENSORRT_LLM),
)


@dataclass(frozen=True, kw_only=True)
class RecurrentSet(DataSet):
    """Measured kernels of linear attention. What the benchmarks run differs (aiconfigurator's collectors).

    model: gdn (gated delta net) or kda (Kimi delta attention). packed: q, k and v go through the convolution together,
    token by token; else only k, channel by channel. fits: parts that a fit saw.
    """

    model: str = "gdn"
    packed: bool = True
    fits: tuple[str, ...] = ()


RECURRENT_SETS = (
    RecurrentSet(**H100, engine=VLLM, fits=("scan", "state update", "conv")),
    RecurrentSet(**H100, engine=SGLANG, fits=("scan",)),
    RecurrentSet(**H100, engine=TENSORRT_LLM, packed=False),
    *(
        RecurrentSet(**gpu, engine=engine, packed=engine is not TENSORRT_LLM)
        for gpu in (H200, B200)
        for engine in (VLLM, SGLANG, TENSORRT_LLM)
    ),
    RecurrentSet(**A100, engine=SGLANG, packed=False),
    *(
        RecurrentSet(**gpu, engine=engine, version=version, model="kda")
        for gpu in (H100, H200, B200)
        for engine, version in ((VLLM, "0.1.dev19262"), (SGLANG, "0.5.16"))
    ),
)
# Sparse attention: (engine, table in the package, part), on three GPUs. "index scores": every query against
# the keys before it, GLM-5's 32 heads of 128; "paged": one entry for every 4 keys of a shared cache, DeepSeek-V4's 64
# heads of 128. Both multiply fp8. "top-k": 2,048 of a row whose largest come last; rows of equal scores, which no model
# gives, are not used. "sparse attention": GLM-5's 64 heads on a list of 2,048 latents of each query; "heavy":
# DeepSeek-V4's on a window of 128 and one entry for every 128 keys, in an fp8 cache.
SPARSE_PARTS = (
    (SGLANG, "glm5_mqa_logits_module", "index scores"),
    (SGLANG, "dsv4_paged_mqa_logits_module", "index scores, paged"),
    (VLLM, "dsv4_paged_mqa_logits_module", "index scores, paged"),
    (SGLANG, "glm5_topk_module", "top-k"),
    (SGLANG, "glm5_dsa_attn_module", "sparse attention"),
    (VLLM, "dsv4_hca_attn_module", "heavy attention"),
)
SPARSE_FITTED = ("index scores", "top-k")  # on the H100
# Products with narrow operands: gemm_dtype in the package, its name here, formats of weights and activations, and the
# data sets (hardware, engine) that have it. Weight-only and int8 rows are single runs under TensorRT's layer profiler,
# weights and scales cold (the layers before it sweep 0.3 GB), the product alone, in steps of 1.024 us. The others are
# CUDA graphs as above and include the kernels that narrow x. vLLM's fp8_block rows ran without a graph: left out.
NARROW_SETS = (
    ("int8_wo", "int8_wo", ("int8", None), (("a100-80gb-sxm", TENSORRT_LLM),)),
    ("int4_wo", "int4_wo", ("int4", None), (("a100-80gb-sxm", TENSORRT_LLM),)),
    ("sq", "int8", ("int8", "int8"), (("a100-80gb-sxm", TENSORRT_LLM),)),
    ("fp8", "fp8", ("fp8", "fp8"), [(d.hardware, d.engine) for d in DATA_SETS if not d.hardware.startswith("a100")]),
    (
        "fp8_block",
        "fp8_block",
        ("fp8", "fp8"),
        [(hardware, engine) for hardware in ("h100-sxm", "h200-sxm", "b200-sxm") for engine in (TENSORRT_LLM, SGLANG)],
    ),
    ("nvfp4", "nvfp4", ("nvfp4", "nvfp4"), [("b200-sxm", engine) for engine in (VLLM, TENSORRT_LLM, SGLANG)]),
)
PROFILED = ("int8_wo", "int4_wo", "sq")
LAYER_EVENTS_S = 5.353e-6  # fitted: what TensorRT's profiler adds to a layer, beyond the gap in a CUDA graph
# How x is narrowed in the fp8 rows. SGLang: one kernel, a scale per token. vLLM: a kernel that finds the largest
# magnitude of the tensor, with one atomic per row on one address, then one that narrows: read off the rows with
# n = k = 32, where the time grows by 6.3 ns a row on the H100, 5.0 on the L40S. TensorRT-LLM: several kernels, whose
# time the package has by itself (quantize/), and one more tiny one, since rows with n = k = 32 take 0.9 to 1.3 us more
# than those kernels and a bf16 product together, whatever m, on each of L40S, H100 and H200.
ATOMIC_CLOCKS = 12.0


@dataclass(frozen=True, kw_only=True)
class MixtureSet(DataSet):
    """Measured layers of a mixture of experts: routed, gated, two grouped products, combined."""

    remainder: str = "each rank"  # of the benchmark's routing (validation/loads.py)


MIXTURE_SETS = (
    MixtureSet(**A100, engine=VLLM, remainder="smallest", fitted=True),
    MixtureSet(**A100, engine=TENSORRT_LLM, remainder="largest"),
    MixtureSet(**A100, engine=SGLANG, remainder="smallest"),
    *(MixtureSet(**gpu, engine=engine) for gpu in (H100, H200, L40S, B200) for engine in (VLLM, TENSORRT_LLM, SGLANG)),
)
# moe_dtype of the package: formats of weights and activations.
NARROW_MIXTURES = {
    "fp8": ("fp8", "fp8"),
    "fp8_block": ("fp8", "fp8"),
    "int4_wo": ("int4", None),
    "w4a16_mxfp4": ("mxfp4", None),
    "nvfp4": ("nvfp4", "nvfp4"),
}
# Hidden size and width of models without a gate, which vLLM 0.24 measures with one product less.
UNGATED = ((1024, 2688), (2048, 5120), (2688, 1856), (4096, 2688), (8192, 5120))
# What the fits saw, apart from the sets marked `fitted`.
# At most three constants per further architecture; GEMM on all engines of one GPU, attention on its vLLM rows.
REFITS = (
    ("ada", "l40s", ("tensor_efficiency", "power_share", "dram_efficiency"), ("mma_efficiency", "dram_efficiency")),
    ("hopper", "h100-sxm", ("dram_efficiency", "overlap"), ("append_waits", "cta_waits")),
    (
        "blackwell",
        "b200-sxm",
        ("dram_efficiency", "epilogue_bytes_per_clock", "power_share"),
        ("dram_efficiency", "launch_clocks"),
    ),
)
REFITTED = {hardware for _, hardware, _, _ in REFITS}
LARGE = 1e12  # m x n x k from which products run long enough for the power limit to set the clock
# Chips whose passes are held to what these sustain on random data; the A100's agrees with [MAMF] within 1 %.
# One for the H100 and the H200, which are one die within the same 700 W.
SUSTAINED_FITTED = (("h100-sxm", "h200-sxm"), ("l40s",), ("b200-sxm",))
NARROW_FITTED = (("int8_wo", "a100-80gb-sxm", TENSORRT_LLM), ("int4_wo", "a100-80gb-sxm", TENSORRT_LLM))
# Rows of validation/pointwise.csv that the constants were fitted on: Llama-3-8B's shapes on the A100.
POINTWISE_FIT = {"hardware": "a100-80gb-sxm", "intermediate": "14336"}


def served_fit_row(row: dict, metric: str) -> bool:
    """Was its engine's record fitted on this metric, tpot_s or ttft_s, of this row of served.csv? vLLM 0.24's host
    shows in TTFT alone, 0.11's in TPOT; of three saturated runs on one.
    """
    fits = {"vllm": "ttft_s", "vllm-0.11": "tpot_s"}
    return fits.get(row["runtime"]) == metric and not row["source"].endswith(("s5", "s6"))


def fit_row(row: dict) -> bool:
    """Was the runtime's profile fitted on this row of end_to_end.csv?"""
    if row["runtime"] == "eager-4.35":
        return row["model"] == "llama2-7b" and "4.35.2" in row["runtime_version"]
    if row["runtime"] in ("vllm-0.6", "tensorrt-llm-0.11"):
        return row["hardware"] == "a100-40gb-sxm" and row["model"] in ("llama3-8b", "llama2-7b")
    if row["runtime"] == "tensorrt-llm-0.9":
        return row["runtime_version"] == "0.8.0" and row["model"] == "mistral-7b" and row["metric"] == "latency_s"
    return row["runtime"] == "eager-5.17"
