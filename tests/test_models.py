"""Models of every kind: parameters as published, identities between kinds of layers, bad configs, all known configs."""

import copy
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from invariants import examples, kernel_s
from test_command_line import assert_refused, inside, program
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ridgepoint import ops
from ridgepoint.estimator import Case, estimate, run
from ridgepoint.hardware import A100_80GB_PCIE, CHIPS
from ridgepoint.inputs import InputError
from ridgepoint.kernels.cycles import KERNELS
from ridgepoint.kernels.roofline import roofline_s
from ridgepoint.layers.letters import MIXERS, MLPS, after
from ridgepoint.layers.sizes import Pass
from ridgepoint.model import LLAMA3_8B, expand, forward
from ridgepoint.readers.catalogue import CATALOGUE, catalogue_names, find_model, hub_names, model_from_config
from ridgepoint.readers.config import compact
from ridgepoint.readers.families import FAMILIES

# Parameters, active per token, KV bytes per token at 2 bytes. Totals equal the published counts: the hub's safetensors
# metadata (less MTP layers and vision towers; correction biases of routers counted), or the Transformers models. For
# kimi-k2 the hub has 3,416 more.
PUBLISHED = {
    "deepseek-r1": (671_026_419_200, 37_552_297_472, 70_272),
    "deepseek-r1-distill-qwen-1.5b": (1_777_088_000, 1_777_088_000, 28_672),
    "deepseek-v3": (671_026_419_200, 37_552_297_472, 70_272),
    "gemma2-27b": (27_227_128_320, 27_227_128_320, 376_832),
    "gemma2-2b": (2_614_341_888, 2_614_341_888, 106_496),
    "gemma2-9b": (9_241_705_984, 9_241_705_984, 344_064),
    "gemma3-12b": (11_766_034_176, 11_766_034_176, 393_216),
    "gemma3-1b": (999_885_952, 999_885_952, 26_624),
    "gemma3-270m": (268_098_176, 268_098_176, 18_432),
    "gemma3-27b": (27_009_346_304, 27_009_346_304, 507_904),
    "gemma3-4b": (3_880_263_168, 3_880_263_168, 139_264),
    "glm4-9b": (9_399_951_360, 9_399_951_360, 40_960),
    "glm4.5": (352_797_829_024, 33_632_266_144, 376_832),
    "glm4.5-air": (106_852_251_264, 13_424_129_664, 188_416),
    "glm4.6": (352_797_829_024, 33_632_266_144, 376_832),
    "glm4.7": (352_797_829_024, 33_632_266_144, 376_832),
    "gpt-oss-120b": (116_829_156_672, 5_711_982_912, 73_728),
    "gpt-oss-20b": (20_914_757_184, 4_187_440_704, 49_152),
    "kimi-k2": (1_026_408_232_448, 32_861_500_928, 70_272),
    "kimi-k2-0905": (1_026_408_232_448, 32_861_500_928, 70_272),
    "kimi-k2-thinking": (1_026_408_232_448, 32_861_500_928, 70_272),
    "llama2-13b": (13_015_864_320, 13_015_864_320, 819_200),
    "llama2-70b": (68_976_648_192, 68_976_648_192, 327_680),
    "llama2-7b": (6_738_415_616, 6_738_415_616, 524_288),
    "llama3-70b": (70_553_706_496, 70_553_706_496, 327_680),
    "llama3-8b": (8_030_261_248, 8_030_261_248, 131_072),
    "llama3.1-405b": (405_853_388_800, 405_853_388_800, 516_096),
    "llama3.1-70b": (70_553_706_496, 70_553_706_496, 327_680),
    "llama3.1-8b": (8_030_261_248, 8_030_261_248, 131_072),
    "llama3.2-1b": (1_235_814_400, 1_235_814_400, 32_768),
    "llama3.2-3b": (3_212_749_824, 3_212_749_824, 114_688),
    "llama4-maverick": (400_711_848_960, 17_184_691_200, 196_608),
    "llama4-scout": (107_769_861_120, 17_172_894_720, 196_608),
    "ministral-8b": (8_019_808_256, 8_019_808_256, 147_456),
    "mistral-7b": (7_241_732_096, 7_241_732_096, 131_072),
    "mistral-7b-v0.2": (7_241_732_096, 7_241_732_096, 131_072),
    "mistral-7b-v0.3": (7_248_023_552, 7_248_023_552, 131_072),
    "mistral-large": (122_610_069_504, 122_610_069_504, 360_448),
    "mistral-nemo": (12_247_782_400, 12_247_782_400, 163_840),
    "mistral-small-22b": (22_247_282_688, 22_247_282_688, 229_376),
    "mistral-small-24b": (23_572_403_200, 23_572_403_200, 163_840),
    "mistral-small-3.1-24b": (23_572_403_200, 23_572_403_200, 163_840),
    "mixtral-8x22b": (140_620_634_112, 39_152_031_744, 229_376),
    "mixtral-8x7b": (46_702_792_704, 12_879_925_248, 131_072),
    "phi3-medium": (13_960_238_080, 13_960_238_080, 204_800),
    "phi3-mini": (3_821_079_552, 3_821_079_552, 393_216),
    "phi3.5-mini": (3_821_079_552, 3_821_079_552, 393_216),
    "phi4": (14_659_507_200, 14_659_507_200, 204_800),
    "phi4-mini": (3_836_021_760, 3_836_021_760, 131_072),
    "qwen2.5-0.5b": (494_032_768, 494_032_768, 12_288),
    "qwen2.5-1.5b": (1_543_714_304, 1_543_714_304, 28_672),
    "qwen2.5-14b": (14_770_033_664, 14_770_033_664, 196_608),
    "qwen2.5-32b": (32_763_876_352, 32_763_876_352, 262_144),
    "qwen2.5-3b": (3_085_938_688, 3_085_938_688, 36_864),
    "qwen2.5-72b": (72_706_203_648, 72_706_203_648, 327_680),
    "qwen2.5-7b": (7_615_616_512, 7_615_616_512, 57_344),
    "qwen3-0.6b": (596_049_920, 596_049_920, 114_688),
    "qwen3-1.7b": (1_720_574_976, 1_720_574_976, 114_688),
    "qwen3-14b": (14_768_307_200, 14_768_307_200, 163_840),
    "qwen3-235b-a22b": (235_093_634_560, 22_190_763_520, 192_512),
    "qwen3-235b-a22b-2507": (235_093_634_560, 22_190_763_520, 192_512),
    "qwen3-30b-a3b": (30_532_122_624, 3_353_032_704, 98_304),
    "qwen3-30b-a3b-2507": (30_532_122_624, 3_353_032_704, 98_304),
    "qwen3-32b": (32_762_123_264, 32_762_123_264, 262_144),
    "qwen3-4b": (4_022_468_096, 4_022_468_096, 147_456),
    "qwen3-4b-2507": (4_022_468_096, 4_022_468_096, 147_456),
    "qwen3-8b": (8_190_735_360, 8_190_735_360, 147_456),
    "qwen3-coder-30b-a3b": (30_532_122_624, 3_353_032_704, 98_304),
    "qwen3-coder-480b-a35b": (480_154_875_392, 35_474_765_312, 253_952),
    "tinyllama-1.1b": (1_100_048_384, 1_100_048_384, 22_528),
}


