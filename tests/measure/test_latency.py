import json
import os
from pathlib import Path

import numpy as np
import pytest

from edgeattn.errors import (
    BundleError,
    DataError,
    EdgeattnError,
    MachineError,
    MissingLibrary,
    ModelError,
    StorageError,
)
from edgeattn.measure.candidate import Candidate
from edgeattn.measure.latency import (
    MAX_SAMPLES,
    measure_latency,
    plan_rounds,
    schedule,
    summarize_rounds,
)

MS = 1_000_000
FRAMES = [({"frame": np.zeros((1, 2, 2, 3), np.uint8)},), ({"frame": np.ones((1, 2, 2, 3), np.uint8)},)]


@pytest.mark.parametrize(
    ("typical_ms", "seconds", "rounds", "calls"),
    [
        ({"a": 2, "b": 20}, 5.0, 25, {"a": 100, "b": 10}),
        ({"a": 4, "b": 20}, 5.0, 25, {"a": 50, "b": 10}),
        ({"a": 50}, 3.0, 20, {"a": 10}),  # never fewer than 20 rounds of 10
        ({"a": 250}, 3.0, 20, {"a": 2}),  # but of as many as half a second holds
        ({"a": 900}, 3.0, 20, {"a": 1}),
        ({"a": 0.001}, 3.0, 50, {"a": 100}),  # nor more than 50 of 100
        ({"a": 1, "b": 500}, 3.0, 20, {"a": 100, "b": 1}),
    ],
)
def test_plan(typical_ms, seconds, rounds, calls):
    plan = plan_rounds({name: ms * MS for name, ms in typical_ms.items()}, seconds)
    assert (plan.rounds, dict(plan.calls)) == (rounds, calls)


def test_every_round_visits_everyone_in_a_fresh_seeded_order():
    orders = schedule(["a", "b", "c"], 50, seed=1)
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert orders == schedule(["a", "b", "c"], 50, seed=1) != schedule(["a", "b", "c"], 50, seed=2)


def summarize(rounds, **changes):
    names = list(rounds)
    settings = {
        "reference": names[0],
        "parents": {},
        "threads": dict.fromkeys(names, 2),
        "protocols": {name: f"how {name} was measured" for name in names},
        "throttled": None,
        "peak_rss_bytes": dict.fromkeys(names, 123_456_789),
        "seed": 0,
    }
    return summarize_rounds(rounds, **{**settings, **changes})


def test_summary_by_hand():
    rounds = {
        "ref": [[2 * MS, 2 * MS], [4 * MS, 4 * MS], [2 * MS, 2 * MS]],
        "fast": [[1 * MS, 1 * MS], [2 * MS, 2 * MS], [1 * MS, 3 * MS]],
    }
    latency = summarize(rounds, parents={"fast": ["ref"]})["fast"]
    # Sorted: 1 1 1 2 2 3; p90 stands at 4.5, p99 at 4.95. Medians per round 1, 2, 2 of 2, 4, 2: ratios 0.5, 0.5, 1.
    assert latency.n == 6
    assert latency.p50_ms == pytest.approx(1.5)
    assert latency.p90_ms == pytest.approx(2.5)
    assert latency.p99_ms == pytest.approx(2.95)
    assert latency.mean_ms == pytest.approx(10 / 6)
    assert latency.min_ms == 1.0
    assert latency.ratio_to_reference == pytest.approx(0.5)
    assert latency.ratio_ci95 == pytest.approx((0.5, 1.0))
    assert latency.samples_ms == (1.0, 1.0, 2.0, 2.0, 1.0, 3.0)
    assert latency.memory.peak_rss_mb == 123.5
    assert (latency.parent.variant, latency.parent.ratio) == ("ref", pytest.approx(0.5))


