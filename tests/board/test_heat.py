from edgeattn.board.heat import limits, over_trip, temperatures


def test_zones_that_cannot_be_read_are_left_out(make_board):
    """The GPU's gives an error, the one of CV is off."""
    assert temperatures(make_board("orin_nano").root) == {"cpu": 51.2, "soc0": 49.5, "tj": 51.2}


def test_two_zones_of_one_name(tree):
    for number in (0, 11, 2):
        tree.zone(number, "acpitz", 40000 + number)
    assert list(temperatures(tree.root)) == ["acpitz", "acpitz thermal_zone2", "acpitz thermal_zone11"]


def test_freezing_is_a_temperature(tree):
    tree.zone(0, "cpu-thermal", -5000)
    assert temperatures(tree.root) == {"cpu": -5.0}


def test_fans_and_notices_limit_nothing(make_board):
    assert limits(make_board("orin_nano").root) == {"cpu-throttle-alert": 0, "gpu-throttle-alert": 0}


def test_devices_that_slow_something(tree):
    kinds = [
        "thermal-cpufreq-0",
        "cpufreq-cpu4",
        "devfreq-gpu-gpc-0",
        "soc012-throttle-alert",
        "Processor",
        "Processor",
    ]
    for number, kind in enumerate([*kinds, "intel_powerclamp", "Fan", "iwlwifi_1"]):
        tree.cooling(number, kind, number)
    assert limits(tree.root) == {
        **{"thermal-cpufreq-0": 0, "cpufreq-cpu4": 1, "devfreq-gpu-gpc-0": 2, "soc012-throttle-alert": 3},
        **{"Processor": 4, "Processor cooling_device5": 5},
    }


def hot(tree, millidegrees, *, kind="passive", bound="gpu-throttle-alert"):
    zone = "sys/class/thermal/thermal_zone7"
    tree.zone(7, "tj-thermal", millidegrees)
    tree.put(f"{zone}/trip_point_0_type", "active")
    tree.put(f"{zone}/trip_point_0_temp", 50000)
    tree.put(f"{zone}/trip_point_1_type", kind)
    tree.put(f"{zone}/trip_point_1_temp", 99000)
    tree.put(f"{zone}/cdev0/type", bound)
    tree.put(f"{zone}/cdev0_trip_point", 1)
    return over_trip(tree.root)


def test_a_zone_over_its_trip(tree):
    assert hot(tree, 98999) == []
    assert hot(tree, 99000) == ["tj at 99.0 C (trip 99.0)"]


def test_trips_that_slow_nothing(tree):
    assert hot(tree, 99000, kind="active") == []
    assert hot(tree, 99000, bound="pwm-fan") == []


def test_a_trip_of_nothing_at_0_degrees(tree):
    """As `x86_pkg_temp` has, to be told of when it is crossed."""
    tree.zone(0, "x86_pkg_temp", 45000)
    tree.put("sys/class/thermal/thermal_zone0/trip_point_0_type", "passive")
    tree.put("sys/class/thermal/thermal_zone0/trip_point_0_temp", 0)
    assert over_trip(tree.root) == []


def test_a_pc_tells_nothing(tree):
    assert (temperatures(tree.root), limits(tree.root), over_trip(tree.root)) == ({}, {}, [])