@pytest.mark.parametrize("name", catalogue_names())
def test_parameters_of_the_catalogue(name):
    model = find_model(name)
    counts = (model.parameters, model.active_parameters, model.kv_bytes_per_token("fp16"))
    assert counts == PUBLISHED[name]


def test_the_catalogue_has_the_default_model():
    assert replace(find_model("llama3-8b"), source="") == LLAMA3_8B


def test_names():
    assert find_model("Qwen/Qwen3-8B") is find_model("qwen3-8b") is find_model("QWEN/qwen3-8b")
    assert find_model("Qwen3-8B") is find_model("qwen3-8b")
    for hub, name in hub_names().items():
        assert find_model(hub).name == name


POPULAR = {  # names as people type them
    "Qwen/Qwen3-4B": "qwen3-4b",
    "Qwen/Qwen3-4B-Instruct-2507": "qwen3-4b-2507",
    "Qwen/Qwen3-14B": "qwen3-14b",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": "qwen3-coder-30b-a3b",
    "Qwen/Qwen2.5-0.5B-Instruct": "qwen2.5-0.5b",
    "Qwen/Qwen2.5-1.5B-Instruct": "qwen2.5-1.5b",
    "Qwen/Qwen2.5-3B-Instruct": "qwen2.5-3b",
    "Qwen/Qwen2.5-14B-Instruct": "qwen2.5-14b",
    "Qwen/Qwen2.5-32B-Instruct": "qwen2.5-32b",
    "Qwen/QwQ-32B": "qwen2.5-32b",
    "mistralai/Mistral-Nemo-Instruct-2407": "mistral-nemo",
    "mistralai/Mistral-Small-24B-Instruct-2501": "mistral-small-24b",
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": "mistral-small-3.1-24b",
    "deepseek-ai/DeepSeek-R1-0528": "deepseek-r1",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": "deepseek-r1-distill-qwen-1.5b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "qwen2.5-7b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": "qwen2.5-14b",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": "qwen2.5-32b",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "llama3.1-8b",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": "llama3.1-70b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama3.1-70b",
    "llama3.3-70b": "llama3.1-70b",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "llama4-scout",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": "llama4-maverick",
    "microsoft/Phi-3.5-mini-instruct": "phi3.5-mini",
    "google/gemma-2-2b-it": "gemma2-2b",
    "google/gemma-3-1b-it": "gemma3-1b",
    "moonshotai/Kimi-K2-Instruct-0905": "kimi-k2-0905",
    "moonshotai/Kimi-K2-Thinking": "kimi-k2-thinking",
}


