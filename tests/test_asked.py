"""An explicit and a traced model answer the same questions, and the estimator asks nothing else."""

from dataclasses import fields, replace

import pytest

from ridgepoint.estimator import Case, estimate, guarded, run
from ridgepoint.hardware import A100_80GB_PCIE
from ridgepoint.inputs import InputError
from ridgepoint.layers.formats import precision_of
from ridgepoint.model import ASKED, LLAMA3_8B, Model, is_model
from ridgepoint.readers.traced import Trace, TracedKernel, TracedModel
from ridgepoint.report.data import as_json
from ridgepoint.report.text import text
from ridgepoint.serving.cases import named_model


def kernels(terms):
    """One product and one attention, as coefficients over 1, B, length, B * length and what else `terms` counts: of a
    prompt `length` is its tokens, of a decode step its context, and each sequence has one token.
    """

    def over(**known):
        return [float(known.get(name, 0.0)) for name in ("one", "batch", "length", "both")] + [0.0] * (terms - 4)

    each = "both" if terms > 4 else "batch"  # the tokens of a pass
    product = {name: over(one=value) for name, value in (("n", 64), ("k", 64), ("weight_bytes", 8192))}
    product |= {name: over(**{each: value}) for name, value in (("m", 1), ("flops", 8192), ("in_bytes", 128))}
    product |= {"out_bytes": over(**{each: 128}), "kv_bytes": over()}
    shape = {"heads": 2, "kv_heads": 1, "head_dim": 32, "v_head_dim": 32, "window": 0, "owns": 1}
    heads = {name: [float(value)] for name, value in shape.items()}
    return (
        TracedKernel(name="proj", kind="gemm", unit="tensor", count=4, numbers=product),
        TracedKernel(name="attn", kind="attention", unit="tensor", count=4, numbers=heads),
    )


SIZES = {"parameters": 16384, "active_parameters": 16384, "state_bytes": 0, "hidden": 64, "max_positions": 4096}
TRACED = TracedModel(
    name="traced", title="Traced", family="x", trace=Trace(**SIZES, prefill=kernels(6), decode=kernels(4))
)


@pytest.mark.parametrize("kind", [Model, TracedModel])
def test_both_answer_all_that_is_asked(kind):
    assert set(ASKED) <= set(dir(kind)) | {field.name for field in fields(kind)}
    assert is_model(LLAMA3_8B) and is_model(TRACED) and not is_model(3) and not is_model(A100_80GB_PCIE)


def test_a_traced_model_is_estimated_and_reported():
    case = Case(model=TRACED, batch=3, input_tokens=100, output_tokens=5)
    est, bound = estimate(case), estimate(replace(case, method="roofline"))
    assert est.ttft_s > bound.ttft_s > 0 and est.tpot_s > bound.tpot_s > 0
    assert est.max_context > 105
    assert "Traced (0.00 B parameters)" in text(est, {}, bound=bound)
    assert '"active_parameters": 16384' in as_json(est, {}, bound)
    both = estimate(replace(case, speculative=2, draft=LLAMA3_8B))
    assert "vocabulary" not in text(both, {})
    kept = estimate(replace(case, model=replace(TRACED, quantization=precision_of("bf16", "int4"))))
    assert kept.precision is None and kept.precision_note == (
        "traced is traced, in 16 bits: its checkpoint's formats (w4a16) aren't applied"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": "naive"}, "traced is traced from its code: flash attention only"),
        ({"weights": "int8"}, "in 16 bits: --weights and the like need another model"),
        ({"imbalance": 0.5}, r"no experts whose loads could have an imbalance \(a trace's are all alike\)"),
        ({"method": "seed"}, "method seed needs an explicit graph, and traced is traced from its code"),
    ],
)
def test_what_a_trace_cannot_do_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        estimate(replace(Case(model=TRACED), **change))


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match="model must be a name, a path or a record, not 3"):
        named_model(3)


def test_set_on_a_traced_model_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("ridgepoint.readers.catalogue.find_model", lambda name: TRACED)
    assert guarded(run, ["--model", "some/where", "--set", "model.layers=3"]) == 2
    assert "edit its config.json instead of --set model.FIELD" in capsys.readouterr().err
