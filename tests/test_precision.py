"""Precision per role: bytes by hand, what checkpoints ask for, what chips run, and how near narrow products come."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from invariants import kernel_s, runs_on

from ridgepoint import ops
from ridgepoint.estimator import Case, estimate, guarded, run
from ridgepoint.hardware import A100_80GB_PCIE, A100_80GB_SXM, B200_SXM, CHIPS, H100_SXM
from ridgepoint.inputs import InputError
from ridgepoint.kernels.architectures import AMPERE, NARROW
from ridgepoint.layers.formats import FORMATS, KV_FORMATS, PARTS, precision_of
from ridgepoint.model import LLAMA3_8B, forward
from ridgepoint.readers.catalogue import CATALOGUE, find_model
from ridgepoint.readers.checkpoints import from_checkpoint
from ridgepoint.validation.dense import narrow_rows
from ridgepoint.validation.package import data_folder
from ridgepoint.validation.rows import halves
from ridgepoint.validation.sets import DATA_SETS, PACKAGE

SHAPE = {"tokens": 8, "d_in": 4096, "d_out": 14336, "dtype": "fp16", "elem_bytes": 2}


# Bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fp32", 4096 * 4),
        ("fp16", 4096 * 2),
        ("int8", 4096 + 4),  # an fp32 scale per output channel
        ("fp8", 4096 + 4),
        ("int4", 4096 / 2 + 32 * 2),  # 32 groups of 128, an fp16 scale each: 4.125 bits a weight
        ("int4-zero", 4096 / 2 + 32 * 2.5),  # and a 4-bit zero point
        ("mxfp4", 4096 / 2 + 128 * 1),  # 128 groups of 32, an e8m0 scale each: 4.25 bits
        (
            "nvfp4",
            4096 / 2 + 256 * 1 + 4,
        ),  # 256 groups of 16, an e4m3 scale each, and one fp32 for the tensor: 4.5 bits
    ],
)
def test_bytes_of_a_row_of_4096_weights(name, expected):
    assert FORMATS[name].bytes(1, 4096) == expected


def test_bytes_of_a_cached_key():
    # one head of 128: fp8 has a scale per tensor; int8 an fp16 scale; int4 a scale and a zero point
    per_head = {name: form.bytes(1, 128) for name, form in KV_FORMATS.items()}
    assert per_head == {"fp16": 256, "bf16": 256, "fp8": 128, "int8": 130, "int4": 68}


def test_linear_without_precision_is_what_it_was():
    plain = ops.linear("g", **SHAPE)
    assert (plain.weight_bytes, plain.in_bytes, plain.out_bytes) == (4096 * 14336 * 2, 8 * 4096 * 2, 8 * 14336 * 2)
    assert plain.dims == {"m": 8, "n": 14336, "k": 4096}
    same = ops.linear("g", **SHAPE, precision=precision_of("fp16"))
    assert (same.dtype, same.bytes) == (plain.dtype, plain.bytes)
    for chip in CHIPS.values():
        assert float(kernel_s(same, chip)) == float(kernel_s(plain, chip))


def test_linear_in_int4_and_in_fp8():
    w4a16 = ops.linear("g", **SHAPE, precision=precision_of("fp16", "int4"))
    assert w4a16.dtype == "fp16" and w4a16.in_bytes == 8 * 4096 * 2
    assert w4a16.weight_bytes == 14336 * (2048 + 64)
    fp8 = ops.linear("g", **SHAPE, precision=precision_of("fp16", "fp8", "fp8"))
    assert fp8.dtype == "fp8" and fp8.out_bytes == 8 * 14336 * 2
    assert fp8.weight_bytes == 14336 * 4100 and fp8.in_bytes == 8 * 4100


def test_memory_keeps_embedding_norms_and_head_in_16_bits():
    est = estimate(Case(weights="int4", kv_cache="fp8"))
    # a layer: QKV 6144 x 4096, O 4096 x 4096, gate+up 28672 x 4096, down 4096 x 14336; per row: width / 2 + width / 64
    layer = (6144 + 4096 + 28672) * (2048 + 64) + 4096 * (7168 + 224)
    kept = 2 * (2 * 128256 * 4096 + 65 * 4096)
    assert est.memory.weights_bytes == 32 * layer + kept
    assert est.memory.kv_cache_bytes == 8 * 4096 * 2 * 32 * 8 * 128  # sequences, tokens, K and V, layers, heads, dim
    assert estimate(Case()).memory.weights_bytes == 2 * LLAMA3_8B.parameters


def test_forward_launches_a_kernel_before_each_product_with_narrow_activations():
    shape = {"batch": 2, "q_len": 1, "kv_len": 100}
    plain = forward(LLAMA3_8B, **shape)
    fp8 = forward(LLAMA3_8B, **shape, precision=precision_of("fp16", "fp8", "fp8", "fp8"))
    added = [op for op in fp8 if op.kind == "quantize"]
    assert [op.name for op in fp8 if op.kind != "quantize"] == [op.name for op in plain]
    assert [op.name for op in added] == [f"{name}_proj_quant" for name in ("qkv", "o", "gate_up", "down")]
    assert (added[0].in_bytes, added[0].out_bytes, added[0].count) == (2 * 4096 * 2, 2 * (4096 + 4), 32)
    by_name = {op.name: op for op in fp8}
    assert by_name["lm_head"].dtype == "fp16" and by_name["lm_head"].weight_bytes == 128256 * 4096 * 2
    # 100 tokens, 8 KV heads of 128, K and V, one byte; the MMAs stay 16-bit
    assert by_name["attention"].kv_bytes == 2 * 100 * 2 * 8 * 128 and by_name["attention"].dtype == "fp16"
    assert by_name["kv_write"].kv_bytes == 2 * 2 * 8 * 128 and by_name["kv_write"].in_bytes == 2 * 2 * 8 * 128 * 2
    on_hopper, _ = runs_on(precision_of("fp16", kv_cache="fp8"), H100_SXM)
    names = [op.name for op in forward(LLAMA3_8B, **shape, precision=on_hopper)]
    assert names[names.index("attention") - 1] == "query_quant" and len(names) == len(plain) + 1
    weight_only = forward(LLAMA3_8B, **shape, precision=precision_of("fp16", "int4"))
    assert [op.name for op in weight_only] == [op.name for op in plain]


# Checkpoints and chips -------------------------------------------------------------------------------------------

FLOAT_8, INT_8 = {"num_bits": 8, "type": "float"}, {"num_bits": 8, "type": "int"}


def compressed(weights, inputs=None, **more):
    groups = {"group_0": {"weights": weights, "input_activations": inputs}}
    return {"quant_method": "compressed-tensors", "config_groups": groups, **more}


@pytest.mark.parametrize(
    ("config", "name", "weight_bytes", "kv_cache"),
    [
        ({"hidden_size": 4096}, "bf16", 8192, "bf16"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, "w4a16", 2048 + 64, "bf16"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "w8a16", 4096 + 2, "bf16"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}, "w4a16", 2048 + 64 * 2.5, "bf16"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8", 4100, "bf16"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 4096 + 32 * 4 / 128, "bf16"),
        ({"quant_method": "mxfp4"}, "w4a16", 2048 + 128, "bf16"),
        (compressed(FLOAT_8, FLOAT_8, kv_cache_scheme=FLOAT_8), "fp8", 4100, "fp8"),
        (compressed(INT_8, INT_8), "w8a8", 4100, "bf16"),
        (compressed({"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}), "w4a16", 2112, "bf16"),
        (compressed({"num_bits": 4, "type": "int", "group_size": 128}, INT_8), "w4a8", 2112, "bf16"),
        (compressed({"num_bits": 4, "type": "float", "group_size": 16}, {"num_bits": 4}), "nvfp4", 2308, "bf16"),
        ({"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}, "nvfp4", 2308, "fp8"),
        ({"quantization": {"quant_algo": "W4A8_AWQ"}}, "w4a8", 2112, "bf16"),
    ],
)
def test_what_checkpoints_ask_for(config, name, weight_bytes, kv_cache):
    for given_as in (config, {"quantization_config": config} if "quant_method" in config else config):
        found = from_checkpoint(given_as)
        assert (found.name, found.weights.bytes(1, 4096), found.kv_cache.name) == (name, weight_bytes, kv_cache)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quant_method": "qtip"}, "unknown quant_method 'qtip'"),
        ({"quant_method": "gptq", "bits": 3}, "3-bit weights are not modelled"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "NF4"),
        ({"quantization": {"quant_algo": "INT2"}}, "unknown quant_algo"),
        ({"quant_method": "compressed-tensors"}, "no config_groups"),
    ],
)
def test_unknown_checkpoints_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        from_checkpoint(config)


def test_a_chip_without_the_rate_runs_weight_only_and_says_so():
    fp8 = precision_of("fp16", "fp8", "fp8")
    assert runs_on(fp8, H100_SXM) == (fp8, "")
    run_as, note = runs_on(fp8, A100_80GB_PCIE, "fp16")
    assert run_as.name == "w8a16" and "no fp8 tensor-core rate" in note and "w8a16" in note
    assert runs_on(precision_of("bf16", "nvfp4", "nvfp4"), H100_SXM)[0].name == "w4a16"
    assert runs_on(precision_of("bf16", "nvfp4", "nvfp4"), B200_SXM)[0].mma_dtype == "fp4"
    with pytest.raises(InputError, match="has no fp8 tensor-core rate; it has fp16, bf16, int8"):
        runs_on(precision_of("bf16", "int4", "fp8"), A100_80GB_PCIE)
    with pytest.raises(InputError, match="int8 activations go with"):
        precision_of("bf16", "fp8", "int8")
    with pytest.raises(InputError, match="unknown weights 'int5'"):
        precision_of("bf16", "int5")
    with pytest.raises(InputError, match="16-bit KV cache only"):
        estimate(Case(kv_cache="fp8", attention="naive"))
    with pytest.raises(InputError, match="method seed"):
        estimate(Case(kv_cache="fp8", method="seed"))


def test_the_card_and_json_say_the_precision():
    flags = ["--weights", "fp8", "--activations", "fp8", "--kv-cache", "fp8"]
    text = run(flags)
    assert "w8a16: weights fp8, activations fp16, KV cache fp8" in text and "note: a100-80gb-pcie has no fp8" in text
    result = json.loads(run([*flags, "--hardware", "h100-sxm", "--json"]))
    formats = {"weights": "fp8", "activations": "fp8", "kv_cache": "fp8"}
    assert result["precision"] == {"name": "fp8", **formats, "mma_dtype": "fp8", "note": ""}
    assert json.loads(run(["--json"]))["precision"] is None


def test_same_formats_as_dtype_change_nothing():
    flags = ("--weights", "--activations", "--kv-cache")
    said = "".join(f"\nnote: {flag} changes nothing here" for flag in flags)
    assert run([]) + said == run([word for flag in flags for word in (flag, "fp16")])


def test_narrower_weights_help_decode():
    tpot = [estimate(Case(hardware="a100-80gb-sxm", batch=8, weights=form)).tpot_s for form in (None, "int8", "int4")]
    assert tpot[0] > tpot[1] > tpot[2] > 0.4 * tpot[0]
    cache = [estimate(Case(batch=32, kv_cache=form)).tpot_s for form in (None, "fp8", "int4")]
    assert cache[0] > max(cache[1:])
    assert cache[2] > 0.95 * cache[1]  # widening 4-bit elements takes the CUDA cores as long as 8-bit ones take DRAM


def test_constants_are_few():
    fitted = {"dequant8_ops", "dequant4_ops", "dequant_clocks"}
    kernels = {"splits", "small_tiles_m", "most_columns"}  # what kernels do, not fitted
    assert set(asdict(NARROW)) == fitted | kernels | {"tensor_efficiency"}
    assert NARROW.tensor_efficiency == AMPERE.gemm.tensor_efficiency  # nothing is fitted on fp8


# Accuracy: guards for the figures that `python validate.py` prints ------------------------------------------------

FOLDER = data_folder()
needs_package = pytest.mark.skipif(FOLDER is None, reason=f"kernel measurements need {PACKAGE}")


@needs_package
@pytest.mark.parametrize(
    ("name", "hardware", "engine", "median"),
    [
        ("int8_wo", "a100-80gb-sxm", "tensorrt-llm", 0.09),
        ("int4_wo", "a100-80gb-sxm", "tensorrt-llm", 0.10),
        ("int8", "a100-80gb-sxm", "tensorrt-llm", 0.09),
        ("fp8", "h100-sxm", "vllm", 0.08),
        ("fp8", "h100-sxm", "tensorrt-llm", 0.05),
        ("fp8", "h100-sxm", "sglang", 0.10),
        ("fp8", "h200-sxm", "vllm", 0.08),
        ("fp8", "h200-sxm", "tensorrt-llm", 0.05),
        ("fp8", "h200-sxm", "sglang", 0.10),
        ("fp8", "l40s", "tensorrt-llm", 0.07),
        ("fp8", "l40s", "sglang", 0.10),
        ("fp8", "b200-sxm", "tensorrt-llm", 0.05),
    ],
)
def test_narrow_products_are_near_measured_ones(name, hardware, engine, median):
    data = next(data for data in DATA_SETS if (data.hardware, data.engine.family) == (hardware, engine))
    rows = narrow_rows(name, data, FOLDER)
    if rows.refitted:
        rows = halves(rows)[1]  # the half that the fit never saw
    assert np.median(np.abs(rows.estimate_s() / rows.measured_s - 1)) <= median


@needs_package
def test_a_product_alone_takes_no_less_than_measured_without_the_benchmarks_share():
    """What the benchmark adds is a benchmark's: never in the model's own time."""
    rows = narrow_rows("int8_wo", DATA_SETS[1], FOLDER)
    assert np.all(rows.estimate_s() > rows.extra_s)
    assert rows.chip is A100_80GB_SXM


# What checkpoints ask for, applied to a model ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "checkpoint_gib"), [("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)])
def test_the_weights_of_gpt_oss_take_what_its_card_says(name, checkpoint_gib):
    # gpt-oss model card, arXiv:2508.10925, table 1: mxfp4 experts, everything else bf16
    est = estimate(Case(model=name, hardware="h200-sxm", dtype="bf16"))
    assert round(est.model.weight_bytes("bf16", est.precision) / 2**30, 1) == checkpoint_gib
    kernels = {kernel.name: kernel for kernel in est.decode.kernels}
    assert kernels["experts_up"].bytes < est.model.expert_intermediate * 2 * est.model.hidden * est.model.experts * (
        kernels["experts_up"].count * est.decode.steps
    )
    assert est.precision.of("experts").name == "w4a16" and est.precision.of("attention").name == "bf16"
    # asked for otherwise, the checkpoint's formats are dropped
    plain = estimate(Case(model=name, hardware="h100-sxm", weights="bf16", dtype="bf16"))
    assert plain.memory.weights_bytes == 2 * est.model.parameters and plain.precision is None


def test_a_checkpoint_runs_as_the_chip_can():
    case = Case(model="deepseek-v3", batch=1, input_tokens=100, output_tokens=3)
    on_hopper = estimate(replace(case, hardware="h100-sxm"))
    assert on_hopper.precision.name == "fp8" and not on_hopper.precision_note
    assert {k.name for k in on_hopper.decode.kernels} >= {"qkv_a_proj_quant", "experts_up_quant", "experts_down_quant"}
    on_ampere = estimate(case)
    assert on_ampere.precision.name == "w8a16" and "no fp8 tensor-core rate" in on_ampere.precision_note
    # a byte a weight, and an fp32 scale for each 128 x 128 of them: 4 / 128 / 128
    fp8 = sum(
        op.count * op.weight_bytes for op in forward(on_hopper.model, batch=2**62, q_len=1, kv_len=1, dtype="bf16")
    )
    assert on_hopper.memory.weights_bytes < 0.51 * fp8


def test_an_indexer_keeps_fp8_keys_where_the_chip_multiplies_fp8():
    model = replace(find_model("deepseek-v3"), mixers="I", index_heads=64, index_head_dim=128, index_topk=2048)
    case = Case(model=model, batch=1, input_tokens=4000, output_tokens=96)
    # a token and layer: 576 elements of 2 bytes, and a key of 128: fp8 with an fp32 scale, or 2 bytes each
    for hardware, key_bytes in (("h200-sxm", 132), ("a100-80gb-sxm", 256)):
        est = estimate(replace(case, hardware=hardware))
        assert est.memory.kv_cache_bytes == 4096 * 61 * (576 * 2 + key_bytes)


def ignoring(*entries, **changes):
    return {"quant_method": "fp8", "modules_to_not_convert": list(entries)} | changes


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (ignoring("lm_head"), ""),
        (ignoring("model.layers.*.self_attn", "model.layers.*.mlp.router"), "attention"),
        (ignoring("re:.*self_attn.*", "re:.*shared_experts.*"), "attention shared"),
        (ignoring(*(f"model.layers.{i}.self_attn*" for i in range(9))), "attention"),
        (ignoring(*(f"model.layers.{i}.self_attn.q_proj" for i in range(9))), "attention"),
        (ignoring(*(f"model.layers.{i}.mlp.gate" for i in range(9))), ""),  # the router
        (ignoring(*(f"model.layers.{i}.input_layernorm" for i in range(9))), ""),
        (ignoring("model.layers.0*", "model.layers.1.*", "model.layers.2.mlp.up_proj"), ""),  # a few layers by number
        (ignoring("*.mlp.shared_expert.*"), "shared"),
        (ignoring(*(f"layers.{i}.linear_attn*" for i in range(9))), "attention"),
        (ignoring(*(f"model.layers.{i}.mlp*" for i in range(9))), "mlp shared"),
    ],
)
def test_parts_that_a_checkpoint_leaves_out(config, parts):
    found = from_checkpoint(config)
    assert " ".join(part for part, _ in found.parts) == parts
    assert all(own.name == "bf16" for _, own in found.parts) and found.name == "fp8"


def test_mixed_precision_by_part():
    layers = {f"model.layers.{i}.self_attn.q_proj": {"quant_algo": "FP8"} for i in range(3)}
    layers |= {f"model.layers.{i}.mlp.experts.{j}.w1": {"quant_algo": "NVFP4"} for i in range(3) for j in range(4)}
    layers |= {f"model.layers.{i}.mlp.shared_experts.up_proj": {"quant_algo": "W4A16_NVFP4"} for i in range(3)}
    found = from_checkpoint({"quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}})
    assert [found.of(part).name for part in PARTS] == ["fp8", "bf16", "w4a16", "nvfp4"]
    # the same with a base of fp8, which the parts without an entry then are
    base = {"quant_method": "fp8", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    assert from_checkpoint({"quantization_config": base}).of("mlp").name == "fp8"


def test_hf_quant_config_beside_the_config(tmp_path):
    config = json.loads((CATALOGUE / "llama3-8b.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find_model(str(tmp_path)).quantization is None
    quantization = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": quantization}))
    est = estimate(Case(model=str(tmp_path), hardware="h100-sxm"))
    flags = estimate(Case(hardware="h100-sxm", weights="fp8", activations="fp8", kv_cache="fp8"))
    assert est.tpot_s == flags.tpot_s and est.memory.total_bytes == flags.memory.total_bytes


@pytest.mark.parametrize(
    "own",
    [
        3,
        {},
        {"quant_method": ["fp8"]},
        {"quant_method": "fp8", "weight_block_size": "x"},
        {"quant_method": "fp8", "weight_block_size": [0, 0]},
        {"quant_method": "fp8", "modules_to_not_convert": ["re:("]},
    ],
)
def test_senseless_quantization_configs_are_refused(tmp_path, capsys, own):
    config = json.loads((CATALOGUE / "llama3-8b.json").read_text()) | {"quantization_config": own}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert guarded(run, ["--model", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
