"""The chips: data-sheet facts, each with its source. Peaks are derived from counts and clock, never stored.

For a what-if, edit the A100_80GB_PCIE block below, or pass --set hardware.FIELD=VALUE, or in Python
dataclasses.replace(A100_80GB_PCIE, dram_bytes_per_s=3e12).
"""

from dataclasses import dataclass, fields, replace

from inputs import InputError, check_quantity, check_size, pick

MHZ = 1e6
GB = 1e9  # data sheets' gigabyte
KIB = 2**10
MIB = 2**20
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class GemmFit:
    """Fitted constants of dense products (kernels/gemm.py). Fitted by validate.py --fit; see ARCHITECTURES."""

    tensor_efficiency: float  # sustained MMA rate of one SM over the data-sheet peak: issue gaps
    power_share: float  # of the chip's 16-bit tensor peak that its power limit leaves; 1 where that does not bind
    dram_efficiency: float  # share of the chip's plain read bandwidth
    dram_ramp_s: float  # filling and draining the memory pipeline: what short streams lose
    l2_usable: float  # part of an L2 partition that keeps data between kernels, where there are two
    step_clocks: float  # barrier and load issue per k-step, hidden only by another CTA on the SM
    wave_clocks: float  # per wave of CTAs: index set-up, first loads, pipeline fill, last barrier
    epilogue_bytes_per_clock: float  # per SM: accumulators through shared memory to global memory
    split_k_s: float  # the second kernel, which adds the split-K partial sums
    overlap: float  # exponent of the p-norm: 1, phases follow one another; infinite, they overlap perfectly
    launch_clocks: float  # gap between two kernels of one CUDA graph, draining the last stores


@dataclass(frozen=True, kw_only=True)
class NarrowFit:
    """Constants of products with operands below 16 bits (kernels/gemm.py), beside GemmFit's."""

    tensor_efficiency: float  # sustained fp8 (and fp4) MMA rate of one SM over the data-sheet peak
    splits: int  # CTAs that may share one tile's k range where both operands are narrow: one in CUTLASS's kernels
    small_tiles_m: float  # with more rows than this no tile below 128 x 128 is tried there
    most_columns: float  # nor any wider than this
    dequant8_ops: float  # CUDA-core instructions that widen one 8-bit weight to fp16, beside which no MMA runs
    dequant4_ops: float  # and one 4-bit weight
    dequant_clocks: float  # that a k-step of a weight-only kernel waits longer: load, widen, multiply in one warp


@dataclass(frozen=True, kw_only=True)
class AttentionFit:
    """Constants of attention (kernels/attention.py): what the kernels are, then what was fitted."""

    tile_m: int  # query rows of a prefill CTA
    decode_tile_m: int  # query rows of a decode CTA; the MMAs run on all of them, used or not
    tile_n: int  # keys of a KV block at head_dim 128
    stages: int  # KV blocks of K and of V in shared memory at once
    pack_prefill: bool  # the query heads of a KV head share prefill tiles
    split_prefill: bool  # prefill splits the KV range when its CTAs don't fill the SMs
    split_mha: bool  # decode splits the KV range also where no heads share it
    split_decode: bool  # decode splits the KV range at all
    pack_copies: int  # more layout copies around a packed decode with several sequences and KV heads
    extra_kernels: int  # in every call
    mma_efficiency: float  # sustained share of the tensor peak
    latent_expanded: float  # mma_efficiency, at most, of latent attention (MLA) with keys wider than values
    latent_absorbed: float  # the same, with all heads on one key of 576 elements, whose first 512 are the value
    index_scores: float  # share of the tensor peak of an indexer's scores, whose sums over heads run beside the MMAs
    vector_ops: float  # FP32-pipe instructions per score that the MMAs don't hide
    cta_waits: float  # DRAM latencies that a CTA waits in prologue and epilogue (page table, Q, first K; O)
    dram_efficiency: float  # share of the chip's plain read bandwidth
    sm_bytes_per_clock: float  # that one SM reads from the L2
    launch_clocks: float  # the kernel's floor in a CUDA graph: gap, set-up, last stores
    append_waits: float  # DRAM latencies that a one-token CTA of the KV append lives
    tail: float  # of the longest CTA: SMs idle at the end; 1/2 is the mean of shortest-first hand-out
    kernel_clocks: float  # each further small kernel in the graph; the combine kernel counts as two
    combine_reads: float  # L2 latencies in series per split in the combine kernel; 0: all splits at once


