"""The engines, one record for each version: which kernels it runs instead of its architecture's, what its host costs,
what of it was measured. `estimate()` and `validate.py` read the same record.

A pass over B sequences takes, where the scheduler works beside the GPU (asynchronous),
    max(GPU time, launches * launch_s, step_s + B * sequence_s)
and otherwise max(GPU time, launches * launch_s) + step_s + B * sequence_s; launches are those that no CUDA graph holds.
A prompt's first token takes request_s besides: the HTTP server, the tokenizer, the way to the scheduler and back.
Engine versions differ by 20 % and more on one GPU: a record is one of them, and stands for the versions it names.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ridgepoint.hardware import Chip
from ridgepoint.inputs import InputError, nearest, shown
from ridgepoint.kernels.architectures import AMPERE, HOPPER, Architecture
from ridgepoint.kernels.cycles import POINTWISE, cycle_causes
from ridgepoint.kernels.gemm import usable_l2_bytes
from ridgepoint.ops import Causes, Number, Op, few_queries, host

# Which ops a choice of kernel is about ------------------------------------------------------------------------------


NO_CHIP = 9999  # a compute capability that no chip has


def every(op: Op) -> bool:
    return True


def never(op: Op) -> bool:
    return False


def of_decode(op: Op) -> bool:
    """Attention of a decode step."""
    return op.kind == "attention" and few_queries(op.dims["q_len"], op.dims["kv_len"])


def of_prompt(op: Op) -> bool:
    """Attention of a prefill pass."""
    return op.kind == "attention" and not of_decode(op)


def of_latent(op: Op) -> bool:
    """Latent attention (MLA) over all keys."""
    return op.kind == "attention" and "rotated" in op.dims


def latent_prompt(op: Op) -> bool:
    return of_latent(op) and of_prompt(op)


def grouped_prompt(op: Op) -> bool:
    """Attention of a prefill pass with keys and values of heads."""
    return of_prompt(op) and not of_latent(op)


def narrow_cache(op: Op) -> bool:
    """Attention over a cache of less than 16 bits."""
    return op.kind == "attention" and bool(np.all(op.dims["kv_elem_bytes"] < 0.95 * op.dims["io_elem_bytes"]))


def grouped_decode(op: Op) -> bool:
    """Decode with several query heads a KV head."""
    return of_decode(op) and bool(np.all(op.dims["heads"] > op.dims["kv_heads"]))


def many_heads(op: Op) -> bool:
    """Decode with more query heads a KV head than TensorRT-LLM's kernel for groups takes."""
    return of_decode(op) and not of_latent(op) and bool(np.all(op.dims["heads"] > TRTLLM_GROUP * op.dims["kv_heads"]))


def block_scaled(op: Op) -> bool:
    """A product whose operands have a scale for every so many elements along k, 8 bits each."""
    return op.kind == "gemm" and op.dtype == "fp8" and bool(op.dims.get("scale_group"))


def row_scaled(op: Op) -> bool:
    """Any other product of 8- or 4-bit floats."""
    return op.kind == "gemm" and op.dtype in ("fp8", "fp4") and not block_scaled(op)


