"""What engines say of themselves when they start, against memory.py: KV cache, concurrency, weights, refusals."""

from dataclasses import replace

import pytest

from ridgepoint.estimator import Case, estimate, run
from ridgepoint.hardware import CHIPS
from ridgepoint.model import Model
from ridgepoint.serving.cases import resolve
from ridgepoint.serving.engines import ENGINES, VLLM, VLLM_0_6, VLLM_0_11, Budget
from ridgepoint.serving.memory import FRACTIONS, memory, weight_bytes

MIB, GIB = 2**20, 2**30
# Totals as nvidia-smi shows them.
H100 = replace(CHIPS["h100-sxm"], dram_bytes=81_559 * MIB)
RTX_4090 = replace(CHIPS["l40s"], name="rtx-4090", title="NVIDIA GeForce RTX 4090", dram_bytes=24_564 * MIB)
A100 = CHIPS["a100-80gb-sxm"]
MISTRAL_NEMO = Model(  # source: mistralai/Mistral-Nemo-Instruct-2407, config.json on the Hugging Face hub
    name="mistral-nemo-12b",
    title="Mistral-Nemo-12B",
    layers=40,
    hidden=5120,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=14336,
    vocab=131072,
    max_positions=131072,
)


def of(tokens: int, **case):
    """Memory of sequences of so many tokens."""
    return memory(resolve(Case(batch=1, input_tokens=tokens - 1, output_tokens=1, **case)))


def test_the_lines_of_vllm_0_6():
    # vllm serve meta-llama/Meta-Llama-3-8B on an H100: 53.29 GiB, and a token takes 128 KiB [vllm-project/vllm #10511]
    held = of(8192, model="llama3-8b", hardware=H100, runtime=VLLM_0_6)
    assert held.kv_room_bytes / GIB == pytest.approx(53.29, abs=0.1)
    assert held.sequences == pytest.approx(53.29, rel=0.005)
    assert held.kv_tokens == pytest.approx(436_560, rel=0.005) and held.max_batch == 53
    # a 70B in w8a8, --max-model-len 2048 --gpu-memory-utilization 0.98: weights 67.7229 GiB, 1381 blocks, 10.79
    # sequences [vllm-project/vllm #12569]; the room is a tenth of the weights, so 3 % are 0.3 % of the GPU
    case = {"model": "llama3.1-70b", "weights": "int8", "activations": "int8", "memory_fraction": 0.98}
    held = of(2048, hardware=H100, runtime=VLLM_0_6, **case)
    assert held.weights_bytes / GIB == pytest.approx(67.72, rel=0.001)
    assert held.sequences == pytest.approx(10.79, rel=0.03)


@pytest.mark.parametrize(
    ("model", "weights_gib", "activations_gib", "room_gib"),
    [  # vLLM 0.11.0 on an H100 of 79.18 GiB [llm-d, "vLLM Empirical Memory Profiling Results"]
        ("llama3.1-8b", 14.99, 4.76, 51.38),
        ("qwen3-0.6b", 1.12, 5.56, 64.45),
        ("qwen3-32b", 61.03, 5.64, 4.45),
        ("gpt-oss-20b", 13.47, 7.38, 50.28),
    ],
)
def test_the_profiles_of_vllm_0_11(model, weights_gib, activations_gib, room_gib):
    held = of(16000, model=model, hardware=H100, dtype="bf16", runtime=VLLM_0_11)
    assert held.weights_bytes / GIB == pytest.approx(weights_gib, rel=0.02)
    assert held.activation_bytes / GIB == pytest.approx(activations_gib, rel=0.01)
    assert held.kv_room_bytes / GIB == pytest.approx(room_gib, abs=0.25)


@pytest.mark.parametrize(
    ("model", "budget_tokens", "blocks"),
    [  # vLLM 0.15.1 on an H100, --max-num-seqs 128 [inference-sim/training, exp-config.yaml and vllm.log], blocks of 16
        ("llama2-7b", 2048, 7463),
        (MISTRAL_NEMO, 2048, 19251),
        ("qwen2.5-7b", 2048, 65352),
        ("qwen2.5-7b", 1024, 65368),
    ],
)
def test_the_blocks_of_vllm_0_15(model, budget_tokens, blocks):
    engine = replace(VLLM, budgets=(Budget(tokens=budget_tokens, sequences=128),))
    held = of(1024, model=model, hardware=H100, runtime=engine)
    assert held.kv_tokens == pytest.approx(16 * blocks, rel=0.02)
    # the same by the flag for chunks, and of a catalogue that rounds to 80 GiB
    flag = replace(VLLM, budgets=(Budget(tokens=8192, sequences=128),))
    assert of(1024, model=model, hardware=H100, runtime=flag, chunked_prefill=budget_tokens) == held
    assert of(1024, model=model, hardware="h100-sxm", runtime=engine).kv_tokens == pytest.approx(16 * blocks, rel=0.02)


def test_the_lines_of_today_s_vllm():
    # vLLM 0.31, Llama-3.1-8B on an A100 80GB at 0.92: 460,496 tokens, 3.51 sequences of 131,072, 1.44 GiB for
    # activations and graphs [a log of October 2026]
    held = of(131072, model="llama3.1-8b", hardware=A100, dtype="bf16", memory_fraction=0.92)
    assert held.kv_tokens == pytest.approx(460_496, rel=0.01)
    assert held.sequences == pytest.approx(3.51, abs=0.04)
    assert (held.activation_bytes + VLLM.graph_bytes) / GIB == pytest.approx(1.44, abs=0.03)
    # 41,408 tokens on an RTX 4090, whose driver keeps 0.35 to 0.47 GiB instead of 0.5
    held = of(2048, model="llama3-8b", hardware=RTX_4090, runtime=VLLM_0_11)
    assert held.kv_tokens == pytest.approx(41_408, rel=0.05)


