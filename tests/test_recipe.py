from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from edgeattn import data, models, recipe, tasks
from edgeattn.artifact import Precision
from edgeattn.errors import RecipeError
from edgeattn.recipe import load_recipe, load_target, parse_settings, recipe_names, target_names

ROOT = Path(__file__).parent.parent
LEAST = {
    "task": "classify",
    "model": {"name": "se_resnet", "depth": 20},
    "input": {"height": 32, "width": 32},
    "data": {"format": "scenes", "size": 64},
    "train": {"epochs": 3},
}


@pytest.fixture
def write(tmp_path):
    def write(values=None, **changes):
        path = tmp_path / "mine.yaml"
        text = values if isinstance(values, str) else yaml.safe_dump({**LEAST, **changes})
        path.write_text(text)
        return str(path)

    return write


def refused(path, overrides=()):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return str(caught.value).replace(path, "FILE") if path.endswith(".yaml") else str(caught.value)


def test_the_least_recipe_gets_its_defaults(write):
    found = load_recipe(write())
    assert found.name == "mine"
    assert found.model.settings == {"depth": 20}
    assert found.data.settings == {"size": 64}
    assert found.variants == (Precision.FP32, Precision.BF16, Precision.FP16, Precision.INT8)
    assert (found.train.epochs, found.train.ema_decay, found.seed) == (3, None, 0)
    assert (found.metric, found.weights) == (None, None)
    assert (found.input.fit, found.input.overlap) == ("crop", 32)
    assert (found.train.augment.vertical_flip, found.train.augment.noise) == (False, 0.0)
    assert found.budget.metric_drop_max is None
    assert hash(found.train) == hash(load_recipe(write()).train)


FIELDS = "name, task, model, input, data, train, export, quantize, variants, leave_out, measure, budget, metric"
FIELDS += ", weights, seed"
TRAIN = (
    "epochs, batch_size, optimizer, learning_rate, weight_decay, warmup, label_smoothing, ema_decay, precision, augment"
)
FINITE = "must be a finite number, a text, true, false or a list."
WRONG = {
    "unknown": ({"modle": 1}, f"unknown field 'modle'; did you mean 'model'; known: {FIELDS}."),
    "unknown, like nothing": ({"zzz": 1}, f"unknown field 'zzz'; known: {FIELDS}."),
    "unknown below": (
        {"train": {"epocs": 3}},  # 'epochs' is missing too, but that is what the typing error explains
        f"unknown field 'epocs' under 'train'; did you mean 'epochs'; known: {TRAIN}.",
    ),
    "unknown two below": (
        {"train": {"epochs": 1, "augment": {"flp": True}}},
        "unknown field 'flp' under 'train.augment'; did you mean 'flip'; known: flip, vertical_flip, shift, "
        "scale, rotate, light, contrast, noise, erase.",
    ),
    "a number as a field": ({3: 1}, f"unknown field '3'; known: {FIELDS}."),
    "missing below": ({"train": {}}, "the field 'train.epochs' is missing."),
    "a text for a number": (
        {"train": {"epochs": "many"}},
        "the field 'train.epochs' is wrong: input should be a valid integer, unable to parse string as an integer, "
        "got 'many'.",
    ),
    "a fraction for an integer": (
        {"train": {"epochs": 1.5}},
        "the field 'train.epochs' is wrong: input should be a valid integer, got a number with a fractional part, "
        "got 1.5.",
    ),
    "too small": (
        {"train": {"epochs": 0}},
        "the field 'train.epochs' is wrong: input should be greater than 0, got 0.",
    ),
    "too large": (
        {"input": {"height": 5000, "width": 32}},
        "the field 'input.height' is wrong: input should be less than or equal to 4096, got 5000.",
    ),
    "not one of": (
        {"variants": ["fp32", "int9"]},
        "the field 'variants.1' is wrong: input should be 'fp32', 'bf16', 'fp16' or 'int8', got 'int9'.",
    ),
    "not a way to fit": (
        {"input": {"height": 32, "width": 32, "fit": "tiles"}},
        "the field 'input.fit' is wrong: input should be 'stretch', 'crop', 'letterbox' or 'tile', got 'tiles'.",
    ),
    "a negative overlap": (
        {"input": {"height": 32, "width": 32, "fit": "tile", "overlap": -1}},
        "the field 'input.overlap' is wrong: input should be greater than or equal to 0, got -1.",
    ),
    "too much noise": (
        {"train": {"epochs": 1, "augment": {"noise": 101}}},
        "the field 'train.augment.noise' is wrong: input should be less than or equal to 100, got 101.",
    ),
    "no list": ({"variants": "fp32"}, "the field 'variants' is wrong: it takes a list such as [a, b], got 'fp32'."),
    "no fields": ({"train": 3}, "the field 'train' is wrong: it has fields of its own, got 3."),
    "nothing": ({"model": None}, "the field 'model' is wrong: it has fields of its own, got None."),
    "more epochs than anyone has": (
        {"train": {"epochs": 1_000_001}},
        "the field 'train.epochs' is wrong: input should be less than or equal to 1000000, got 1000001.",
    ),
    "a larger batch than anyone has": (
        {"train": {"epochs": 1, "batch_size": 65_537}},
        "the field 'train.batch_size' is wrong: input should be less than or equal to 65536, got 65537.",
    ),
    "more threads than anyone has": (
        {"measure": {"threads": 1025}},
        "the field 'measure.threads' is wrong: input should be less than or equal to 1024, got 1025.",
    ),
    "negative seed": ({"seed": -1}, "the field 'seed' is wrong: input should be greater than or equal to 0, got -1."),
    "large seed": ({"seed": 2**32}, "the field 'seed' is wrong: input should be less than 4294967296, got 4294967296."),
    "infinite": ({"train": {"epochs": 1, "learning_rate": float("inf")}}, f"the field 'train.learning_rate' {FINITE}"),
    "not a number": ({"budget": {"sqnr_db_min": float("nan")}}, f"the field 'budget.sqnr_db_min' {FINITE}"),
    "infinite, as a text": (
        {"budget": {"sqnr_db_min": "inf"}},
        "the field 'budget.sqnr_db_min' is wrong: input should be a finite number, got 'inf'.",
    ),
    "infinite among unknown fields": (
        {"model": {"name": "x", "sides": [1.0, float("inf")]}},
        f"the field 'model.sides.1' {FINITE}",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_field_has_its_sentence(case, write):
    changes, sentence = WRONG[case]
    assert refused(write(yaml.safe_dump({**LEAST, **changes}))) == f"FILE: {sentence}"


ITSELF = "holds itself, by a YAML alias (*) inside its own anchor (&)."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("variants: &a [fp32, *a]", f"FILE: the field 'variants.1' {ITSELF}"),
        ("model: &a {name: x, sides: [{deep: *a}]}", f"FILE: the field 'model.sides.0.deep' {ITSELF}"),
        ("&a {name: *a}", f"FILE: the field 'name' {ITSELF}"),
        ("model: " + "[" * 33 + "]" * 33, "FILE: the field 'model' is nested more than 32 deep."),
    ],
)
def test_a_field_that_never_ends(text, sentence, write):
    assert refused(write(text)) == sentence