@dataclass(frozen=True, kw_only=True)
class PointwiseFit:
    """Constants of the kernels that only stream bytes (kernels/pointwise.py)."""

    dram_efficiency: float  # share of the chip's plain read bandwidth
    elements_per_clock: dict[str, float]  # that one SM walks along its rows, by kind
    chosen_walks: float  # times that a top-k walks as many elements as it chooses, after its row: ties, indices
    start_s: float  # first loads, and the reduction or the last stores
    launch_s: float  # gap between two kernels of one CUDA graph


# Fitted: weight-only on half of the A100's int8_wo and int4_wo rows (TensorRT-LLM 1.0.0), everywhere else as found
# there. Nothing is fitted on fp8: its MMA rate is that of the A100's 16-bit MMAs.
NARROW = NarrowFit(
    tensor_efficiency=0.9652,
    splits=1,
    small_tiles_m=float("inf"),
    most_columns=float("inf"),
    dequant8_ops=1.661,
    dequant4_ops=2.482,
    dequant_clocks=447.1,
)


@dataclass(frozen=True, kw_only=True)
class MoeFit:
    """Constants of mixtures of experts (kernels/moe.py), beside those of GemmFit."""

    turns: float  # part of the operands' way into registers that MMAs wait for: 1, all of it; 0, asynchronous MMAs
    tensor_efficiency: float  # sustained MMA rate over the data-sheet peak
    dram_efficiency: float  # share of the chip's plain read bandwidth
    overlap: float  # exponent of the p-norm of the on-chip, L2 and DRAM times of a grouped product
    layer_clocks: float  # a layer's small kernels together: softmax, top-k, counting, sorting, aligning, their gaps


