"""The least latency that physics allows: an estimate from data sheets, where no device is at hand to measure.

The roofline model (Williams, Waterman and Patterson, Roofline: An Insightful Visual Performance Model for Multicore
Architectures, Communications of the ACM 52(4), 2009): a program is no faster than its arithmetic at peak rate, and no
faster than its memory traffic at peak bandwidth; both at once at best, so the larger of the two times binds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgeattn.target import Hardware, Peaks

_TENSOR_CORES = {"int8": "int8_tops", "fp16": "fp16_tflops", "bf16": "fp16_tflops"}
_CUDA_CORES = {"fp32": "fp32_tflops"}


@dataclass(frozen=True)
class Bound:
    """Times of a frame in milliseconds, of `calls` calls one after the other: several where it goes in tiles.

    `compute_ms` and `memory_ms` are None where no peak is published for them.

    `bound_ms` is the larger, None when neither is known; `binds` says which. `left_out` are precisions without a
    published peak, whose arithmetic is in no figure: the bound is true without them, only lower.
    """

    compute_ms: float | None
    memory_ms: float | None
    left_out: tuple[str, ...] = ()
    calls: int = 1

    def of_frame(self, calls: int) -> Bound:
        """Of a frame that takes `calls` such calls: nothing of one is left for the next but what is in the cache."""
        compute, memory = (None if time is None else time * calls for time in (self.compute_ms, self.memory_ms))
        return replace(self, compute_ms=compute, memory_ms=memory, calls=calls)

    @property
    def bound_ms(self) -> float | None:
        return max((time for time in (self.compute_ms, self.memory_ms) if time is not None), default=None)

    @property
    def binds(self) -> Literal["compute", "memory"] | None:
        if self.bound_ms is None:
            return None
        return "compute" if self.bound_ms == self.compute_ms else "memory"

    def sentence(self) -> str:
        """For a reader who must not take it for a measurement."""
        if self.bound_ms is None:
            return "No estimate of the least latency: neither peaks nor bandwidth of this device are published."
        frame = f" for a frame of {self.calls} calls" if self.calls > 1 else ""
        by = "arithmetic" if self.binds == "compute" else "memory traffic"
        other = self.memory_ms if self.binds == "compute" else self.compute_ms
        parts = [f"Estimate, not measured: at least {self.bound_ms:.3g} ms{frame}, for {by} alone"]
        if other is not None:
            parts.append(f"{'memory traffic' if self.binds == 'compute' else 'arithmetic'} would need {other:.3g} ms")
        if self.left_out:
            parts.append(f"no peak is published for {', '.join(self.left_out)}, whose arithmetic is left out")
        if self.compute_ms is not None:
            parts.append("arithmetic is the fewest multiplications that known kernels need")
        return "; ".join(parts) + "."

    def to_dict(self) -> dict[str, Any]:
        times = {**asdict(self), "left_out": list(self.left_out)}
        return {**times, "bound_ms": self.bound_ms, "binds": self.binds, "sentence": self.sentence()}


def roofline(
    least_macs: Mapping[str, int], weights_bytes: int, io_bytes: int, peaks: Peaks, cache_mb: float | None = None
) -> Bound:
    """The least time for `least_macs` multiply-adds by precision (`int8`), weights, inputs and outputs (`io_bytes`).

    Every choice is made so that the bound never exceeds what a perfect engine could reach:

    - Whole call, not layer by layer. The sum over layers of the larger time is tighter, but holds only if no layer's
      traffic hides behind another's arithmetic and every intermediate result goes through memory. Engines fuse layers
      and prefetch weights, and a cache of some MB holds the maps of small networks, so that sum can be beaten.
    - Perfect fusion: weights, inputs and outputs are moved once, nothing between is. Of the weights `cache_mb` (2^20
      bytes) may still lie in the cache from the call before; a frame is new each time.
    - The least arithmetic, Winograd's where it applies (`lint.work`). Strassen's products and Fourier transforms need
      still less for large sizes; TensorRT has no such kernels that are known.
    - INT8, FP16 and BF16 products share the tensor cores, so their times add up. FP32 products run on the CUDA cores,
      which may work meanwhile, so the longer of the two times counts. With TF32, which the backend turns off, FP32
      products run on the tensor cores and may be faster than this bound.
    - One GPU alone: no part of the call runs on a DLA beside it.
    - Everything else (softmax, norms, resizing, launches, copies to another device's memory) costs nothing here.

    `peaks` should be `Hardware.highest` unless the power mode is known. Worked: 1 G multiply-adds of INT8 at 20 TOPS
    take 2e9 / 20e12 s = 0.1 ms; weights of 68 MB at 68 GB/s take 1 ms; the bound is 1 ms, by memory.
    """
    counted = {kind: macs for kind, macs in least_macs.items() if macs}
    units = [{kind: getattr(peaks, field) for kind, field in unit.items()} for unit in (_TENSOR_CORES, _CUDA_CORES)]
    known = {kind for unit in units for kind, peak in unit.items() if peak is not None}
    left_out = tuple(sorted(counted.keys() - known))
    # A multiply-add is two operations.
    sums = [sum(2 * counted[kind] / (unit[kind] * 1e12) for kind in unit if kind in counted.keys() & known)
            for unit in units]  # fmt: skip
    compute = None if left_out and len(left_out) == len(counted) else max(sums) * 1e3
    moved = io_bytes + max(weights_bytes - (cache_mb or 0) * 2**20, 0)
    memory = None if peaks.memory_gb_s is None else moved / (peaks.memory_gb_s * 1e9) * 1e3
    return Bound(compute, memory, left_out)


def on(hardware: Hardware, least_macs: Mapping[str, int], weights_bytes: int, io_bytes: int) -> Bound:
    """The bound for this board in its fastest power mode."""
    return roofline(least_macs, weights_bytes, io_bytes, hardware.highest, hardware.cache_mb)
