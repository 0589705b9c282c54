"""The roofline picture says what it shows and what it leaves out; nothing in it covers anything else."""

import re
from functools import cache

import pytest
from invariants import slow_but

from ridgepoint.estimator import CHOICES, Case, estimate
from ridgepoint.flags import parse
from ridgepoint.hardware import CHIPS
from ridgepoint.pictures import roofline

PICTURES = {
    "default": "",
    "narrow": "--hardware b200 --precision nvfp4",
    "fp8": "--hardware h100 --precision fp8 --kv-cache fp8",
    "short": "--isl 20 --osl 5 --batch 1 --runtime sglang",
    "host": "--hardware h200 --isl 10 --osl 2 --batch 1 --runtime eager",
    "no decode": "--osl 1",
    "large": "--model deepseek-v3 --hardware b200 --batch 16 --runtime sglang --speculative 2 --imbalance 0.3",
    "mixture": "--model gpt-oss-20b --hardware h100",
    "roofline": "--method roofline --attention naive",
    "seed": "--method seed",
    "close": "--hardware h100 --precision fp8 --peak-tflops 61",
    "fast DRAM": "--set hardware.dram_bytes_per_s=9e14",
    "does not fit": "--batch 500 --set model.layers=40 --set hardware.dram_bytes_per_s=3e12",
}


@cache
def drawn(name):
    """(estimate, figure) of one of PICTURES."""
    asked = parse(Case, CHOICES, PICTURES[name].split(), "visualize.py", None, lambda parser: None)
    est = estimate(asked.case)
    return est, roofline.draw(est, asked.overrides)


every_picture = pytest.mark.parametrize(
    "name", slow_but(PICTURES, "default", "narrow", "fp8", "host", "no decode", "does not fit")
)


def texts(figure) -> list:
    """All text in the figure but ticks."""
    (axes,) = figure.axes
    return [*figure.texts, axes.title, axes.title, axes._left_title, *axes.texts, *axes.get_legend().get_texts()]


def named_shares(text: str) -> float:
    """The sum of all "name 12%" in it."""
    return sum(float(share) for share in re.findall(r"\S ([\d.]+)%", text)) / 100


@every_picture
def test_of_each_phase_99_percent_of_the_time_are_in_the_picture_or_stated(name):
    est, figure = drawn(name)
    below = " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
    for phase_name, phase in est.phases:
        colour = roofline.COLOURS[phase_name]
        labels = "\n".join(text.get_text() for text in figure.axes[0].texts if text.get_color() == colour)
        stated = re.search(rf"(^|[ %]){phase_name}, (.*?)($|(?<=%) decode, )", below)
        share = named_shares(labels) + named_shares(stated[2] if stated else "")
        assert share == pytest.approx(1, abs=0.01 + 0.0005 * len(phase.kernels))  # and rounding
        accounts = roofline.accounts(phase).values()
        assert sum(share for kind in accounts for _, share in kind) == pytest.approx(1)


@every_picture
def test_nothing_covers_anything_else(name):
    _, figure = drawn(name)
    figure.canvas.draw()
    (axes,) = figure.axes
    shown = [text for text in {*axes.texts, *figure.texts, axes._left_title} if text.get_text()]
    boxes = [text.get_window_extent() for text in shown] + [axes.get_legend().get_window_extent()]
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, shown[index]
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, shown[index]
        assert not any(box.padded(-1).overlaps(other.padded(-1)) for other in boxes[:index])


@every_picture
def test_the_caption_names_all_that_differs_from_the_defaults(name):
    _, figure = drawn(name)
    caption = figure.axes[0]._left_title.get_text().replace("\n", " ")
    flags = PICTURES[name].split()
    for flag, value in zip(flags[::2], flags[1::2], strict=True):
        word = {"--isl": f"{value} tokens in", "--osl": f"{value} out", "--batch": f"batch {value}"}.get(flag, value)
        assert word in caption.replace(" x", "x") or flag in ("--hardware", "--model", "--runtime", "--precision"), word


def test_the_caption_names_every_field_of_a_case():
    changes = {
        "dtype": "bf16",
        "weights": "int8",
        "activations": "int8",
        "kv_cache": "int8",
        "method": "roofline",
        "peak_tflops": 400.0,
        "prefix_tokens": 64,
        "chunked_prefill": 512,
        "speculative": 2,
        "acceptance": 0.5,
        "draft": "llama3.2-1b",
        "imbalance": 0.5,
        "samples": 2,
        "memory_fraction": 0.5,
        "l2_persistent": True,
    }
    case = Case(model="mixtral-8x7b", hardware="h100-sxm", **changes)
    caption = roofline.caption(estimate(case), {"hardware.sm_count": "100"})
    assert all(name.replace("_", "-") in caption for name in changes), caption
    assert "hardware.sm_count=100" in caption and "draft llama3.2-1b" in caption
    assert "attention naive" in roofline.caption(estimate(Case(attention="naive")), {})
    assert "SGLang 0.5" in roofline.caption(estimate(Case(runtime="sglang")), {})
    assert "changed" not in roofline.caption(estimate(Case()), {})


def test_a_record_of_its_own_is_told_from_the_catalogue():
    from dataclasses import replace

    chip = replace(CHIPS["h100-sxm"], dram_bytes_per_s=4e12)
    assert "changed: hardware.dram_bytes_per_s=4e+12" in roofline.caption(estimate(Case(hardware=chip)), {})


@every_picture
def test_what_does_not_fit_says_so(name):
    est, figure = drawn(name)
    said = any("DOES NOT FIT" in text.get_text() for text in figure.axes[0].texts)
    assert said == (not est.memory.fits)
    assert name != "does not fit" or not est.memory.fits


@pytest.mark.parametrize(
    ("name", "dtypes"), [("default", ["fp16"]), ("narrow", ["fp4", "fp16"]), ("fp8", ["fp8", "fp16"])]
)
def test_the_ceilings_are_those_of_the_formats_in_use(name, dtypes):
    est, figure = drawn(name)
    assert [dtype for _, dtype in roofline.ceilings(est)] == dtypes
    values = [text.get_text() for text in figure.axes[0].texts if "TFLOP/s" in text.get_text()]
    assert [value.split(", ")[1] for value in values] == [*(f"{dtype} tensor" for dtype in dtypes), "FP32"]


@every_picture
def test_the_title_is_the_finding(name):
    est, figure = drawn(name)
    assert figure._suptitle.get_text() == roofline.finding(est)


def test_the_title_names_the_largest_cause():
    host, default, no_decode = (roofline.finding(drawn(name)[0]) for name in ("host", "default", "no decode"))
    assert host == "Largest part of prefill: the host (79%), of decode: the host (79%)"
    assert "of decode: DRAM bandwidth" in default and "decode" not in no_decode


def test_a_title_with_dollars_is_no_formula():
    assert roofline.wrapped(["a$b$c"], 80) == r"a\$b\$c"