@dataclass(frozen=True, kw_only=True)
class RecurrentFit:
    """Constants of linear attention (kernels/recurrent.py), beside those of GemmFit and PointwiseFit."""

    fused_delta_rule: bool  # one kernel walks the chunks of a gated delta rule, as FlashInfer's; else several
    product_clocks: float  # of one product of a chunk that the next waits for, where a head is alone on its SM
    waits: float  # DRAM latencies that a CTA waits: indices and gates, then its state; its last stores
    stage_efficiency: float  # share of GemmFit's DRAM bandwidth that the kernels of a scan in several reach


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What kernels reach on the chips of one generation: fitted, apart from the data-sheet facts in `Chip`."""

    gemm: GemmFit
    attention: AttentionFit
    pointwise: PointwiseFit
    moe: MoeFit
    recurrent: RecurrentFit
    narrow: NarrowFit = NARROW


# Fitted: on aiconfigurator-core 0.12.0, A100-SXM4-80GB, vLLM 0.14.0 (GEMM; prefill and decode attention), by
# python validate.py --fit.
AMPERE_GEMM = GemmFit(
    tensor_efficiency=0.9652,
    power_share=1.0,  # on weights that were never initialised, below the limit of 400 W
    dram_efficiency=0.8491,
    dram_ramp_s=2.491e-06,
    l2_usable=0.8063,
    step_clocks=74.21,
    wave_clocks=1289.0,
    epilogue_bytes_per_clock=11.5,
    split_k_s=2.794e-06,
    overlap=4.154,
    launch_clocks=2929.0,
)
AMPERE_ATTENTION = AttentionFit(
    tile_m=64,  # FlashAttention-2 at head_dim 128: 64 x 128 tiles for paged KV
    decode_tile_m=64,
    tile_n=128,
    stages=1,
    pack_prefill=False,
    split_prefill=False,
    split_mha=False,  # FlashAttention-2 with variable lengths does not
    split_decode=True,
    pack_copies=3,
    extra_kernels=0,
    mma_efficiency=0.9,  # chosen: one head_dim can't tell it from vector_ops; FlashAttention-2's slope over head_dim
    latent_expanded=0.634,  # these two: TensorRT-LLM 1.0.0, A100
    latent_absorbed=0.4268,
    index_scores=0.4547,  # SGLang (DeepGEMM) on the H100; elsewhere as there
    vector_ops=5.702,
    cta_waits=4.722,
    dram_efficiency=0.8689,
    sm_bytes_per_clock=64.0,  # its port [A100-WP p. 34]
    launch_clocks=7060.0,
    append_waits=12.53,
    tail=0.5693,
    kernel_clocks=2749.0,
    combine_reads=3.0,  # its log-sum-exp, its scale, its output
)
# Fitted on the H100 (vLLM's per-token fp8 and its convolution of a prompt, SGLang's top-k); elsewhere as there.
H100_PER_CLOCK = {"quantize": 3.334, "conv": 2.308, "topk": 1.76}
AMPERE_POINTWISE = PointwiseFit(
    dram_efficiency=1.0,
    elements_per_clock={
        "norm": 1.074,
        "swiglu": 1.129,
        "rope": 1.449,
        "embedding": 0.4638,
        "softmax": 1.074,
        **H100_PER_CLOCK,
    },
    chosen_walks=1.749,  # SGLang's top-k on the H100; elsewhere as there
    start_s=9.445e-07,
    launch_s=1.34e-6,  # back-to-back interval of tiny kernels in a CUDA graph, A100 [GPU-BENCHES, gpu-small-kernels]
)
AMPERE_MOE = MoeFit(turns=1.0, tensor_efficiency=0.8872, dram_efficiency=1.0, overlap=2.412, layer_clocks=31820.0)
ASYNCHRONOUS_MOE = replace(AMPERE_MOE, turns=0.0)  # wgmma, UMMA; nothing refitted
# Fitted on the H100's gated delta nets: product_clocks and waits on vLLM's scans and updates, stage_efficiency on
# SGLang's scans. No scan was measured before Hopper, no scan of Mamba-2 anywhere.
STAGED_RECURRENT = RecurrentFit(fused_delta_rule=False, product_clocks=1376.0, waits=8.198, stage_efficiency=0.7375)
FUSED_RECURRENT = replace(STAGED_RECURRENT, fused_delta_rule=True)
AMPERE = Architecture(
    gemm=AMPERE_GEMM,
    attention=AMPERE_ATTENTION,
    pointwise=AMPERE_POINTWISE,
    moe=AMPERE_MOE,
    recurrent=STAGED_RECURRENT,
)
# The other architectures: Ampere's constants, what the kernels are instead, and a few refitted ones, on the rows of
# that GPU (validate.py --fit): L40S for Ada, H100 for Hopper, B200 for Blackwell.
ADA = Architecture(
    gemm=replace(AMPERE_GEMM, tensor_efficiency=0.701, power_share=0.5788, dram_efficiency=0.7888),
    attention=replace(
        AMPERE_ATTENTION,
        pack_copies=0,
        mma_efficiency=0.5791,
        dram_efficiency=0.7867,
        append_waits=8.234,  # as on the H100: the kernel of vLLM 0.24
    ),
    pointwise=AMPERE_POINTWISE,
    # As its dense products' to Ampere's: the MMA rate is theirs, GDDR6 gives as much less
    moe=replace(AMPERE_MOE, tensor_efficiency=0.701, dram_efficiency=0.7888 / 0.8491),
    recurrent=STAGED_RECURRENT,
)
# Of the bf16 peak: 660 TFLOP/s where compute-bound, on an H800 SXM [deepseek-ai/FlashMLA, README of April 2025].
# Blackwell's kernels: taken as Hopper's.
FLASH_MLA_SHARE = 660 / 989.4
HOPPER_POINTWISE = replace(  # Blackwell too, where nothing was measured
    AMPERE_POINTWISE,
    elements_per_clock={kind: 1.245 * rate for kind, rate in AMPERE_POINTWISE.elements_per_clock.items()}
    | H100_PER_CLOCK,
)
HOPPER = Architecture(
    gemm=replace(AMPERE_GEMM, dram_efficiency=0.9018, overlap=5.565, power_share=794.5 / 989),  # measured [MAMF]
    attention=replace(
        AMPERE_ATTENTION,  # FlashAttention-3: ping-pong hides FP32 work, parallel combine, longest tile first
        tile_m=128,
        stages=2,
        pack_prefill=True,
        split_prefill=True,
        split_mha=True,
        pack_copies=0,
        extra_kernels=1,
        vector_ops=0.0,
        combine_reads=0.0,
        tail=1 / 6,
        mma_efficiency=1.0,
        latent_expanded=1.0,
        latent_absorbed=FLASH_MLA_SHARE,
        append_waits=8.234,
        cta_waits=9.806,
    ),
    pointwise=HOPPER_POINTWISE,
    # CUTLASS kernels as vLLM and SGLang choose them (cutlass_gemm_sm90_fp8_dispatch, sm90_fp8_dispatch_shape)
    narrow=replace(NARROW, small_tiles_m=128, most_columns=128),
    moe=ASYNCHRONOUS_MOE,
    recurrent=FUSED_RECURRENT,
)
BLACKWELL = Architecture(
    gemm=replace(AMPERE_GEMM, dram_efficiency=0.8821, epilogue_bytes_per_clock=22.77, power_share=0.6956),
    attention=replace(
        AMPERE_ATTENTION,  # trtllm-gen
        tile_m=128,
        stages=2,
        split_mha=True,
        pack_copies=0,
        vector_ops=0.0,
        combine_reads=0.0,
        tail=1 / 6,
        append_waits=8.234,  # as on the H100: the kernel of vLLM 0.24
        dram_efficiency=0.9372,
        launch_clocks=9473.0,
        latent_expanded=1.0,
        latent_absorbed=FLASH_MLA_SHARE,
    ),
    pointwise=HOPPER_POINTWISE,
    moe=ASYNCHRONOUS_MOE,
    recurrent=FUSED_RECURRENT,
)
ARCHITECTURES = {"ampere": AMPERE, "ada": ADA, "hopper": HOPPER, "blackwell": BLACKWELL}


LIMITS = {
    "_share": (0.01, 1.0),
    "_latency_s": (1e-10, 1e-3),
    "_fma_per_clock": (0.0, 1e15),
}  # of Chip's floats


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One GPU as its data sheet describes it. SI base units, the unit in the name.

    Raises InputError for a field that is not text, not a whole number >= 1, or not finite and positive,
    as its type asks. An fma rate of 0 says that the chip lacks that dtype.
    """

    name: str
    title: str
    architecture: str
    sm_count: int
    clock_hz: float  # boost: the clock at which the data sheet states its tensor-core peaks
    base_clock_hz: float
    tensor_cores_per_sm: int
    fp16_fma_per_clock: float  # per tensor core, dense; fp16 or bf16 inputs, fp32 accumulation
    int8_fma_per_clock: float
    fp8_fma_per_clock: float
    fp4_fma_per_clock: float = 0.0
    fp32_cores_per_sm: int  # CUDA cores, one FMA per clock each
    dram_bytes: int
    dram_bytes_per_s: float  # data sheet
    dram_read_share: float  # of it that a plain read of a large array reaches
    dram_latency_s: float  # of a load that misses the L2
    l2_bytes: int
    l2_partitions: int  # each keeps its own copy of what its SMs read from the other
    l2_bytes_per_clock: float  # read, whole chip
    l2_latency_s: float  # of a load that hits the near partition
    shared_bytes_per_sm: int  # of the combined L1/shared memory, what CTAs can allocate
    shared_bytes_per_clock: float  # per SM
    registers_per_sm: int  # 32-bit
    ctas_per_sm: int  # at most resident
    tdp_w: float
    tensor_sustained_share: float  # of the tensor peak, by large products of random data for long: the power limit

    def __post_init__(self):
        for field in fields(self):
            value, name = getattr(self, field.name), f"hardware.{field.name}"
            if field.type is str:
                if not isinstance(value, str) or not value:
                    raise InputError(f"{name} must be text, not {value!r}")
            elif field.type is int:
                check_size(name, value, high=2**60 if name.endswith("_bytes") else 2**24)
            else:
                low, high = next((limits for suffix, limits in LIMITS.items() if name.endswith(suffix)), (1.0, 1e21))
                check_quantity(name, value, low=low, high=high)
        pick("hardware.architecture", self.architecture, ARCHITECTURES)
        if not self.fp16_fma_per_clock:
            raise InputError("hardware.fp16_fma_per_clock must be above 0")

    @property
    def fit(self) -> Architecture:
        return ARCHITECTURES[self.architecture]

    @property
    def tensor_cores(self) -> int:
        return self.sm_count * self.tensor_cores_per_sm

    @property
    def fp32_cores(self) -> int:
        return self.sm_count * self.fp32_cores_per_sm

    def fma_rates(self) -> dict[str, float]:
        """FMAs per clock of one tensor core, by dtype; 0: the chip lacks it."""
        return {
            "fp16": self.fp16_fma_per_clock,
            "bf16": self.fp16_fma_per_clock,
            "int8": self.int8_fma_per_clock,
            "fp8": self.fp8_fma_per_clock,
            "fp4": self.fp4_fma_per_clock,
        }

    def fma_per_clock(self, dtype: str) -> float:
        """Of one tensor core. Raises InputError for a dtype that the chip has no rate for."""
        rates = self.fma_rates()
        if not rates.get(dtype):
            known = ", ".join(name for name, rate in rates.items() if rate)
            raise InputError(f"{self.name} has no {dtype} tensor-core rate; it has {known}")
        return rates[dtype]

    def tensor_flops_per_s(self, dtype: str) -> float:
        """Tensor cores * FMA per clock * 2 * clock. Raises InputError for a dtype without a rate here.
        >>> round(A100_80GB_PCIE.tensor_flops_per_s("fp16") / 1e12, 1)  # 432 * 256 * 2 * 1.41e9
        311.9
        """
        return self.tensor_cores * self.fma_per_clock(dtype) * 2 * self.clock_hz

    @property
    def vector_flops_per_s(self) -> float:
        """FP32 on the CUDA cores: cores * 2 * clock.
        >>> round(A100_80GB_PCIE.vector_flops_per_s / 1e12, 1)  # 6,912 * 2 * 1.41e9
        19.5
        """
        return self.fp32_cores * 2 * self.clock_hz

    @property
    def dram_read_bytes_per_s(self) -> float:
        """What a plain read of a large array reaches: a measured share of the data sheet's bandwidth."""
        return self.dram_bytes_per_s * self.dram_read_share

    @property
    def l2_bytes_per_s(self) -> float:
        return self.l2_bytes_per_clock * self.clock_hz


