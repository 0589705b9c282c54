"""From flags to a case: every field of `Case` is a flag, and --set changes any field of the chip or the model."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn

from ridgepoint.hardware import Chip, find_chip, meant
from ridgepoint.inputs import InputError, nearest, pick, shown
from ridgepoint.layers.formats import NAMED
from ridgepoint.model import ELEM_BYTES, LLAMA3_8B
from ridgepoint.serving.cases import named_model

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ridgepoint.estimator import Case
    from ridgepoint.readers.catalogue import AnyModel

ALIASES = {"batch": ("--concurrency",), "input_tokens": ("--isl",), "output_tokens": ("--osl",)}
HELP = {"l2_persistent": "weights that fit in the L2 stay there between passes"}
HELP_NONE = dict.fromkeys(("weights", "activations", "kv_cache"), "dtype") | {
    "peak_tflops": "the chip's",
    "chunked_prefill": "all at once",
    "draft": "guesses cost nothing",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command line asks for."""

    args: "Namespace"
    case: "Case"
    plain: "Case"  # the same without --set
    overrides: dict[str, str]  # of --set, by name
    before: "dict[str, Chip | AnyModel]"  # the records that these change: "hardware", "model"
    notes: tuple[str, ...]  # how its words were taken


def parse(
    kind: type["Case"], choices: dict, argv: list[str], prog: str, description: str | None, extra: Callable
) -> Asked:
    """What `argv` asks of a program, as a case of that `kind` with its `choices`; `extra` adds the flags that are the
    program's own. Raises InputError.
    """
    parser = line_parser(prog, description)
    add_flags(parser, kind, choices)
    extra(parser)
    args = parser.parse_args(argv)
    for field in fields(kind):
        text = getattr(args, field.name)
        if field.type not in (bool, str, str | None) and field.name not in choices and isinstance(text, str):
            setattr(args, field.name, number(flag(field.name), text))
    if number("--tp", args.tp) != 1:
        raise InputError(f"one GPU only: --tp must be 1, not {args.tp}")
    if args.precision is not None:
        set_precision(args, kind)
    chips = meant(args.hardware)
    typed, args.hardware = args.hardware, find_chip(args.hardware).name
    others = ", ".join(chip.name for chip in chips[1:])
    notes = (f"hardware {shown(typed)}: taken as {args.hardware}; there is also {others}",) if others else ()
    plain = kind(**{field.name: getattr(args, field.name) for field in fields(kind)})
    case, overrides, before = with_overrides(plain, args.set)
    return Asked(args=args, case=case, plain=plain, overrides=overrides, before=before, notes=notes)


def add_flags(parser: "ArgumentParser", kind: type["Case"], choices: dict) -> None:
    """A flag for each field of a case, by its name and what people call it, and those that set several."""
    for field in fields(kind):
        names = (flag(field.name), *ALIASES.get(field.name, ()))
        known = choices.get(field.name)
        if field.type is bool:
            parser.add_argument(*names, action="store_true", help=HELP[field.name])
            continue
        default = HELP_NONE[field.name] if field.default is None else field.default
        parser.add_argument(
            *names,
            dest=field.name,
            default=field.default,
            help=f"{', '.join(known) if known else 'a number'} (default: {default})",
            metavar="NAME" if known else "N",
        )
    parser.add_argument(
        "--precision",
        metavar="NAME",
        help=f"weights and activations together, as engines name them: {', '.join(NAMED)}",
    )
    parser.add_argument("--tp", "--tensor-parallel-size", default="1", metavar="N", help="GPUs: 1, so far")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another value for any field of the chip or the model, such as hardware.dram_bytes_per_s=3e12",
    )


def set_precision(args: "Namespace", kind: type["Case"]) -> None:
    """Weights and activations, and a 16-bit dtype, by the name of --precision. Raises InputError."""
    if args.weights is not None or args.activations is not None:
        raise InputError("--precision sets weights and activations: leave --weights and --activations out")
    name = pick("precision", args.precision.lower(), NAMED)
    if name in ELEM_BYTES:
        if args.dtype not in (kind.dtype, name):
            raise InputError(f"--precision {name} and --dtype {args.dtype} contradict each other")
        args.dtype = name
    pick("dtype", args.dtype, ELEM_BYTES)
    args.weights, args.activations = (form or args.dtype for form in NAMED[name])


def with_overrides(case: "Case", assignments: list[str]) -> "tuple[Case, dict[str, str], dict[str, Chip | AnyModel]]":
    """The case with each "hardware.FIELD=VALUE" or "model.FIELD=VALUE" applied, those by name, and the records as they
    were before. Raises InputError.
    """
    records: dict[str, Chip | AnyModel] = {"hardware": find_chip(case.hardware), "model": LLAMA3_8B}
    if any(assignment.startswith("model.") for assignment in assignments):
        records["model"] = model = named_model(case.model)  # a file is read once
        if not model.explicit:
            raise InputError(f"{case.model} is traced from its code: edit its config.json instead of --set model.FIELD")
        case = replace(case, model=model)
    known = {f"{part}.{field.name}": field.type for part, record in records.items() for field in fields(record)}
    del known["model.quantization"]  # --weights and the like
    changes: dict[str, dict[str, Any]] = {"hardware": {}, "model": {}}
    overrides = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not text:
            raise InputError(f"--set takes FIELD=VALUE, such as model.layers=40, not {assignment!r}")
        part, _, field = name.partition(".")
        if name not in known:
            allowed = [other for other in known if other.startswith(part + ".")]
            names = ", ".join(allowed) or "hardware.FIELD, model.FIELD"
            raise InputError(f"unknown field {name!r}{nearest(name, known)}; known: {names}")
        value = text if known[name] is str else number(name, text) if known[name] is not bool else truth(name, text)
        if known[name] is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # 4e9 is a whole number too
        changes[part][field] = value
        overrides[name] = text
    changed: dict[str, Any] = {part: replace(records[part], **change) for part, change in changes.items() if change}
    return replace(case, **changed), overrides, records


def line_parser(prog: str, description: str | None) -> "ArgumentParser":
    """An argparse parser whose refusals are one line: an InputError. description: a docstring."""
    import argparse  # not needed from Python

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            unknown = message.removeprefix("unrecognized arguments: ").split()[0]
            hint = nearest(unknown, self._option_string_actions) if unknown.startswith("-") else ""
            raise InputError(f"{message}{hint}; see --help")

    return Parser(prog=prog, description=(description or prog).splitlines()[0], allow_abbrev=False)


def number(name: str, text: str) -> int | float:
    """int where `text` is one, otherwise float: 8, 3e12. Raises InputError."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise InputError(f"{name} must be a number, not {text!r}")


def truth(name: str, text: str) -> bool:
    """true or false. Raises InputError."""
    return {"true": True, "false": False}[pick(name, text.lower(), ("true", "false"))]


def flag(name: str) -> str:
    """The flag of a field of a case.
    >>> flag("input_tokens")
    '--input-tokens'
    """
    return "--" + name.replace("_", "-")
