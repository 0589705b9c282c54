"""What was measured, by which engine and benchmark, and which of it a fit saw."""

from dataclasses import dataclass
from pathlib import Path

from runtimes import RUNTIMES

CSV_FOLDER = Path(__file__).resolve().parent  # of the CSV files
PACKAGE = "aiconfigurator-core==0.12.0"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Measured kernels of one GPU and engine. `weight_copies`: how many copies of its weights the benchmark cycles
    through, which decides what it finds in the L2 (aiconfigurator's collectors); "l2": min(5, ceil(L2 / weights)).
    """

    hardware: str
    folder: str
    engine: str
    version: str
    weight_copies: int | str = 6
    x_copies: int = 1
    fitted: bool = False


DATA_SETS = (
    DataSet(hardware="a100-80gb-sxm", folder="a100_sxm", engine="vllm", version="0.14.0", fitted=True),
    DataSet(hardware="a100-80gb-sxm", folder="a100_sxm", engine="trtllm", version="1.0.0"),
    DataSet(hardware="a100-80gb-sxm", folder="a100_sxm", engine="sglang", version="0.5.10", x_copies=6),
    DataSet(hardware="h100-sxm", folder="h100_sxm", engine="vllm", version="0.24.0"),
    DataSet(hardware="h100-sxm", folder="h100_sxm", engine="trtllm", version="1.3.0rc20", weight_copies="l2"),
    DataSet(hardware="h100-sxm", folder="h100_sxm", engine="sglang", version="0.5.14", x_copies=6),
    DataSet(hardware="h200-sxm", folder="h200_sxm", engine="vllm", version="0.24.0"),
    DataSet(hardware="h200-sxm", folder="h200_sxm", engine="trtllm", version="1.3.0rc20", weight_copies="l2"),
    DataSet(hardware="h200-sxm", folder="h200_sxm", engine="sglang", version="0.5.14", x_copies=6),
    DataSet(hardware="l40s", folder="l40s", engine="vllm", version="0.24.0"),
    DataSet(hardware="l40s", folder="l40s", engine="trtllm", version="1.3.0rc20", weight_copies="l2"),
    DataSet(hardware="l40s", folder="l40s", engine="sglang", version="0.5.14", x_copies=6),
    DataSet(hardware="b200-sxm", folder="b200_sxm", engine="vllm", version="0.24.0"),
    DataSet(hardware="b200-sxm", folder="b200_sxm", engine="trtllm", version="1.3.0rc20", weight_copies="l2"),
    DataSet(hardware="b200-sxm", folder="b200_sxm", engine="sglang", version="0.5.14", x_copies=6),
)
A100, H100, H200, B200, L40S = (
    {"hardware": hardware, "folder": folder}
    for hardware, folder in (
        ("a100-80gb-sxm", "a100_sxm"),
        ("h100-sxm", "h100_sxm"),
        ("h200-sxm", "h200_sxm"),
        ("b200-sxm", "b200_sxm"),
        ("l40s", "l40s"),
    )
)
LATENT_SETS = (
    DataSet(**A100, engine="trtllm", version="1.0.0", fitted=True),
    DataSet(**H100, engine="trtllm", version="1.3.0rc20"),
    DataSet(**H100, engine="sglang", version="0.5.14"),
    DataSet(**H200, engine="trtllm", version="1.3.0rc20"),
    DataSet(**H200, engine="sglang", version="0.5.14"),
    DataSet(**B200, engine="trtllm", version="1.3.0rc20"),
)


@dataclass(frozen=True, kw_only=True)
class RecurrentSet(DataSet):
    """Measured kernels of linear attention. What the benchmarks run differs (aiconfigurator's collectors).

    model: gdn (gated delta net) or kda (Kimi delta attention). fused: the scan is one kernel. packed: q, k and v go
    through the convolution together, token by token; else only k, channel by channel. fits: parts that a fit saw.
    """

    model: str = "gdn"
    fused: bool = False
    packed: bool = True
    fits: tuple[str, ...] = ()


RECURRENT_SETS = (
    RecurrentSet(**H100, engine="vllm", version="0.24.0", fused=True, fits=("scan", "state update", "conv")),
    RecurrentSet(**H100, engine="sglang", version="0.5.14", fits=("scan",)),
    RecurrentSet(**H100, engine="trtllm", version="1.3.0rc20", packed=False),
    RecurrentSet(**H200, engine="vllm", version="0.24.0", fused=True),
    RecurrentSet(**H200, engine="sglang", version="0.5.14"),
    RecurrentSet(**H200, engine="trtllm", version="1.3.0rc20", packed=False),
    RecurrentSet(**B200, engine="vllm", version="0.24.0", fused=True),
    RecurrentSet(**B200, engine="sglang", version="0.5.14"),
    RecurrentSet(**B200, engine="trtllm", version="1.3.0rc20", packed=False),
    RecurrentSet(**A100, engine="sglang", version="0.5.10", packed=False),
    *(
        RecurrentSet(**gpu, engine=engine, version=version, model="kda", fused=fused)
        for gpu in (H100, H200, B200)
        for engine, version, fused in (("vllm", "0.1.dev19262", True), ("sglang", "0.5.16", False))
    ),
)
# Sparse attention: (engine, version, table in the package, part), on three GPUs. "index scores": every query against
# the keys before it, GLM-5's 32 heads of 128; "paged": one entry for every 4 keys of a shared cache, DeepSeek-V4's 64
# heads of 128. Both multiply fp8. "top-k": 2,048 of a row whose largest come last; rows of equal scores, which no model
# gives, are not used. "sparse attention": GLM-5's 64 heads on a list of 2,048 latents of each query; "heavy":
# DeepSeek-V4's on a window of 128 and one entry for every 128 keys, in an fp8 cache.
SPARSE_PARTS = (
    ("sglang", "0.5.14", "glm5_mqa_logits_module", "index scores"),
    ("sglang", "0.5.14", "dsv4_paged_mqa_logits_module", "index scores, paged"),
    ("vllm", "0.24.0", "dsv4_paged_mqa_logits_module", "index scores, paged"),
    ("sglang", "0.5.14", "glm5_topk_module", "top-k"),
    ("sglang", "0.5.14", "glm5_dsa_attn_module", "sparse attention"),
    ("vllm", "0.24.0", "dsv4_hca_attn_module", "heavy attention"),
)
SPARSE_FITTED = ("index scores", "top-k")  # on the H100
# Products with narrow operands: gemm_dtype in the package, its name here, formats of weights and activations, and the
# data sets (hardware, engine) that have it. Weight-only and int8 rows are single runs under TensorRT's layer profiler,
# weights and scales cold (the layers before it sweep 0.3 GB), the product alone, in steps of 1.024 us. The others are
# CUDA graphs as above and include the kernels that narrow x. vLLM's fp8_block rows ran without a graph: left out.
NARROW_SETS = (
    ("int8_wo", "int8_wo", ("int8", None), (("a100-80gb-sxm", "trtllm"),)),
    ("int4_wo", "int4_wo", ("int4", None), (("a100-80gb-sxm", "trtllm"),)),
    ("sq", "int8", ("int8", "int8"), (("a100-80gb-sxm", "trtllm"),)),
    ("fp8", "fp8", ("fp8", "fp8"), [(d.hardware, d.engine) for d in DATA_SETS if not d.hardware.startswith("a100")]),
    (
        "fp8_block",
        "fp8_block",
        ("fp8", "fp8"),
        [(hardware, engine) for hardware in ("h100-sxm", "h200-sxm", "b200-sxm") for engine in ("trtllm", "sglang")],
    ),
    ("nvfp4", "nvfp4", ("nvfp4", "nvfp4"), [("b200-sxm", engine) for engine in ("vllm", "trtllm", "sglang")]),
)
PROFILED = ("int8_wo", "int4_wo", "sq")
LAYER_EVENTS_S = 5.353e-6  # fitted: what TensorRT's profiler adds to a layer, beyond the gap in a CUDA graph
# How x is narrowed in the fp8 rows. SGLang: one kernel, a scale per token. vLLM: a kernel that finds the largest
# magnitude of the tensor, with one atomic per row on one address, then one that narrows: read off the rows with
# n = k = 32, where the time grows by 6.3 ns a row on the H100, 5.0 on the L40S. TensorRT-LLM: several kernels, whose
# time the package has by itself (quantize/), and one more tiny one, since rows with n = k = 32 take 0.9 to 1.3 us more
# than those kernels and a bf16 product together, whatever m, on each of L40S, H100 and H200.
ATOMIC_CLOCKS = 12.0
# How the attention of the engines that the fit never saw differs from vLLM's: facts of their kernels, not fitted.
OTHER_ENGINE = {
    "append_waits": 0.0,
    "pack_copies": 0,
    "split_mha": True,
}  # vectorised append, packing in the kernel
ENGINE_ATTENTION = {
    "vllm": {},
    "trtllm": OTHER_ENGINE | {"pack_prefill": False, "split_prefill": False},
    "sglang": OTHER_ENGINE,
}
# TensorRT-LLM's decode kernel for grouped heads stops at 32 query heads a KV head, as its rows show. Above, each query
# head has a CTA that reads K and V by itself, at the rate fitted for the engine's profile on whole passes.
TRTLLM_GROUP = 32
TRTLLM_WIDE = {name: RUNTIMES["tensorrt-llm"].attention[name] for name in ("decode_tile_m", "sm_bytes_per_clock")}
# On the A100, SGLang 0.5 runs FlashAttention-3's sm80 kernels: 128 x 64 tiles with packed heads, a metadata kernel.
SGLANG_A100 = {"tile_m": 128, "tile_n": 64, "decode_tile_m": 128, "pack_prefill": True, "extra_kernels": 1}
# On the L40S, FlashInfer's, as does vLLM for an fp8 cache: packed heads, tiles of 16 rows where a sequence has no more
# (FA2DetermineCtaTileQ).
FLASHINFER = {"decode_tile_m": 16, "pack_prefill": True}
SGLANG_ATTENTION = {"ampere": SGLANG_A100, "ada": FLASHINFER, "hopper": {}, "blackwell": {}}


@dataclass(frozen=True, kw_only=True)
class MixtureSet:
    """Measured layers of a mixture of experts: routed, gated, two grouped products, combined."""

    hardware: str
    folder: str
    engine: str
    version: str
    remainder: str = "each rank"  # of the benchmark's routing (loads.py)
    tuned: tuple[tuple[int, int], ...] | None = None  # (experts, width) with a tuned tile; None: all
    fitted: bool = False


# Experts and width for which vLLM 0.14 runs tiles tuned on an A100: read off the measured rates, which are 1.2 to 2
# times those of like shapes; vLLM's folder of tuned configurations names E=8,N=3584, the others weren't looked up.
TUNED_ON_A100 = ((8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (128, 192))
EARLIER = {"remainder": "smallest", "tuned": TUNED_ON_A100}
MIXTURE_SETS = (
    MixtureSet(**A100, engine="vllm", version="0.14.0", **EARLIER, fitted=True),
    MixtureSet(**A100, engine="trtllm", version="1.0.0", remainder="largest"),
    MixtureSet(**A100, engine="sglang", version="0.5.10", **EARLIER),
    *(
        MixtureSet(**gpu, engine=engine, version=version)
        for gpu in (H100, H200, L40S, B200)
        for engine, version in (("vllm", "0.24.0"), ("trtllm", "1.3.0rc20"), ("sglang", "0.5.14"))
    ),
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
SUSTAINED_FITTED = ("h100-sxm", "h200-sxm", "l40s", "b200-sxm")
NARROW_FITTED = (("int8_wo", "a100-80gb-sxm", "trtllm"), ("int4_wo", "a100-80gb-sxm", "trtllm"))
# Rows of validation/pointwise.csv that the constants were fitted on: Llama-3-8B's shapes on the A100.
POINTWISE_FIT = {"hardware": "a100-80gb-sxm", "intermediate": "14336"}


def fit_row(row: dict) -> bool:
    """Was the runtime's profile fitted on this row of end_to_end.csv?"""
    if row["runtime"] == "eager":
        return row["model"] == "llama2-7b" and "4.35.2" in row["runtime_version"]
    return row["hardware"] == "a100-40gb-sxm" and row["model"] in ("llama3-8b", "llama2-7b")
