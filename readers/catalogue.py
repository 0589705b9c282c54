"""Models by name, by hub name and by path: the catalogue's files and other people's, to a `Model` or a trace."""

import json
import os
import re
import stat
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ridgepoint.command import to_install
from ridgepoint.inputs import MAX_SIZE, InputError, nearest, pick, shown
from ridgepoint.layers.formats import Precision, Unread
from ridgepoint.model import Model
from ridgepoint.readers.checkpoints import formats_or_why
from ridgepoint.readers.config import Config, Json, defaults
from ridgepoint.readers.families import FAMILIES

if TYPE_CHECKING:
    from ridgepoint.readers.traced import TracedModel

    AnyModel = Model | TracedModel

CATALOGUE = Path(__file__).resolve().parent.parent / "catalog" / "models"
MAX_FILE_BYTES = 2**24


# Files and names ------------------------------------------------------------------------------------------


def json_object(values: object) -> Json:
    """A parsed config.json. Raises InputError where it is no object."""
    if not isinstance(values, dict):
        raise InputError(f"a config.json is one object, not {shown(values)}")
    return values


def language_model(values: Json) -> tuple[str, Json]:
    """(model_type, keys) of the language model in a parsed config.json, of one that sees or hears too. Raises
    InputError where that is no model's config.
    """
    family, text = values.get("model_type"), values.get("text_config")
    if isinstance(text, dict):
        outer = {key: values[key] for key in ("tie_word_embeddings",) if key in values}
        if not isinstance(family, str) or family not in FAMILIES:
            family = text.get("model_type")
        values = outer | text
    if family is None:
        raise InputError("key 'model_type' is missing: not a Hugging Face config.json")
    if not isinstance(family, str) or not family.isprintable():
        raise InputError(f"key 'model_type' must be a name, not {shown(family)}")
    return family if family in FAMILIES else family.removesuffix("_text"), values


HEADLESS = re.compile(
    r"(?<!LMHead)(?<!DoubleHeads)(?<!ForReward)Model$|Encoder$|For(Sequence|Token|Image|Audio)Classification$"
)
NO_DECODERS = re.compile(
    r"For(MaskedLM|QuestionAnswering|MultipleChoice|PreTraining|NextSentencePrediction|Reward(Model)?)$"
)
OWN_HEAD = ("chatglm",)  # whose class of the bare name, ChatGLMModel, has the LM head of its published files


def refuse_other_kinds(family: str, values: Json, keys: Json) -> None:
    """Raises InputError for what is no decoder that generates tokens, or has parts that neither a graph nor a trace
    can show, by the keys that say so: at once, before anything is built.
    """
    if keys.get("is_encoder_decoder") is True or values.get("is_encoder_decoder") is True:
        raise InputError(f"model_type {family} is an encoder-decoder: only decoders are estimated")
    if "decoder_layers" in keys and "encoder_layers" in keys:
        raise InputError(f"model_type {family} has encoder_layers: only decoders are estimated")
    named = values.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if names and family not in OWN_HEAD and all(HEADLESS.search(name) or NO_DECODERS.search(name) for name in names):
        what = "an encoder or an embedding model, without an LM head"
        raise InputError(f"architectures has {shown(names[0])}: {what}, generates no tokens")
    if keys.get("cross_attention_layers"):
        raise InputError(f"model_type {family}: cross_attention_layers (to an image's features) are not modelled")
    first_mamba = "mamba_dt_rank" in keys or ("time_step_rank" in keys and "num_heads" not in keys)
    if first_mamba and family not in FAMILIES:
        raise InputError(f"model_type {family} has layers of the first Mamba, which are not modelled; Mamba-2's are")


TOWERS = ("vision_config", "audio_config", "vision_tower_config", "speech_config")


