"""The least latency of a data sheet, worked by hand; more work never takes less time."""

from __future__ import annotations

import itertools
import math

import pytest

from edgeattn.measure.roofline import Bound, on, roofline
from edgeattn.recipe import load_target, target_names
from edgeattn.target import Hardware, Peaks

PEAKS = Peaks(int8_tops=20, fp16_tflops=10, fp32_tflops=2, memory_gb_s=50)
G = 10**9
FEWEST = "; arithmetic is the fewest multiplications that known kernels need."


def near(value, expected):
    return math.isclose(value, expected, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("macs", "weights", "io", "compute_ms", "memory_ms", "binds"),
    [
        ({"int8": G}, 0, 0, 0.1, 0.0, "compute"),  # 2e9 / 20e12 s
        ({"fp16": G}, 0, 0, 0.2, 0.0, "compute"),
        ({"bf16": G}, 0, 0, 0.2, 0.0, "compute"),
        ({"fp32": G}, 0, 0, 1.0, 0.0, "compute"),
        ({"int8": G}, 45_000_000, 5_000_000, 0.1, 1.0, "memory"),  # 50e6 / 50e9 s
        # Tensor cores: 0.1 + 0.2; CUDA cores meanwhile 0.25 and 0.5.
        ({"int8": G, "fp16": G, "fp32": G // 4}, 0, 0, 0.3, 0.0, "compute"),
        ({"int8": G, "fp16": G, "fp32": G // 2}, 0, 0, 0.5, 0.0, "compute"),
        ({}, 0, 50_000, 0.0, 0.001, "memory"),
        ({"int8": 0}, 0, 0, 0.0, 0.0, "compute"),
    ],
)
def test_worked_by_hand(macs, weights, io, compute_ms, memory_ms, binds):
    bound = roofline(macs, weights, io, PEAKS)
    assert near(bound.compute_ms, compute_ms) and near(bound.memory_ms, memory_ms)
    assert bound.bound_ms == max(bound.compute_ms, bound.memory_ms)
    assert bound.binds == binds and bound.left_out == ()


def test_the_cache_keeps_weights_from_call_to_call_but_no_frame():
    mega = 2**20
    plain = roofline({}, 3 * mega, mega, PEAKS)
    assert near(plain.memory_ms, 4 * mega / 50e6)
    assert near(roofline({}, 3 * mega, mega, PEAKS, cache_mb=2).memory_ms, 2 * mega / 50e6)
    assert near(roofline({}, 3 * mega, mega, PEAKS, cache_mb=32).memory_ms, mega / 50e6)


def test_a_peak_that_is_not_published_is_left_out_and_named():
    thor = Peaks(fp16_tflops=10, fp32_tflops=2, memory_gb_s=50)
    mixed = roofline({"int8": G, "fp16": G}, 0, 50, thor)
    assert near(mixed.compute_ms, 0.2) and mixed.left_out == ("int8",)
    alone = roofline({"int8": G}, 0, 50_000, thor)
    assert (alone.compute_ms, alone.bound_ms, alone.binds) == (None, alone.memory_ms, "memory")
    strange = roofline({"float64": G, "int8": G, "fp16": 0}, 0, 50, PEAKS)
    assert near(strange.compute_ms, 0.1) and strange.left_out == ("float64",)
    assert roofline({"float64": 0}, 0, 50, PEAKS).left_out == ()


def test_without_any_figure_there_is_no_estimate():
    bound = roofline({"int8": G}, 100, 100, Peaks())
    assert (bound.compute_ms, bound.memory_ms, bound.bound_ms, bound.binds) == (None, None, None, None)
    assert bound.sentence() == (
        "No estimate of the least latency: neither peaks nor bandwidth of this device are published."
    )
    assert roofline({"int8": G}, 100, 100, Peaks(int8_tops=20)).binds == "compute"


@pytest.mark.parametrize(
    ("bound", "sentence"),
    [
        (Bound(0.25, 0.125),
         f"Estimate, not measured: at least 0.25 ms, for arithmetic alone; memory traffic would need 0.125 ms{FEWEST}"),
        (Bound(0.125, 0.25),
         f"Estimate, not measured: at least 0.25 ms, for memory traffic alone; arithmetic would need 0.125 ms{FEWEST}"),
        (Bound(None, 0.25, ("int8",)),
         "Estimate, not measured: at least 0.25 ms, for memory traffic alone; no peak is published for int8, whose "
         "arithmetic is left out."),
        (Bound(0.25, None), f"Estimate, not measured: at least 0.25 ms, for arithmetic alone{FEWEST}"),
        (Bound(0.25, None).of_frame(16),
         f"Estimate, not measured: at least 4 ms for a frame of 16 calls, for arithmetic alone{FEWEST}"),
    ],
)  # fmt: skip
def test_a_sentence_says_that_it_is_an_estimate(bound, sentence):
    assert bound.sentence() == sentence


def test_for_other_programs():
    assert Bound(0.25, 0.125, ("int4",)).to_dict() == {
        "compute_ms": 0.25, "memory_ms": 0.125, "left_out": ["int4"], "bound_ms": 0.25, "binds": "compute", "calls": 1,
        "sentence": Bound(0.25, 0.125, ("int4",)).sentence(),
    }  # fmt: skip


# Nothing that grows makes the bound smaller, nothing that gets faster makes it larger.


def bound_of(*, weights, io, **macs):
    return roofline(macs, weights, io, PEAKS, cache_mb=2).bound_ms


@pytest.mark.parametrize("field", ["int8", "fp16", "bf16", "fp32", "weights", "io"])
def test_more_work_never_takes_less_time(field):
    for start, steps in itertools.product((0, 10**6, G), range(1, 4)):
        work = {"int8": start, "fp16": start, "bf16": 0, "fp32": start, "weights": start, "io": start}
        more = {**work, field: work[field] + steps * 10**7}
        assert bound_of(**more) >= bound_of(**work)


@pytest.mark.parametrize("field", ["int8_tops", "fp16_tflops", "fp32_tflops", "memory_gb_s"])
def test_a_faster_board_never_takes_more_time(field):
    faster = PEAKS.model_copy(update={field: 2 * getattr(PEAKS, field)})
    unknown = PEAKS.model_copy(update={field: None})
    for macs, moved in itertools.product(({"int8": G}, {"fp16": G, "fp32": G}, {"int8": G, "fp32": G}), (0, 10**8)):
        bound = roofline(macs, moved, 0, PEAKS).bound_ms
        assert roofline(macs, moved, 0, faster).bound_ms <= bound
        # What is not known can only be left out.
        assert (roofline(macs, moved, 0, unknown).bound_ms or 0) <= bound


def test_a_larger_cache_never_takes_more_time():
    times = [roofline({}, 8 * 2**20, 100, PEAKS, mb).memory_ms for mb in (None, 0, 1, 2, 4, 8, 16)]
    assert times == sorted(times, reverse=True) and times[0] == times[1] and times[-1] > 0


# Boards.


def test_a_board_is_taken_at_its_highest_clocks():
    board = Hardware(memory_shared=True, cache_mb=1, peaks=PEAKS, super_peaks=Peaks(int8_tops=40, memory_gb_s=100))
    bound = on(board, {"int8": G}, 2 * 2**20, 0)
    assert near(bound.compute_ms, 0.05) and near(bound.memory_ms, 2**20 / 100e6)
    plain = Hardware(memory_shared=True, peaks=PEAKS)
    assert near(on(plain, {"int8": G}, 0, 0).compute_ms, 0.1)


def test_an_orin_nano():
    """ResNet-50 in FP16: 4.09 G multiply-adds, 25.6 M weights. 8.18 G / 16.72 T = 0.489 ms; 51.2 MB less 4 MB of cache,
    and a frame of 150 kB, at 102.4 GB/s = 0.461 ms."""
    bound = on(load_target("jetson").hardware, {"fp16": 4_090_000_000}, 51_200_000, 150_528 + 4_000)
    assert round(bound.compute_ms, 3) == 0.489 and round(bound.memory_ms, 3) == 0.461
    assert bound.binds == "compute"


@pytest.mark.parametrize("name", [name for name in target_names() if name.startswith("jetson")])
def test_int8_is_never_slower_than_fp16_where_both_are_known(name):
    board = load_target(name).hardware
    bounds = [on(board, {kind: G}, 0, 100) for kind in ("int8", "fp16", "fp32")]
    times = [bound.compute_ms for bound in bounds if bound.compute_ms is not None]
    known = {"jetson-thor": 2, "jetson-thor-t4000": 0}.get(name, 3)
    assert times == sorted(times) and len(times) == known
    assert all(bound.memory_ms > 0 for bound in bounds)