TRTLLM_GROUP = 32  # chosen after seeing the data: its rows change their rates there


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """Another kernel than the architecture's own: on which ops, for which compute capabilities (from, to), and the
    fields of the architecture's parts that describe it.
    """

    when: Callable[[Op], bool] = every
    capabilities: tuple[int, int] = (0, NO_CHIP)
    attention: Mapping[str, float] = field(default_factory=dict)
    narrow: Mapping[str, float] = field(default_factory=dict)
    recurrent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What an engine lets into one pass where nobody says otherwise, on GPUs of so much memory and such a compute
    capability, or more.
    """

    from_bytes: int = 0
    from_capability: int = 0
    tokens: int  # new ones, of all sequences
    sequences: int


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Engine:
    """One engine as of one version. Times in seconds, on an x86 server of 2020 to 2025."""

    family: str
    version: str
    title: str
    stands_for: tuple[str, str]  # its versions, from and to
    # Kernels
    choices: tuple[Choice, ...] = ()  # later ones win
    narrows_query: bool = True  # for an fp8 cache, where the architecture's kernels take it so
    absorbs_prompts: bool = False  # latent attention of a prompt runs on the latents, as decode does
    append_rotates: Callable[[Op], bool] = never  # RoPE and the KV append before such attention are one kernel
    attention_appends: bool = False  # decode attention rotates and appends on the side: no launch of their own
    copies_experts_from: int = NO_CHIP  # compute capability from which rows are copied into the order of experts
    untuned_until: int = 0  # compute capability up to which experts have tuned tiles only in tuned_experts
    tuned_experts: tuple[tuple[int, int], ...] = ()  # (experts, width)
    pointwise_passes: float = 1.0  # elementwise kernels, each through DRAM, in place of one fused kernel
    kv_copies: float = 0.0  # times that a decode step moves the cache, expanded to all query heads, beyond reading it
    gap_s: float | None = None  # between two kernels of a graph; None: as the kernels' models have it
    # Host
    launch_s: float = 0.0  # per kernel launched outside a CUDA graph
    graph_decode: bool = True  # decode passes replay a CUDA graph: the host launches nothing by itself
    graph_tokens: int = 0  # other passes of at most so many tokens replay a graph for each piece between attention
    step_s: float = 0.0  # per pass: scheduling, preparing inputs, fetching the sampled tokens
    sequence_s: float = 0.0  # per pass and sequence: bookkeeping of requests, detokenization
    asynchronous: bool = False  # both beside the GPU
    request_s: float = 0.0  # of a request, until its first token: API, tokenizer, way to the scheduler and back
    # What was measured: GPU -> version
    kernels_measured: Mapping[str, str] = field(default_factory=dict)
    runs_measured: Mapping[str, str] = field(default_factory=dict)
    # GPU -> prefill, decode: the 90 % range of measured / estimated of its whole runs (intervals.py)
    run_spread: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    # Memory of the GPU (memory.py)
    budgets: tuple[Budget, ...] = ()  # later ones win; none: a pass takes all prompts at once
    block_tokens: int = 1  # the KV cache is handed out in blocks of so many tokens
    fraction_of: str = "total"  # what memory_fraction is of: a key of memory.FRACTIONS
    context_bytes: int = 0  # beside tensors: CUDA's libraries and modules ("non-torch"), attention's workspaces
    graph_bytes: int = 0  # of the captured CUDA graphs, where the engine reserves it
    logit_bytes: float = 0.0  # that the sampler holds at its peak, of each logit of a full pass
    token_bytes: int = 0  # of activations for each token of the budget, where a rule stands for a profile
    expert_multiples: tuple[int, int] = (1, 1)  # to which mxfp4 experts' width and the hidden size are padded

    def __repr__(self) -> str:
        return f"Engine({self.name})"

    @property
    def name(self) -> str:
        """As --runtime takes it."""
        return f"{self.family}-{self.version}" if self.version else self.family

    @property
    def hosted(self) -> bool:
        """Does its host cost anything?"""
        return any((self.launch_s, self.step_s, self.sequence_s, self.request_s))

    def on(self, arch: Architecture) -> Architecture:
        """`arch` with what this engine makes of whole passes."""
        return replace(arch, narrows_query=arch.narrows_query and self.narrows_query)

    def budget(self, chip: Chip, arch: Architecture) -> Budget | None:
        """Of a pass on `chip`; None: no limit."""
        known = [
            budget
            for budget in self.budgets
            if chip.dram_bytes >= budget.from_bytes and arch.compute_capability >= budget.from_capability
        ]
        return known[-1] if known else None

    def kernel(self, op: Op, arch: Architecture) -> Architecture:
        """`arch` as this engine's kernel for `op` has it."""
        for choice in self.choices:
            low, high = choice.capabilities
            if low <= arch.compute_capability <= high and choice.when(op):
                for part in ("attention", "narrow", "recurrent"):
                    if changes := getattr(choice, part):
                        arch = replace(arch, **{part: replace(getattr(arch, part), **changes)})
        return arch

    def launched(self, ops: list[Op], arch: Architecture, *, decode: bool) -> list[Op]:
        """The kernels of a pass, or of a part of one, as this engine launches them."""
        found = []
        for index, op in enumerate(ops):
            if op.kind in ("rope", "kv_write"):
                attended = next((other for other in ops[index:] if other.kind == "attention"), None)
                if attended is not None and self.append_rotates(attended):
                    if op.kind == "rope":
                        continue
                    op = with_query(op, attended)
                elif decode and self.attention_appends:
                    op = replace(op, dims={**op.dims, "fused": True})
            elif op.kind == "combine" and arch.compute_capability >= self.copies_experts_from:
                op = replace(op, in_bytes=op.in_bytes + 4 * op.dims["rows"] * op.dims["width"])
            elif self._lists_tiles(op, arch):
                op = replace(op, dims={**op.dims, "untuned": ~self._tuned(op)})
            found.append(op)
        return found

    def _lists_tiles(self, op: Op, arch: Architecture) -> bool:
        """Are only some experts' tiles tuned here? A trace doesn't know an expert's width: it is taken as tuned."""
        return op.kind == "grouped_gemm" and arch.compute_capability <= self.untuned_until and "width" in op.dims

    def _tuned(self, op: Op) -> "np.bool_ | np.ndarray[Any, np.dtype[np.bool_]]":
        """Has the engine a tuned tile for these experts?"""
        shapes = np.array(self.tuned_experts, dtype=float).reshape(-1, 2)
        experts, width = (np.asarray(size, dtype=float)[..., None] for size in (op.dims["experts"], op.dims["width"]))
        tuned: np.ndarray[Any, np.dtype[np.bool_]] = (experts == shapes[:, 0]) & (width == shapes[:, 1])
        return tuned.any(-1)

    def causes(
        self, op: Op, chip: Chip, arch: Architecture, *, weights_resident: Number = 0.0, resident: Number = 0.0
    ) -> Causes:
        """Seconds of one launch of `op` by cause, as cycles.cycle_causes, by this engine's kernel. arch: the chip's,
        as it is for a benchmark of one kernel, `sustained` for a pass.
        """
        if "fused" in op.dims:  # into attention: no launch or wait of its own, but its stream
            causes = cycle_causes(op, chip, without_waits(arch))
            return {cause: causes[cause] for cause in ("dram", "vector") if np.any(causes.get(cause, 0.0))}
        causes = cycle_causes(op, chip, self.kernel(op, arch), weights_resident=weights_resident, resident=resident)
        if self.kv_copies and of_decode(op):
            copied = self.kv_copies * op.kv_bytes * op.dims["heads"] / op.dims["kv_heads"]
            causes["dram"] = causes["dram"] + copied / chip.dram_read_bytes_per_s
        if op.kind in POINTWISE and self.pointwise_passes != 1:
            causes = {cause: seconds * self.pointwise_passes for cause, seconds in causes.items()}
        if self.gap_s is not None:
            causes["launch"] = np.minimum(causes["launch"], self.gap_s)
        return causes


