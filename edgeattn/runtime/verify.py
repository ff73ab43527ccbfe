"""Everything that can be proved about a bundle on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeattn.bundle.golden import SelfTest
from edgeattn.bundle.reader import Bundle
from edgeattn.progress import Progress, silent
from edgeattn.runtime.model import open_model

SCHEMA = "edgeattn.verify/1"


@dataclass(frozen=True)
class VerifyReport:
    """That there is a report means hashes and, with a key, signature are right; only the self-test may still say no.

    `engine`: `compiled` (the bundle's own), `rebuilt` (from model.onnx, `rebuilt` says why) or `built here` (from
    model.onnx, the bundle carries none).
    """

    bundle: Bundle
    rebuilt: str | None
    self_test: SelfTest
    notes: tuple[str, ...] = ()

    @property
    def engine(self) -> Literal["compiled", "rebuilt", "built here"]:
        if self.bundle.manifest.engine_dir is None:
            return "built here"
        return "rebuilt" if self.rebuilt else "compiled"

    @property
    def passed(self) -> bool:
        return self.self_test.passed

    def lines(self) -> list[str]:
        """The report for a person, one finding per line."""
        bundle, manifest = self.bundle, self.bundle.manifest
        said = {
            "verified": "by the key's owner",
            "not checked": "present, not checked (give a key to check it)",
            "unsigned": "none",
        }[bundle.signed]
        engine = {
            "compiled": "as compiled in the bundle",
            "rebuilt": f"rebuilt from model.onnx: {self.rebuilt}",
            "built here": "built here from model.onnx; the bundle carries none",
        }[self.engine]
        verdict = "passed" if self.passed else "FAILED"
        return [
            f"bundle: {bundle.path}, {bundle.size_bytes} bytes",
            f"holds: {manifest.task}, {manifest.variant} for {manifest.target}",
            f"hashes: {len(manifest.files)} files as listed",
            f"signature: {said}",
            f"engine: {manifest.backend}, {engine}",
            f"self-test: {verdict} on {self.self_test.samples} golden samples",
            *(f"  {check.sentence()}" for check in self.self_test.outputs),
            *(f"note: {note}" for note in self.notes),
        ]

    def to_dict(self) -> dict[str, Any]:
        manifest = self.bundle.manifest
        return {
            "schema": SCHEMA,
            "bundle": str(self.bundle.path),
            "manifest_sha256": self.bundle.sha256,
            "size_bytes": self.bundle.size_bytes,
            "task": manifest.task,
            "variant": manifest.variant,
            "target": manifest.target,
            "backend": manifest.backend,
            "files": len(manifest.files),
            "signature": self.bundle.signed,
            "engine": self.engine,
            "rebuilt": self.rebuilt,
            "self_test": self.self_test.to_dict(),
            "notes": list(self.notes),
            "passed": self.passed,
        }


def verify(
    path: Path, key: Path | None = None, *, threads: int | None = None, progress: Progress = silent
) -> VerifyReport:
    """Check hashes, signature (with `key`), that the engine loads here, and the golden samples.

    Raises BundleError and the other errors of `edgeattn.load`; a failed self-test is in the report, not raised.
    """
    with open_model(path, key=key, threads=threads, self_test=False, progress=progress) as model:
        # A backend that had to fall back to model.onnx says why on its runner.
        return VerifyReport(model.bundle, getattr(model.runner, "rebuilt", None), model.self_test(), model.notes)
