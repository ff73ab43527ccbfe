"""Killed, interrupted, or started twice: running again finishes, and what was finished is whole."""

from __future__ import annotations

import json
import shutil

import pytest

EPOCHS = 7


def assert_whole(store):
    """Every finished artifact matches its manifest."""
    from edgeattn.artifact import Stage, Store

    for folder in store.glob("artifacts/*/*"):
        assert Store(store).find(Stage(folder.parent.name), folder.name), folder


def result(tool, out="out"):
    return json.loads((tool.folder / out / "report.json").read_text())


def hashes(values):
    return {(r["stage"], r["variant"]): r["artifact"] and r["artifact"]["sha256"] for r in values["rows"]}


@pytest.mark.slow
def test_training_goes_on_where_it_was_stopped(tool):
    """Ctrl-C after an epoch, then kill -9 after a later one: the network is the one of an undisturbed training."""
    smaller = ("--set", "data.train=200", "--set", "data.evaluation=40")
    longer = ("train", "tiny.yaml", *smaller, "--set", f"train.epochs={EPOCHS}", "-v")

    def checkpoints():
        return list((tool.folder / "store/work").glob("*/last.ckpt"))

    running = tool.start(*longer, "--store", "store", "--out", "out")
    running.wait_for(lambda: bool(checkpoints()))
    running.interrupt()
    ended = running.end()
    assert ended.code == 130, ended.err
    assert ended.err.rstrip().endswith("interrupted; run the same command again to resume")
    assert "Traceback" not in ended.err and ended.out == ""
    (checkpoint,) = checkpoints()
    assert not (tool.folder / "out").exists()

    saved = checkpoint.stat().st_mtime_ns
    running = tool.start(*longer, "--store", "store", "--out", "out")
    running.wait_for(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns != saved)
    running.kill()
    assert list((tool.folder / "store").glob("artifacts/train/*")) == []
    assert_whole(tool.folder / "store")

    ended = tool(*longer, "--store", "store", "--out", "out")
    assert ended.code == 0, ended.err
    epochs = [line.split()[1] for line in ended.err.splitlines() if line.startswith("  epoch ")]
    assert epochs and not epochs[0].startswith(("1/", "2/")), epochs[0]
    assert epochs[-1].startswith(f"{EPOCHS}/{EPOCHS}")
    assert_whole(tool.folder / "store")
    assert list((tool.folder / "store/work").iterdir()) == []

    undisturbed = tool(*longer, "--store", "other", "--out", "other_out")
    assert undisturbed.code == 0
    assert hashes(result(tool)) == hashes(result(tool, "other_out"))


@pytest.mark.slow
def test_a_plain_run_beside_a_forced_one(deployed, tool, store):
    """The plain one uses what there is, and leaves alone what the forced one is at."""
    command = ("train", "tiny.yaml", "--store", store)
    forced = tool.start(*command, "--out", "out0", "--force")
    forced.wait_for(lambda: bool(list((store / "work").glob("*/train/frames.npy"))))
    forced.pause()
    try:
        left = sorted((store / "work").rglob("*"))
        plain = tool(*command, "--out", "out1")
        assert plain.code == 0, plain.err
        assert result(tool, "out1")["rows"][0]["status"] == "cached"
        assert sorted((store / "work").rglob("*")) == left
    finally:
        forced.go_on()
    ended = forced.end()
    assert ended.code == 0, ended.err
    assert result(tool, "out0")["rows"][0]["status"] == "ok"
    assert hashes(result(tool, "out0"))["train", "fp32"] == hashes(deployed.report)["train", "fp32"]
    assert_whole(store)


POINTS = {
    "quantize": (["quantize/int8"], "INT8 setting minmax"),
    "compile": (["compile/int8"], "compiling the int8 engine"),
    "accuracy": (["check/accuracy-compile/int8"], "checking the accuracy of compile/int8"),
    "latency": (["check/latency-export"], "latency: loading"),
}


@pytest.mark.parametrize(("missing", "moment"), POINTS.values(), ids=POINTS)
def test_killed_at(deployed, tool, store, listed, missing, moment):
    for name in missing:
        shutil.rmtree(listed(store)[name])
    finished = set(listed(store).values())
    running = tool.start("deploy", "tiny.yaml", "--store", store, "--out", "out")
    running.wait_for(moment)
    running.kill()
    assert running.all_gone(), "a process that the killed one had started stays"
    assert not (tool.folder / "out").exists()
    assert set(listed(store).values()) == finished
    assert_whole(store)
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out")
    assert ended.code == 0, ended.err
    values = result(tool)
    assert hashes(values) == hashes(deployed.report)
    assert values["verdict"] == deployed.report["verdict"]
    assert values["selected"] == deployed.report["selected"]
    assert_whole(store)
    assert list((store / "work").iterdir()) == []


def test_interrupted_while_engines_are_timed(tool, store, listed):
    """The processes that hold the engines hear Ctrl-C too; none of them speaks, none of them stays."""
    shutil.rmtree(listed(store)["check/latency-export"])
    running = tool.start("deploy", "tiny.yaml", "--store", store, "--out", "out")
    running.wait_for("latency: loading")
    running.interrupt()
    ended = running.end()
    assert ended.code == 130, ended.err
    assert ended.err.rstrip().endswith("interrupted; run the same command again to resume")
    assert "Traceback" not in ended.err
    assert running.all_gone()


@pytest.mark.slow
def test_two_at_the_same_time_in_one_store(tool, store, listed):
    """Everything behind the training is missing; each piece is made once, by whoever comes first."""
    for name, folder in listed(store).items():
        if not name.startswith(("train/", "check/data", "check/accuracy-train", "check/latency-train")):
            shutil.rmtree(folder)
    command = ("deploy", "tiny.yaml", "--store", store, "--set", "variants=[fp32]", "-v")
    both = [tool.start(*command, "--out", f"out{i}") for i in range(2)]
    ended = [running.end() for running in both]
    assert [e.code for e in ended] == [0, 0], ended
    for step in ("exporting to ONNX", "compiling the fp32 engine", "bundling"):
        assert sum(e.err.count(f"  {step}\n") for e in ended) == 1, step
    assert any("is being built by another process; waiting for it" in e.err for e in ended)
    assert hashes(result(tool, "out0")) == hashes(result(tool, "out1"))
    assert (tool.folder / "out0/tiny-cpu.edgeattn").read_bytes() == (
        tool.folder / "out1/tiny-cpu.edgeattn"
    ).read_bytes()
    assert not [name for name in listed(store) if name.endswith("+")]
    assert_whole(store)
