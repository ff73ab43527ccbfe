import pytest

from edgeattn.board import power


@pytest.mark.parametrize(
    ("name", "watts", "source"),
    [
        ("orin_nano", 6.0, "VDD_IN (ina3221)"),  # 5 V x 1.2 A; the other two rails are inside
        # 3.2 + 0.8 + 5.0 W; VDDQ is drawn from VIN_SYS_5V0 and would count twice
        ("agx_orin", 9.0, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 (ina3221)"),
        ("thor", 31.5, "VIN (ina238)"),
    ],
)
def test_the_whole_board(make_board, name, watts, source):
    meter = power.meter(make_board(name).root)
    assert meter.watts() == pytest.approx(watts)
    assert meter.source == source


def test_every_rail_and_nothing_else(make_board):
    found = {rail.label: rail.watts() for rail in power.rails(make_board("agx_orin").root)}
    assert found == pytest.approx({"VDD_GPU_SOC": 3.2, "VDD_CPU_CV": 0.8, "VIN_SYS_5V0": 5.0, "VDDQ_VDD2_1V8AO": 1.0})


def test_thor_without_its_ina238_adds_up_what_is_left(make_board):
    tree = make_board("thor")
    tree.put("sys/class/hwmon/hwmon6/name", "gone")
    meter = power.meter(tree.root)
    assert meter.source == "VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0 (ina3221)"
    assert meter.watts() == pytest.approx(7.2 + 10.8 + 8.5)


def test_labels_nobody_heard_of_are_added_up_without_the_carrier(tree):
    tree.monitor(0, ("VDD_A", 1000, 1000), ("VDD_B", 2000, 500))
    tree.monitor(10, ("CVB_ATX_12V", 12000, 5000))
    meter = power.meter(tree.root)
    assert (meter.source, meter.watts()) == ("VDD_A + VDD_B (ina3221)", 2.0)


def test_part_of_a_sum_is_no_power(make_board):
    tree = make_board("agx_orin")
    (tree.root / "sys/class/hwmon/hwmon3/curr2_input").unlink()
    tree.unreadable("sys/class/hwmon/hwmon3/curr2_input")
    meter = power.meter(tree.root)
    assert "VDD_CPU_CV" in meter.source
    assert meter.watts() is None


@pytest.mark.parametrize("value", ["", "n/a"])
def test_what_is_no_number_is_no_power(make_board, value):
    tree = make_board("orin_nano")
    tree.put("sys/class/hwmon/hwmon1/curr1_input", value)
    assert power.meter(tree.root).watts() is None


def test_no_current_is_0_watts(make_board):
    tree = make_board("orin_nano")
    tree.put("sys/class/hwmon/hwmon1/curr1_input", 0)
    assert power.meter(tree.root).watts() == 0.0


def test_a_pc_has_no_meter(tree):
    assert (power.rails(tree.root), power.meter(tree.root)) == ([], None)
    tree.put("sys/class/hwmon/hwmon0/name", "coretemp")
    tree.put("sys/class/hwmon/hwmon0/in1_label", "Vcore")
    tree.put("sys/class/hwmon/hwmon0/curr1_input", 1)
    tree.put("sys/class/hwmon/hwmon1/name", "ina226")  # a monitor that names no rail
    tree.put("sys/class/hwmon/hwmon1/power1_input", 1)
    assert power.meter(tree.root) is None