def test_the_reference_is_once_itself_and_the_parent_may_be_another():
    rounds = {"ref": [[4 * MS]] * 20, "float": [[2 * MS]] * 20, "int8": [[1 * MS]] * 20}
    result = summarize(rounds, parents={"int8": ["float"]})
    assert result["ref"].ratio_to_reference == 1.0
    assert result["ref"].ratio_ci95 == (1.0, 1.0)
    assert result["ref"].parent is None
    assert result["int8"].ratio_to_reference == pytest.approx(0.25)
    assert result["int8"].parent.ratio == pytest.approx(0.5)
    assert result["int8"].parent.ratio_ci95 == pytest.approx((0.5, 0.5))


def test_of_several_parents_it_is_the_fastest():
    """On a CPU without FP16 arithmetic FP16 is the slowest float form: twice as fast as that is no achievement."""
    rounds = {"ref": [[8 * MS]] * 20, "fp16": [[4 * MS]] * 20, "bf16": [[2 * MS]] * 20, "int8": [[2 * MS]] * 20}
    parent = summarize(rounds, parents={"int8": ["fp16", "bf16", "ref"]})["int8"].parent
    assert (parent.variant, parent.ratio) == ("bf16", pytest.approx(1.0))


def test_one_terrible_call_is_kept():
    latency = summarize({"ref": [[MS] * 10 for _ in range(19)] + [[MS] * 9 + [5000 * MS]]})["ref"]
    assert latency.n == 200
    assert latency.mean_ms == pytest.approx((199 + 5000) / 200)
    # p99 stands at 197.01 of 0..199, still 1 ms; the mean and the ratio's medians show why both are reported.
    assert latency.p99_ms == 1.0
    assert 5000.0 in latency.samples_ms


def test_the_sample_is_seeded_and_bounded():
    rounds = {"ref": (100 * np.random.default_rng(0).integers(10_000, 20_000, (50, 20))).tolist()}
    samples = summarize(rounds)["ref"].samples_ms
    assert len(samples) == MAX_SAMPLES
    assert samples == summarize(rounds)["ref"].samples_ms != summarize(rounds, seed=1)["ref"].samples_ms
    assert set(samples) <= {round(ns / MS, 4) for turn in rounds["ref"] for ns in turn}