@pytest.mark.parametrize(("typed", "name"), POPULAR.items())
def test_popular_names(typed, name):
    assert find_model(typed).name == name


def test_the_home_workload_reads_no_file_of_the_catalogue():
    code = (
        "import sys; opened = [];"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None);"
        "import estimator; estimator.guarded(estimator.run, []);"
        "print([path for path in opened if 'catalog' in path].__len__())"
    )
    assert program("-c", code).stdout.splitlines()[-1] == "0"


def test_list_of_models(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = {line.split()[0]: line for line in run(["--list-models"]).splitlines()}
    assert set(lines) >= set(PUBLISHED)
    for part in ("DeepSeek-V3", "deepseek_v3", "671.03 B", "37.55 B", "70,272"):
        assert part in lines["deepseek-v3"]


# Identities -----------------------------------------------------------------------------------------------

MIXTURE = replace(
    LLAMA3_8B, mlps="E", intermediate=0, experts=8, experts_per_token=2, expert_intermediate=1024, router_bias=True
)
SLIDING = replace(LLAMA3_8B, mixers="S", sliding_window=256)
HYBRID = replace(
    LLAMA3_8B,
    mixers="G3F",
    linear_key_heads=4,
    linear_value_heads=8,
    linear_key_dim=128,
    linear_value_dim=64,
    linear_conv_width=4,
)


def flops(passed, *kinds):
    return sum(op.count * op.flops for op in passed if op.kind in kinds)


def named(passed):
    return {op.name: op for op in passed}


def test_a_mixture_with_all_experts_chosen_is_a_dense_mlp():
    everything = replace(MIXTURE, experts_per_token=8)
    dense = replace(LLAMA3_8B, intermediate=8 * 1024)
    sizes = {"batch": 3, "q_len": 7, "kv_len": 7}
    router = 32 * 2 * 21 * 4096 * 8  # layers, multiply-adds, tokens, hidden, experts
    assert (
        flops(forward(everything, **sizes), "gemm", "grouped_gemm") == flops(forward(dense, **sizes), "gemm") + router
    )
    # and 8 router outputs with biases more to store, in each of 32 layers
    assert everything.parameters == dense.parameters + 32 * (4096 * 8 + 8) == everything.active_parameters


def test_experts_that_are_not_chosen_are_not_read():
    one, many = (named(forward(MIXTURE, batch=batch, q_len=1, kv_len=100)) for batch in (1, 10_000))
    matrix = 4096 * 2 * 1024 * 2  # gate and up of one expert, 2 bytes
    assert one["experts_up"].weight_bytes == pytest.approx(2 * matrix)
    assert many["experts_up"].weight_bytes == pytest.approx(8 * matrix)
    assert MIXTURE.parameters - MIXTURE.active_parameters == 32 * 6 * 3 * 4096 * 1024


def test_a_window_at_least_as_long_as_the_context_is_full_attention():
    for q_len, kv_len in ((100, 100), (1, 256), (30, 200)):
        sliding, full = (forward(model, batch=2, q_len=q_len, kv_len=kv_len) for model in (SLIDING, LLAMA3_8B))
        for a, b in zip(sliding, full, strict=True):
            assert (a.flops, a.bytes, a.kv_bytes) == (b.flops, b.bytes, b.kv_bytes)
            for chip in (A100_80GB_PCIE, CHIPS["h100-sxm"]):
                assert float(kernel_s(a, chip)) == pytest.approx(float(kernel_s(b, chip)), rel=1e-12)


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 400))
def test_windows_and_chunks_are_exact_sums(q_len, cached, window):
    kv_len = q_len + cached
    positions = range(cached + 1, kv_len + 1)
    assert ops.visible_keys(q_len, kv_len, window) == sum(min(p, window) for p in positions)
    assert ops.visible_in_chunk(q_len, kv_len, window) == sum((p - 1) % window + 1 for p in positions)
    # K and V: from the first key that the first query sees
    op = ops.attention(
        "a",
        batch=1,
        q_len=q_len,
        kv_len=kv_len,
        window=window,
        heads=1,
        kv_heads=1,
        head_dim=2,
        dtype="fp16",
        elem_bytes=1,
    )
    assert op.kv_bytes == 4 * (kv_len - max(0, cached + 1 - window))
    assert float(kernel_s(op, A100_80GB_PCIE)) >= float(roofline_s(op, A100_80GB_PCIE))