def left_out(values: Json) -> str:
    """What of a published model its language model leaves out, as a sentence; "" if nothing."""
    towers = [
        name.removesuffix("_config").removesuffix("_tower") for name in TOWERS if isinstance(values.get(name), dict)
    ]
    if not towers:
        return ""
    sizes = [_tower_parameters(values[name]) for name in TOWERS if isinstance(values.get(name), dict)]
    about = f" (about {sum(sizes) / 1e9:.2f} B parameters)" if all(sizes) else ""
    return f"the language model alone: the {' and '.join(towers)} tower{about} and its projector are left out"


def _tower_parameters(tower: Json) -> int:
    """Of a tower's blocks, from its own sizes: attention's four matrices and the MLP's two; 0 if it doesn't say."""

    def first(*names: str) -> int:
        sizes = [tower.get(name) for name in names]
        return next((n for n in sizes if type(n) is int and 0 < n <= MAX_SIZE), 0)

    hidden, layers = first("hidden_size", "embed_dim", "d_model"), first("num_hidden_layers", "depth", "encoder_layers")
    return layers * (4 * hidden * hidden + 2 * hidden * first("intermediate_size", "encoder_ffn_dim"))


def model_from_config(values: object, *, name: str, title: str, source: str = "") -> Model:
    """The model that a parsed config.json describes, if its family has an explicit graph. Raises InputError."""
    values = json_object(values)
    family, keys = language_model(values)
    family = pick("model_type", family, FAMILIES)
    refuse_other_kinds(family, values, keys)
    keys = defaults(family, keys, nested=isinstance(values.get("text_config"), dict))
    fields = FAMILIES[family](Config(keys, family)) | {"note": left_out(values)}
    formats = checkpoint_formats(values)
    return Model(name=name, title=title, family=family, source=source, quantization=formats, **fields)


def checkpoint_formats(values: Json) -> Precision | Unread | None:
    """What the quantization_config of a config.json asks for, if there is one."""
    own = values.get("quantization_config")
    if own is None and isinstance(values.get("text_config"), dict):
        own = values["text_config"].get("quantization_config")
    return None if own is None else formats_or_why({"quantization_config": own})


def any_model(values: object, *, name: str, title: str, source: str = "") -> "AnyModel":
    """The Model that a parsed config.json describes, or the TracedModel of a family without an explicit graph. Raises
    InputError.
    """
    values = json_object(values)
    family, keys = language_model(values)
    if family in FAMILIES:
        return model_from_config(values, name=name, title=title, source=source)
    refuse_other_kinds(family, values, keys)
    from ridgepoint.readers import traced

    if not traced.available():
        close = nearest(family, FAMILIES)
        raise InputError(
            f"model_type {family!r} has no explicit graph{close}; tracing it needs {to_install('hf', 'traces')}"
        )
    settings = {key: value for key, value in values.items() if not key.startswith("_")}
    return traced.TracedModel(
        name=name,
        quantization=checkpoint_formats(values),
        title=title,
        family=values.get("model_type") or family,
        note=left_out(values),
        trace=traced.trace(settings),
    )


def load_model(path: Path) -> "AnyModel":
    """The Model or TracedModel in a config.json, or in a folder that holds one. Raises InputError."""
    folder = os.path.isdir(path)  # unlike Path.is_dir, False for a path that is too long or not to be searched
    file = path / "config.json" if folder else path
    if folder and not os.path.exists(file):
        raise InputError(f"{shown(str(path))} is a folder without a config.json, or one that can't be searched")
    values = _read(file)
    name = (
        os.path.basename(os.path.realpath(file.parent))
        if file.name == "config.json"
        else file.stem.removesuffix("_config")
    )
    name = " ".join(name.split()) or "config"
    try:
        model = any_model(values, name=name, title=name, source=file.name)
        beside = file.with_name(file.name.replace("config.json", "hf_quant_config.json"))
        if beside != file and os.path.isfile(beside) and model.quantization is None:  # ModelOpt's
            model = replace(model, quantization=formats_or_why(_read(beside)))
        return model
    except InputError as error:
        raise InputError(f"{shown(str(file))}: {error}") from None