MIB, GIB = 2**20, 2**30
ATTENTION = ("attention", "index_scores", "scan", "state_update")  # kernels that ask which tokens are of one sequence


def without_waits(arch: Architecture) -> Architecture:
    """`arch` whose elementwise kernels and KV append stream: nothing walks their rows or waits for them."""
    stream = replace(arch.pointwise, elements_per_clock={})
    return replace(arch, pointwise=stream, attention=replace(arch.attention, append_waits=0.0))


def with_query(append: Op, attended: Op) -> Op:
    """The KV append of a kernel that also rotates Q, and so reads and writes it. Of latent attention's queries that is
    what is rotated, in a prompt, whose keys get a copy of theirs for each head; all of them in a decode step.
    """
    dims = attended.dims
    width, copies = (dims["rotated"], 2) if latent_prompt(attended) else (dims["head_dim"], 1)
    moved = dims["io_elem_bytes"] * dims["heads"] * width * dims["batch"] * dims["q_len"]
    return replace(append, in_bytes=append.in_bytes + moved, out_bytes=append.out_bytes + copies * moved)


# The records --------------------------------------------------------------------------------------------------------

# Kernels of the engines that the fit of attention never saw differ from vLLM's: facts, not fitted. The append is
# vectorised, heads are packed in the kernel, and decode splits the KV range whatever the heads.
OTHERS = Choice(attention={"append_waits": 0.0, "pack_copies": 0, "split_mha": True})
# fp8 with a scale for every 128 elements: DeepGEMM, which tries all tiles.
DEEP_GEMM = Choice(when=block_scaled, narrow={"small_tiles_m": np.inf})
FLASHINFER = {"decode_tile_m": 16, "pack_prefill": True}  # tiles of 16 rows where a sequence has no more
STAGES = Choice(recurrent={"fused_delta_rule": False})  # flash-linear-attention: a scan is several kernels
# Experts and width for which vLLM 0.14 runs tiles tuned on an A100: read off the measured rates, which are 1.2 to 2
# times those of like shapes; vLLM's folder of tuned configurations names E=8,N=3584, the others weren't looked up.
TUNED_ON_A100 = ((8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (128, 192))
FLASH_ATTENTION_2 = asdict(AMPERE.attention)


def measured(version: str, a100: str) -> dict[str, str]:
    """GPUs whose kernels aiconfigurator-core 0.12.0 has of an engine, and of which version."""
    return {"a100-80gb-sxm": a100} | dict.fromkeys(("h100-sxm", "h200-sxm", "l40s", "b200-sxm"), version)


# Memory: what engines say of themselves when they start. MIB and GIB of what they call MB and GiB.
# vLLM's defaults as an API server, from 0.9 on; the A100, which it excludes by name, is of capability 80
# [vllm tests/engine/test_arg_utils.py, test_defaults_with_usage_context].
VLLM_BUDGETS = (
    Budget(tokens=2048, sequences=256),
    Budget(from_bytes=70 * GIB, from_capability=90, tokens=8192, sequences=1024),
)
# Its sampler sorts all logits of max_num_seqs sequences when it profiles: 38 bytes of each, by the peaks that 0.11 logs
# on an H100 for vocabularies of 128,256 to 201,088 (37.5 to 38.2) and 0.6.5 for one (37.1), less two hidden states
# [llm-d, "vLLM Empirical Memory Profiling Results"; vllm-project/vllm #10511]. Tensors aside it takes 0.13 GiB there.
VLLM_LOGIT_BYTES, VLLM_CONTEXT_BYTES = 38.0, 133 * MIB
# Marlin's mxfp4 experts: width in multiples of 128, hidden size of 256 [vllm fused_moe/oracle/mxfp4.py]
MARLIN_MULTIPLES = (128, 256)
# SGLang's own rule for what --mem-fraction-static leaves out [sgl-project/sglang #10975, server_args.py]: 0.5 GiB,
# 1.5 MiB for each token of a chunk, 2 MiB for each sequence of the largest graph, 1 GiB for 8 GPUs.
SGLANG_BUDGETS = (
    Budget(tokens=2048, sequences=256),
    Budget(from_bytes=35 * GIB, tokens=4096, sequences=256),
    Budget(from_bytes=60 * GIB, tokens=8192, sequences=256),
    Budget(from_bytes=160 * GIB, tokens=16384, sequences=512),
)

# Fitted constants: by python validate.py --fit, on the rows that validation/sets.py names.
VLLM = Engine(
    family="vllm",
    version="0.24",
    title="vLLM 0.24 (V1)",
    stands_for=("0.14", "999"),
    choices=(Choice(when=narrow_cache, capabilities=(89, 89), attention=FLASHINFER), DEEP_GEMM),
    copies_experts_from=100,
    launch_s=1.5e-5,  # a judgement: compiled code, which launches without Python
    graph_tokens=512,  # its largest capture size
    step_s=0.0005312,  # these two as of 0.11, whose steps show them
    sequence_s=1.492e-05,
    asynchronous=True,
    request_s=8.04e-3,  # fitted
    kernels_measured=measured("0.24.0", a100="0.14.0"),
    runs_measured={"h100-sxm": "0.15.1"},
    run_spread={
        "h100-sxm": {"prefill": (0.96, 1.18), "decode": (0.89, 1.14)},
    },
    budgets=VLLM_BUDGETS,
    block_tokens=16,
    context_bytes=VLLM_CONTEXT_BYTES,
    graph_bytes=236 * MIB,  # profiled from 0.21 on; 0.23 GiB for Llama-3.1-8B on an A100 (0.31's log); others 0.2 to 2
    logit_bytes=VLLM_LOGIT_BYTES,
    expert_multiples=MARLIN_MULTIPLES,
    untuned_until=80,
    tuned_experts=TUNED_ON_A100,
)
VLLM_0_11 = replace(
    VLLM,
    version="0.11",
    title="vLLM 0.11 (V1, scheduling between the steps)",
    stands_for=("0.8", "0.13"),
    step_s=0.0005312,  # these two: fitted
    sequence_s=1.492e-05,
    asynchronous=False,
    request_s=13.5e-3,  # a client's TTFT less the server's own, at any load [kubernetes-sigs/inference-perf, KubeCon]
    kernels_measured={},
    runs_measured={"h100-sxm": "0.11.0"},
    run_spread={
        "h100-sxm": {"prefill": (0.96, 1.18), "decode": (0.83, 1.11)},
    },
    graph_bytes=0,  # captured after the cache is sized, in what memory_fraction leaves
)
VLLM_0_6 = Engine(
    family="vllm",
    version="0.6",
    title="vLLM 0.6 (V0)",
    stands_for=("0.1", "0.7"),
    # FlashAttention-2 on every GPU, by mma.sync
    choices=(
        Choice(
            capabilities=(90, NO_CHIP),
            attention=FLASH_ATTENTION_2 | {"mma_efficiency": AMPERE.attention.mma_efficiency * HOPPER.mma_sync_share},
        ),
        DEEP_GEMM,
    ),
    narrows_query=False,
    copies_experts_from=100,
    launch_s=5e-5,  # a judgement: eager PyTorch, about 0.5 ms of Python a layer
    step_s=0.0002769,  # fitted
    sequence_s=9.073e-05,  # fitted
    runs_measured={"a100-40gb-sxm": "0.5.5 to 0.6.2", "h100-sxm": "0.5.x to 0.6.0", "h200-sxm": "0.6.x"},
    run_spread={
        "a100-40gb-sxm": {"prefill": (0.98, 1.08), "decode": (0.96, 1.14)},
        "h100-sxm": {"prefill": (0.96, 1.18), "decode": (0.9, 1.15)},
        "h200-sxm": {"prefill": (0.93, 1.15), "decode": (0.86, 1.12)},
    },
    # or the model's context, where that is below 32,768: its logits are fewer then
    budgets=(Budget(tokens=2048, sequences=256),),
    block_tokens=16,
    context_bytes=1833 * MIB,  # as 0.6.5 logs it on an H100 [vllm-project/vllm #10511]; 0.2 to 0.9 GiB in other logs
    logit_bytes=VLLM_LOGIT_BYTES,
    untuned_until=80,
    tuned_experts=TUNED_ON_A100,
)
SGLANG = Engine(
    family="sglang",
    version="0.5",
    title="SGLang 0.5",
    stands_for=("0.4", "999"),
    choices=(
        OTHERS,
        # FlashAttention-3's sm80 kernels: 128 x 64 tiles with packed heads, a metadata kernel
        Choice(
            capabilities=(80, 80),
            attention={"tile_m": 128, "tile_n": 64, "decode_tile_m": 128, "pack_prefill": True, "extra_kernels": 1},
        ),
        Choice(capabilities=(89, 89), attention=FLASHINFER),
        STAGES,
        DEEP_GEMM,
    ),
    copies_experts_from=100,
    absorbs_prompts=True,  # chosen after seeing the data: its rates, if not, would be a third of the others'
    append_rotates=of_latent,
    launch_s=3e-5,  # a judgement: eager PyTorch with fused kernels
    asynchronous=True,
    step_s=0.0005312,  # a judgement: as vLLM's
    sequence_s=1.492e-05,
    kernels_measured=measured("0.5.14", a100="0.5.10"),
    runs_measured={"h100-sxm": "0.5.8"},
    run_spread={
        "h100-sxm": {"prefill": (0.96, 1.18), "decode": (0.75, 1.07)},
    },
    budgets=SGLANG_BUDGETS,
    fraction_of="static",
    context_bytes=640 * MIB,
    graph_bytes=512 * MIB,
    token_bytes=3 * MIB // 2,
    untuned_until=80,
    tuned_experts=TUNED_ON_A100,
)
# One CTA of the kernel for a query head by itself reads its K and V alone: rates fitted on whole passes of 0.11.
ALONE = {"decode_tile_m": 1, "sm_bytes_per_clock": 21.81}
TENSORRT_LLM = Engine(
    family="tensorrt-llm",
    version="1.3",
    title="TensorRT-LLM 1.3",
    stands_for=("1.0", "999"),
    choices=(
        OTHERS,
        Choice(when=of_prompt, attention={"pack_prefill": False, "split_prefill": False}),
        Choice(when=grouped_prompt, attention={"extra_kernels": 1}),
        Choice(when=many_heads, attention=ALONE),
        Choice(when=of_latent, attention={"extra_kernels": 1}),
        Choice(when=of_latent, capabilities=(90, 99), attention={"extra_kernels": 2}),
        Choice(when=of_latent, capabilities=(80, 80), attention={"split_decode": False}),  # a CTA walks all keys
        STAGES,
        DEEP_GEMM,
        Choice(when=row_scaled, narrow={"splits": 32, "small_tiles_m": np.inf, "most_columns": np.inf}),  # cuBLAS
    ),
    narrows_query=False,
    append_rotates=every,  # its QKV preprocessing kernel
    copies_experts_from=0,
    launch_s=3e-5,  # a judgement: eager PyTorch with fused kernels
    step_s=0.0005312,  # a judgement: as vLLM's
    sequence_s=1.492e-05,
    asynchronous=True,  # its "overlap scheduler"
    kernels_measured=measured("1.3.0rc20", a100="1.0.0"),
    runs_measured={"h100-sxm": "1.0.0rc3"},
    run_spread={
        "h100-sxm": {"prefill": (0.96, 1.18), "decode": (0.89, 1.01)},
    },
    budgets=(Budget(tokens=8192, sequences=2048),),  # max_num_tokens, max_batch_size
    block_tokens=32,
    fraction_of="free",  # free_gpu_memory_fraction
    context_bytes=512 * MIB,  # 0.8 leaves 0.7 GiB less its activations to others [NVIDIA/TensorRT-LLM #1400]
    logit_bytes=4.0,  # a judgement: fp32 logits, sampled in place
)
TENSORRT_LLM_0_11 = Engine(
    family="tensorrt-llm",
    version="0.11",
    title="TensorRT-LLM 0.11",
    stands_for=("0.11", "0.99"),
    # Its decode kernel rotates and appends on the side, and has one CTA for each query head, which reads its K and V
    # by itself (TensorRT-LLM documentation, "Multi-Head, Multi-Query and Group-Query Attention").
    choices=(
        Choice(when=of_decode, attention={**OTHERS.attention, **ALONE, "dram_efficiency": 1.0}),  # fitted, at its limit
        STAGES,
    ),
    narrows_query=False,
    attention_appends=True,
    copies_experts_from=0,
    launch_s=4.9e-5,  # 16 ms for 324 kernels: 7B, 128 tokens, batch 1 (performance.md, releases 0.5 to 0.9)
    step_s=0.0003653,  # fitted
    sequence_s=1.034e-05,  # fitted
    runs_measured={"a100-40gb-sxm": "0.11", "h100-sxm": "0.11.0"},
    run_spread={
        "a100-40gb-sxm": {"prefill": (0.98, 1.08), "decode": (0.95, 1.05)},
        "h100-sxm": {"prefill": (0.96, 1.18), "decode": (0.9, 1.12)},
    },
    budgets=(Budget(tokens=8192, sequences=2048),),
    block_tokens=64,
    fraction_of="free",
    context_bytes=512 * MIB,
    logit_bytes=4.0,
)
TENSORRT_LLM_0_9 = replace(
    TENSORRT_LLM_0_11,
    version="0.9",
    title="TensorRT-LLM 0.9",
    stands_for=("0.8", "0.10"),
    # the query heads of a group share K and V, in one CTA, at a rate of its own: fitted on 0.8.0
    choices=(
        *TENSORRT_LLM_0_11.choices,
        Choice(when=grouped_decode, attention={"decode_tile_m": 64, "dram_efficiency": 0.7101}),
    ),
    runs_measured={"a100-80gb-sxm": "0.8.0 and 0.9.0"},
    run_spread={
        "a100-80gb-sxm": {"prefill": (0.9, 1.06), "decode": (0.93, 1.04)},
    },
)
TENSORRT_LLM_0_5 = replace(
    TENSORRT_LLM_0_11,
    version="0.5",
    title="TensorRT-LLM 0.5",
    stands_for=("0.1", "0.7"),
    runs_measured={"a100-80gb-sxm": "0.5.0 and 0.6.1"},
    run_spread={
        "a100-80gb-sxm": {"prefill": (0.93, 1.12), "decode": (0.92, 1.03)},
    },
    fraction_of="nothing",  # a static batch of 60, measured, takes 76 GiB with its weights
)
PYTORCH = Engine(
    family="pytorch",
    version="2.11",
    title="PyTorch 2.11, a CUDA graph for each pass, no engine",
    stands_for=("2.0", "999"),
    choices=(OTHERS,),
    append_rotates=every,
    gap_s=0.45e-6,  # measured on an H100 under torch's profiler, median
    runs_measured={"h100-sxm": "2.11"},
    run_spread={
        "h100-sxm": {"prefill": (0.94, 1.1), "decode": (0.96, 1.09)},
    },
)
EAGER = Engine(
    family="eager",
    version="5.17",
    title="Transformers 5.17, eager PyTorch 2.11",
    stands_for=("4.38", "999"),
    choices=(OTHERS,),
    launch_s=9.504e-05,  # these three: fitted
    graph_decode=False,
    pointwise_passes=3.089,
    kv_copies=12.22,
    runs_measured={"h100-sxm": "5.17"},
    run_spread={
        "h100-sxm": {"prefill": (0.96, 1.18), "decode": (0.86, 1.12)},
    },
)
EAGER_4_35 = Engine(
    family="eager",
    version="4.35",
    title="Transformers 4.35, eager PyTorch 2.1",
    stands_for=("4.0", "4.37"),
    launch_s=7.752e-05,  # fitted; one kernel of ours is several launches of eager PyTorch
    graph_decode=False,
    pointwise_passes=8.415,  # fitted
    kv_copies=5.924,  # fitted: torch.cat, repeat_kv, fp32 softmax
    runs_measured={"a100-80gb-sxm": "4.33 to 4.35"},
    run_spread={
        "a100-80gb-sxm": {"prefill": (0.95, 1.14), "decode": (0.9, 1.13)},
    },
)
IDEAL = Engine(family="ideal", version="", title="no host, no gaps between kernels", stands_for=("", ""), gap_s=0.0)
# The newest of a family comes first: it is the one that a name without a version means.
ENGINES = {
    engine.name: engine
    for engine in (
        VLLM,
        VLLM_0_11,
        VLLM_0_6,
        SGLANG,
        TENSORRT_LLM,
        TENSORRT_LLM_0_11,
        TENSORRT_LLM_0_9,
        TENSORRT_LLM_0_5,
        PYTORCH,
        EAGER,
        EAGER_4_35,
        IDEAL,
    )
}


def find_engine(name: object) -> Engine:
    """The record of an engine: a name of ENGINES, a family (its newest), or a family and a version that a record stands
    for. Raises InputError.
    >>> find_engine("vllm-0.12.0").name, find_engine("tensorrt-llm").name
    ('vllm-0.11', 'tensorrt-llm-1.3')
    """
    if not isinstance(name, str):
        raise InputError(f"runtime must be a name or a record, not {shown(name)}")
    asked = name.lower()
    if asked in ENGINES:
        return ENGINES[asked]
    for engine in ENGINES.values():
        if asked == engine.family:
            return engine
        version = asked.removeprefix(engine.family + "-")
        if version != asked and engine.version and _within(version, *engine.stands_for):
            return engine
    known = engine_names()
    raise InputError(f"unknown runtime {shown(name)}{nearest(name, known)}; known: {', '.join(known)}")


def engine_names() -> list[str]:
    """Families, each its newest version, and the names of all records."""
    return list(dict.fromkeys((*(engine.family for engine in ENGINES.values()), *ENGINES)))


def _within(version: str, low: str, high: str) -> bool:
    """Is a version such as 0.12.0 or 1.3.0rc20 from `low` to `high`, of which any further number is allowed?"""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text)]

    if not re.fullmatch(r"v?\d[\w.]{0,20}", version):
        return False
    asked, ends = numbers(version), (numbers(low), numbers(high))
    return ends[0] <= asked and asked[: len(ends[1])] <= ends[1]


