import pytest

from edgeattn.board.throttle import Throttling, Watch, counters

UNDER, AVERAGE, INSTANT = "under-voltage (oc1)", "average over-current (oc2)", "instantaneous over-current (oc3)"


def test_events_since_the_board_started(make_board):
    assert counters(make_board("orin_nano").root) == {UNDER: 0, AVERAGE: 15, INSTANT: 37}


def test_events_without_consequence_do_not_count(tree):
    tree.events(0, 1, 2, 3, enabled=0)
    assert counters(tree.root) == {}


def test_what_counted_before_is_no_throttling(make_board):
    assert Watch(make_board("orin_nano").root).result() == Throttling(False, {}, ())


def test_a_counter_that_moves(make_board):
    tree = make_board("orin_nano")
    watch = Watch(tree.root)
    tree.events(2, 0, 15, 39)
    assert watch.result() == Throttling(True, {INSTANT: 2}, ())


def test_a_limit_that_came_and_went(make_board):
    tree = make_board("orin_nano")
    watch = Watch(tree.root)
    tree.cooling(2, "gpu-throttle-alert", 1)
    watch.look()
    tree.cooling(2, "gpu-throttle-alert", 0)
    assert watch.result() == Throttling(True, {}, ("gpu-throttle-alert",))


@pytest.mark.parametrize(("first", "throttled"), [(1, True), (0, False)])
def test_a_limit_that_was_there_from_the_start(tree, first, throttled):
    tree.cooling(0, "devfreq-gpu-gpc-0", first)
    assert Watch(tree.root).result().throttled is throttled


def test_cores_of_a_pc(tree):
    for core, count in enumerate((3, 4)):
        tree.put(f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count", count)
    watch = Watch(tree.root)
    assert counters(tree.root) == {"cores slowed down for heat": 7}
    assert watch.result().throttled is False
    tree.put("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", 5)
    assert watch.result() == Throttling(True, {"cores slowed down for heat": 1}, ())


def test_a_pc_that_does_not_say(tree):
    assert Watch(tree.root).result() == Throttling(None, {}, ())
    tree.zone(0, "acpitz", 40000)  # a temperature alone tells nothing of limits
    assert Watch(tree.root).result().throttled is None