@lru_cache(maxsize=4)
def _stream(file: Path) -> bytes:
    """What a pipe or a terminal gives (/dev/stdin, <(...)): it can be read once, and a case asks for its model several
    times. Without a writer a pipe is empty, instead of waiting for one.
    """
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(opened, True)
    with os.fdopen(opened, "rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _content(file: Path) -> bytes:
    """The first MAX_FILE_BYTES + 1 bytes. Raises OSError, or InputError for what is no file."""
    mode = os.stat(file).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return _stream(file)
    if not stat.S_ISREG(mode):
        raise InputError(f"{shown(str(file))} is not a file")
    with file.open("rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _read(file: Path) -> object:
    try:
        content = _content(file)
        if len(content) > MAX_FILE_BYTES:
            raise InputError(f"{shown(str(file))} is larger than any config.json ({MAX_FILE_BYTES:,} bytes)")
        return json.loads(content)
    except OSError as error:
        raise InputError(f"can't read {shown(str(file))}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0][:100]
        raise InputError(f"{shown(str(file))} is not JSON: {reason}") from None


@lru_cache(maxsize=1)
def catalogue_names() -> tuple[str, ...]:
    """The names of the catalogue's models: its file stems."""
    return tuple(sorted(name.removesuffix(".json") for name in os.listdir(CATALOGUE) if name.endswith(".json")))


@lru_cache(maxsize=64)
def catalogue_model(name: str) -> Model:
    """The catalogue's model of that name."""
    values = json_object(_read(CATALOGUE / f"{name}.json"))
    title = values["_hub"][0].split("/")[-1].removeprefix("Meta-").removesuffix("-hf").removesuffix("-pt")
    return model_from_config(values, name=name, title=title, source=values["_source"])


@lru_cache(maxsize=1)
def hub_names() -> dict[str, str]:
    """The catalogue's name for each name on the Hugging Face hub, in lower case. Reads all files."""
    files = {name: json_object(_read(CATALOGUE / f"{name}.json")) for name in catalogue_names()}
    return {hub.lower(): name for name, values in files.items() for hub in values["_hub"]}


def plain(name: str) -> str:
    """A name without its owner, its dashes and what doesn't change a model's sizes.
    >>> plain("meta-llama/Llama-3.1-8B-Instruct"), plain("Llama-2-7b-chat-hf")
    ('llama3.18b', 'llama27b')
    """
    base = name.lower().rsplit("/", 1)[-1].removeprefix("meta-")
    return re.sub(r"[-_ ]", "", re.sub(r"(-(instruct|chat|hf|it|pt|base))+$", "", base))


@lru_cache(maxsize=1)
def plain_names() -> dict[str, str]:
    """The catalogue's name for the plain form of each name that a model has."""
    return {plain(hub): name for hub, name in hub_names().items()} | {plain(name): name for name in catalogue_names()}


def find_model(name: object) -> "AnyModel":
    """The Model (or TracedModel) of a name in the catalogue or on the hub (an -Instruct has its base's sizes), or of a
    config.json or the folder that holds it. Raises InputError.
    """
    if not isinstance(name, str) or not name:
        name = pick("model", name, catalogue_names())  # raises: it is none
    if name.lower() in catalogue_names():
        return catalogue_model(name.lower())
    try:
        exists = os.path.exists(name)
    except ValueError:  # a null character
        exists = False
    if exists:
        return load_model(Path(name))
    if plain(name) in plain_names():
        return catalogue_model(plain_names()[plain(name)])
    known = hub_names() if name.endswith(".json") or "/" in name else catalogue_names()
    get = "its config.json, from https://huggingface.co/ORG/NAME/resolve/main/config.json, can be named instead"
    raise InputError(f"no file and no model {shown(name)}{nearest(name[:200], known)}; see --list-models; {get}")


def catalogue() -> list[Model]:
    """Every model of the catalogue."""
    return [catalogue_model(name) for name in catalogue_names()]
