"""Recipe and target files -> validated, typed, frozen values. Data only: nothing here is executed.

A recipe says what to build (task, model, data, training, variants, budget), a target says for which device. Fields that
belong to one model or one data format are kept as plain mappings here and validated by `parse_settings` in the room
that knows them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from edgeattn.artifact import Precision
from edgeattn.errors import RecipeError
from edgeattn.target import Frozen as _Frozen
from edgeattn.target import Target, Threads

__all__ = [
    "PIPELINES", "TARGETS", "Augment", "Budget", "DataSection", "ExportSection", "InputSection", "MeasureSection",
    "Named", "QuantizeSection", "Recipe", "Target", "TrainSection", "load_recipe", "load_target", "parse_settings",
    "recipe_names", "target_names",
]  # fmt: skip

T = TypeVar("T")
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

# ValueError: not UTF-8, or a date such as 2026-13-01. RecursionError: hundreds of brackets in brackets.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)

PIPELINES = Path("pipelines")
TARGETS = Path(__file__).parent / "targets"

_DEPTH_MAX = 32
_EXPECTED = {"model_type": "it has fields of its own", "tuple_type": "it takes a list such as [a, b]"}


class Named(BaseModel):
    """A part found by file name, with the fields only that part knows."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class DataSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")
    format: str

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class InputSection(_Frozen):
    """The network's frame; see `imaging.Preprocess`."""

    height: Annotated[int, Field(ge=8, le=4096)]
    width: Annotated[int, Field(ge=8, le=4096)]
    fit: Literal["stretch", "crop", "letterbox", "tile"] = "crop"
    overlap: Annotated[int, Field(ge=0)] = 32


class Augment(_Frozen):
    """Random changes of each training frame, on the fly.

    `shift` and `scale` are shares of the frame's side, `rotate` degrees. `light` is the most that is added to all
    pixels of a frame or taken from them, as a share of the full range (0.2: 51 of 255 grey levels). `contrast` is how
    far the factor that multiplies them lies from 1 at most; it keeps black, not the mean. Both are cut at black and
    white.
    `noise` is in grey levels (standard deviation), `erase` the probability of blanking one rectangle.

    What moves pixels moves masks, boxes and clean images with them, but for `rotate`, which is not for boxes. `light`
    and `contrast` change a clean image as they change its frame, `noise` and `erase` the frame alone. Pairs of frames
    are not moved; each of the two has its own light.
    """

    flip: bool = False
    vertical_flip: bool = False
    shift: Share = 0.0
    scale: Share = 0.0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    light: Share = 0.0
    contrast: Share = 0.0
    noise: Annotated[float, Field(ge=0, le=100)] = 0.0
    erase: Share = 0.0


class TrainSection(_Frozen):
    epochs: Annotated[int, Field(gt=0, le=1_000_000)]
    batch_size: Annotated[int, Field(gt=0, le=65_536)] = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 0.2
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    warmup: Share = 0.2
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["fp32", "bf16"] = "bf16"
    augment: Augment = Augment()


class ExportSection(_Frozen):
    """`parity_db_min`: the least SQNR of the exported graph against PyTorch on real samples."""

    opset: Literal[20] = 20
    dynamic_batch: bool = False
    parity_db_min: float = 80.0


class QuantizeSection(_Frozen):
    """`candidates`: which settings of the INT8 search are tried; all of them by default.

    `search_samples` of the calibration split are held back from calibration and only judge the candidates.
    """

    candidates: tuple[str, ...] | None = None
    search_samples: Positive = 60


class MeasureSection(_Frozen):
    """`latency_seconds` of recorded calls per engine."""

    latency_seconds: Annotated[float, Field(gt=0)] = 2.0
    threads: Threads | None = None


class Budget(_Frozen):
    """What the user will tolerate of the engine that ships; null = not limited.

    `metric_drop_max` counts in the metric's own unit against the trained FP32 model.
    """

    metric_drop_max: Annotated[float, Field(ge=0)] | None = None
    latency_p99_ms_max: Annotated[float, Field(gt=0)] | None = None
    size_mb_max: Annotated[float, Field(gt=0)] | None = None
    sqnr_db_min: float | None = None


class Recipe(_Frozen):
    """`metric`: which of the task's metrics the budget counts in; its first when null.

    `leave_out`: per backend the variants that it is not to compile, where it has a fault with this graph; they are made
    and checked all the same, and other backends compile them.
    `weights`: a folder with weights that were trained before, such as `pipelines/weights/NAME`; null trains.
    The report says so when their `provenance.json` names another evaluation split, or there is none.
    """

    name: str
    task: str
    model: Named
    input: InputSection
    data: DataSection
    train: TrainSection
    export: ExportSection = ExportSection()
    quantize: QuantizeSection = QuantizeSection()
    variants: tuple[Precision, ...] = tuple(Precision)
    leave_out: dict[Literal["openvino", "tensorrt"], tuple[Precision, ...]] = Field(default_factory=dict)
    measure: MeasureSection = MeasureSection()
    budget: Budget = Budget()
    metric: str | None = None
    weights: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @field_validator("name")
    @classmethod
    def _names_files(cls, name: str) -> str:
        if not 0 < len(name) <= 100 or name.startswith(".") or not name.isprintable() or set(name) & set("/\\"):
            raise ValueError(f"files are called by it: 1 to 100 characters, no slash, no leading dot; got {name!r}")
        return name


