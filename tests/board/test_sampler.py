import json
import threading
import time

import pytest

from edgeattn.board import Sampler
from edgeattn.board.sampler import Telemetry, mean_power
from edgeattn.board.throttle import Throttling

QUIET = Throttling(None, {}, ())


@pytest.mark.parametrize(
    ("readings", "watts"),
    [
        ([], None),
        ([(5.0, 3.0)], 3.0),
        ([(0.0, 2.0), (1.0, 4.0), (3.0, 4.0)], 11 / 3),
        ([(1.0, 2.0), (1.0, 4.0)], 3.0),
        ([(0.0, 0.0), (1.0, 0.0)], 0.0),
    ],
)
def test_means_worked_by_hand(readings, watts):
    assert mean_power(readings) == (watts if watts is None else pytest.approx(watts))


def test_energy_of_a_frame():
    """2 W for 3 s are 6 J, of 100 frames 60 mJ each."""
    seen = Telemetry(3.0, 2.0, 60, "VDD_IN (ina3221)", QUIET, None)
    assert seen.energy(100) == {
        "mean_w": 2.0,
        "mj_per_frame": 60.0,
        "source": "VDD_IN (ina3221), 60 readings in 3.0 s",
    }
    assert seen.energy(0)["mj_per_frame"] is None


def test_no_reading_is_no_energy():
    assert Telemetry(3.0, None, 0, None, QUIET, None).energy(100) is None


def test_a_run_on_a_board(make_board):
    tree = make_board("orin_nano")
    with Sampler(tree.root, interval_s=0.002) as sampler:
        assert [thread.name for thread in threading.enumerate()].count("board-sampler") == 1
        tree.put("sys/class/hwmon/hwmon1/curr1_input", 2400)
        tree.put("sys/class/thermal/thermal_zone0/temp", 71000)
        tree.events(2, 1, 15, 37)
        time.sleep(0.2)
    assert all(thread.name != "board-sampler" for thread in threading.enumerate())
    seen = sampler.telemetry
    assert 6.0 < seen.mean_w <= 12.0  # the first reading was of 6 W
    assert seen.readings > 10
    assert 0.2 <= seen.seconds < 5
    assert seen.hottest_c == {"cpu": 71.0, "soc0": 49.5, "tj": 51.2}
    said = json.loads(json.dumps(seen.to_dict(), allow_nan=False))
    assert (said["throttled"], said["throttle_events"]) == (True, {"under-voltage (oc1)": 1})
    assert said["source"] == "VDD_IN (ina3221)"


def test_heat_in_between_is_seen(make_board, monkeypatch):
    monkeypatch.setattr("edgeattn.board.sampler._HEAT_EVERY_S", 0.0)
    tree = make_board("orin_nano")
    with Sampler(tree.root, interval_s=0.002) as sampler:
        tree.put("sys/class/thermal/thermal_zone10/temp", 99500)
        tree.cooling(1, "cpu-throttle-alert", 2)
        time.sleep(0.2)
        tree.put("sys/class/thermal/thermal_zone10/temp", 60000)
        tree.cooling(1, "cpu-throttle-alert", 0)
    assert sampler.telemetry.hottest_c["tj"] == 99.5
    assert sampler.telemetry.throttling.limited == ("cpu-throttle-alert",)


def test_a_meter_that_goes_dark_leaves_what_was_read(make_board):
    tree = make_board("orin_nano")
    with Sampler(tree.root) as sampler:
        (tree.root / "sys/class/hwmon/hwmon1/in1_input").unlink()
    assert (sampler.telemetry.mean_w, sampler.telemetry.readings) == (6.0, 1)


def test_a_meter_that_never_answers(make_board):
    tree = make_board("orin_nano")
    (tree.root / "sys/class/hwmon/hwmon1/in1_input").unlink()
    with Sampler(tree.root) as sampler:
        pass
    assert (sampler.telemetry.mean_w, sampler.telemetry.source) == (None, None)


def test_a_pc_gets_no_thread_and_no_guess(tree):
    with Sampler(tree.root) as sampler:
        assert all(thread.name != "board-sampler" for thread in threading.enumerate())
    seen = sampler.telemetry
    assert (seen.mean_w, seen.readings, seen.source, seen.hottest_c) == (None, 0, None, None)
    assert seen.throttling == QUIET
    assert seen.energy(10) is None


def test_what_the_block_raises_goes_on(make_board):
    sampler = Sampler(make_board("orin_nano").root)
    with pytest.raises(ValueError, match="stopped"), sampler:
        raise ValueError("stopped")
    assert sampler.telemetry.readings >= 2
    assert all(thread.name != "board-sampler" for thread in threading.enumerate())


def test_telemetry_is_there_at_the_end(tree):
    with Sampler(tree.root) as sampler, pytest.raises(RuntimeError, match="when the sampler's block has ended"):
        _ = sampler.telemetry