def with_tensor_peak(chip: Chip, flops_per_s: float) -> Chip:
    """`chip` with another fp16/bf16 tensor-core peak and its other dtypes scaled alike, by the FMA rate per
    clock: clocks, bandwidths and CUDA cores stay what they are.
    """
    check_quantity("the tensor-core peak in FLOP/s", flops_per_s, low=1e6, high=1e21)
    scale = flops_per_s / chip.tensor_flops_per_s("fp16")
    return replace(
        chip,
        fp16_fma_per_clock=chip.fp16_fma_per_clock * scale,
        int8_fma_per_clock=chip.int8_fma_per_clock * scale,
        fp8_fma_per_clock=chip.fp8_fma_per_clock * scale,
        fp4_fma_per_clock=chip.fp4_fma_per_clock * scale,
    )


# Sources. [A100-WP] NVIDIA A100 Tensor Core GPU Architecture whitepaper v1.0 (2020). [A100-DS] NVIDIA A100
# data sheet (2021 and later, 40 and 80 GB). [A100-PB] NVIDIA A100 80GB PCIe product brief PB-10577-001.
# [H100-WP] NVIDIA H100 Tensor Core GPU Architecture whitepaper v1.04 (2023). [TPU] TechPowerUp GPU database,
# where NVIDIA prints no figure. [ADA-WP] NVIDIA Ada GPU Architecture whitepaper v2.01. [GPU-BENCHES]
# microbenchmarks, github.com/te42kyfo/gpu-benches. [MAMF] best achieved GEMM rates,
# github.com/stas00/ml-engineering/blob/master/compute/accelerator. Dense rates throughout, never "with sparsity".

