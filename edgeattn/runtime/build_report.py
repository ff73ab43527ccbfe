"""What `build` found out: what an engine is, what runs in it, and that it computes what it should."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeattn.board import in_words, set_otherwise, settings
from edgeattn.bundle.golden import SelfTest
from edgeattn.bundle.reader import Bundle
from edgeattn.runtime.spread import Spread

SCHEMA = "edgeattn.build/1"
_LISTED = 40  # layers in the text; --json lists all


@dataclass(frozen=True)
class BuildReport:
    """`engine`: `built` just now, `kept` (it was there and fits), or `refused` (it fails its self-test; not kept).

    `description` is the engine's `engine.json`. `device` is the board (`board.describe_device`), `telemetry` what it
    did while the engine was built, as the backend saw it; None where nothing was built, or is timed while it is.
    `layer_ms`: mean milliseconds by the executed layer's name, which timing makes longer; None where the library
    times none.
    """

    bundle: Bundle
    engine: Literal["built", "kept", "refused"]
    folder: Path
    description: Mapping[str, Any]
    size_bytes: int
    build_s: float | None
    self_test: SelfTest
    device: Mapping[str, Any] | None
    telemetry: Mapping[str, Any] | None
    spread: Spread | None = None
    layer_ms: Mapping[str, float] | None = None

    @property
    def passed(self) -> bool:
        return self.engine != "refused"

    def with_spread(self, spread: Spread) -> BuildReport:
        return dataclasses.replace(self, spread=spread)

    @property
    def notes(self) -> list[str]:
        """The builder's, and that the board is set otherwise than when it built."""
        found = [str(note) for note in self.description.get("notes", [])]
        otherwise = set_otherwise(self.description.get("board"), settings(self.device))
        return [*found, otherwise] if otherwise else found

    def lines(self) -> list[str]:
        """For a person, one finding per line."""
        manifest, described = self.bundle.manifest, self.description
        told = {
            "built": f"built here in {self.build_s or 0:.1f} s, kept in {self.folder}",
            "kept": f"nothing to build, the one in {self.folder} fits",
            "refused": f"built here in {self.build_s or 0:.1f} s, NOT kept: its self-test failed",
        }[self.engine]
        fingerprint = ", ".join(f"{key} {value}" for key, value in sorted(described.get("fingerprint", {}).items()))
        verdict = "passed" if self.self_test.passed else "FAILED"
        return [
            f"bundle: {self.bundle.path}, {manifest.task}, {manifest.variant} for {manifest.target}",
            f"engine: {manifest.backend}, {told}, {self.size_bytes / 1e6:.2f} MB",
            f"built for: {fingerprint}",
            *([f"board: {in_words(self.device)}"] if self.device else []),
            f"precision: {_shares(described)}",
            *_layers(described.get("executed", []), self.layer_ms or {}),
            *(f"note: {note}" for note in self.notes),
            f"self-test: {verdict} on {self.self_test.samples} golden samples",
            *(f"  {check.sentence()}" for check in self.self_test.outputs),
            *(self.spread.lines() if self.spread else []),
        ]

    def to_dict(self) -> dict[str, Any]:
        manifest, described = self.bundle.manifest, self.description
        return {
            "schema": SCHEMA,
            "bundle": str(self.bundle.path),
            "manifest_sha256": self.bundle.sha256,
            "task": manifest.task,
            "variant": manifest.variant,
            "target": manifest.target,
            "backend": manifest.backend,
            "engine": self.engine,
            "folder": str(self.folder) if self.passed else None,
            "size_bytes": self.size_bytes,
            "build_s": None if self.build_s is None else round(self.build_s, 3),
            "fingerprint": dict(described.get("fingerprint", {})),
            "precision": described.get("precision"),
            "layers": described.get("layers"),
            "macs": described.get("macs"),
            "executed": described.get("executed"),
            "layer_ms": self.layer_ms and dict(self.layer_ms),
            "settings": described.get("settings"),
            "notes": self.notes,
            "device": self.device and dict(self.device),
            "telemetry": self.telemetry and dict(self.telemetry),
            "self_test": self.self_test.to_dict(),
            "spread": self.spread and self.spread.to_dict(),
            "passed": self.passed,
        }


def _shares(described: Mapping[str, Any]) -> str:
    """Such as "62 layers int8, 20 fp16; multiply-adds 98 % int8, 2 % fp16"."""
    layers, macs = described.get("layers") or {}, described.get("macs") or {}
    counted = ", ".join(f"{count} {name}" for name, count in sorted(layers.items(), key=lambda item: -item[1]))
    total = sum(macs.values())
    shares = [f"{100 * count / total:.3g} % {name}" for name, count in sorted(macs.items(), key=lambda item: -item[1])]
    return f"layers {counted or 'unknown'}" + (f"; multiply-adds {', '.join(shares)}" if shares else "")


def _layers(executed: list[Mapping[str, Any]], layer_ms: Mapping[str, float]) -> list[str]:
    """One line per executed layer: its precision, its kind, and the nodes of the graph that were fused into it."""
    if not executed:
        return []
    fused = [layer for layer in executed if len(layer.get("nodes", [])) > 1]
    inside = sum(len(layer["nodes"]) for layer in fused)
    lines = [f"fused: {inside} nodes of the graph run in {len(fused)} of {len(executed)} layers"]
    for layer in executed[:_LISTED]:
        nodes = list(layer.get("nodes", []))
        shown = " + ".join(nodes[:4]) + (f" + {len(nodes) - 4} more" if len(nodes) > 4 else "")
        on = " on the DLA" if layer.get("device") == "dla" else ""
        took = f" {layer_ms[layer['name']]:.3f} ms" if layer["name"] in layer_ms else ""
        lines.append(f"  {layer['precision']:<7} {layer['kind'] or 'layer'}{on}{took}: {shown or layer['name']}")
    if len(executed) > _LISTED:
        lines.append(f"  ... and {len(executed) - _LISTED} more (--json lists all)")
    return lines
