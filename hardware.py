"""The chips: data-sheet facts, each with its source. Peaks are derived from counts and clock, never stored.

For a what-if, edit the A100_80GB_PCIE block below, or pass --set hardware.FIELD=VALUE, or in Python
dataclasses.replace(A100_80GB_PCIE, dram_bytes_per_s=3e12).
"""

from dataclasses import dataclass, fields, replace

from inputs import InputError, check_quantity, check_size

MHZ = 1e6
GB = 1e9  # data sheets' gigabyte
KIB = 2**10
MIB = 2**20
GIB = 2**30


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
    fp32_cores_per_sm: int  # CUDA cores, one FMA per clock each
    dram_bytes: int
    dram_bytes_per_s: float
    l2_bytes: int
    l2_bytes_per_clock: float  # read, whole chip
    shared_bytes_per_sm: int  # of the combined L1/shared memory, what CTAs can allocate
    registers_per_sm: int  # 32-bit
    tdp_w: float

    def __post_init__(self):
        for field in fields(self):
            value, name = getattr(self, field.name), f"hardware.{field.name}"
            if field.type is str:
                if not isinstance(value, str) or not value:
                    raise InputError(f"{name} must be text, not {value!r}")
            elif field.type is int:
                check_size(name, value, high=2**60 if name.endswith("_bytes") else 2**24)
            else:
                check_quantity(name, value, low=0.0 if "_fma_" in name else 1.0, high=1e21)
        if not self.fp16_fma_per_clock:
            raise InputError("hardware.fp16_fma_per_clock must be above 0")

    @property
    def tensor_cores(self) -> int:
        return self.sm_count * self.tensor_cores_per_sm

    @property
    def fp32_cores(self) -> int:
        return self.sm_count * self.fp32_cores_per_sm

    def fma_per_clock(self, dtype: str) -> float:
        """Of one tensor core. Raises InputError for a dtype that the chip has no rate for."""
        rates = {
            "fp16": self.fp16_fma_per_clock,
            "bf16": self.fp16_fma_per_clock,
            "int8": self.int8_fma_per_clock,
            "fp8": self.fp8_fma_per_clock,
        }
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
    )


# Sources. [A100-WP] NVIDIA A100 Tensor Core GPU Architecture whitepaper v1.0 (2020). [A100-DS] NVIDIA A100
# data sheet (2021 and later, 40 and 80 GB). [A100-PB] NVIDIA A100 80GB PCIe product brief PB-10577-001.
# [H100-WP] NVIDIA H100 Tensor Core GPU Architecture whitepaper v1.04 (2023). [TPU] TechPowerUp GPU database,
# where NVIDIA prints no figure. Dense rates throughout, never "with sparsity".

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
    l2_bytes=40 * MIB,                    # two partitions [A100-WP p. 34]
    l2_bytes_per_clock=5120,              # read [A100-WP, p. 34]
    shared_bytes_per_sm=164 * KIB,        # of 192 KB combined with L1 [A100-WP p. 33]
    registers_per_sm=65536,               # 256 KB [A100-WP, table 4]
    tdp_w=300.0,                          # [A100-DS]
)
# fmt: on

A100_80GB_SXM = replace(
    A100_80GB_PCIE,
    name="a100-80gb-sxm",
    title="NVIDIA A100 80GB SXM4",
    base_clock_hz=1275 * MHZ,  # [TPU]
    dram_bytes_per_s=2039 * GB,  # 3.19 Gbit/s a pin [A100-DS]
    tdp_w=400.0,  # [A100-DS]
)
A100_40GB_PCIE = replace(
    A100_80GB_PCIE,
    name="a100-40gb-pcie",
    title="NVIDIA A100 40GB PCIe",
    base_clock_hz=765 * MHZ,  # NVIDIA A100 PCIe 40GB product brief PB-10137-001, table 2
    dram_bytes=40 * GIB,  # 5 HBM2 stacks of 8 GiB; nvidia-smi shows 40,960 MiB
    dram_bytes_per_s=1555 * GB,  # 2.43 Gbit/s a pin [A100-DS]
    tdp_w=250.0,  # [A100-DS]
)
A100_40GB_SXM = replace(
    A100_40GB_PCIE,
    name="a100-40gb-sxm",
    title="NVIDIA A100 40GB SXM4",
    base_clock_hz=1095 * MHZ,  # [TPU]
    tdp_w=400.0,  # [A100-DS]
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
    l2_bytes=50 * MIB,  # [H100-WP, table 3]
    l2_bytes_per_clock=5120,  # not published for Hopper; taken as the A100's
    shared_bytes_per_sm=228 * KIB,  # of 256 KB combined with L1 [H100-WP, table 4]
    registers_per_sm=65536,  # [H100-WP, table 4]
    tdp_w=700.0,  # NVIDIA H100 data sheet
)

CHIPS = {chip.name: chip for chip in (A100_80GB_PCIE, A100_80GB_SXM, A100_40GB_PCIE, A100_40GB_SXM, H100_SXM)}
