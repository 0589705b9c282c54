"""What kernels are on the chips of one generation, and what was fitted: the records and one for each architecture.

`Chip.architecture` is a name; `architecture_of` looks it up, once, and whoever times kernels hands the record on.
Sources [A100-WP], [MAMF] and [GPU-BENCHES]: see hardware.py.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ridgepoint.inputs import pick

if TYPE_CHECKING:
    from ridgepoint.hardware import Chip


@dataclass(frozen=True, kw_only=True, repr=False)
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


@dataclass(frozen=True, kw_only=True, repr=False)
class NarrowFit:
    """Constants of products with operands below 16 bits (kernels/gemm.py), beside GemmFit's."""

    tensor_efficiency: float  # sustained fp8 (and fp4) MMA rate of one SM over the data-sheet peak
    splits: int  # CTAs that may share one tile's k range where both operands are narrow: one in CUTLASS's kernels
    small_tiles_m: float  # with more rows than this no tile below 128 x 128 is tried there
    most_columns: float  # nor any wider than this
    dequant8_ops: float  # CUDA-core instructions that widen one 8-bit weight to fp16, beside which no MMA runs
    dequant4_ops: float  # and one 4-bit weight
    dequant_clocks: float  # that a k-step of a weight-only kernel waits longer: load, widen, multiply in one warp


@dataclass(frozen=True, kw_only=True, repr=False)
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


@dataclass(frozen=True, kw_only=True, repr=False)
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


@dataclass(frozen=True, kw_only=True, repr=False)
class MoeFit:
    """Constants of mixtures of experts (kernels/moe.py), beside those of GemmFit."""

    turns: float  # part of the operands' way into registers that MMAs wait for: 1, all of it; 0, asynchronous MMAs
    tensor_efficiency: float  # sustained MMA rate over the data-sheet peak
    dram_efficiency: float  # share of the chip's plain read bandwidth
    overlap: float  # exponent of the p-norm of the on-chip, L2 and DRAM times of a grouped product
    layer_clocks: float  # a layer's small kernels together: softmax, top-k, counting, sorting, aligning, their gaps


@dataclass(frozen=True, kw_only=True, repr=False)
class RecurrentFit:
    """Constants of linear attention (kernels/recurrent.py), beside those of GemmFit and PointwiseFit."""

    fused_delta_rule: bool  # one kernel walks the chunks of a gated delta rule, as FlashInfer's; else several
    product_clocks: float  # of one product of a chunk that the next waits for, where a head is alone on its SM
    waits: float  # DRAM latencies that a CTA waits: indices and gates, then its state; its last stores
    stage_efficiency: float  # share of GemmFit's DRAM bandwidth that the kernels of a scan in several reach


@dataclass(frozen=True)  # not by keyword alone: tables are read by column
class Tile:
    """What one CTA of a product makes, and how. Sizes in elements; a k-step is one of 2-byte operands, and as many
    bytes with narrower ones. A warp tile is what one issuer of MMAs reads from shared memory at once: of a warp on
    Ampere, of a warpgroup (wgmma) on Hopper, of the whole SM (UMMA) on Blackwell.
    """

    rows: int
    columns: int
    k_step: int
    stages: int  # k-steps in shared memory at once
    warp_rows: int
    warp_columns: int
    warps: int
    pair: int = 1  # SMs that work as a pair, stacked along m: each loads and reads its half of the shared B panel
    most_rows: float = float("inf")  # of a product for which the library takes this tile


@dataclass(frozen=True, kw_only=True, repr=False)
class Architecture:
    """What kernels are, and what they reach, on the chips of one generation. The first fields are facts, the parts
    after them were fitted. `Chip` has the data sheets' figures.
    """

    compute_capability: int  # times ten; engines choose kernels by it [CUDA C++ Programming Guide, appendix]
    # products
    gemm_tiles: tuple[Tile, ...]
    moe_tiles: tuple[Tile, ...]  # of a mixture's grouped products
    narrow_tiles: tuple[Tile, ...] = ()  # of operands below 16 bits, in kernels that never split k; (): gemm_tiles
    mma_sync_share: float  # of the tensor peak that mma.sync reaches, as in kernels that widen weights
    # Persistent CTAs whose loads (TMA), MMAs and stores are issued by different warps: barriers stay off the MMA's
    # path, a tile is stored while the next is multiplied, and loads don't pass through registers.
    specialised: bool
    cluster: int = 1  # CTAs above one another that one read of their W panel from the L2 serves (TMA multicast)
    port_bytes_per_clock: float  # from the L2 to one SM
    # attention
    multiplies_8_bit_cache: bool  # as it is: nothing widens its elements
    narrows_query: bool  # for an fp8 cache, before the kernel
    sparse_rows: int  # query heads of a CTA where each query has its own keys
    # fitted
    gemm: GemmFit
    attention: AttentionFit
    pointwise: PointwiseFit
    moe: MoeFit
    recurrent: RecurrentFit
    narrow: NarrowFit = NARROW


