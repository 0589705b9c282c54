"""A case resolved once: its names looked up, its sizes checked, its formats settled for the chip."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from ridgepoint.hardware import PEAK_LIMITS, Chip, find_chip, with_tensor_peak
from ridgepoint.inputs import InputError, check_quantity, check_size, check_sizes, check_unit, pick, shown
from ridgepoint.kernels.architectures import Architecture, architecture_of
from ridgepoint.kernels.cycles import sustained
from ridgepoint.layers.formats import WEIGHT_FORMATS, Precision, Unread, in_dtype, on_chip, precision_of
from ridgepoint.model import ELEM_BYTES, LLAMA3_8B, is_model
from ridgepoint.ops import Number, Op
from ridgepoint.serving.engines import Engine, find_engine

if TYPE_CHECKING:  # a case is read here, and made by who asks
    from ridgepoint.estimator import Case
    from ridgepoint.readers.catalogue import AnyModel

ATTENTIONS = ("flash", "naive")
MAX_BATCH, MAX_OUTPUT_TOKENS = 2**20, 2**20


class Sizes(TypedDict, total=False):
    """Of a case, that may be arrays."""

    batch: Number
    input_tokens: Number
    output_tokens: Number


@dataclass(frozen=True, kw_only=True, eq=False)
class Resolved:
    """A case whose names are looked up, sizes checked and formats settled, once: all that its passes are made from."""

    case: "Case"  # its runtime and its draft are records
    model: "AnyModel"
    chip: Chip
    arch: Architecture  # the chip's, as the engine runs whole passes on it
    precision: Precision | None  # of the layers, as run on the chip; None: `dtype` throughout
    precision_note: str  # where that is not what the case asks for
    draft: "Resolved | None"  # the same of its draft model

    @cached_property
    def sustained(self) -> Architecture:
        """`arch` with the MMA rates that a pass holds on the chip."""
        return sustained(self.arch, self.chip)

    @property
    def engine(self) -> Engine:
        """The case's runtime."""
        runtime = self.case.runtime
        return runtime if isinstance(runtime, Engine) else find_engine(runtime)

    def at(self, **sizes: Unpack[Sizes]) -> "Resolved":
        """The same at other sizes of its case."""
        draft = self.draft.at(**sizes) if self.draft else None
        return replace(self, case=replace(self.case, **sizes), draft=draft)

    def ops(self, batch: Number, q_len: Number, kv_len: Number) -> list[Op]:
        """The kernels of one pass of the case."""
        case = self.case
        return self.model.forward(
            batch=batch,
            q_len=q_len,
            kv_len=kv_len,
            dtype=case.dtype,
            attention_kernel=case.attention,
            precision=self.precision,
            imbalance=case.imbalance,
            absorb=self.engine.absorbs_prompts,
        )


def named_model(model: object) -> "AnyModel":
    """The record that a name or a path stands for; a record itself as it is. Raises InputError."""
    if not isinstance(model, str):
        if not is_model(model):
            raise InputError(f"model must be a name, a path or a record, not {shown(model)}")
        return model
    if model == LLAMA3_8B.name:
        return LLAMA3_8B
    from ridgepoint.readers import catalogue  # reads files: only needed beyond the home workload's model

    return catalogue.find_model(model)


def swept(case: "Case") -> bool:
    """Is any of its sizes an array?"""
    return any(np.ndim(size) for size in (case.batch, case.input_tokens, case.output_tokens))


def resolve(case: "Case") -> Resolved:
    """The case with its sizes checked, and what its names stand for. Raises InputError."""
    pick("dtype", case.dtype, ELEM_BYTES)
    pick("attention", case.attention, ATTENTIONS)
    if not isinstance(case.hardware, Chip):
        case = replace(case, hardware=find_chip(case.hardware).name)
    model, chip = named_model(case.model), named_chip(case)
    case, engine = checked(case)
    arch = engine.on(architecture_of(chip))
    if case.imbalance and not model.experts:
        raise InputError(f"{model.name} has no experts whose loads could have an imbalance (a trace's are all alike)")

    def settled(case: "Case", model: "AnyModel", draft: Resolved | None) -> Resolved:
        model.check(case)
        run_as, note = case_precision(case, model, chip, arch)
        return Resolved(
            case=case, model=model, chip=chip, arch=arch, precision=run_as, precision_note=note, draft=draft
        )

    if case.draft is None:
        return settled(case, model, None)
    drafter = named_model(case.draft)
    # the formats that the case names are about its model, not about its draft
    draft_case = replace(case, model=case.draft, draft=None, weights=None, activations=None, kv_cache=None)
    return settled(case, model, settled(draft_case, drafter, None))


