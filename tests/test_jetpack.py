"""Which JetPack a board has, what it brings, and why the older ones are refused."""

from __future__ import annotations

import pytest

from edgeattn import jetpack

TYPED = "which has no strongly typed networks, and every edgeattn engine takes its precision from the graph; "
CURE = "install JetPack 6.1 or newer, which brings TensorRT 10.3 or newer."
XAVIER = "there is no newer JetPack for a Xavier, use an Orin or Thor with JetPack 6.1 or newer."


@pytest.mark.parametrize(
    ("l4t", "name", "tensorrt", "cuda", "python"),
    [
        ("35.2.1", "5.1", "8.5.2", "11.4", "3.8"),
        ("35.4.1", "5.1.2", "8.5.2", "11.4", "3.8"),
        ("35.6.2", "5.1.5", "8.5.2", "11.4", "3.8"),
        ("35.6.4", "5.1.6", "8.5.2", "11.4", "3.8"),
        ("36.3.0", "6.0", "8.6.2", "12.2", "3.10"),
        ("36.4.0", "6.1", "10.3.0", "12.6", "3.10"),
        ("36.4.2", "6.1", "10.3.0", "12.6", "3.10"),
        ("36.4.3", "6.2", "10.3.0", "12.6", "3.10"),
        ("36.4.7", "6.2.1", "10.3.0", "12.6", "3.10"),
        ("36.5.0", "6.2.2", "10.3.0", "12.6", "3.10"),
        ("38.2.1", "7.0", "10.13.3.9", "13.0", "3.12"),
        ("38.4.0", "7.1", "10.13.3.9", "13.0", "3.12"),
        ("39.2.0", "7.2", "10.16.2.10", "13.2", "3.12"),
        ("39.2.1", "7.2.1", "10.16.2.10", "13.2", "3.12"),
    ],
)
def test_the_release_behind_an_l4t(l4t, name, tensorrt, cuda, python):
    found = jetpack.of_l4t(l4t)
    assert (found.jetpack, found.tensorrt, found.cuda, found.python) == (name, tensorrt, cuda, python)
    assert jetpack.named(name) is found


@pytest.mark.parametrize("l4t", ["36.4.9", "38.20.0", "36.4", "40.1.0", "", "none"])
def test_a_release_that_the_table_does_not_know(l4t):
    assert jetpack.of_l4t(l4t) is None


def test_every_release_is_there_once_and_in_order():
    names = [release.jetpack for release in jetpack.RELEASES]
    known = [l4t for release in jetpack.RELEASES for l4t in release.l4t]
    assert names == sorted(set(names), key=jetpack.version)
    assert known == sorted(set(known), key=jetpack.version)
    assert [release.jetpack for release in jetpack.RELEASES if not release.supported][-1] == "6.0"
    assert jetpack.named("6.3") is None


@pytest.mark.parametrize(
    ("l4t", "module", "board", "cure"),
    [
        ("36.3.0", "p3767-0005", "JetPack 6.0 (L4T 36.3.0) has TensorRT 8.6.2, ", CURE),
        ("36.2.0", None, "JetPack 6.0 (L4T 36.2.0) has TensorRT 8, ", CURE),
        ("35.6.1", "p3701-0005", "JetPack 5.1.5 (L4T 35.6.1) has TensorRT 8.5.2, ", CURE),
        ("35.6.1", "p2888-0001", "JetPack 5.1.5 (L4T 35.6.1) has TensorRT 8.5.2, ", XAVIER),
        ("35.9.0", "p3668-0000", "JetPack 5 (L4T 35.9.0) has TensorRT 8, ", XAVIER),
        ("32.7.4", None, "JetPack 4 (L4T 32.7.4) has TensorRT 8, ", CURE),
        ("28.2.1", None, "L4T 28.2.1 has TensorRT 8, ", CURE),
    ],
)
def test_jetpack_5_and_6_0_are_refused_in_one_sentence(l4t, module, board, cure):
    assert jetpack.check_release(l4t, module) == board + TYPED + cure


def test_every_release_is_refused_or_supported_by_what_it_brings():
    for release in jetpack.RELEASES:
        for l4t in release.l4t:
            assert (jetpack.check_release(l4t) is None) is release.supported


@pytest.mark.parametrize("l4t", [None, "", "none", "36.4.0", "36.5.1", "38.2.2", "39.2.4", "99.0"])
def test_what_is_newer_or_no_jetson_is_not_refused(l4t):
    assert jetpack.check_release(l4t, "p3767-0005") is None


@pytest.mark.parametrize(
    ("version", "opset"),
    [
        ((10, 0), 20), ((10, 3), 20), ((10, 8, 1), 20), ((10, 9), 22), ((10, 12), 22), ((10, 13), 24),
        ((10, 16, 2, 10), 24), ((11, 4, 1), 24),
    ],
)  # fmt: skip
def test_the_newest_opset_that_a_version_reads(version, opset):
    assert jetpack.opset_max(version) == opset


def test_the_opsets_of_tensorrt_8_are_not_known():
    with pytest.raises(ValueError, match=r"that TensorRT 8\.6 reads are not known, only those of 10\.0"):
        jetpack.opset_max((8, 6))


@pytest.mark.parametrize("text", ["10", "", "10.x", "10.3.0.26.1", "10.-3", "10.٣", "1000000.1", " 10.3"])
def test_what_is_no_version(text):
    with pytest.raises(ValueError, match=r"a version is written as 10\.3"):
        jetpack.version(text)


def test_versions_compare_as_numbers():
    assert jetpack.version("10.13") > jetpack.version("10.3.0.26")
    assert jetpack.dotted(jetpack.version("10.16.2.10")) == "10.16.2.10"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("10.13.3.9.post1", (10, 13, 3, 9)), ("10.7.0.post1", (10, 7, 0)), ("11.4.0.106", (11, 4, 0, 106)), ("dev", ())],
)
def test_what_packages_call_themselves(text, numbers):
    """NVIDIA's wheels of PyPI end in `.post1`."""
    assert jetpack.of_package(text) == numbers