AMPERE_TILES = (  # cuBLAS kernels ampere_bf16_s16816gemm_..._{256x128,128x128,64x64}_..._stages_{32x3,32x5,64x5}
    Tile(256, 128, 32, 3, 64, 64, 8),
    Tile(128, 128, 32, 5, 64, 64, 4),
    Tile(64, 64, 64, 5, 32, 32, 4),
)
HOPPER_TILES = (  # CUTLASS sm90: a producer warpgroup, one or two consumer warpgroups of 64 rows each
    Tile(128, 256, 64, 4, 64, 256, 12),
    Tile(128, 128, 64, 4, 64, 128, 12),
    Tile(64, 128, 64, 4, 64, 128, 8),
    Tile(64, 64, 64, 6, 64, 64, 8),
)
BLACKWELL_TILES = (  # CUTLASS sm100: accumulators in tensor memory; tiles of one SM and of a pair
    Tile(128, 256, 64, 4, 128, 256, 6, pair=2),
    Tile(128, 192, 64, 4, 128, 192, 6, pair=2),
    Tile(128, 128, 64, 5, 128, 128, 6, pair=2),
    Tile(128, 128, 64, 5, 128, 128, 6),
    Tile(128, 64, 64, 6, 128, 64, 6),
    Tile(64, 64, 64, 8, 64, 64, 6),
)
# CUTLASS's fp8 kernels for Ada, and the rows up to which the engines take them: SGLang, fp8_gemm_kernel.cu,
# sm89_fp8_dispatch_shape (vLLM, scaled_mm_c2x_sm89_fp8_dispatch.cuh: the same tiles, 32 and 64 rows up to m = 32, 64).
ADA_NARROW_TILES = (
    Tile(16, 64, 64, 5, 16, 64, 2, most_rows=16),
    Tile(32, 64, 64, 5, 16, 64, 4, most_rows=64),
    Tile(64, 64, 64, 4, 32, 64, 4, most_rows=128),
    Tile(64, 128, 64, 3, 64, 64, 4, most_rows=256),
    Tile(128, 128, 32, 5, 64, 64, 4),
)
# Of grouped products. Triton's tiles where nobody has tuned one come first: kernels/moe.py takes them by their place.
AMPERE_MOE_TILES = (
    Tile(16, 32, 64, 3, 16, 8, 4),
    Tile(64, 64, 32, 3, 32, 32, 4),
    Tile(16, 64, 64, 4, 16, 16, 4),
    Tile(32, 64, 64, 4, 32, 16, 4),
    Tile(64, 128, 32, 4, 32, 64, 4),
    Tile(128, 128, 32, 4, 64, 32, 8),
    Tile(128, 256, 32, 4, 64, 64, 8),
)
HOPPER_MOE_TILES = (
    Tile(16, 64, 128, 4, 16, 64, 4),
    Tile(32, 64, 128, 3, 32, 64, 4),
    Tile(32, 128, 64, 3, 32, 64, 4),
    Tile(64, 64, 64, 3, 64, 64, 4),
    Tile(64, 128, 64, 3, 64, 128, 4),
    Tile(128, 128, 64, 3, 64, 128, 8),
    Tile(128, 256, 64, 3, 64, 256, 8),
)
# Of the tensor peak that mma.sync reaches: all where there is nothing newer; 63 % of it on Hopper, where only wgmma
# reaches it (arXiv:2402.13499, table 8); Blackwell not measured, taken as Hopper's.
MMA_SYNC_SHARE = 0.63
# FlashMLA's sparse prefill: 64 query heads a CTA on Hopper, 128 on Blackwell. Before Hopper taken as on Hopper.
SPARSE_ROWS = 64

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
    compute_capability=80,
    gemm_tiles=AMPERE_TILES,
    moe_tiles=AMPERE_MOE_TILES,
    mma_sync_share=1.0,
    specialised=False,
    port_bytes_per_clock=64,  # [A100-WP p. 34]
    multiplies_8_bit_cache=False,
    narrows_query=False,
    sparse_rows=SPARSE_ROWS,
    gemm=AMPERE_GEMM,
    attention=AMPERE_ATTENTION,
    pointwise=AMPERE_POINTWISE,
    moe=AMPERE_MOE,
    recurrent=STAGED_RECURRENT,
)
# The other architectures: Ampere's constants, what the kernels are instead, and a few refitted ones, on the rows of
# that GPU (validate.py --fit): L40S for Ada, H100 for Hopper, B200 for Blackwell.
ADA = Architecture(
    compute_capability=89,
    gemm_tiles=AMPERE_TILES,  # no wgmma: cuBLAS runs the sm80 kernels
    moe_tiles=AMPERE_MOE_TILES,
    narrow_tiles=ADA_NARROW_TILES,
    mma_sync_share=1.0,
    specialised=False,
    port_bytes_per_clock=64,
    multiplies_8_bit_cache=False,
    narrows_query=False,
    sparse_rows=SPARSE_ROWS,
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
    compute_capability=90,
    gemm_tiles=HOPPER_TILES,
    moe_tiles=HOPPER_MOE_TILES,
    mma_sync_share=MMA_SYNC_SHARE,
    specialised=True,
    cluster=2,
    port_bytes_per_clock=64,
    multiplies_8_bit_cache=True,
    narrows_query=True,  # FlashAttention-3 reads an fp8 cache with fp8 Q
    sparse_rows=SPARSE_ROWS,
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
    compute_capability=100,
    gemm_tiles=BLACKWELL_TILES,
    moe_tiles=HOPPER_MOE_TILES,
    mma_sync_share=MMA_SYNC_SHARE,
    specialised=True,
    port_bytes_per_clock=128,  # the L2 bandwidth measured on a B200 is more than 64 a clock and SM
    multiplies_8_bit_cache=True,
    narrows_query=False,
    sparse_rows=128,
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


def architecture_of(chip: "Chip") -> Architecture:
    """The record that chip.architecture names. Raises InputError for an unknown name."""
    return ARCHITECTURES[pick("hardware.architecture", chip.architecture, ARCHITECTURES)]