def resident_weights(ops: list[Op], chip: Chip, arch: Architecture) -> float:
    """The part of the weights of a pass's products that stays in the L2 between passes, where they are kept there."""
    weights_bytes = sum(op.count * op.weight_bytes for op in ops if op.kind == "gemm")
    return float(min(1.0, usable_l2_bytes(chip, arch) / weights_bytes))


def cycle_pass(
    ops: list[Op],
    chip: Chip,
    arch: Architecture,
    engine: Engine,
    *,
    batch: Number,
    tokens: Number,
    decode: bool,
    weights_resident: float = 0.0,
) -> list[tuple[Op, Causes]]:
    """[(op, causes), ...] of one pass as `engine` runs it, the host last if it costs anything. arch: `sustained` on the
    chip. tokens: new ones, of all sequences. weights_resident: the part of its products' weights that is in the L2.
    """
    ops = engine.launched(ops, arch, decode=decode)
    shares = (weights_resident if np.any(op.weight_bytes) else 0.0 for op in ops)  # naive attention multiplies by K, V
    timed = [(op, engine.causes(op, chip, arch, weights_resident=share)) for op, share in zip(ops, shares, strict=True)]
    if not engine.hosted:
        return timed
    gpu_s = sum(op.count * sum(causes.values()) for op, causes in timed)
    launches: Number = 0
    if not (decode and engine.graph_decode):
        pieces = 2 * sum(op.count for op in ops if op.kind in ATTENTION)  # graphs, and attention between them
        launches = np.where(np.asarray(tokens) <= engine.graph_tokens, pieces, sum(op.count for op in ops))
    busy_s, between_s = np.maximum(gpu_s, launches * engine.launch_s), engine.step_s + batch * engine.sequence_s
    pass_s = np.maximum(busy_s, between_s) if engine.asynchronous else busy_s + between_s
    return [*timed, (host(), {"host": pass_s - gpu_s})]