def test_sliding_decode():
    decode = named(forward(SLIDING, batch=8, q_len=1, kv_len=5000))
    # 256 keys: 2 GEMMs * 2 FLOPs * 128; K and V of 8 heads, 2 bytes
    assert decode["sliding_attention"].flops == 8 * 32 * 512 * 256
    assert decode["sliding_attention"].kv_bytes == 8 * 256 * 2 * 8 * 128 * 2
    assert SLIDING.kv_cache_bytes("fp16", 5000) == 256 * 131072
    gemma = find_model("gemma3-27b")  # 52 sliding layers of 1024 tokens, 10 full; 16 KV heads of 128
    assert gemma.kv_cache_bytes("fp16", 10_000) == (52 * 1024 + 10 * 10_000) * 2 * 16 * 128 * 2
    counts = {op.name: op.count for op in forward(gemma, batch=1, q_len=1, kv_len=10)}
    assert (counts["sliding_attention"], counts["attention"], counts["qkv_proj"]) == (52, 10, 62)


def test_mla_absorbed_and_expanded_agree():
    model = find_model("deepseek-v3")
    one = {"batch": 2, "q_len": 1, "kv_len": 1}
    absorbed = named(forward(model, absorb=True, **one))
    expanded = named(forward(model, **one))
    # the same matrices: 128 heads of 512 x (128 + 128)
    weights = absorbed["q_absorb"].weight_bytes + absorbed["v_up"].weight_bytes
    assert weights == expanded["kv_b_proj"].weight_bytes == 2 * 512 * 128 * 256
    # with one key they cost the same, for each further key the expanded form pays again
    assert absorbed["q_absorb"].flops + absorbed["v_up"].flops == expanded["kv_b_proj"].flops
    same = set(absorbed) & set(expanded) - {"attention"}
    assert len(same) == len(absorbed) - 3
    for name in same:
        assert absorbed[name].bytes == pytest.approx(expanded[name].bytes)
    # scores over 512 + 64 and values over 512, against 128 + 64 and 128; two sequences
    assert absorbed["attention"].flops == 2 * 2 * 128 * (576 + 512)
    assert expanded["attention"].flops == 2 * 2 * 128 * (192 + 128)
    # the cache: 512 + 64 elements of 2 bytes a token, read once for all heads, as K and as V
    decode = named(forward(model, batch=2, q_len=1, kv_len=1000))
    assert decode["attention"].kv_bytes == 2 * 1000 * 576 * 2
    assert model.kv_cache_bytes("fp16", 1000) == 1000 * 61 * 576 * 2