def test_dictionary_has_the_contracts_fields_and_no_zero_for_the_unknown():
    latency = summarize({"ref": [[MS]] * 3}, peak_rss_bytes={"ref": None})["ref"]
    fields = json.loads(json.dumps(latency.to_dict(), allow_nan=False))
    contract = "threads batch n p50_ms p90_ms p99_ms mean_ms min_ms ratio_to_reference ratio_ci95 throttled engine_only"
    assert set(contract.split()) <= set(fields)
    assert (fields["threads"], fields["batch"], fields["engine_only"]) == (2, 1, False)
    assert fields["throttled"] is None
    assert fields["protocol"] == "how ref was measured"
    assert latency.memory.to_dict() == {"peak_rss_mb": None}
    assert "memory" not in fields


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Measures the named fake entries; `measure.reaped()` says whether every process they started is gone."""
    monkeypatch.syspath_prepend(Path(__file__).parent)

    def run(*entries, own=None, shared=FRAMES, **settings):
        candidates = [Candidate(e, f"fake_runners:{e}", tmp_path, threads=2, frames=own) for e in entries]
        settings = {"reference": entries[0], "parents": {}, "seconds": 0.01, **settings}
        return measure_latency(candidates, shared, **settings)

    def reaped():
        pids = [int(file.name) for file in tmp_path.iterdir()]
        assert pids
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)  # succeeds for a zombie, too
        return True

    run.reaped = reaped
    return run


@pytest.mark.serial
def test_interleaved_processes(measure):
    messages = []
    measured = measure("fast", "slow", parents={"slow": ["fast"]}, seed=4, progress=messages.append)
    assert measured.failed == {}
    result = measured.latencies
    fast, slow = result["fast"], result["slow"]
    assert fast.n >= 200
    assert slow.n == 200
    assert slow.ratio_to_reference > 1
    assert slow.ratio_ci95[0] > 1
    assert slow.parent.variant == "fast"
    assert fast.min_ms >= 1.0
    assert slow.min_ms >= 4.0
    assert fast.min_ms <= fast.p50_ms <= fast.p90_ms <= fast.p99_ms
    assert 10 < fast.memory.peak_rss_mb < 1000
    for part in ("20 interleaved rounds", "seed 4", "10 recorded", "threads: 2", "batch 1", "2 evaluation frame(s)"):
        assert part in slow.protocol
    assert any("round 20 of 20" in message for message in messages)
    assert measure.reaped()


def test_the_protocol_counts_the_frames_that_were_really_used(measure):
    own = tuple(({"frame": np.zeros((1, 2, 2, 3), np.uint8)},) for _ in range(5))
    assert "batch 1; 5 evaluation frame(s) in turn; perf" in measure("fast", own=own).latencies["fast"].protocol


@pytest.mark.serial
def test_a_frame_of_several_calls_is_timed_as_one(measure):
    """Four tiles of 1 ms each are a frame of 4 ms; `n` counts frames."""
    tile = {"frame": np.zeros((1, 2, 2, 3), np.uint8)}
    result = measure("fast", shared=[(tile,) * 4] * 2).latencies["fast"]
    assert (result.n, result.min_ms >= 4.0) == (200, True)
    assert (
        "2 evaluation frame(s) in turn, each in 4 engine calls (its tiles) that are timed together" in result.protocol
    )


def test_two_inputs_reach_the_worker_together(measure):
    frames = [np.full((1, 2, 2, 3), i, np.uint8) for i in range(3)]
    pairs = [({"a": frame, "b": frame + np.uint8(7)},) for frame in frames]
    result = measure("two_inputs", shared=pairs).latencies["two_inputs"]
    assert result.n >= 200
    assert "3 evaluation frame(s)" in result.protocol
    assert measure.reaped()


@pytest.mark.serial
def test_memory_is_that_of_each_process_alone(measure):
    result = measure("fast", "ballast").latencies
    assert result["ballast"].memory.peak_rss_mb - result["fast"].memory.peak_rss_mb == pytest.approx(160, abs=25)


def board(root, **files):
    """A file system that tells of a power monitor and of a cooling device."""
    told = {
        **{"hwmon/hwmon0/name": "ina3221", "hwmon/hwmon0/in1_label": "VDD_IN", "hwmon/hwmon0/in1_input": 5000},
        **{"hwmon/hwmon0/curr1_input": 1200, "thermal/cooling_device0/type": "gpu-throttle-alert"},
        **{"thermal/cooling_device0/cur_state": 0, **files},
    }
    for name, content in told.items():
        path = root / "sys/class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


@pytest.mark.parametrize("state", [0, 2])
def test_a_boards_power_and_limits(measure, tmp_path_factory, state):
    """6 W: a frame of 1 ms and Python's share of it costs more than 6 mJ."""
    root = board(tmp_path_factory.mktemp("root"), **{"thermal/cooling_device0/cur_state": state})
    result = measure("fast", "slow", root=root, seconds=0.2).latencies
    for name, ms in (("fast", 1), ("slow", 4)):
        energy = result[name].energy
        assert energy["mean_w"] == 6.0
        assert 6 * ms < energy["mj_per_frame"] < 600 * ms
        assert energy["source"].startswith("VDD_IN (ina3221), ")
        assert result[name].throttled is bool(state)
    assert "energy" not in result["slow"].to_dict()


def test_a_machine_that_tells_nothing(measure, tmp_path_factory):
    result = measure("fast", root=tmp_path_factory.mktemp("root")).latencies["fast"]
    assert (result.energy, result.throttled) == (None, None)


def test_who_dies_while_its_energy_is_measured_is_left_out(measure, tmp_path_factory, monkeypatch):
    def dies(workers, typical_ns, root, *, seconds):
        assert set(typical_ns) == {"fast", "slow"}
        return {} if workers.ask("slow", "no such request") is None else {"slow": {}}

    monkeypatch.setattr("edgeattn.measure.latency.measure_energy", dies)
    measured = measure("fast", "slow")
    assert (set(measured.latencies), set(measured.failed)) == ({"fast"}, {"slow"})