# fmt: off
A100_80GB_PCIE = Chip(                    # <- the block to edit
    name="a100-80gb-pcie",
    title="NVIDIA A100 80GB PCIe",
    architecture="ampere",
    sm_count=108,                         # 7 GPCs of 7 or 8 TPCs, 54 TPCs in all, 2 SMs each [A100-WP p. 20]
    clock_hz=1410 * MHZ,                  # boost [A100-PB, table 2]
    base_clock_hz=1065 * MHZ,             # [A100-PB, table 2]
    tensor_cores_per_sm=4,                # third generation; 432 in all [A100-WP, table 1]
    fp16_fma_per_clock=256,               # 1,024 per SM [A100-WP p. 24]; 311.9 TFLOP/s, data sheet: 312
    int8_fma_per_clock=512,               # twice fp16: 624 TOP/s [A100-DS]
    fp8_fma_per_clock=0,                  # none before Ada and Hopper
    fp32_cores_per_sm=64,                 # 6,912 in all; 19.5 TFLOP/s [A100-WP, table 1]
    dram_bytes=80 * GIB,                  # 5 HBM2e stacks of 16 GiB; nvidia-smi shows 81,920 MiB
    dram_bytes_per_s=1935 * GB,           # 10 512-bit controllers at 3.02 Gbit/s a pin [A100-DS]
    dram_read_share=1769 / 2039,          # not measured on this card; as the SXM card's, same HBM2e
    dram_latency_s=571 / (1410 * MHZ),    # 405 ns, pointer chase [GPU-BENCHES, gpu-latency]
    l2_bytes=40 * MIB,                    # [A100-WP p. 34]
    l2_partitions=2,                      # [A100-WP p. 34]
    l2_bytes_per_clock=5120,              # read [A100-WP p. 34]
    l2_latency_s=211 / (1410 * MHZ),      # 150 ns, near partition [GPU-BENCHES, gpu-latency]
    shared_bytes_per_sm=164 * KIB,        # of 192 KB combined with L1 [A100-WP p. 33]
    shared_bytes_per_clock=128,           # 32 banks of 4 bytes [CUDA C++ Programming Guide, cc 8.0]
    registers_per_sm=65536,               # 256 KB [A100-WP, table 4]
    ctas_per_sm=32,                       # [A100-WP, table 4]
    tdp_w=300.0,                          # [A100-DS]
    tensor_sustained_share=252.9 / 312,   # [MAMF]
)
# fmt: on