MATRICES = {  # active parameters less embedding, norms, biases, sinks
    "llama3-8b": lambda m: m - 128256 * 4096 - (2 * 32 + 1) * 4096,
    "qwen2.5-7b": lambda m: m - 152064 * 3584 - 57 * 3584 - 28 * (28 + 2 * 4) * 128,
    "qwen3-30b-a3b": lambda m: m - 151936 * 2048 - 97 * 2048 - 48 * 2 * 128,
    "mixtral-8x7b": lambda m: m - 32000 * 4096 - 65 * 4096,
    "gemma2-9b": lambda m: m - (4 * 42 + 1) * 3584,  # tied: the table is the LM head too
    "deepseek-v3": lambda m: m - 129280 * 7168 - 123 * 7168 - 61 * (1536 + 512) - 58 * 256,
    "gpt-oss-20b": lambda m: m - 201088 * 2880 - 49 * 2880 - 24 * (80 * 64 + 2880 + 64 + 32 + 4 * (2 * 2880 + 2880)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_decode_step_multiplies_each_active_weight_once(name):
    model = find_model(name)
    passed = forward(model, batch=1, q_len=1, kv_len=1)
    assert flops(passed, "gemm", "grouped_gemm") == 2 * MATRICES[name](model.active_parameters)


def test_state_of_recurrent_layers_does_not_grow():
    # 24 layers: 8 heads of 128 x 64 in fp32, and 3 inputs of 2 * 4 * 128 + 8 * 64 channels
    state = 24 * (8 * 128 * 64 * 4 + 3 * 1536 * 2)
    assert HYBRID.state_bytes("fp16") == state
    for tokens in (1, 1000):
        assert HYBRID.kv_cache_bytes("fp16", tokens) == state + 8 * tokens * 2 * 8 * 128 * 2  # 8 full layers
    short, long = (named(forward(HYBRID, batch=4, q_len=1, kv_len=n))["delta_state_update"] for n in (1, 9000))
    assert short.bytes == long.bytes
    assert short.kv_bytes == 4 * 2 * 8 * 128 * 64 * 4  # sequences, read and written


def test_memory_reserves_what_each_kind_of_layer_keeps():
    for model in (SLIDING, HYBRID, find_model("deepseek-v3")):
        memory = estimate(Case(model=model, batch=4, input_tokens=3000, output_tokens=1000)).memory
        assert memory.kv_cache_bytes == 4 * model.kv_cache_bytes("fp16", 4000)
    largest = estimate(Case(model=SLIDING, input_tokens=9000)).memory.max_batch
    for batch, fits in ((largest, True), (largest + 1, False)):
        assert estimate(Case(model=SLIDING, input_tokens=9000, batch=batch)).memory.fits is fits


def test_a_sweep_equals_a_loop():
    batches, prompts = np.array([[1], [40]]), np.array([5, 300, 9000])
    large = replace(A100_80GB_PCIE, dram_bytes=2**43)
    for model in (MIXTURE, SLIDING, HYBRID, find_model("deepseek-v3"), find_model("gpt-oss-20b")):
        case = Case(model=model, hardware=large, output_tokens=3)
        swept = estimate(replace(case, batch=batches, input_tokens=prompts))
        for i, batch in enumerate(batches[:, 0]):
            for j, prompt in enumerate(prompts):
                one = estimate(replace(case, batch=int(batch), input_tokens=int(prompt)))
                assert swept.ttft_s[i, j] == pytest.approx(one.ttft_s, rel=1e-9)
                assert swept.tpot_s[i, j] == pytest.approx(one.tpot_s, rel=1e-9)


@given(st.text("SFG", min_size=1, max_size=40))
def test_patterns_go_there_and_back(letters):
    assert expand("model.mixers", compact(letters), "SFG", len(letters)) == letters


def test_patterns_and_switches_can_be_set():
    changes = ("model.mixers=S3F", "model.sliding_window=100", "model.qkv_bias=true")
    text = run(["--kernels", *(word for change in changes for word in ("--set", change))])
    assert "sliding_attention" in text
    with pytest.raises(InputError, match="did you mean true"):
        run(["--set", "model.qkv_bias=tru"])


# Torch as the oracle --------------------------------------------------------------------------------------


class MixtureBlock(nn.Module):
    """Router and experts, each expert on the tokens that chose it: here tokens are dealt out evenly."""

    def __init__(self, hidden, width, experts):
        super().__init__()
        self.router = nn.Linear(hidden, experts, bias=False)
        self.gate_up = nn.ModuleList(nn.Linear(hidden, 2 * width, bias=False) for _ in range(experts))
        self.down = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in range(experts))

    def forward(self, x, top_k):
        self.router(x)
        rows = x.shape[0] * top_k // len(self.down)
        for gate_up, down in zip(self.gate_up, self.down, strict=True):
            gate, up = gate_up(x[:rows]).chunk(2, dim=-1)
            down(functional.silu(gate) * up)


def torch_flops(module, *args) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*args)
    return counter.get_total_flops()


