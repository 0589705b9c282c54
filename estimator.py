"""How fast an LLM will run on a GPU, and why: TTFT, TPOT, latency, throughput from first principles.

    python estimator.py                                  the home workload
    python estimator.py --batch 32 --hardware h100-sxm   a what-if by flag
    python estimator.py --set hardware.dram_bytes_per_s=3e12 --set model.layers=40
    estimate(Case(batch=1)).tpot_s                       from Python

or edit the constants in `Case` below.
"""

import sys

from ridgepoint.command import guarded, start

if __name__ == "__main__":
    start("numpy", "platformdirs", "tabulate")  # before all that takes a while to import

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ridgepoint.flags import parse
from ridgepoint.hardware import CHIPS, Chip
from ridgepoint.inputs import InputError, pick
from ridgepoint.layers.formats import ACTIVATION_FORMATS, KV_FORMATS, WEIGHT_FORMATS
from ridgepoint.model import ELEM_BYTES
from ridgepoint.ops import Number
from ridgepoint.serving.cases import ATTENTIONS, Resolved, resolve
from ridgepoint.serving.engines import ENGINES, Engine
from ridgepoint.serving.estimates import Estimate, Method, by_passes, expectation

if TYPE_CHECKING:
    from ridgepoint.readers.catalogue import AnyModel


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is estimated. These are the constants to edit; each is also a flag (batch: --batch).

    In Python, `model` and `hardware` may be records instead of names, and batch, input_tokens and
    output_tokens may be arrays that broadcast: the metrics then have their shape.
    """

    model: "str | AnyModel" = "llama3-8b"  # a name of --list-models or of the hub, or the path of a config.json
    hardware: str | Chip = "a100-80gb-pcie"  # the GPU: a name of --list-hardware, or what nvidia-smi calls it
    batch: Number = 8  # sequences, all alike, starting together
    input_tokens: Number = 2048  # prompt, per sequence
    output_tokens: Number = 2048  # generated, per sequence; the first comes out of the prefill pass
    dtype: str = "fp16"  # of weights, activations and KV cache: fp16, bf16
    weights: str | None = None  # another format of the weights: int8, fp8, int4, int4-zero, mxfp4, nvfp4; None: dtype
    activations: str | None = None  # what the tensor cores multiply them by: int8, fp8, nvfp4; None: dtype
    kv_cache: str | None = None  # of the KV cache: fp8, int8, int4; None: dtype
    attention: str = "flash"  # flash, or naive (scores through DRAM)
    method: str = "cycle"  # cycle (the expectation), roofline (the bound), seed (the earlier estimator)
    runtime: str | Engine = "vllm"  # the engine: a family (its newest), or a name of --list-runtimes
    peak_tflops: float | None = None  # another tensor-core peak, in TFLOP/s; None: the chip's own
    prefix_tokens: int = 0  # of each prompt, in the KV cache already (a shared system prompt)
    chunked_prefill: int | None = None  # prefill at most so many tokens in a pass; None: all at once
    speculative: int = 0  # tokens that a draft guesses per decode step; 0: none
    acceptance: float = 0.8  # probability that a guess is accepted
    draft: "str | AnyModel | None" = None  # the model that guesses, as --model; None: guesses cost nothing (n-gram)
    imbalance: float = 0.0  # of a mixture's experts: the load of the r-th busiest goes with r ** -imbalance
    samples: int = 1  # continuations of each prompt (parallel samples, beams), sharing its KV cache
    memory_fraction: float = 0.9  # of the device memory that the engine may use
    l2_persistent: bool = False  # weights that fit in the L2 stay there between passes (what pinning would buy)


CHOICES = {
    "model": (),  # names, but too many
    "hardware": CHIPS,
    "dtype": ELEM_BYTES,
    "weights": WEIGHT_FORMATS,
    "activations": ACTIVATION_FORMATS,
    "kv_cache": KV_FORMATS,
    "attention": ATTENTIONS,
    "method": ("cycle", "roofline", "seed"),
    "runtime": ENGINES,
    "draft": (),
}


def estimate(case: Case | None = None) -> Estimate:
    """TTFT, TPOT, latency, throughput, memory and the kernels behind them. Raises InputError."""
    case = case or Case()
    method = METHODS[pick("method", case.method, METHODS)]
    return replace(method.estimate(resolve(case)), method=method)


def earlier(resolved: Resolved) -> Estimate:
    """By the earlier estimator's accounting."""
    from ridgepoint.explain import seed  # only needed here

    return seed.estimated(resolved)


