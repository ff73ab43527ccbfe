"""What a target file may say: the device, its inference library, its software, its peaks. Data only.

A figure that its maker has not published is null, never a guess; `source` and comments say where the others are from.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edgeattn import jetpack
from edgeattn.artifact import Precision
from edgeattn.jetpack import Release

# The libraries count threads in 32 bits or fewer; what is larger than any machine has would be found out too late.
Threads = Annotated[int, Field(gt=0, le=1024)]
Amount = Annotated[float, Field(gt=0)]


class Frozen(BaseModel):
    """A section of a recipe or target file: unknown fields are refused, nothing changes after reading."""

    # NaN and infinity have no place in JSON, so neither in a key nor in a report.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class TensorrtRange(Frozen):
    """The versions of TensorRT that the device can have, as text: `10.3`; `max` null = the newest.

    `opset_max` is the newest ONNX opset that all of them read, which the oldest decides.
    """

    min: str
    max: str | None = None
    opset_max: int

    @model_validator(mode="after")
    def _agrees(self) -> TensorrtRange:
        oldest = jetpack.version(self.min)
        if oldest < jetpack.TENSORRT_MIN:
            raise ValueError(
                f"min must be {jetpack.dotted(jetpack.TENSORRT_MIN)} or newer, older ones have no strongly typed "
                f"networks, got {self.min}"
            )
        if self.max is not None and jetpack.version(self.max) < oldest:
            raise ValueError(f"max must not be older than min, got {self.max} and {self.min}")
        if self.opset_max != (read := jetpack.opset_max(oldest)):
            raise ValueError(f"opset_max must be {read}, what TensorRT {self.min} reads, got {self.opset_max}")
        return self

    def holds(self, version: str) -> bool:
        """Whether a version lies within, counting no further than the shorter of the two is written."""
        numbers = jetpack.version(version)
        newest = None if self.max is None else jetpack.version(self.max)
        after = numbers >= jetpack.version(self.min)
        return after and (newest is None or numbers[: len(newest)] <= newest)


class Peaks(Frozen):
    """The most that the GPU can do at `gpu_mhz`, its highest clock, and its memory beside it.

    In 10^12 operations a second, a multiply-add being two, of dense arithmetic: the networks here have no 2:4 sparse
    weights, for which makers often give double figures. INT8 and FP16 are those of the tensor cores (BF16 has FP16's
    peak there), FP32 that of the CUDA cores, without TF32. `memory_gb_s` is 10^9 bytes a second.
    """

    gpu_mhz: Amount | None = None
    int8_tops: Amount | None = None
    fp16_tflops: Amount | None = None
    fp32_tflops: Amount | None = None
    memory_gb_s: Amount | None = None


class PowerMode(Frozen):
    """A mode of `nvpmodel`. `watts` null = no limit of its own. `clocks` says whose peaks it can come near to."""

    name: str
    watts: Amount | None = None
    clocks: Literal["normal", "super"] = "normal"


class Hardware(Frozen):
    """The board. `modules` are part numbers as the board tells them (`p3767-0005`), none for what is no module.

    `super_peaks`: with the higher clocks that JetPack 6.2 allows; null where there are none. `memory_shared`: CPU and
    GPU use the same memory. `cache_mb` (2^20 bytes): the most that the GPU's L2 cache can hold, that of the whole chip
    where the module's own is not known.
    """

    modules: tuple[str, ...] = ()
    compute_capability: str | None = None
    multiprocessors: Annotated[int, Field(gt=0)] | None = None
    memory_gb: Amount | None = None
    memory_shared: bool
    cache_mb: Amount | None = None
    dla_cores: Annotated[int, Field(ge=0)] = 0
    peaks: Peaks
    super_peaks: Peaks | None = None
    power_modes: tuple[PowerMode, ...] = ()

    @model_validator(mode="after")
    def _super(self) -> Hardware:
        if self.super_peaks is None and any(mode.clocks == "super" for mode in self.power_modes):
            raise ValueError("a power mode has super clocks, so super_peaks must say what they reach")
        return self

    @property
    def highest(self) -> Peaks:
        """The peaks that no power mode exceeds."""
        return self.super_peaks or self.peaks


class Target(Frozen):
    """One device. `precisions` are asked of the backend; what the machine lacks becomes an `unsupported` row.

    `tensorrt`, `jetpack` (releases it is for, oldest first; `jetpack.RELEASES` says what each brings) and `hardware`
    are of NVIDIA's devices.
    """

    name: str
    title: str
    backend: str
    precisions: tuple[Precision, ...]
    threads: Threads | None = None
    tensorrt: TensorrtRange | None = None
    jetpack: tuple[str, ...] = ()
    hardware: Hardware | None = None
    source: str = ""

    @field_validator("jetpack")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            release = jetpack.named(name)
            if release is None:
                known = ", ".join(each.jetpack for each in jetpack.RELEASES if each.supported)
                raise ValueError(f"there is no JetPack '{name}'; known: {known}")
            if refusal := jetpack.check_release(next(iter(release.l4t), None)):
                raise ValueError(refusal.rstrip("."))
        return names

    @model_validator(mode="after")
    def _brings(self) -> Target:
        for release in self.releases:
            if self.tensorrt is None or not self.tensorrt.holds(release.tensorrt):
                raise ValueError(
                    f"tensorrt must hold {release.tensorrt}, which JetPack {release.jetpack} brings; correct min or max"
                )
        return self

    @property
    def releases(self) -> tuple[Release, ...]:
        """What each JetPack it is for brings."""
        found = map(jetpack.named, self.jetpack)
        return tuple(release for release in found if release is not None)