def test_a_mixture_equals_torch():
    model = replace(MIXTURE, layers=1)
    with torch.device("meta"):
        counted = torch_flops(MixtureBlock(4096, 1024, 8), torch.empty(64, 4096), 2)
    passed = named(forward(model, batch=64, q_len=1, kv_len=1))
    assert sum(passed[name].flops for name in ("router", "experts_up", "experts_down")) == counted


def test_a_sliding_decode_step_equals_torch():
    class Attend(nn.Module):
        def forward(self, q, k, v):
            return functional.softmax(q @ k[:, :, -256:].transpose(2, 3), dim=-1) @ v[:, :, -256:]

    with torch.device("meta"):
        q, kv = torch.empty(2, 32, 1, 128), torch.empty(2, 32, 1000, 128)
        counted = torch_flops(Attend(), q, kv, kv)
    assert named(forward(SLIDING, batch=2, q_len=1, kv_len=1000))["sliding_attention"].flops == counted


# Configs that can't be used -------------------------------------------------------------------------------

LLAMA = json.loads((CATALOGUE / "llama3-8b.json").read_text())
V3 = json.loads((CATALOGUE / "deepseek-v3.json").read_text())
REFUSED = [
    (LLAMA, {"hidden_size": None}, "key 'hidden_size' (model_type llama) is missing"),
    (LLAMA, {"hidden_size": "big"}, "must be a whole number from 1 to"),
    (LLAMA, {"num_attention_heads": 30, "num_key_value_heads": 8}, "model.heads (30) must be a multiple"),
    (LLAMA, {"model_type": "lama"}, "did you mean llama?"),
    (LLAMA, {"model_type": "bert"}, f"known: {', '.join(list(FAMILIES)[:3])}"),
    (LLAMA, {"model_type": None}, "key 'model_type' is missing"),
    (LLAMA, {"model_type": "mistral", "sliding_window": 0}, "key 'sliding_window' (model_type mistral)"),
    (LLAMA, {"model_type": "gemma2", "sliding_window": None}, "key 'sliding_window' (model_type gemma2) is missing"),
    (LLAMA, {"tie_word_embeddings": "yes"}, "must be true or false"),
    (LLAMA, {"num_hidden_layers": 10**9}, "must be a whole number from 1 to 4096"),
    (V3, {"num_experts_per_tok": 300}, "model.experts_per_token (300) is more than model.experts (256)"),
    (V3, {"kv_lora_rank": None}, "key 'kv_lora_rank' (model_type deepseek_v3) is missing"),
    (LLAMA, {"model_type": "qwen3", "layer_types": ["full_attention"]}, "has 1 entries for 32 layers"),
    (LLAMA, {"model_type": "qwen3", "layer_types": ["odd"] * 32}, "has the entry 'odd'; known: full_attention"),
]