@pytest.mark.parametrize(
    ("entry", "error", "exit_code", "message"),
    [
        ("refuses", BundleError, 2, "'refuses' could not be measured. It is truncated."),
        ("breaks", ModelError, 2, "RuntimeError: layer 7 exploded"),
        ("dies", MachineError, 3, "ended with code 7 while asked to load; the last it said: assertion failed"),
        ("killed", MachineError, 3, "was ended by SIGKILL"),
        ("two_inputs", ModelError, 2, "KeyError: 'b'"),
    ],
)
def test_a_reference_that_fails_is_an_error(measure, entry, error, exit_code, message):
    with pytest.raises(EdgeattnError) as caught:
        measure(entry)
    assert type(caught.value) is error
    assert caught.value.exit_code == exit_code
    assert message in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert measure.reaped()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("breaks", "'breaks' could not be measured. Running it raised RuntimeError: layer 7 exploded"),
        ("breaks_when_called", "layer 7 exploded"),
        ("breaks_when_told", "layer 7 exploded"),
        ("dies", "The process running 'dies' ended with code 7 while asked to load"),
    ],
)
def test_the_others_are_measured_when_one_fails(measure, entry, reason, tmp_path):
    """`slow` was to be compared with the one that fails; its ratio to the reference is left to it."""
    parents = {"slow": [entry], entry: ["fast"]}
    measured = measure("fast", entry, "slow", parents=parents, progress=telling(tmp_path))
    assert list(measured.failed) == [entry]
    assert reason in measured.failed[entry]
    assert list(measured.latencies) == ["fast", "slow"]
    assert measured.latencies["slow"].n == 200
    assert measured.latencies["slow"].parent is None
    assert "20 interleaved rounds" in measured.latencies["slow"].protocol
    assert measure.reaped()


def telling(folder):
    """Tells `breaks_when_told` to in the third round."""
    return lambda message: folder.with_name(f"{folder.name}.now").touch() if "round 3 of" in message else None


def test_a_reference_that_fails_while_timed_is_an_error(measure, tmp_path):
    with pytest.raises(ModelError, match="'breaks_when_told' could not be measured"):
        measure("breaks_when_told", "fast", progress=telling(tmp_path))
    assert measure.reaped()


@pytest.mark.parametrize(("entry", "error"), [("needs_a_library", MissingLibrary), ("needs_a_disk", StorageError)])
def test_what_this_machine_lacks_is_no_candidates_failure(measure, entry, error):
    with pytest.raises(error):
        measure("fast", entry)
    assert measure.reaped()


def test_a_worker_that_hangs_is_ended(measure):
    with pytest.raises(MachineError, match=r"'hangs' gave no answer within 1\.5 s while asked to load"):
        measure("hangs", timeout_s=1.5)
    assert measure.reaped()


def test_ctrl_c_reaps_everyone(measure):
    def interrupt(message):
        if "round 2" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure("fast", progress=interrupt)
    assert measure.reaped()


def test_a_crash_on_the_way_out_costs_no_measurement(measure):
    assert measure("dies_at_the_end").latencies["dies_at_the_end"].n >= 200
    assert measure.reaped()


def test_a_missing_library_is_one(tmp_path):
    candidate = Candidate("a", "no_such_module_here:load", tmp_path, 1)
    with pytest.raises(MissingLibrary, match="no_such_module_here"):
        measure_latency([candidate], FRAMES, reference="a", parents={})


@pytest.mark.parametrize(
    ("names", "reference", "parents"),
    [(["a", "a"], "a", {}), (["a"], "b", {}), (["a"], "a", {"a": ["b"]}), (["a"], "a", {"b": ["a"]})],
)
def test_names_must_be_known_and_unique(names, reference, parents, tmp_path):
    candidates = [Candidate(name, "json:load", tmp_path, 1) for name in names]
    with pytest.raises(ValueError, match="unique candidates"):
        measure_latency(candidates, FRAMES, reference=reference, parents=parents)


def test_no_frames(tmp_path):
    with pytest.raises(DataError, match="at least one"):
        measure_latency([Candidate("a", "json:load", tmp_path, 1)], [], reference="a", parents={})
