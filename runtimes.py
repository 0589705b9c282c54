"""The host side: what an engine adds to the kernels. A profile names the engine version that it stands for.

A pass over B sequences takes max(GPU time, launches * host_launch_s) + step_s + B * sequence_s, and a prefill
pass at least prefill_floor_s. Engine versions differ by 20 % and more on one GPU: a profile is one of them.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One engine's host costs, in seconds, on an x86 server of 2020 to 2023."""

    name: str
    title: str
    host_launch_s: float  # per kernel launched outside a CUDA graph
    graph_decode: bool  # decode passes replay a CUDA graph: the host launches nothing by itself
    step_s: float  # per pass: scheduling, preparing inputs, fetching the sampled tokens
    sequence_s: float  # per pass and sequence: bookkeeping of requests, detokenization
    prefill_floor_s: float  # the shortest prefill pass
    gaps: bool = True  # False: no time is lost between kernels
    fused_into_attention: tuple[str, ...] = ()  # kinds that decode attention does on the side: no launch of their own
    attention: dict = field(default_factory=dict)  # how its decode attention differs (fields of AttentionFit)
    pointwise_passes: float = 1.0  # elementwise kernels, each through DRAM, in place of one fused kernel
    kv_copies: float = 0.0  # times that a decode step moves the cache, expanded to all query heads, beyond reading it


# Fitted: on rows of validation/end_to_end.csv (which, see fit_row in validation/sets.py), by python validate.py --fit.
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="vllm",
            title="vLLM 0.6 (V0 engine)",
            host_launch_s=0.0,  # hidden in prefill_floor_s
            graph_decode=True,
            step_s=0.0002563,  # fitted
            sequence_s=9.125e-05,  # fitted
            prefill_floor_s=28e-3,  # vLLM 0.20.1, 200 tokens, batch 1 (AccelMark single-stream results)
        ),
        Runtime(
            name="tensorrt-llm",
            title="TensorRT-LLM 0.11",
            host_launch_s=0.0,
            graph_decode=True,
            step_s=0.0003653,  # fitted
            sequence_s=1.034e-05,  # fitted
            prefill_floor_s=16e-3,  # 7B, 128 tokens, batch 1 (TensorRT-LLM performance.md, releases 0.5 to 0.9)
            # Its decode kernel rotates and appends on the side, and has one CTA for each query head, which reads its
            # K and V by itself (TensorRT-LLM documentation, "Multi-Head, Multi-Query and Group-Query Attention").
            fused_into_attention=("rope", "kv_write"),
            attention={
                "append_waits": 0.0,
                "pack_copies": 0,
                "split_mha": True,
                "decode_tile_m": 1,
                "sm_bytes_per_clock": 21.81,  # fitted
                "dram_efficiency": 1.0,  # fitted, at its limit
            },
        ),
        Runtime(
            name="eager",
            title="Transformers 4.35, eager PyTorch 2.1",
            host_launch_s=7.752e-05,  # fitted; one kernel of ours is several launches of eager PyTorch
            graph_decode=False,
            step_s=0.0,
            sequence_s=0.0,
            prefill_floor_s=0.0,
            pointwise_passes=8.415,  # fitted
            kv_copies=5.924,  # fitted: torch.cat, repeat_kv, fp32 softmax
        ),
        Runtime(
            name="ideal",
            title="no host, no gaps between kernels",
            host_launch_s=0.0,
            graph_decode=True,
            step_s=0.0,
            sequence_s=0.0,
            prefill_floor_s=0.0,
            gaps=False,
        ),
    )
}