def recipe_names(folder: Path = PIPELINES) -> list[str]:
    """What can be deployed from `folder`, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def target_names() -> list[str]:
    """The devices there is a file for, sorted."""
    return sorted(path.stem for path in TARGETS.glob("*.yaml"))


def load_recipe(name_or_path: str, overrides: Iterable[str] = (), seed: int | None = None) -> Recipe:
    """Read `pipelines/NAME.yaml` or a path, apply `key.sub=value` overrides. Raises RecipeError."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = PIPELINES / f"{name_or_path}.yaml"
        if not path.is_file():
            raise RecipeError(
                f"There is no recipe '{name_or_path}' in {PIPELINES}/{_suggest(name_or_path, recipe_names())}; "
                "give one of those names or a path ending in .yaml."
            )
    values = _read_yaml(path)
    values.setdefault("name", path.stem)
    for override in overrides:
        _apply_override(values, override)
    if seed is not None:
        values["seed"] = seed
    return parse_settings(Recipe, values, str(path))


def load_target(name: str) -> Target:
    """Read `targets/NAME.yaml`. Raises RecipeError with the known names.

    A file with nothing but `alias: OTHER` is another name for that target, which keeps its own.
    """
    path = TARGETS / f"{name}.yaml"
    if name not in target_names():
        raise RecipeError(f"There is no target '{name}'{_suggest(name, target_names())}.")
    values = _read_yaml(path)
    if "alias" in values:
        name = _meant(values, path)
        path = TARGETS / f"{name}.yaml"
        values = _read_yaml(path)
    return parse_settings(Target, {"name": name, **values}, str(path))


def _meant(values: Mapping[str, Any], path: Path) -> str:
    """The target that an alias stands for."""
    if others := [key for key in values if key != "alias"]:
        raise RecipeError(f"{path}: an alias is another name and nothing else; take out '{others[0]}' or the alias.")
    own = [name for name in target_names() if "alias" not in _read_yaml(TARGETS / f"{name}.yaml")]
    if values["alias"] not in own:
        raise RecipeError(f"{path}: there is no target '{values['alias']}'{_suggest(values['alias'], own)}.")
    return str(values["alias"])


def parse_settings(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """`values` as a `cls` (pydantic model or dataclass), unknown fields forbidden. Raises RecipeError."""
    known = _field_names(cls)
    if known and (unknown := [key for key in values if key not in known]):
        raise RecipeError(f"{where}: unknown field '{unknown[0]}'{_suggest(unknown[0], known)}.")
    if problem := _not_json(values):
        raise RecipeError(f"{where}: {problem}.")
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise RecipeError(f"{where}: {_sentence(error, cls)}") from error


def _not_json(value: object, name: str = "", around: tuple[object, ...] = ()) -> str | None:
    """What is wrong with the first field whose value JSON cannot hold: NaN, infinity, a date, bytes, itself.

    `around` are the lists and mappings that `value` is in.
    """
    if any(value is outer for outer in around):
        return f"the field '{name}' holds itself, by a YAML alias (*) inside its own anchor (&)"
    if len(around) > _DEPTH_MAX:
        return f"the field '{name.partition('.')[0]}' is nested more than {_DEPTH_MAX} deep"
    if isinstance(value, Mapping):
        items: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        plain = value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
        return None if plain else f"the field '{name}' must be a finite number, a text, true, false or a list"
    inside = ((f"{name}.{key}".lstrip("."), child) for key, child in items)
    return next((found for below, child in inside if (found := _not_json(child, below, (*around, value)))), None)


def _field_names(cls: type) -> list[str]:
    if issubclass(cls, BaseModel):
        return [] if cls.model_config.get("extra") == "allow" else list(cls.model_fields)
    return list(getattr(cls, "__dataclass_fields__", ()))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RecipeError(f"The file {path} cannot be read ({error.strerror}); check the path.") from error
    except _NOT_YAML as error:
        problem = " ".join(str(error).split())
        raise RecipeError(f"{path} is not valid YAML: {problem}; correct it there.") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} must hold fields such as 'task:' and 'model:', got {type(values).__name__}.")
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set takes key=value, such as train.epochs=5, got '{override}'.")
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"--set {override}: '{parent}' is a single value and has no fields below it.")
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except _NOT_YAML as error:
        shown = override if len(override) <= 100 else f"{override[:99]}…"
        raise RecipeError(f"--set {shown}: the value is not valid YAML.") from error


def _sentence(error: ValidationError, cls: type) -> str:
    """The first problem of a pydantic error in one sentence; an unknown field goes first, it explains missing ones."""
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"the field '{where}' is missing."
    if first["type"] == "extra_forbidden":
        *parents, name = (str(part) for part in first["loc"])
        for parent in parents:
            cls = _below(cls, parent)
        return f"unknown field '{name}' under '{'.'.join(parents)}'{_suggest(name, _field_names(cls))}."
    if first["type"] in _EXPECTED:
        return f"the field '{where}' is wrong: {_EXPECTED[first['type']]}, got {repr(first['input'])[:80]}."
    if first["type"] == "value_error":  # the settings' own sentence, usually about several fields
        return f"{where}: {first['ctx']['error']}." if where else f"{first['ctx']['error']}."
    reason = first["msg"][0].lower() + first["msg"][1:]
    return f"the field '{where}' is wrong: {reason}, got {repr(first['input'])[:80]}."


def _below(cls: type, field: str) -> type:
    """The model that `field` of `cls` holds, alone, or null, or in a list; for a place in a list, `cls` itself."""
    if field.isdecimal():
        return cls
    annotation: Any = cast(type[BaseModel], cls).model_fields[field].annotation
    return cast(type, next((part for part in get_args(annotation) if isinstance(part, type)), annotation))


def _suggest(wrong: object, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(str(wrong), names, n=1)
    hint = f"; did you mean '{close[0]}'" if close else ""
    return f"{hint}; known: {', '.join(names) or 'none'}"
