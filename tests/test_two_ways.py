"""Explicit graphs against the real modelling code: the same parameters, and the same FLOPs of products and attention,
for every family that transformers can build. Small versions of real configs, traced at a prompt and a decode step.
"""

import copy
import importlib.util
import json
from pathlib import Path

import pytest
from invariants import slow_but

from ridgepoint.model import forward
from ridgepoint.ops import visible_keys
from ridgepoint.readers import traced
from ridgepoint.readers.catalogue import CATALOGUE, language_model, model_from_config
from ridgepoint.readers.families import FAMILIES

transformers = pytest.importorskip("transformers", reason="needs requirements-hf.txt")

# Not in transformers 5.18, or (step3p7) only with other keys than the config that we have.
NOT_IN_TRANSFORMERS = ("deepseek_ref", "kimi_k3", "mimo", "minimax_m3", "nemotron-nas", "step3p7")
# dbrx: its code's shapes depend on what tokens choose.
NOT_IN_TRANSFORMERS += ("dbrx", "bailing_moe", "chatglm", "deepseek", "internlm2", "qwen")
# Where the two differ by design, in what:
DIFFERENT = {
    "llama4": (
        "products",
        "attention",
    ),  # its code runs every token through every expert; chunks aren't seen in a trace
    "deepseek_v2": ("products of a step", "attention of a step"),  # its code expands the whole cache in every step,
    "deepseek_v3": ("products of a step", "attention of a step"),  # engines absorb the expansion into q and output
    "kimi_linear": ("products of a step", "attention of a step"),
    "kimi_k2": ("products of a step", "attention of a step"),
    "kimi_k25": ("products of a step", "attention of a step"),
    "deepseek_v32": ("products of a step", "attention"),  # as before, and its code masks where engines skip
    "glm_moe_dsa": ("products of a step", "attention"),
    "minimax_m3_vl": ("attention",),
    "deepseek_v4": ("attention",),  # compressed entries: the trace sees concatenated keys
}
PER_LAYER = ("layer_types", "mlp_layer_types", "compress_ratios", "no_rope_layers", "hybrid_layer_pattern")
PER_LAYER += ("moe_layer_freq", "indexer_types", "mlp_only_layers", "layers_block_type", "moe_layers_enum")
SMALL = {"sliding_window": 96, "attention_chunk_size": 128, "index_topk": 64, "n_group": 1, "topk_group": 1}
LAYERS = 6
PUBLISHED = Path(__file__).resolve().parent / "configs"


def small(config: dict) -> dict:
    """The config with 6 layers, at most 16 experts, few tokens in the vocabulary, windows that a short prompt fills."""
    config = {key: value for key, value in copy.deepcopy(config).items() if not key.startswith("_")}
    for part in (config, config.get("text_config") or {}):
        if "num_hidden_layers" not in part:
            continue
        part |= {"num_hidden_layers": LAYERS, "vocab_size": 1024, "pad_token_id": 0}
        part |= {key: value for key, value in SMALL.items() if part.get(key)}
        part |= {key: part[key][:LAYERS] for key in PER_LAYER if isinstance(part.get(key), list)}
        part |= {
            key: min(part[key], 16) for key in ("num_experts", "num_local_experts", "n_routed_experts") if part.get(key)
        }
        sparse = part.get("sparse_attention_config") or {}
        sparse |= {key: freq[:LAYERS] for key, freq in sparse.items() if isinstance(freq, list)}
        if isinstance(part.get("hybrid_override_pattern"), str):
            part["hybrid_override_pattern"] = "M-ME*E"
        linear = part.get("linear_attn_config") or {}  # layers from 1
        linear |= {key: [i for i in of if i <= LAYERS] for key, of in linear.items() if isinstance(of, list)}
        if "max_window_layers" in part:
            part["max_window_layers"] = LAYERS
        for key in ("bos_token_id", "eos_token_id", "quantization_config", "auto_map"):
            part.pop(key, None)
    return config


def examples() -> dict[str, dict]:
    """A config of each family: of the catalogue; if the package of measurements is installed, of that, or the default
    one of transformers.
    """
    spec = importlib.util.find_spec("aiconfigurator_core")
    folder = Path(spec.submodule_search_locations[0]) / "model_configs" if spec else Path("none")
    files = [*sorted(CATALOGUE.glob("*.json")), *sorted(folder.glob("*_config.json"))]
    files += sorted(PUBLISHED.glob("*/config.json"))
    found = {}
    for file in files:
        if "hf_quant_config" not in file.name:
            config = json.loads(file.read_text())
            found.setdefault(language_model(config)[0], config)
    found = {family: config for family, config in found.items() if family in FAMILIES}
    for family in set(FAMILIES) - set(found) - set(NOT_IN_TRANSFORMERS) if spec else ():
        if family in transformers.CONFIG_MAPPING:
            default = transformers.AutoConfig.for_model(family).to_dict()
            default["num_experts_per_tok"] = default.get("num_experts_per_tok") or 6
            if default.get("moe_intermediate_size") == 1407:  # deepseek_v2: torch's grouped product needs 16-byte rows
                default["moe_intermediate_size"] = 1408
            found[family] = default
    return found


EXAMPLES = examples()


@pytest.mark.skipif(len(EXAMPLES) < 25, reason="needs aiconfigurator-core, which has their configs")
def test_every_family_is_compared_or_named():
    assert not set(FAMILIES) - set(EXAMPLES) - set(NOT_IN_TRANSFORMERS)


def attention_flops(entries: list[dict], batch: int, q_len: int, kv_len: int) -> int:
    total = 0
    for dims in (entry["dims"] for entry in entries if entry["kind"] == "attention"):
        pairs = visible_keys(q_len, kv_len, dims["window"] or None)
        total += 2 * dims["heads"] * (dims["head_dim"] + dims["v_head_dim"]) * batch * pairs
    return total


# of each kind one: dense, sliding, a mixture, latent, recurrent
QUICK = [family for family in ("llama", "gemma2", "mixtral", "deepseek_v2", "mamba2") if family in EXAMPLES]


@pytest.mark.parametrize("family", slow_but(sorted(set(EXAMPLES) - set(NOT_IN_TRANSFORMERS)), *QUICK))
def test_parameters_and_flops(family):
    config, different = small(EXAMPLES[family]), DIFFERENT.get(family, ())
    model = model_from_config(config, name="x", title="x")
    with traced.built(config) as code:
        assert traced.elements(code) == model.parameters
        for q_len, kv_len, of in ((160, 160, ""), (1, 200, " of a step")):
            entries = traced._record(code, 2, q_len, kv_len - q_len).finish()
            passed = forward(model, batch=2, q_len=q_len, kv_len=kv_len, dtype="bf16")

            def flops(*kinds, passed=passed):
                return sum(op.count * op.flops for op in passed if op.kind in kinds)

            if not {"products", "products" + of} & set(different):
                weighted = (e for e in entries if e["kind"] in ("gemm", "grouped_gemm") and e["weight_bytes"])
                assert flops("gemm", "grouped_gemm") == pytest.approx(sum(e["flops"] for e in weighted), rel=1e-9)
            if not {"attention", "attention" + of} & set(different):
                expected = attention_flops(entries, 2, q_len, kv_len)
                assert flops("attention") == pytest.approx(expected, rel=1e-9)