def named_chip(case: "Case") -> Chip:
    """The chip of a case, with the tensor peak that it names. Raises InputError."""
    chip = case.hardware if isinstance(case.hardware, Chip) else find_chip(case.hardware)
    if case.peak_tflops is None:
        return chip
    check_unit("peak-tflops", case.peak_tflops, *(end / 1e12 for end in PEAK_LIMITS), unit="TFLOP/s")
    return with_tensor_peak(chip, case.peak_tflops * 1e12)


def checked(case: "Case") -> tuple["Case", Engine]:
    """The case with its sizes in range, and agreeing with one another; runtime and draft as records; the runtime.
    Raises InputError.
    """
    engine = case.runtime if isinstance(case.runtime, Engine) else find_engine(case.runtime)
    case = replace(
        case,
        runtime=engine,
        batch=check_sizes("batch", case.batch, high=MAX_BATCH),
        input_tokens=check_sizes("input-tokens", case.input_tokens),
        output_tokens=check_sizes("output-tokens", case.output_tokens, high=MAX_OUTPUT_TOKENS),
        prefix_tokens=check_size("prefix-tokens", case.prefix_tokens, low=0),
        speculative=check_size("speculative", case.speculative, low=0, high=64),
        acceptance=check_quantity("acceptance", case.acceptance, low=0.0, high=1.0),
        samples=check_size("samples", case.samples, high=1024),
        imbalance=check_quantity("imbalance", case.imbalance, low=0.0, high=8.0),
        memory_fraction=check_quantity("memory-fraction", case.memory_fraction, low=0.01, high=1.0),
    )
    try:
        np.broadcast_shapes(*(np.shape(size) for size in (case.batch, case.input_tokens, case.output_tokens)))
    except ValueError:
        raise InputError("batch, input-tokens and output-tokens are arrays of shapes that don't broadcast") from None
    if not isinstance(case.l2_persistent, bool):
        raise InputError(f"l2-persistent must be true or false, not {shown(case.l2_persistent)}")
    if case.chunked_prefill is not None:
        case = replace(case, chunked_prefill=check_size("chunked-prefill", case.chunked_prefill))
    if case.speculative and swept(case):
        raise InputError("speculative takes single sizes, not arrays")
    if case.acceptance != type(case).acceptance and not case.speculative:
        raise InputError("--acceptance goes with --speculative K")
    if case.draft is not None:
        if not case.speculative:
            raise InputError("--draft goes with --speculative K")
        case = replace(case, draft=named_model(case.draft))
    return case, engine


def case_precision(case: "Case", model: "AnyModel", chip: Chip, arch: Architecture) -> tuple[Precision | None, str]:
    """What the formats of `model` run as on `chip`, with a note where that differs; None where all are `dtype`. The
    formats are those that the case names; where it names none, the checkpoint's.
    """
    weights, activations, kv_cache = named = (case.weights, case.activations, case.kv_cache)
    own, note = model.formats
    if isinstance(own, Unread):
        if weights is None and activations is None:
            raise InputError(f"{model.name}: {own.why}; name its formats: --weights {', '.join(WEIGHT_FORMATS)}")
        own = None
    if own is None and all(form in (None, case.dtype) for form in named):
        return None, note
    wanted = precision_of(case.dtype, *named)
    if own is not None and weights is None and activations is None:
        own = in_dtype(own, case.dtype)
        wanted = replace(own, kv_cache=wanted.kv_cache if kv_cache else own.kv_cache)
    if wanted == precision_of(case.dtype):
        return None, ""
    return on_chip(wanted, chip, arch, case.dtype)