def test_brackets_in_brackets_by_the_thousand(write):
    assert refused(write("model: " + "[" * 5000 + "]" * 5000)).startswith("FILE is not valid YAML: ")


def test_an_anchor_used_twice_is_no_circle(write):
    path = write(yaml.safe_dump(LEAST) + "variants: [&a fp32]\nquantize: {candidates: &b [minmax]}\n")
    assert load_recipe(path, ["model.sides=[&a [8, 16], *a]"]).model.settings["sides"] == [[8, 16], [8, 16]]


def test_a_target_has_no_more_threads_than_anyone_has():
    least = {"name": "t", "title": "t", "backend": "openvino", "precisions": ["fp32"]}
    assert parse_settings(recipe.Target, {**least, "threads": 1024}, "t.yaml").threads == 1024
    with pytest.raises(RecipeError, match="'threads' is wrong: input should be less than or equal to 1024, got 1025"):
        parse_settings(recipe.Target, {**least, "threads": 1025}, "t.yaml")


def test_missing_at_the_top(write):
    assert refused(write(yaml.safe_dump({k: v for k, v in LEAST.items() if k != "task"}))) == (
        "FILE: the field 'task' is missing."
    )


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: [1", "FILE is not valid YAML: while parsing a flow sequence"),
        ("a: \x00", "FILE is not valid YAML: unacceptable character"),
        ("a: 2026-13-01", "FILE is not valid YAML: month must be in 1..12"),
        ("- 1", "FILE must hold fields such as 'task:' and 'model:', got list."),
        ("", "FILE must hold fields such as 'task:' and 'model:', got NoneType."),
    ],
)
def test_not_a_recipe_at_all(text, start, write):
    assert refused(write(text)).startswith(start)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"task: \xff\xfe")
    assert "is not valid YAML" in refused(str(path))


def test_a_file_that_is_not_there(tmp_path):
    missing = "The file FILE cannot be read (No such file or directory); check the path."
    assert refused(str(tmp_path / "no.yaml")) == missing
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot be read (Is a directory)" in refused(str(tmp_path / "folder.yaml"))


