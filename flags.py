"""From flags to a case: every field of `Case` is a flag, and --set changes any field of the chip or the model."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from ridgepoint.command import VERSION
from ridgepoint.hardware import Chip, find_chip, meant
from ridgepoint.inputs import InputError, nearest, pick, shown
from ridgepoint.layers.formats import NAMED
from ridgepoint.model import ELEM_BYTES, LLAMA3_8B
from ridgepoint.serving.cases import named_model
from ridgepoint.serving.engines import engine_names

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ridgepoint.estimator import Case
    from ridgepoint.readers.catalogue import AnyModel

ALIASES = {"batch": ("--concurrency",), "input_tokens": ("--isl",), "output_tokens": ("--osl",)}
# Where --help shows the flags of a case's fields.
GROUPS = {
    "the job": ("model", "hardware", "batch", "input_tokens", "output_tokens"),
    "formats": ("dtype", "weights", "activations", "kv_cache"),
    "engine and serving": ("runtime", "memory_fraction", "prefix_tokens", "chunked_prefill", "samples")
    + ("speculative", "acceptance", "draft"),
    "what if": ("method", "attention", "peak_tflops", "imbalance", "l2_persistent"),
}
SHELLS = ("bash", "zsh", "tcsh")


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What a command line asks for."""

    args: "Namespace"
    case: "Case"
    plain: "Case"  # the same without --set
    overrides: dict[str, str]  # of --set, by name
    before: "dict[str, Chip | AnyModel]"  # the records that these change: "hardware", "model"
    notes: tuple[str, ...]  # how its words were taken


def parse(
    kind: type["Case"],
    choices: dict,
    argv: list[str],
    prog: str,
    description: str | None,
    extra: Callable,
    examples: Iterable[str] = (),
) -> Asked:
    """What `argv` asks of a program, as a case of that `kind` with its `choices`; `extra` adds the flags that are the
    program's own to a group of --help, which ends with the `examples`. Raises InputError.
    """
    parser = line_parser(prog, description, examples)
    parser.names |= {"model": model_names, "draft": model_names, "runtime": engine_names, "precision": NAMED}
    parser.names |= {name: known for name, known in choices.items() if name not in parser.names}
    explains = any(word.startswith(("-h", "--help", "--print-completion")) for word in argv)
    add_flags(parser, kind, choices, comments(kind) if explains else None)
    extra(parser.add_argument_group("output"))
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


def add_flags(parser: "ArgumentParser", kind: type["Case"], choices: dict, said: Mapping[str, str] | None) -> None:
    """A flag for each field of a case, by its name and what people call it, and those that set several. said: what
    each field is; None where nobody asks for help.
    """
    own = {field.name: field for field in fields(kind)}
    for title, members in GROUPS.items():
        group = parser.add_argument_group(title)
        for field in (own.pop(name) for name in members):
            names = (flag(field.name), *ALIASES.get(field.name, ()))
            text = None
            if said is not None:
                text = explained(field, said.get(field.name, ""), choices.get(field.name, ()))
            if field.type is bool:
                group.add_argument(*names, action="store_true", help=text)
                continue
            metavar = "NAME" if field.name in choices else "N"
            group.add_argument(*names, dest=field.name, default=field.default, help=text, metavar=metavar)
        if title == "the job":
            group.add_argument("--tp", "--tensor-parallel-size", default="1", metavar="N", help="GPUs: 1, so far")
        if title == "formats":
            text = f"weights and activations together, as engines name them: {', '.join(NAMED)}"
            group.add_argument("--precision", metavar="NAME", help=text)
    assert not own, f"fields of a case in no group of --help: {list(own)}"
    text = "another value for any field of the chip or the model, such as hardware.dram_bytes_per_s=3e12"
    group.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=text)


def comments(kind: type) -> dict[str, str]:
    """The comment behind each field of a dataclass, from its source: what people read where they edit is what --help
    says. Nothing where there is no source.
    """
    import inspect

    try:
        lines = inspect.getsource(kind).splitlines()
    except OSError:
        return {}
    found = (re.match(r" {4}(\w+): [^#]*  # (.+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def explained(field, comment: str, known: Iterable[str]) -> str:
    """What --help says of a field: its comment, the names that the comment leaves out, and the default, which for None
    the comment says at its end: "...; None: the chip's own".
    """
    what, _, of_none = comment.partition("; None: ")
    names = [name for name in known if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", what)]
    if names:
        what += f"; also {', '.join(names)}" if len(names) < len(list(known)) else f": {', '.join(names)}"
    text = what if field.type is bool else f"{what} (default: {of_none or field.default})"
    return text.replace("%", "%%")


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


def line_parser(prog: str, description: str | None, examples: Iterable[str] = ()):
    """An argparse parser whose refusals are one line: an InputError. description: a docstring; examples: arguments that
    run as they are. Its `names` are what may follow a flag, by the flag's name, for shells to complete.
    """
    import argparse  # not needed from Python
    import textwrap

    class Parser(argparse.ArgumentParser):
        names: ClassVar[dict[str, Iterable[str] | Callable[[], Iterable[str]]]] = {}

        def error(self, message: str) -> NoReturn:
            unknown = message.removeprefix("unrecognized arguments: ").split()[0]
            hint = nearest(unknown, self._option_string_actions) if unknown.startswith("-") else ""
            raise InputError(f"{message}{hint}; see --help")

    class Formatter(argparse.RawDescriptionHelpFormatter):
        def _split_lines(self, text, width):
            return textwrap.wrap(text, width, break_on_hyphens=False)  # names have hyphens

    class Completion(argparse.Action):
        def __call__(self, parser, namespace, shell, option_string=None):
            print(completion(parser, shell))
            parser.exit()

    prog = called(prog)
    command = f"python {prog}" if prog.endswith(".py") else prog
    parser = Parser(
        prog=prog,
        usage=f"{prog} [FLAG ...]",
        description="\n".join(textwrap.wrap((description or prog).splitlines()[0], 78)),
        epilog="\n".join(["examples:", *(f"  {command} {example}" for example in examples)]) if examples else None,
        formatter_class=Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    about = parser.add_argument_group("about")  # a group: the parser itself formats what is added to it, at a cost
    about.add_argument("-h", "--help", action="help", help="this text, and exit")
    about.add_argument("--version", action="version", version=f"ridgepoint {VERSION}", help="the version, and exit")
    text = "what completes the flags and names in a shell, and exit (needs shtab)"
    about.add_argument("--print-completion", action=Completion, choices=SHELLS, help=text)
    return parser


def called(prog: str) -> str:
    """The name that the program was called by: its file's, or the command that was installed."""
    name = os.path.basename(sys.argv[0])
    return name if name.startswith("ridgepoint") else prog


def completion(parser, shell: str) -> str:
    """The script that completes a program's flags, and the names after them. Raises InputError without shtab."""
    try:
        import shtab
    except ImportError:
        raise InputError("shtab is missing: pip install shtab") from None
    for action in parser._actions:
        names = parser.names.get(action.dest, ())
        if names := list(names() if callable(names) else names):
            action.choices = names
        elif action.metavar in ("FILE", "FILE.csv"):
            action.complete = shtab.FILE
        elif action.metavar == "FOLDER":
            action.complete = shtab.DIRECTORY
    return shtab.complete(parser, shell)


def model_names() -> Iterable[str]:
    from ridgepoint.readers.catalogue import catalogue_names  # lists files: only needed here

    return catalogue_names()


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
