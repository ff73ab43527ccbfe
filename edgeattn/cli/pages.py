"""Pages that show many reports: a table, a gallery, and the table's place in other Markdown files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeattn.artifact import write_atomic
from edgeattn.errors import InputError
from edgeattn.report.facts import Report
from edgeattn.report.zoo import BEGIN, BEGIN_WHOLE, END, placed


def check_place(path: Path) -> None:
    """Raises InputError unless the file at `path` says where the table belongs."""
    _with_table(path, {})


def write_pages(out: Path, silent: Mapping[str, str] | None = None, into: Sequence[Path] = ()) -> list[Path]:
    """OUT/README.md and OUT/gallery.html from every OUT/*/report.json, and the table in `into`; nothing without one.

    `silent` names folders whose report is not this run's, each with the reason: they are named below the table.
    A report that cannot be read is named there too. Returns what was written.
    """
    from edgeattn import report
    from edgeattn.report.zoo import gallery, left_out, table

    missing, found = dict(silent or {}), {}
    for path in sorted(out.glob("*/report.json")):
        name = path.parent.name
        if name in missing:
            continue
        try:
            found[name] = report.load(path)
        except InputError as error:
            missing[name] = str(error)
    if not found:
        return []
    heading = "# Every system, from PyTorch to the engine that ships\n\n"
    text = f"{heading}Made by `edgeattn zoo`; figures as in each report. [Pictures](gallery.html).\n\n{table(found)}"
    pages = {out / "README.md": text + left_out(missing), out / "gallery.html": gallery(found)}
    for path in into:
        base = Path(os.path.relpath(out.resolve(), path.resolve().parent)).as_posix() + "/"
        pages[path] = _with_table(path, found, base)
    for path, page in pages.items():  # all of them are made by now: a file that cannot take the table stops none
        write_atomic(path, page)
    return list(pages)


def _with_table(path: Path, reports: Mapping[str, Report], base: str = "") -> str:
    """The file at `path` with `made` in its place for the table. Raises InputError when it has none."""
    document = placed(_text(path), reports, base)
    if document is None:
        raise InputError(
            f"{path} lacks the line '{BEGIN}' (or '{BEGIN_WHOLE}', for all columns) or, below it, '{END}'; add both "
            "where the table belongs."
        )
    return document


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8, or give another file with --into."
        ) from error
