"""Changing one setting makes again exactly what depends on it; `--force` makes all of it again, and the same."""

from __future__ import annotations

import json

import pytest


def made(store, listed, before):
    """Names of the artifacts that were not there before."""
    return sorted(name for name, folder in listed(store).items() if folder not in before)


LATENCY = ["check/latency-export", "check/latency-train"]
TRAINED = ["check/accuracy-train/fp32+", "check/latency-train+", "train/fp32+"]
CHANGES = {
    "budget": ("deploy", "budget.metric_drop_max=99", []),
    "nothing": ("deploy", "measure.threads=1", []),
    "latency_seconds": ("export", "measure.latency_seconds=0.06", [f"{name}+" for name in LATENCY]),
    "candidates": (
        "compile",
        "quantize.candidates=[mean-minmax]",
        [
            "check/accuracy-compile/int8+",
            "check/accuracy-quantize/int8+",
            "check/latency-compile+",
            "check/latency-quantize+",
            "compile/int8+",
            "quantize/int8+",
        ],
    ),
    # The graph is the same graph, so nothing behind it runs again.
    "parity": ("compile", "export.parity_db_min=70", ["export/fp32+"]),
    "epochs": ("train", "train.epochs=1", TRAINED),
    "seed": ("train", "seed=1", sorted(["check/data+", *TRAINED])),
}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "override", "expected"), CHANGES.values(), ids=CHANGES)
def test_what_depends_on_a_setting(tool, store, listed, state, command, override, expected):
    before = set(listed(store).values())
    files = state(store / "artifacts")
    ended = tool(command, "tiny.yaml", "--store", store, "--out", "out", "--set", override)
    assert ended.code == 0, ended.err
    assert made(store, listed, before) == expected
    now = state(store / "artifacts")
    assert {name: now[name] for name in files} == files, "what was there has changed"
    values = json.loads((tool.folder / "out/report.json").read_text())
    built = {name.rstrip("+") for name in expected}
    for row in values["rows"]:
        name = f"{row['stage']}/{row['variant']}"
        touched = {name, f"check/accuracy-{name}", f"check/latency-{row['stage']}"} & built
        if row["status"] != "unsupported":
            assert row["status"] == ("ok" if touched else "cached"), name


@pytest.mark.slow
def test_force_makes_everything_again_and_the_same(deployed, tool, store, listed, state):
    before = state(store / "artifacts")
    ended = tool("compile", "tiny.yaml", "--store", store, "--out", "out", "--force", "--set", "variants=[int8]")
    assert ended.code == 0, ended.err
    values = json.loads((tool.folder / "out/report.json").read_text())
    first = {(row["stage"], row["variant"]): row for row in deployed.report["rows"]}
    for row in values["rows"]:
        same = first[row["stage"], row["variant"]]
        assert row["status"] == "ok"
        assert row["artifact"]["sha256"] == same["artifact"]["sha256"], (row["stage"], row["variant"])
        assert (row["metric"], row["drift"]) == (same["metric"], same["drift"])
        assert row["latency"]["p50_ms"] != same["latency"]["p50_ms"]
    assert len(values["rows"]) == 4
    now = state(store / "artifacts")
    again = {name.split("/")[0] for name, entry in now.items() if before.get(name) not in (None, entry)}
    assert again == {"train", "export", "quantize", "compile", "check"}


def test_an_altered_artifact_is_made_again(deployed, tool, store, listed):
    """Its content no longer matches its manifest; made again it is the same, so what was measured on it stays."""
    engine = listed(store)["compile/int8"] / "engine.blob"
    whole = engine.read_bytes()
    engine.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out")
    assert ended.code == 0, ended.err
    assert engine.read_bytes() == whole
    values = json.loads((tool.folder / "out/report.json").read_text())
    again = {f"{row['stage']}/{row['variant']}" for row in values["rows"] if row["status"] == "ok"}
    assert again == {"compile/int8"}
    assert values["verdict"] == deployed.report["verdict"]
