"""The report of a deploy run: report.json and, made from it alone, report.html, report.md and junit.xml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeattn.artifact import write_atomic
from edgeattn.errors import InputError
from edgeattn.report.schema import dump, load, plain, validate

__all__ = ["load", "render", "validate"]


def render(report: Mapping[str, Any], out: Path) -> list[Path]:
    """Write report.json, report.html, report.md and junit.xml into the folder `out`, each atomically.

    Figures that are not finite are written as null, since JSON knows no infinity. The same report gives the same
    bytes. Returns the four paths in that order. Raises InputError when the report breaks the contract or mixes
    hashes (nothing is written then), StorageError when the disk refuses.
    """
    from edgeattn.report.html import page
    from edgeattn.report.junit import suites
    from edgeattn.report.markdown import comment

    checked = plain(report)
    validate(checked)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give --out a folder for the report.")
    # The figures are safe on disk before anything is drawn from them.
    makers = {"report.json": dump, "report.html": page, "report.md": comment, "junit.xml": suites}
    for name, make in makers.items():
        write_atomic(out / name, make(checked))
    return [out / name for name in makers]