def earlier_waterfall(est: Estimate) -> list[dict]:
    """From the earlier estimator's numbers to ours, correction by correction."""
    from ridgepoint.explain import seed

    return seed.waterfall(est, estimate(replace(est.case, method="cycle")))


METHODS = {
    "cycle": Method(estimate=expectation, line="method: cycle, the expectation, as run by {runtime}"),
    "roofline": Method(
        estimate=by_passes,
        line="method: roofline, a bound: engines take 1.3 to 2 times as long, eager PyTorch 2 to 5",
    ),
    "seed": Method(
        estimate=earlier,
        waterfall=earlier_waterfall,
        line="method: seed, the earlier estimator's accounting on its own constants (explain/seed.py; see --compare)",
        throughput="output tokens / latency, of one sequence (its definition)",
    ),
}


EXAMPLES = (
    "--hardware h100 --batch 32 --isl 512 --osl 256 --kernels",
    "--hardware h100 --precision fp8 --kv-cache fp8",
    "--model qwen3-30b-a3b --hardware h200 --runtime sglang",
    "--set hardware.dram_bytes_per_s=3e12 --explain",
    "--method seed --compare",
)


def output_flags(group) -> None:
    group.add_argument("--json", action="store_true", help="one JSON object (SI units) instead of text")
    group.add_argument("--kernels", action="store_true", help="with a table of the kernels of each phase")
    group.add_argument("--explain", action="store_true", help="with the share of time by cause")
    group.add_argument("--compare", action="store_true", help="with --method seed: from its numbers to ours")
    group.add_argument("--list-models", action="store_true", help="the models, and exit; also with --json")
    group.add_argument("--list-hardware", action="store_true", help="the GPUs, and exit; also with --json")
    group.add_argument(
        "--list-runtimes", action="store_true", help="the engines and versions, and exit; also with --json"
    )


def listed(args, width: int) -> str | None:
    """The list that is asked for, if one is."""
    if not (args.list_models or args.list_hardware or args.list_runtimes):
        return None
    from ridgepoint.report import lists

    if args.list_models:
        from ridgepoint.readers.catalogue import catalogue

        return lists.models_json(catalogue()) if args.json else lists.models_text(catalogue(), width)
    if args.list_hardware:
        return lists.hardware_json(CHIPS.values()) if args.json else lists.hardware_text(CHIPS.values(), width)
    return lists.runtimes_json(ENGINES.values()) if args.json else lists.runtimes_text(ENGINES.values(), width)


def run(argv: list[str]) -> str:
    from ridgepoint.report import tables, terminal, text

    asked = parse(Case, CHOICES, argv, "estimator.py", __doc__, output_flags, EXAMPLES)
    args, case, room = asked.args, asked.case, terminal.columns(terminal.TABLE)
    if (found := listed(args, room)) is not None:
        return found
    est = estimate(case)
    if args.compare:
        if est.method is None or est.method.waterfall is None:
            raise InputError("--compare goes with --method seed")
        from ridgepoint.report import data

        rows = est.method.waterfall(est)
        return data.waterfall_json(rows) if args.json else tables.waterfall_text(rows, room)
    bound: Estimate | None = estimate(replace(case, method="roofline")) if case.method == "cycle" else est
    idle = []
    if asked.overrides or asked.plain != Case():
        from ridgepoint.explain import whatif  # only needed now

        idle = whatif.idle(asked, est, estimate)
    if args.json:
        from ridgepoint.explain.whatif import changed_records
        from ridgepoint.report import data

        differs = changed_records(asked, est)
        return data.as_json(est, asked.overrides, bound, taken=asked.notes, idle=idle, differs=differs)
    from ridgepoint.explain.savings import savings

    return text.text(
        est,
        asked.overrides,
        taken=asked.notes,
        idle=idle,
        helps=savings(est, estimate),
        bound=bound if case.method == "cycle" else None,
        flash=estimate(replace(case, attention="flash")) if case.attention == "naive" else None,
        causes=args.explain,
        kernels=args.kernels,
        width=min(terminal.columns(terminal.PROSE), terminal.TABLE),
        room=room,
    )


def main() -> int:
    """What the installed command `ridgepoint` runs."""
    return guarded(run, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