A100_80GB_SXM = replace(
    A100_80GB_PCIE,
    name="a100-80gb-sxm",
    title="NVIDIA A100 80GB SXM4",
    base_clock_hz=1275 * MHZ,  # [TPU]
    dram_bytes_per_s=2039 * GB,  # 3.19 Gbit/s a pin [A100-DS]
    dram_read_share=1769 / 2039,  # [GPU-BENCHES, gpu-stream]
    tdp_w=400.0,  # [A100-DS]
    tensor_sustained_share=271.2 / 312,  # [MAMF]
)
A100_40GB_PCIE = replace(
    A100_80GB_PCIE,
    name="a100-40gb-pcie",
    title="NVIDIA A100 40GB PCIe",
    base_clock_hz=765 * MHZ,  # NVIDIA A100 PCIe 40GB product brief PB-10137-001, table 2
    dram_bytes=40 * GIB,  # 5 HBM2 stacks of 8 GiB; nvidia-smi shows 40,960 MiB
    dram_bytes_per_s=1555 * GB,  # 2.43 Gbit/s a pin [A100-DS]
    dram_read_share=1490 / 1555,  # measured on the SXM card [GPU-BENCHES, gpu-stream]
    tdp_w=250.0,  # [A100-DS]
    tensor_sustained_share=0.63,  # 895 to 955 of 1410 MHz under GEMM load (github.com/NVIDIA/cccl, PR 9101)
)
A100_40GB_SXM = replace(
    A100_40GB_PCIE,
    name="a100-40gb-sxm",
    title="NVIDIA A100 40GB SXM4",
    base_clock_hz=1095 * MHZ,  # [TPU]
    tdp_w=400.0,  # [A100-DS]
    tensor_sustained_share=271.2 / 312,  # not measured on this card; as the 80 GB one, same 400 W [MAMF]
)