def test_unknown_recipes_and_targets_list_the_known_ones(monkeypatch):
    monkeypatch.chdir(ROOT)
    known = ", ".join(recipe_names())
    assert refused("digit_scene") == (
        f"There is no recipe 'digit_scene' in pipelines/; did you mean 'digit_scenes'; known: {known}; give one of "
        "those names or a path ending in .yaml."
    )
    with pytest.raises(
        RecipeError, match=f"There is no target 'cpuu'; did you mean 'cpu'; known: .*{target_names()[-1]}"
    ):
        load_target("cpuu")
    with pytest.raises(RecipeError, match=r"There is no target '\.\./recipe'"):
        load_target("../recipe")


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.epochs=5", lambda r: r.train.epochs == 5),
        ("train.learning_rate=1e-3", lambda r: r.train.learning_rate == 0.001),
        ("train.augment.flip=true", lambda r: r.train.augment.flip is True),
        ("train.ema_decay=null", lambda r: r.train.ema_decay is None),
        ("variants=[int8, fp32]", lambda r: r.variants == (Precision.INT8, Precision.FP32)),
        ("quantize.candidates=[minmax]", lambda r: r.quantize.candidates == ("minmax",)),
        ("model.depth=32", lambda r: r.model.settings == {"depth": 32}),
        ("metric=top1", lambda r: r.metric == "top1"),
        ("weights=pipelines/weights/mine", lambda r: r.weights == "pipelines/weights/mine"),
        ("input.overlap=8", lambda r: r.input.overlap == 8),
        ("model.name=my.net", lambda r: r.model.name == "my.net"),
        ("model.name=other", lambda r: r.model.name == "other"),
        ("data.path=a=b", lambda r: r.data.settings["path"] == "a=b"),
        ("name=a: b", None),
    ],
)
def test_overrides(override, read, write):
    if read is None:
        assert "'name'" in refused(write(), [override])
    else:
        assert read(load_recipe(write(), [override]))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.epochs", "--set takes key=value, such as train.epochs=5, got 'train.epochs'."),
        ("=5", "--set takes key=value, such as train.epochs=5, got '=5'."),
        ("task.name=5", "--set task.name=5: 'task' is a single value and has no fields below it."),
        ("train.epochs=[1", "--set train.epochs=[1: the value is not valid YAML."),
        ("variants=&a [*a]", f"FILE: the field 'variants.0' {ITSELF}"),
        ("train.epochs=2026-13-01", "--set train.epochs=2026-13-01: the value is not valid YAML."),
        ("train.epocs=5", f"FILE: unknown field 'epocs' under 'train'; did you mean 'epochs'; known: {TRAIN}."),
    ],
)
def test_wrong_overrides(override, sentence, write):
    assert refused(write(), [override]) == sentence


def test_later_overrides_win_and_the_seed_option_beats_the_file(write):
    path = write(seed=4)
    assert load_recipe(path).seed == 4
    assert load_recipe(path, seed=0).seed == 0
    assert load_recipe(path, ["train.epochs=5", "train.epochs=6"]).train.epochs == 6


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_understood_to_its_last_field(path):
    found = load_recipe(str(path))
    tasks.find(found.task)
    model, format_ = models.find(found.model.name), data.find(found.data.format)
    assert found.task == model.TASK
    parse_settings(model.Settings, found.model.settings, "model")
    parse_settings(format_.Settings, found.data.settings, "data")


@pytest.mark.parametrize("name", target_names())
def test_every_shipped_target_is_understood(name):
    found = load_target(name)
    assert found.name == {"jetson": "jetson-orin-nano"}.get(name, name)
    assert found.precisions[0] is Precision.FP32
    assert found.title


@dataclass(frozen=True)
class Settings:
    sides: tuple[int, ...] = (8, 16)
    ratio: float = 2.0

    def __post_init__(self):
        if self.ratio > max(self.sides):
            raise ValueError("ratio must not exceed every side")


def test_settings_of_one_part():
    assert parse_settings(Settings, {"sides": [4, 2], "ratio": "1e-1"}, "part") == Settings((4, 2), 0.1)
    for values, sentence in [
        ({"side": 3}, "part: unknown field 'side'; did you mean 'sides'; known: sides, ratio."),
        ({"sides": 3}, "part: the field 'sides' is wrong: it takes a list such as [a, b], got 3."),
        ({"sides": [4, "x"]}, "part: the field 'sides.1' is wrong: input should be a valid integer"),
        ({"ratio": 17}, "part: ratio must not exceed every side."),
    ]:
        with pytest.raises(RecipeError) as caught:
            parse_settings(Settings, values, "part")
        assert str(caught.value).startswith(sentence)


def test_what_is_parsed_cannot_be_changed(write):
    found = load_recipe(write())
    with pytest.raises(Exception, match="frozen"):
        found.seed = 3
    assert recipe.TARGETS.is_dir()