@pytest.mark.parametrize(("base", "change", "message"), REFUSED)
def test_a_config_that_contradicts_itself_is_refused(base, change, message):
    with pytest.raises(InputError) as error:
        model_from_config(base | change, name="x", title="x")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_files_and_folders(tmp_path, capsys):
    config = tmp_path / "my-model" / "config.json"
    config.parent.mkdir()
    assert_refused(inside(run, ["--model", str(config.parent)], capsys), "without a config.json")
    content = json.dumps({"model_type": "llava", "text_config": LLAMA | {"num_hidden_layers": 3}})
    config.write_text(content)
    for path in (config, config.parent):
        result = program("estimator.py", "--json", "--model", str(path))
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["model"] == "my-model"
    for broken in (content[:-20].encode(), b"\x00\xff\xfe", b"", b"[" * 100_000, b"[1]", b'"llama"', b"1" * 9999):
        config.write_bytes(broken)
        assert_refused(inside(run, ["--model", str(config)], capsys), "error: ")
    assert_refused(inside(run, ["--model", str(tmp_path / "none.json")], capsys), "no file and no model")
    assert_refused(program("estimator.py", "--model", "Qwen/Qwen3-8C"), "did you mean qwen/qwen3-8b?")


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 200),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.one_of(st.integers(0, 200), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def known_configs() -> dict[str, Path]:
    """The configs that a package of kernel measurements brings along; none if it isn't installed."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    folder = Path(spec.submodule_search_locations[0]) / "model_configs" if spec else Path("none")
    files = (path for path in folder.glob("*_config.json") if "hf_quant_config" not in path.name)
    return {path.name.removesuffix("_config.json"): path for path in sorted(files)}


KNOWN = known_configs()
EXAMPLES = [json.loads(path.read_text()) for path in (*CATALOGUE.glob("*.json"), *KNOWN.values())]
EXAMPLES = list({str(config["model_type"]): config for config in EXAMPLES}.values())


@given(st.sampled_from(EXAMPLES), st.data())
@examples(200)
def test_any_config_is_estimated_or_refused_in_one_line(config, data):
    config = copy.deepcopy(config)
    part = config.get("text_config", config)
    config["model_type"] = data.draw(st.sampled_from([config["model_type"]] * 3 + sorted(FAMILIES)))
    for key in data.draw(st.lists(st.sampled_from(sorted(part)), max_size=2)):
        part[key] = data.draw(anything)
    try:
        model = model_from_config(config, name="x", title="x")
        # unknown formats are refused only here: flags may name others
        est = estimate(Case(model=model, batch=2, input_tokens=70, output_tokens=3))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert (np.isfinite(est.latency_s) and est.latency_s > 0) or not est.memory.max_batch
        assert est.memory.kv_cache_bytes >= 0 and 0 < model.active_parameters <= model.parameters


# All known configs ----------------------------------------------------------------------------------------

# Parameters, active per token: equal to what Transformers 5.24 builds where it knows the model (correction biases of
# routers counted, without vision towers and MTP layers).
COUNTED = {
    "MiniMaxAI--MiniMax-M2.5": (228_689_764_864, 11_030_553_088),
    "MiniMaxAI--MiniMax-M3": (426_174_572_928, 25_962_473_856),
    "Qwen--Qwen3-Coder-480B-A35B-Instruct": (480_154_875_392, 35_474_765_312),
    "Qwen--Qwen3.5-122B-A10B": (122_111_526_912, 9_771_288_576),
    "Qwen--Qwen3.5-27B": (26_895_998_464, 26_895_998_464),
    "Qwen--Qwen3.5-35B-A3B": (34_660_610_688, 3_454_988_928),
    "Qwen--Qwen3.5-397B-A17B": (396_346_350_336, 17_349_040_896),
    "XiaomiMiMo--MiMo-7B-Base": (7_622_619_136, 7_622_619_136),
    "XiaomiMiMo--MiMo-V2-Flash": (308_778_780_864, 15_445_936_320),
    "deepseek-ai--DeepSeek-V3": (671_026_419_200, 37_552_297_472),
    "deepseek-ai--DeepSeek-V3.2": (671_877_944_064, 38_403_822_336),
    "deepseek-ai--DeepSeek-V4-Flash": (284_332_240_471, 13_799_632_471),
    "deepseek-ai--DeepSeek-V4-Pro": (1_572_997_201_763, 49_779_081_059),
    "google--gemma-4-26B-A4B": (25_233_141_790, 3_822_530_590),
    "meta-llama--Llama-4-Maverick-17B-128E-Instruct": (400_711_848_960, 17_184_691_200),
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": (107_769_861_120, 17_172_894_720),
    "meta-llama--Meta-Llama-3.1-8B": (8_030_261_248, 8_030_261_248),
    "moonshotai--Kimi-K2-Instruct": (1_026_408_232_448, 32_861_500_928),
    "moonshotai--Kimi-K2.5": (1_026_408_232_448, 32_861_500_928),
    "moonshotai--Kimi-K3": (2_779_481_795_168, 105_361_336_928),
    "nvidia--Gemma-4-31B-IT-NVFP4": (30_697_345_340, 30_697_345_340),
    "nvidia--Llama-3_3-Nemotron-Super-49B-v1": (49_867_145_216, 49_867_145_216),
    "nvidia--MiniMax-M3-NVFP4": (426_174_572_928, 25_962_473_856),
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (31_577_940_288, 3_580_076_352),
    "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8": (120_668_707_840, 12_770_237_440),
    "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": (549_308_993_536, 56_058_843_136),
    "nvidia--NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4": (31_577_940_288, 3_580_076_352),
    "nvidia--Nemotron-H-56B-Base-8K": (56_324_350_464, 56_324_350_464),
    "stepfun-ai--Step-3.7-Flash": (195_844_508_736, 10_875_702_336),
    "zai-org--GLM-5": (743_911_218_432, 41_784_728_832),
    "zai-org--GLM-5.2": (743_377_019_904, 41_250_530_304),
}


@pytest.mark.skipif(not KNOWN, reason="needs aiconfigurator_core")
@pytest.mark.parametrize("name", COUNTED)
def test_parameters_of_known_configs(name):
    model = find_model(str(KNOWN[name]))
    assert (model.parameters, model.active_parameters) == COUNTED[name]


@pytest.mark.parametrize("name", [*catalogue_names(), *map(str, KNOWN.values())])
def test_every_known_model_is_estimated(name):
    model = find_model(name)
    assert 0 < model.active_parameters <= model.parameters
    for kernel in ("flash", "naive"):
        for q_len, kv_len in ((1, 5000), (3000, 3000)):
            passed = forward(model, batch=2, q_len=q_len, kv_len=kv_len, attention_kernel=kernel)
            assert len({op.name for op in passed}) == len(passed)
            for op in passed:
                assert op.kind in KERNELS and op.bytes > 0
                assert float(kernel_s(op, A100_80GB_PCIE)) * (1 + 1e-9) >= float(roofline_s(op, A100_80GB_PCIE)) > 0
    large = replace(A100_80GB_PCIE, dram_bytes=2**43)  # which holds any of them
    assert estimate(Case(model=model, hardware=large, batch=2, input_tokens=100, output_tokens=3)).latency_s > 0


@pytest.mark.parametrize("name", [*catalogue_names(), *map(str, KNOWN.values())])
def test_kernels_of_one_name_are_alike(name):
    model = find_model(name)
    for q_len in (1, 3000):
        p = Pass(batch=2, q_len=q_len, kv_len=3000, dtype="fp16", elem_bytes=2)
        seen = {}
        for part, letter, _ in model.parts:
            build = (MIXERS if part == "attn" else MLPS)[letter]
            for op in [*build(model, letter, p, 1), *after(model, part, p, 1)]:
                assert seen.setdefault(op.name, op) == op, op.name