H100_SXM = Chip(
    name="h100-sxm",
    title="NVIDIA H100 80GB SXM5",
    architecture="hopper",
    sm_count=132,  # [H100-WP, table 3]
    clock_hz=1830 * MHZ,  # the clock of the tensor-core peaks [H100-WP, table 2 notes]; FP32 may go to 1,980
    base_clock_hz=1590 * MHZ,  # [TPU]
    tensor_cores_per_sm=4,  # fourth generation [H100-WP, table 3]
    fp16_fma_per_clock=512,  # 989.4 TFLOP/s dense [H100-WP, table 2]
    int8_fma_per_clock=1024,  # 1,978.9 TOP/s dense [H100-WP, table 2]
    fp8_fma_per_clock=1024,  # 1,978.9 TFLOP/s dense [H100-WP, table 2]
    fp32_cores_per_sm=128,  # [H100-WP, table 3]
    dram_bytes=80 * GIB,  # 5 HBM3 stacks of 16 GiB
    dram_bytes_per_s=3350 * GB,  # NVIDIA H100 data sheet, "3.35TB/s"
    dram_read_share=1942 / 2039,  # measured on the PCIe card, of its 2,039 GB/s [GPU-BENCHES, gpu-stream]
    dram_latency_s=650 / (1755 * MHZ),  # 370 ns, pointer chase on the PCIe card [GPU-BENCHES, gpu-latency]
    l2_bytes=50 * MIB,  # [H100-WP, table 3]
    l2_partitions=2,  # [H100-WP p. 42 draws two; GPU-BENCHES]
    l2_bytes_per_clock=5120,  # not published for Hopper; taken as the A100's
    l2_latency_s=265 / (1755 * MHZ),  # 151 ns, near partition, PCIe card [GPU-BENCHES, gpu-latency]
    shared_bytes_per_sm=228 * KIB,  # of 256 KB combined with L1 [H100-WP, table 4]
    shared_bytes_per_clock=128,  # [CUDA C++ Programming Guide, compute capability 9.0]
    registers_per_sm=65536,  # [H100-WP, table 4]
    ctas_per_sm=32,  # [H100-WP, table 4]
    tdp_w=700.0,  # NVIDIA H100 data sheet
    tensor_sustained_share=0.7661,  # fitted on large products of random data; at best 794.5 / 989 [MAMF]
)
H100_PCIE = replace(
    H100_SXM,
    name="h100-pcie",
    title="NVIDIA H100 80GB PCIe",
    sm_count=114,  # [H100-WP, table 3]
    clock_hz=1620 * MHZ,  # at which 114 SMs give the data sheet's 756 TFLOP/s dense; boost 1755 [TPU]
    base_clock_hz=1095 * MHZ,  # [TPU]
    dram_bytes_per_s=2039 * GB,  # HBM2e; NVIDIA H100 data sheet, "2TB/s"; [TPU]
    dram_read_share=1942 / 2039,  # [GPU-BENCHES, gpu-stream]
    tdp_w=350.0,  # NVIDIA H100 data sheet
    tensor_sustained_share=0.6,  # not measured; 350 W, half of the SXM's: a judgement
)
H200_SXM = replace(
    H100_SXM,
    name="h200-sxm",
    title="NVIDIA H200 141GB SXM5",
    dram_bytes=143_771 * MIB,  # as nvidia-smi shows it; data sheet: 141 GB of HBM3e
    dram_bytes_per_s=4800 * GB,  # NVIDIA H200 data sheet, "4.8TB/s"
    dram_read_share=1942 / 2039,  # as the H100's; [GPU-BENCHES]' 3,888 GB/s did not saturate it
    tensor_sustained_share=0.7314,  # fitted, as the H100's
)
L40S = Chip(
    name="l40s",
    title="NVIDIA L40S",
    architecture="ada",
    sm_count=142,  # NVIDIA L40S data sheet: 18,176 CUDA cores, 568 tensor cores [ADA-WP, appendix B]
    clock_hz=2520 * MHZ,  # boost [ADA-WP, appendix B; TPU]
    base_clock_hz=1110 * MHZ,  # [TPU]
    tensor_cores_per_sm=4,  # [ADA-WP]
    fp16_fma_per_clock=128,  # 366 TFLOP/s dense; the data sheet says 362.05
    int8_fma_per_clock=256,  # twice fp16; data sheet: 733
    fp8_fma_per_clock=256,  # twice fp16; data sheet: 733
    fp32_cores_per_sm=128,  # [ADA-WP]
    dram_bytes=46_068 * MIB,  # as nvidia-smi shows it, with ECC; data sheet: 48 GB of GDDR6
    dram_bytes_per_s=864 * GB,  # NVIDIA L40S data sheet
    dram_read_share=844 / 864,  # measured on an L40 [GPU-BENCHES, gpu-stream]
    dram_latency_s=632 / (2490 * MHZ),  # 254 ns, pointer chase on an L40 [GPU-BENCHES, gpu-latency]
    l2_bytes=96 * MIB,  # [ADA-WP, appendix B: 98,304 KB]
    l2_partitions=1,  # one level of latency in the pointer chase [GPU-BENCHES, gpu-latency]
    l2_bytes_per_clock=5220e9 / 2490e6,  # measured on an L40 [GPU-BENCHES, gpu-l2-cache]
    l2_latency_s=276 / (2490 * MHZ),  # 111 ns, L40 [GPU-BENCHES, gpu-latency]
    shared_bytes_per_sm=100 * KIB,  # of 128 KB combined with L1 [CUDA C++ Programming Guide, cc 8.9]
    shared_bytes_per_clock=128,  # [CUDA C++ Programming Guide, cc 8.9]
    registers_per_sm=65536,  # [ADA-WP]
    ctas_per_sm=24,  # [CUDA C++ Programming Guide, cc 8.9]
    tdp_w=350.0,  # NVIDIA L40S data sheet
    tensor_sustained_share=0.5385,  # fitted, as the H100's
)
B200_SXM = Chip(
    name="b200-sxm",
    title="NVIDIA B200 180GB SXM",
    architecture="blackwell",
    sm_count=148,  # CUDA device query of a B200; NVIDIA prints no figure
    clock_hz=1850 * MHZ,  # at which 148 SMs give the data sheet's 2.25 PFLOP/s dense
    base_clock_hz=1665 * MHZ,  # [TPU]
    tensor_cores_per_sm=4,  # fifth generation
    fp16_fma_per_clock=1024,  # 2.24 PFLOP/s dense; NVIDIA Blackwell data sheet: 2.25
    int8_fma_per_clock=2048,  # data sheet: 4.5 dense
    fp8_fma_per_clock=2048,  # data sheet: 4.5 dense
    fp4_fma_per_clock=4096,  # data sheet: 9 dense
    fp32_cores_per_sm=128,  # 75 TFLOP/s in the data sheet
    dram_bytes=183_359 * MIB,  # as nvidia-smi shows it; data sheet: 180 GB of HBM3e
    dram_bytes_per_s=7700 * GB,  # NVIDIA HGX B200 data sheet, "7.7TB/s" a GPU
    dram_read_share=0.95,  # not measured; as the H100's
    dram_latency_s=650 / (1755 * MHZ),  # not published; taken as the H100's
    l2_bytes=126 * MIB,  # CUDA device query of a B200
    l2_partitions=2,  # one a die
    l2_bytes_per_clock=10240,  # not published; taken as twice the H100's, for two dies
    l2_latency_s=265 / (1755 * MHZ),  # not published; taken as the H100's
    shared_bytes_per_sm=228 * KIB,  # [CUDA C++ Programming Guide, cc 10.0]
    shared_bytes_per_clock=128,  # [CUDA C++ Programming Guide, cc 10.0]
    registers_per_sm=65536,  # [CUDA C++ Programming Guide, cc 10.0]
    ctas_per_sm=32,  # [CUDA C++ Programming Guide, cc 10.0]
    tdp_w=1000.0,  # NVIDIA HGX B200 data sheet
    tensor_sustained_share=0.6863,  # fitted, as the H100's; at best 1745 / 2250 [MAMF]
)

CHIPS = {
    chip.name: chip
    for chip in (
        A100_80GB_PCIE,
        A100_80GB_SXM,
        A100_40GB_PCIE,
        A100_40GB_SXM,
        H100_SXM,
        H100_PCIE,
        H200_SXM,
        L40S,
        B200_SXM,
    )
}
