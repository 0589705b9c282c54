"""The chips: data-sheet facts, each with its source. Peaks are derived from counts and clock, never stored.

For a what-if, edit the A100_80GB_PCIE block below, or pass --set hardware.FIELD=VALUE, or in Python
dataclasses.replace(A100_80GB_PCIE, dram_bytes_per_s=3e12).
"""

import re
from dataclasses import dataclass, fields, replace

from ridgepoint.inputs import InputError, check_unit, nearest, shown

MHZ = 1e6
GB = 1e9  # data sheets' gigabyte
KIB = 2**10
MIB = 2**20
GIB = 2**30


# From and to, of each number of a Chip: wide enough for the last decade's chips and the next one's, ten times over, and
# narrow enough that a figure in another unit (MHz, GB, ns) is refused.
LIMITS = {
    "sm_count": (1, 100_000),
    "clock_hz": (1e8, 1e10),
    "base_clock_hz": (1e7, 1e10),
    "tensor_cores_per_sm": (1, 1024),
    "fp16_fma_per_clock": (0.0, 1e8),
    "int8_fma_per_clock": (0.0, 1e8),
    "fp8_fma_per_clock": (0.0, 1e8),
    "fp4_fma_per_clock": (0.0, 1e8),
    "fp32_cores_per_sm": (1, 4096),
    "dram_bytes": (10**8, 10**14),
    "dram_bytes_per_s": (1e8, 1e15),
    "dram_read_share": (0.01, 1.0),
    "dram_latency_s": (1e-9, 1e-4),
    "l2_bytes": (10**5, 10**12),
    "l2_partitions": (1, 1024),
    "l2_bytes_per_clock": (16.0, 1e7),
    "l2_latency_s": (1e-9, 1e-4),
    "shared_bytes_per_sm": (1000, 10**9),
    "shared_bytes_per_clock": (1.0, 1e5),
    "registers_per_sm": (1024, 10**8),
    "ctas_per_sm": (1, 4096),
    "threads_per_sm": (32, 10**6),
    "tdp_w": (5.0, 1e5),
    "tensor_sustained_share": (0.01, 1.0),
}
LEAST_FMA_PER_CLOCK = 1e-6  # of a dtype that the chip has: with less, times overflow
PEAK_LIMITS = (1e9, 1e18)  # FLOP/s of a what-if's tensor cores
# The unit that the end of a name says, the longest one first.
UNITS = {"_bytes_per_s": "B/s", "_hz": "Hz", "_bytes": "B", "_bytes_per_sm": "B", "_w": "W", "_s": "s"}
UNITS |= {"_share": "(a share of 1)", "_per_clock": "per clock", "_per_sm": "per SM"}


def unit_of(name: str) -> str:
    """The unit of a field, as its name says it; nothing for a count.
    >>> unit_of("dram_bytes_per_s"), unit_of("clock_hz"), unit_of("sm_count")
    ('B/s', 'Hz', '')
    """
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


