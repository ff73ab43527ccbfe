"""What is said of given weights: by their provenance, which must be theirs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from edgeattn.artifact import PROVENANCE, WEIGHT_FILES, sha256_file
from edgeattn.pipeline import given

TAKEN = "Not trained in this run: the weights were taken from {}."
OTHER = (
    "They were trained for another evaluation split; whether images that are evaluated on here were trained on is not "
    "recorded."
)
UNKNOWN = "What they were trained on is unknown, so that images that are evaluated on here may have been trained on."


@pytest.fixture
def weights(tmp_path):
    for name in WEIGHT_FILES:
        (tmp_path / name).write_text(name)
    files = {name: sha256_file(tmp_path / name) for name in WEIGHT_FILES}
    (tmp_path / PROVENANCE).write_text(
        json.dumps({"data": {"eval_sha256": "mine", "eval_origins_sha256": "photos"}, "files": files})
    )
    return tmp_path


def notes(folder, monkeypatch, split="mine", photos="photos"):
    record = SimpleNamespace(json=lambda name: {"eval_sha256": split, "eval_origins_sha256": photos})
    monkeypatch.setattr(given, "data_record", lambda context: record)
    return given.notes(SimpleNamespace(recipe=SimpleNamespace(weights=folder and str(folder))))


def test_of_weights_that_were_trained_here_there_is_nothing_to_say(monkeypatch):
    assert notes(None, monkeypatch) == ()


@pytest.mark.parametrize(
    ("split", "photos", "said"),
    [
        ("mine", "photos", ()),
        ("another", "photos", ("They were trained for other samples of the same held-back images.",)),
        ("another", "others", (OTHER,)),
    ],
)
def test_the_split_that_they_were_trained_for(weights, monkeypatch, split, photos, said):
    assert notes(weights, monkeypatch, split, photos) == (TAKEN.format(weights), *said)


def test_weights_of_before_images_were_recorded(weights, monkeypatch):
    provenance = json.loads((weights / PROVENANCE).read_text())
    del provenance["data"]["eval_origins_sha256"]
    (weights / PROVENANCE).write_text(json.dumps(provenance))
    assert notes(weights, monkeypatch) == (TAKEN.format(weights),)
    assert notes(weights, monkeypatch, "another") == (TAKEN.format(weights), OTHER)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / PROVENANCE).unlink(),
        lambda folder: (folder / PROVENANCE).write_bytes(b"\xff"),
        lambda folder: (folder / PROVENANCE).write_text("{}"),
        lambda folder: (folder / PROVENANCE).write_text("[]"),
        lambda folder: (folder / "weights.safetensors").write_text("of another training"),
    ],
    ids=["absent", "no text", "empty", "a list", "of other weights"],
)
def test_weights_that_nothing_is_known_of(weights, monkeypatch, spoil):
    spoil(weights)
    assert notes(weights, monkeypatch) == (TAKEN.format(weights), UNKNOWN)
