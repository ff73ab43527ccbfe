"""A target for a person: one line of a list, or everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from edgeattn.recipe import Target
from edgeattn.target import Hardware, Peaks

_UNKNOWN = "not published"


def line(name: str, target: Target) -> str:
    """`name` as it is asked for, and what to choose it by; of an alias, which target it is."""
    if name != target.name:
        return f"{name:<22}{target.backend:<11}the same as {target.name}"
    facts = [", ".join(precision.value for precision in target.precisions)]
    if target.tensorrt is not None:
        facts[0] = f"{facts[0]:<24}TensorRT {_span(target)}"
    if target.jetpack:
        facts.append(f"JetPack {target.jetpack[0]} to {target.jetpack[-1]}")
    return f"{name:<22}{target.backend:<11}{', '.join(facts)}"


def page(target: Target) -> Iterator[str]:
    """All of one target, a fact a line."""
    for label, text in _facts(target):
        yield f"{label:<13}{text}".rstrip()


def values(target: Target) -> dict[str, Any]:
    """For other programs: the file's fields, and what its JetPack releases bring."""
    return {**target.model_dump(mode="json"), "releases": [asdict(release) for release in target.releases]}


def _facts(target: Target) -> Iterator[tuple[str, str]]:
    yield "name", target.name
    yield "title", target.title
    yield "backend", target.backend
    yield "precisions", ", ".join(precision.value for precision in target.precisions)
    if target.threads is not None:
        yield "threads", str(target.threads)
    if target.tensorrt is not None:
        yield "TensorRT", f"{_span(target)}, which all read ONNX up to opset {target.tensorrt.opset_max}"
    for release in target.releases:
        l4t = f" (L4T {', '.join(release.l4t)})" if release.l4t else ""
        brings = f"TensorRT {release.tensorrt}, CUDA {release.cuda}, Python {release.python}"
        yield "JetPack", f"{release.jetpack}{l4t}: {brings}"
    if target.hardware is not None:
        yield from _board(target.hardware)
    if target.source:
        yield "source", target.source


def _board(board: Hardware) -> Iterator[tuple[str, str]]:
    if board.modules:
        yield "module", ", ".join(board.modules)
    if board.multiprocessors is not None:
        capability = f", compute capability {board.compute_capability}" if board.compute_capability else ""
        yield "GPU", f"{board.multiprocessors} multiprocessors{capability}"
    shared = "shared by CPU and GPU" if board.memory_shared else "not shared with the CPU"
    yield "memory", f"{_UNKNOWN if board.memory_gb is None else f'{board.memory_gb:g} GB'}, {shared}"
    yield "DLA", {0: "none", 1: "1 core"}.get(board.dla_cores, f"{board.dla_cores} cores")
    yield "peaks", _peaks(board.peaks)
    if board.super_peaks is not None:
        yield "super peaks", _peaks(board.super_peaks)
    if board.power_modes:
        yield (
            "power modes",
            ", ".join(f"{m.name}{' (super)' if m.clocks == 'super' else ''}" for m in board.power_modes),
        )


def _peaks(peaks: Peaks) -> str:
    figures = (
        ("INT8", peaks.int8_tops, "TOPS"), ("FP16", peaks.fp16_tflops, "TFLOPS"),
        ("FP32", peaks.fp32_tflops, "TFLOPS"), ("memory", peaks.memory_gb_s, "GB/s"),
    )  # fmt: skip
    if all(value is None for _, value, _ in figures):
        return _UNKNOWN
    said = [f"{name} {_UNKNOWN if value is None else f'{value:g} {unit}'}" for name, value, unit in figures]
    clock = "" if peaks.gpu_mhz is None else f", at {peaks.gpu_mhz:g} MHz"
    return f"{', '.join(said)}, dense{clock}"


def _span(target: Target) -> str:
    span = target.tensorrt
    if span is None:
        return ""
    return f"{span.min} to {span.max}" if span.max else f"{span.min} and newer"