UNIT_OF = {name: unit_of(name) for name in LIMITS}


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One GPU as its data sheet describes it. SI base units, the unit in the name.

    Raises InputError for a field that is not text, or not a number in its LIMITS, whole if its type is int. An fma rate
    of 0 says that the chip lacks that dtype.
    """

    name: str
    title: str
    architecture: str  # a name of kernels/architectures.py, checked where it is looked up
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
    threads_per_sm: int  # at most resident
    tdp_w: float
    tensor_sustained_share: float  # of the tensor peak, by large products of random data for long: the power limit

    def __post_init__(self) -> None:
        for field in fields(self):
            value, name = getattr(self, field.name), f"hardware.{field.name}"
            if field.type is str:
                if not isinstance(value, str) or not value:
                    raise InputError(f"{name} must be text, not {value!r}")
                continue
            check_unit(name, value, *LIMITS[field.name], unit=UNIT_OF[field.name], whole=field.type is int)
            if name.endswith("_fma_per_clock") and 0 < value < LEAST_FMA_PER_CLOCK:
                raise InputError(f"{name} must be 0 or a number from {LEAST_FMA_PER_CLOCK:g}, not {value:g}")
        if not self.fp16_fma_per_clock:
            raise InputError("hardware.fp16_fma_per_clock must be above 0")

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
    threads_per_sm=2048,                  # [CUDA C++ Programming Guide, cc 8.0]
    tdp_w=300.0,                          # [A100-DS]
    tensor_sustained_share=252.9 / 312,   # [MAMF]
)
# fmt: on


def with_tensor_peak(chip: Chip, flops_per_s: float) -> Chip:
    """`chip` with another fp16/bf16 tensor-core peak and its other dtypes scaled alike, by the FMA rate per
    clock: clocks, bandwidths and CUDA cores stay what they are.
    """
    check_unit("the tensor-core peak", flops_per_s, *PEAK_LIMITS, unit="FLOP/s")
    scale = flops_per_s / chip.tensor_flops_per_s("fp16")
    return replace(
        chip,
        fp16_fma_per_clock=chip.fp16_fma_per_clock * scale,
        int8_fma_per_clock=chip.int8_fma_per_clock * scale,
        fp8_fma_per_clock=chip.fp8_fma_per_clock * scale,
        fp4_fma_per_clock=chip.fp4_fma_per_clock * scale,
    )


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
    dram_bytes=81_559 * MIB,  # as nvidia-smi shows it; 5 HBM3 stacks of 16 GiB
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
    threads_per_sm=2048,  # [CUDA C++ Programming Guide, cc 9.0]
    tdp_w=700.0,  # NVIDIA H100 data sheet
    tensor_sustained_share=0.7495,  # fitted on large products of random data, H200's too; best 794.5 / 989 [MAMF]
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
    threads_per_sm=1536,  # [CUDA C++ Programming Guide, cc 8.9]
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
    threads_per_sm=2048,  # [CUDA C++ Programming Guide, cc 10.0]
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

# Of several that a short name may mean, the one that most people have: SXM before PCIe, 80 GB before 40.
COMMON: tuple[Chip, ...] = (H100_SXM, H200_SXM, B200_SXM, L40S)
COMMON += (A100_80GB_SXM, A100_80GB_PCIE, A100_40GB_SXM, A100_40GB_PCIE, H100_PCIE)
# Words that a GPU's name may have and that tell no two of these apart.
EMPTY_WORDS = ("nvidia", "tesla", "gpu", "tensor", "core", "hgx", "dgx", "hbm2", "hbm2e", "hbm3", "hbm3e", "gddr6")


def words(name: str) -> set[str]:
    """What tells a GPU's name from another's.
    >>> sorted(words("NVIDIA A100-SXM4-80GB")), sorted(words("H100 SXM"))
    (['80gb', 'a100', 'sxm'], ['h100', 'sxm'])
    """
    apart = re.sub(r"(sxm|pcie?)", r" \1", name.lower().replace(" gb", "gb"))
    found = re.findall(r"[a-z]*\d+[a-z]*|[a-z]+", apart)
    plain = (re.sub(r"^sxm\d$", "sxm", re.sub(r"^(\d+)g$", r"\1gb", word)) for word in found)
    return set(plain).difference(EMPTY_WORDS)


def meant(name: str) -> list[Chip]:
    """The chips that a name may mean, the commonest first: those of its family whose names and titles have all its
    words, or the one that has just that name.
    """
    if name.lower() in CHIPS:
        return [CHIPS[name.lower()]]
    asked = words(name)
    return [
        chip for chip in COMMON if chip.name.split("-")[0] in asked and asked <= words(chip.name) | words(chip.title)
    ]


def find_chip(name: object) -> Chip:
    """The record of a GPU: a name of CHIPS, in any case, or what people and nvidia-smi call it. Raises InputError.
    >>> find_chip("H100").name, find_chip("NVIDIA A100-SXM4-40GB").name, find_chip("nvidia-l40s").name
    ('h100-sxm', 'a100-40gb-sxm', 'l40s')
    """
    found = meant(name) if isinstance(name, str) else []
    if found:
        return found[0]
    # another letter or number is another GPU, not a slip of the pen
    stem = re.compile(r"[a-z]+\d+")
    asked = stem.findall(str(name).lower())
    close = [known for known in CHIPS if (family := stem.match(known)) and family[0] in asked]
    raise InputError(f"unknown hardware {shown(name)}{nearest(name, close)}; known: {', '.join(CHIPS)}")