def test_gpt_oss_120b_is_padded_and_does_not_start():
    # vLLM 0.10 on an H100: "Model loading took 65.9651 GiB", "Available KV cache memory: -2.14 GiB" at 131,072 tokens
    # [vllm-project/vllm #23278]; the checkpoint has 60.8
    case = Case(model="gpt-oss-120b", hardware=H100, batch=1, input_tokens=131_000, output_tokens=72, runtime=VLLM_0_11)
    resolved = resolve(case)
    assert weight_bytes(resolved) / GIB == pytest.approx(65.97, rel=0.002)
    # three matrices of 128 experts in 36 layers, from 2880 x 2880 to 2944 x 3072, 4 bits and a scale for 32 of them
    padded = 36 * 128 * 3 * (2944 * 3072 - 2880 * 2880) * (4 / 8 + 1 / 32)
    assert weight_bytes(resolved) == resolved.model.weight_bytes("fp16", resolved.precision) + padded
    held = memory(resolved)
    short = held.weights_bytes + held.activation_bytes + held.engine_bytes - 0.9 * (H100.dram_bytes - GIB // 2)
    assert short / GIB == pytest.approx(2.14, abs=0.1)
    assert not held.fits and held.max_batch == held.kv_tokens == 0
    flags = "--model gpt-oss-120b --hardware h100-sxm --batch 1 --input-tokens 131000 --output-tokens 72"
    assert "not one sequence runs" in " ".join(run(flags.split()).split())


def test_one_answer_for_the_home_workload():
    est = estimate(Case(hardware=A100, method="roofline"))
    assert est.memory.max_batch == est.memory.concurrent == 110
    assert est.max_context == est.memory.kv_tokens // 8 // 16 * 16 == 56_352
    assert "KV cache: 450,864 tokens (55.04 GiB); 110.07 sequences of 4,096 tokens" in run([])
    # TensorRT-LLM takes 90 % of what weights and activations leave, SGLang's rule leaves 13.1 GiB out
    held = memory(resolve(Case(hardware=A100, runtime="tensorrt-llm")))
    rest = held.weights_bytes + held.activation_bytes + held.engine_bytes
    assert held.kv_room_bytes == int(0.9 * (79.5 * GIB - rest))
    held = memory(resolve(Case(hardware=A100, runtime="sglang")))
    assert held.activation_bytes + held.engine_bytes == (8192 * 1.5 + 512 + 640) * MIB
    assert held.kv_room_bytes == 79.5 * GIB - held.activation_bytes - held.engine_bytes - held.weights_bytes
    assert all(engine.fraction_of in FRACTIONS for engine in ENGINES.values())


def test_tensorrt_llm_0_8_says_how_much_it_takes():
    # an int8 Llama-2-7B on an A100: 69,524,783,104 bytes "for k/v cache", 132,608 tokens [NVIDIA/TensorRT-LLM #1400]
    held = of(5120, model="llama2-7b", hardware=A100, weights="int8", runtime="tensorrt-llm-0.8")
    assert held.kv_tokens == pytest.approx(132_608, rel=0.01)


def test_a_shared_prefix_is_stored_once():
    case = Case(hardware=A100, input_tokens=2000, output_tokens=100)
    assert memory(resolve(case)).max_batch == 213  # 2,100 tokens in 132 blocks each
    # 1,888 of the 1,900 fill 118 blocks that all share; 212 tokens in 14 blocks are each one's own
    held = memory(resolve(replace(case, prefix_tokens=1900, batch=10)))
    assert held.kv_cache_bytes == (118 + 10 * 14) * 16 * 131072
    assert held.max_batch == (held.kv_room_bytes - 118 * 16 * 131072) // (14 * 16 * 131072) == 2004
    # full windows are each one's own, whatever is shared before them
    windowed = replace(case, model="gpt-oss-20b", input_tokens=8000, prefix_tokens=7984, output_tokens=480)
    own = (
        memory(resolve(replace(windowed, batch=2))).kv_cache_bytes
        - memory(resolve(replace(windowed, batch=1))).kv_cache_bytes
    )
    assert own == resolve(windowed).model.kv_cache_bytes("fp16", 496)


def test_blocks_are_whole():
    held = {tokens: of(tokens, hardware=A100).kv_cache_bytes for tokens in (2, 16, 17, 32)}
    assert held == {2: 16 * 131072, 16: 16 * 131072, 17: 32 * 131072, 32: 32 * 131072}
    # an engine without blocks
    assert of(17, hardware=A100, runtime="sglang").kv_cache_bytes == 17 * 131072


def test_budgets_depend_on_the_gpu():
    def budget(hardware: str, runtime: str) -> tuple[int, int]:
        resolved = resolve(Case(hardware=hardware, runtime=runtime))
        found = resolved.case.runtime.budget(resolved.chip, resolved.arch)
        return found.tokens, found.sequences

    assert budget("h100-sxm", "vllm") == budget("b200-sxm", "vllm-0.11") == (8192, 1024)
    assert budget("a100-80gb-sxm", "vllm") == budget("l40s", "vllm") == (2048, 256)  # the A100 is left out by name
    assert budget("l40s", "sglang") == (4096, 256) and budget("b200-sxm", "sglang") == (16384, 512)
    assert budget("l40s", "tensorrt-llm") == (8192, 2048)
