"""The target files: what they must say, what they say, and how a wrong one is refused."""

from __future__ import annotations

import math

import pytest
import yaml

from edgeattn import jetpack, recipe
from edgeattn.errors import RecipeError
from edgeattn.recipe import load_target, target_names
from edgeattn.target import Hardware, Peaks, Target, TensorrtRange

LEAST = {"title": "t", "backend": "tensorrt", "precisions": ["fp32"]}
RANGE = {"min": "10.3", "max": "10.16.2", "opset_max": 20}
BOARD = {"memory_shared": True, "peaks": {}}
BOARDS = [name for name in target_names() if name.startswith("jetson-")]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(text or fields, name="mine") -> the sentence with which the target is refused, or the target."""
    monkeypatch.setattr(recipe, "TARGETS", tmp_path)

    def write(values, name="mine"):
        (tmp_path / f"{name}.yaml").write_text(values if isinstance(values, str) else yaml.safe_dump(values))
        try:
            return load_target(name)
        except RecipeError as error:
            return str(error).replace(str(tmp_path / f"{name}.yaml"), "FILE")

    return write


# What is shipped.


def test_there_is_a_file_for_every_device_of_the_issue():
    assert {"cpu", "jetson", "nvidia", "jetson-thor", "jetson-agx-orin"} < set(target_names())
    assert {"jetson-orin-nano", "jetson-orin-nano-4gb", "jetson-orin-nx", "jetson-orin-nx-8gb"} < set(target_names())


def test_jetson_is_the_orin_nano_of_8_gb():
    assert load_target("jetson") == load_target("jetson-orin-nano")
    assert load_target("jetson").name == "jetson-orin-nano" and load_target("jetson").hardware.memory_gb == 8


def test_a_cpu_has_none_of_it():
    cpu = load_target("cpu")
    assert (cpu.tensorrt, cpu.jetpack, cpu.hardware, cpu.releases) == (None, (), None, ())


# SM, MHz, super MHz, INT8 TOPS and super, FP16 TFLOPS and super, GB/s and super, DLA cores, GB: section 3 of the design
# note, which rounds them; None where the board has no super clocks or nobody publishes the figure.
TABLE = {
    "jetson-orin-nano-4gb": (4, 625, 1020, 10, 17, 5.1, 8.4, 34, 51, 0, 4),
    "jetson-orin-nano": (8, 625, 1020, 20, 33, 10, 17, 68, 102, 0, 8),
    "jetson-orin-nx-8gb": (8, 765, 1173, 25, 38, 12.5, 19, 102, 102, 1, 8),
    "jetson-orin-nx": (8, 918, 1173, 30, 38, 15, 19, 102, 102, 2, 16),
    "jetson-agx-orin-32gb": (14, 930, None, 53, None, 27, None, 205, None, 2, 32),
    "jetson-agx-orin": (16, 1300, None, 85, None, 43, None, 205, None, 2, 64),
    "jetson-thor": (20, 1575, None, None, None, 258, None, 273, None, 0, 128),
    "jetson-thor-t4000": (12, None, None, None, None, None, None, 273, None, 0, 64),
}


def near(value, expected, share=0.03):
    return value is None if expected is None else math.isclose(value, expected, rel_tol=share)


@pytest.mark.parametrize("name", BOARDS)
def test_the_figures_are_those_of_the_design_note(name):
    sm, mhz, super_mhz, int8, int8_super, fp16, fp16_super, gb_s, gb_s_super, dla, memory = TABLE[name]
    board = load_target(name).hardware
    assert (board.multiprocessors, board.dla_cores, board.memory_gb) == (sm, dla, memory)
    assert board.memory_shared is True
    assert near(board.peaks.gpu_mhz, mhz) and near(board.peaks.memory_gb_s, gb_s, 0.01)
    assert near(board.peaks.int8_tops, int8) and near(board.peaks.fp16_tflops, fp16)
    raised = board.super_peaks or Peaks()
    assert (board.super_peaks is None) is (super_mhz is None)
    assert near(raised.gpu_mhz, super_mhz) and near(raised.memory_gb_s, gb_s_super, 0.01)
    assert near(raised.int8_tops, int8_super) and near(raised.fp16_tflops, fp16_super)


@pytest.mark.parametrize("name", BOARDS)
def test_peaks_are_multiprocessors_times_clock_times_operations(name):
    board = load_target(name).hardware
    thor = name.startswith("jetson-thor")
    for peaks in filter(None, (board.peaks, board.super_peaks)):
        if peaks.gpu_mhz is None:
            assert name == "jetson-thor-t4000", "of all others it is published"
            continue
        cycles = board.multiprocessors * peaks.gpu_mhz * 1e6 / 1e12
        rates = {"int8_tops": None if thor else 4096, "fp16_tflops": 8192 if thor else 2048, "fp32_tflops": 256}
        for field, rate in rates.items():
            found = getattr(peaks, field)
            # A peak that is too low would make the roofline more than physics asks for.
            assert found is None if rate is None else cycles * rate <= found < cycles * rate * 1.03, (name, field)


@pytest.mark.parametrize(
    ("name", "sparse", "sparse_super", "dla", "dla_super"),
    [
        ("jetson-orin-nano-4gb", 20, 34, 0, 0),
        ("jetson-orin-nano", 40, 67, 0, 0),
        ("jetson-orin-nx-8gb", 70, 117, 20, 40),
        ("jetson-orin-nx", 100, 157, 40, 80),
        ("jetson-agx-orin", 275, None, 105, None),
        ("jetson-agx-orin-32gb", 200, None, 92, None),
    ],
)
def test_with_sparse_weights_and_dla_they_are_what_nvidia_advertises(name, sparse, sparse_super, dla, dla_super):
    board = load_target(name).hardware
    assert near(2 * board.peaks.int8_tops + dla, sparse)
    assert sparse_super is None or near(2 * board.super_peaks.int8_tops + dla_super, sparse_super)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_says_which_it_is_and_how_it_is_run(name):
    target = load_target(name)
    board = target.hardware
    assert target.backend == "tensorrt" and [p.value for p in target.precisions] == ["fp32", "fp16", "int8"]
    assert board.compute_capability == ("11.0" if name.startswith("jetson-thor") else "8.7")
    assert all(len(module) == 10 and module.startswith("p3") for module in board.modules) and board.modules
    assert {mode.name for mode in board.power_modes} & {"MAXN", "MAXN_SUPER"} or name == "jetson-thor-t4000"
    assert all(mode.name.startswith((f"{mode.watts:g}W", "MODE_")) for mode in board.power_modes if mode.watts)
    assert board.highest == (board.super_peaks or board.peaks)
    assert all(word in target.source for word in ("Peaks", "cache", "power modes", "JetPack")) or "thor" in name


def test_no_module_belongs_to_two_targets():
    modules = [module for name in BOARDS for module in load_target(name).hardware.modules]
    assert len(modules) == len(set(modules)) and "p3767-0005" in modules


@pytest.mark.parametrize("name", [*BOARDS, "nvidia"])
def test_versions_are_those_of_the_releases(name):
    target = load_target(name)
    span = target.tensorrt
    assert span.opset_max == jetpack.opset_max(jetpack.version(span.min))
    brought = [jetpack.version(release.tensorrt) for release in target.releases]
    if brought:
        assert brought[0][:2] == jetpack.version(span.min) == min(brought)[:2]
        newest = jetpack.version(span.max)
        assert max(brought)[: len(newest)] == newest
    assert [release.jetpack for release in target.releases] == list(target.jetpack)
    assert list(target.jetpack) == sorted(target.jetpack, key=jetpack.version)


def test_a_release_is_for_the_boards_that_it_names():
    for name in BOARDS:
        family = "Thor" if "thor" in name else "AGX Orin" if "agx" in name else "Orin"
        for release in jetpack.RELEASES:
            named = family in release.devices or (family == "AGX Orin" and release.devices.startswith("Orin"))
            named = named and not (family == "Orin" and "AGX" in release.devices)
            named = named and not ("t4000" in name and release.jetpack == "7.0")  # it came with 7.1
            assert (release.jetpack in load_target(name).jetpack) is (named and release.supported)


def test_nothing_is_invented_for_a_gpu_that_may_be_any():
    card = load_target("nvidia")
    assert card.hardware == Hardware(memory_shared=False, peaks=Peaks())
    assert (card.tensorrt.min, card.tensorrt.max, card.jetpack) == ("10.3", "11.4", ())
    assert load_target("jetson-thor").hardware.peaks.int8_tops is None


def test_a_dump_holds_all_of_it_and_can_be_read_again():
    target = load_target("jetson-orin-nx")
    dump = target.model_dump(mode="json")
    assert dump["tensorrt"] == {"min": "10.3", "max": "10.16.2", "opset_max": 20}
    assert dump["hardware"]["super_peaks"]["gpu_mhz"] == 1173 and dump["jetpack"][0] == "6.1"
    assert dump["hardware"]["power_modes"][-1] == {"name": "MAXN_SUPER", "watts": None, "clocks": "super"}
    assert Target.model_validate(dump) == target


# What is refused.


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tensorrt": {**RANGE, "opset": 20}},
         "unknown field 'opset' under 'tensorrt'; did you mean 'opset_max'; known: min, max, opset_max."),
        ({"tensorrt": {**RANGE, "min": 10.3}},
         "the field 'tensorrt.min' is wrong: input should be a valid string, got 10.3."),
        ({"tensorrt": {"min": "10.3"}}, "the field 'tensorrt.opset_max' is missing."),
        ({"tensorrt": {**RANGE, "min": "8.6"}},
         "tensorrt: min must be 10.3 or newer, older ones have no strongly typed networks, got 8.6."),
        ({"tensorrt": {**RANGE, "min": "new"}},
         "tensorrt: a version is written as 10.3 or 10.16.2.10, got 'new'."),
        ({"tensorrt": {**RANGE, "max": "10.2"}}, "tensorrt: max must not be older than min, got 10.2 and 10.3."),
        ({"tensorrt": {**RANGE, "opset_max": 24}},
         "tensorrt: opset_max must be 20, what TensorRT 10.3 reads, got 24."),
        ({"tensorrt": {**RANGE, "min": "10.13"}},
         "tensorrt: opset_max must be 24, what TensorRT 10.13 reads, got 20."),
        ({"jetpack": ["6.1"]}, "tensorrt must hold 10.3.0, which JetPack 6.1 brings; correct min or max."),
        ({"tensorrt": RANGE, "jetpack": ["7.2.2"]},
         "tensorrt must hold 11.4.1, which JetPack 7.2.2 brings; correct min or max."),
        ({"tensorrt": RANGE, "jetpack": ["6.7"]},
         "jetpack: there is no JetPack '6.7'; known: 6.1, 6.2, 6.2.1, 6.2.2, 7.0, 7.1, 7.2, 7.2.1, 7.2.2."),
        ({"hardware": {**BOARD, "peaks": {"int8": 20}}},
         "unknown field 'int8' under 'hardware.peaks'; did you mean 'int8_tops'; known: gpu_mhz, int8_tops, "
         "fp16_tflops, fp32_tflops, memory_gb_s."),
        ({"hardware": {**BOARD, "super_peaks": {"mhz": 20}}},
         "unknown field 'mhz' under 'hardware.super_peaks'; did you mean 'gpu_mhz'; known: gpu_mhz, int8_tops, "
         "fp16_tflops, fp32_tflops, memory_gb_s."),
        ({"hardware": {**BOARD, "power_modes": [{"name": "a"}, {"name": "b", "watt": 7}]}},
         "unknown field 'watt' under 'hardware.power_modes.1'; did you mean 'watts'; known: name, watts, clocks."),
        ({"hardware": {**BOARD, "power_modes": [{"name": "a", "clocks": "super"}]}},
         "hardware: a power mode has super clocks, so super_peaks must say what they reach."),
        ({"hardware": {**BOARD, "peaks": {"memory_gb_s": 0}}},
         "the field 'hardware.peaks.memory_gb_s' is wrong: input should be greater than 0, got 0."),
        ({"hardware": {**BOARD, "peaks": {"memory_gb_s": float("inf")}}},
         "the field 'hardware.peaks.memory_gb_s' must be a finite number, a text, true, false or a list."),
        ({"hardware": {"peaks": {}}}, "the field 'hardware.memory_shared' is missing."),
        ({"hardware": 8}, "the field 'hardware' is wrong: it has fields of its own, got 8."),
        ({"harware": BOARD},
         "unknown field 'harware'; did you mean 'hardware'; known: name, title, backend, precisions, threads, "
         "tensorrt, jetpack, hardware, source."),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_sentence(changes, sentence, write):
    assert write({**LEAST, **changes}) == f"FILE: {sentence}"


def test_jetpack_6_0_and_5_are_refused_with_the_reason(write):
    for name in ("6.0", "5.1.2"):
        said = write({**LEAST, "tensorrt": RANGE, "jetpack": [name]})
        assert said.startswith(f"FILE: jetpack: JetPack {name} (L4T 3")
        assert "no strongly typed networks" in said and said.endswith("install JetPack 6.1 or newer, which brings "
                                                                      "TensorRT 10.3 or newer.")  # fmt: skip


def test_an_alias_is_another_name_and_nothing_else(write):
    write({**LEAST, "backend": "openvino"}, "ours")
    write("alias: ours", "short")
    assert write("alias: ours").name == "ours"
    assert write({"alias": "ours", "title": "t"}) == (
        "FILE: an alias is another name and nothing else; take out 'title' or the alias."
    )
    assert write("alias: our") == "FILE: there is no target 'our'; did you mean 'ours'; known: ours."
    # No chains: a circle of aliases would have no end.
    assert write("alias: short") == "FILE: there is no target 'short'; known: ours."
    assert write("alias: mine") == "FILE: there is no target 'mine'; known: ours."
    assert write("alias: [ours]") == "FILE: there is no target '['ours']'; did you mean 'ours'; known: ours."


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        (("10.3", "10.16.2"), ["10.3", "10.3.0.26", "10.16.2", "10.16.2.10"], ["10.2.9", "10.16.3", "11.0"]),
        (("10.3", "11.4"), ["11.4.1", "11.4.0.106"], ["11.5"]),
        (("10.3", "10.3"), ["10.3", "10.3.0.26"], ["10.4"]),
        (("10.3", None), ["10.3", "99.0"], ["8.6.2"]),
    ],
)
def test_what_lies_in_a_range(span, inside, outside):
    found = TensorrtRange(min=span[0], max=span[1], opset_max=20)
    assert all(map(found.holds, inside)) and not any(map(found.holds, outside))


def test_what_was_read_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        load_target("jetson").hardware.peaks.int8_tops = 67
