from edgeattn.board.clocks import Clock, clocks, held


def test_clocks_by_name(make_board):
    assert clocks(make_board("orin_nano").root) == {
        "cpu0": Clock(1510.4, 729.6, 1510.4),
        "cpu4": Clock(1510.4, 729.6, 1510.4),
        "17000000.gpu": Clock(306.0, 306.0, 624.8),
        "emc": Clock(None, None, 2133.0),  # what the power mode allows; the clock itself is for root
    }


def test_root_sees_the_memorys_clock(make_board):
    tree = make_board("orin_nano")
    tree.put("sys/kernel/debug/bpmp/debug/clk/emc/rate", 665600000)
    tree.put("sys/kernel/nvpmodel_clk_cap/emc", 0)
    assert clocks(tree.root)["emc"] == Clock(665.6)


def test_thors_memory_is_scaled_like_a_device(make_board):
    assert clocks(make_board("thor").root)["emc"] == Clock(4266.0, 665.6, 4266.0)


def test_held_as_jetson_clocks_does(make_board):
    tree = make_board("orin_nano")
    assert held(tree.root) is False
    for policy in (0, 4):
        tree.put(f"sys/devices/system/cpu/cpufreq/policy{policy}/scaling_min_freq", 1510400)
    assert held(tree.root) is False  # the GPU is still free
    tree.put("sys/class/devfreq/17000000.gpu/min_freq", 624750000)
    assert held(tree.root) is True


def test_held_does_not_ask_the_memory(make_board):
    assert held(make_board("thor").root) is True


def test_a_pc_tells_nothing(tree):
    assert clocks(tree.root) == {}
    assert held(tree.root) is None
    tree.put("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", 800000)
    assert held(tree.root) is None
    assert clocks(tree.root) == {"cpu0": Clock(800.0)}
