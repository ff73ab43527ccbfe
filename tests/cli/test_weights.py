"""`edgeattn weights`: which runs it takes a network from, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeattn.artifact import WEIGHT_FILES, folder_sha256, sha256_file

ARGUMENTS = ("--out", "kept", "--licence", "free")


@pytest.fixture
def run(tool):
    """A folder with the report of a run whose trained network lies in `store/`; `change(report)` spoils it."""
    store = tool.folder / "store"
    store.mkdir()
    for name in WEIGHT_FILES:
        (store / name).write_text(name)
    (store / "manifest.json").write_text("{}")

    def make(change=lambda found: None):
        artifact = {"path": str(store), "sha256": folder_sha256(store), "size_bytes": 9}
        found = {
            "recipe": "mine",
            "git": None,
            "created": "2026-11-20T18:28:00+00:00",
            "seed": 0,
            "data": {"eval_sha256": "e"},
            "host": {"cpu": "c", "cores": 2, "python": "3"},
            "training": {"seconds": 3.5, "weights": None},
            "rows": [{"stage": "train", "artifact": artifact, "metric": None}],
        }
        change(found)
        return found

    return make


@pytest.fixture
def weights(within, run, monkeypatch):
    def call(change=lambda found: None):
        monkeypatch.setattr("edgeattn.report.load", lambda folder: run(change))
        return within("weights", "reports/mine", *ARGUMENTS)

    return call


def test_the_network_and_where_it_is_from(weights, tool):
    assert weights().code == 0
    kept = tool.folder / "kept"
    assert sorted(file.name for file in kept.iterdir()) == sorted([*WEIGHT_FILES, "provenance.json"])
    provenance = json.loads((kept / "provenance.json").read_text())
    assert provenance["files"] == {name: sha256_file(kept / name) for name in WEIGHT_FILES}
    assert (provenance["data"], provenance["licence"]) == ({"eval_sha256": "e"}, "free")


@pytest.mark.parametrize(
    ("training", "gpu"),
    [({}, {}), ({"gpu": None}, {}), ({"gpu": "NVIDIA H100 80GB HBM3"}, {"gpu": "NVIDIA H100 80GB HBM3"})],
    ids=["a report of before", "on the CPU", "on a GPU"],
)
def test_the_machine_that_trained_them(weights, tool, training, gpu):
    assert weights(lambda found: found["training"].update(training)).code == 0
    provenance = json.loads((tool.folder / "kept/provenance.json").read_text())
    assert provenance["host"] == {"cpu": "c", "cores": 2, "python": "3", **gpu}


def _spoil(found):
    """What a later `--force` leaves: other files where the report says that its own are."""
    (Path(found["rows"][0]["artifact"]["path"]) / "weights.safetensors").write_text("trained again")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda found: found["training"].update(weights="pipelines/weights/mine"),
            "The run in reports/mine did not train its weights but took them from pipelines/weights/mine; use those, "
            "or train with --set weights=null.",
        ),
        (
            lambda found: found["rows"][0]["artifact"].update(path=None),
            "The report in reports/mine does not say where its trained network is; run the command in its report again "
            "with its store.",
        ),
        (_spoil, "are not those that the run in reports/mine measured; run the command in its report again"),
        (lambda found: found["rows"].clear(), "The run in reports/mine trained nothing;"),
    ],
    ids=["given weights", "no path", "other files", "no training"],
)
def test_what_is_no_network_of_this_run(weights, tool, change, says):
    ended = weights(change)
    assert ended.code == 2
    assert says in ended.error
    assert not (tool.folder / "kept").exists()
