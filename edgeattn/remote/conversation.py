"""One connection: the request, the files that the far side lacks, then its records until the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeattn import errors
from edgeattn.artifact import sha256_bytes, sha256_file
from edgeattn.errors import EdgeattnError
from edgeattn.progress import Progress
from edgeattn.remote import bootstrap
from edgeattn.remote.host import Host
from edgeattn.remote.line import Line, Source
from edgeattn.remote.records import Failed, Hello, Need, Progressed, Result, Sent


@dataclass(frozen=True)
class Request:
    """One step. `files`: by the names the step knows them by. `key`: what its record is named; None for a question.

    `needed`: modules that must be there and what pip calls them. `force`: do it again although there is a record.
    """

    step: str
    key: str | None
    values: Mapping[str, Any]
    package: bytes
    needed: list[tuple[str, str]]
    files: Mapping[str, Source] = field(default_factory=dict)
    force: bool = False


def converse(host: Host, request: Request, into: Path | None, progress: Progress) -> Result:
    """The result; the files it names are in `into`, named by their SHA-256.

    What is in `into` already is not sent again; None for a question, which brings no files. Raises what the step
    raised there, as it said it, and ConnectionFailed, MissingLibrary or InputError where it did not come to that.
    """
    listed = {name: _entry(source) for name, source in request.files.items()}
    sources: dict[str, Source] = {listed[name]["sha256"]: source for name, source in request.files.items()}
    package = _entry(request.package)
    sources[package["sha256"]] = request.package
    head = {
        "step": request.step,
        "key": request.key,
        "values": request.values,
        "files": listed,
        "package": package,
        "needed": request.needed,
        "force": request.force,
        "have": [path.name for path in _whole_files(into)] if into else [],
    }
    program = Path(bootstrap.__file__).read_bytes()
    with Line(host, program + json.dumps(head).encode() + b"\n", len(program)) as line:
        return _listen(line, sources, into, progress)


def _listen(line: Line, sources: Mapping[str, Source], into: Path | None, progress: Progress) -> Result:
    address = line.host.address
    for record in line.records():
        match record:
            case Hello():
                line.doing = "it looked for what is there already"
            case Need(hashes):
                if unknown := set(hashes) - set(sources):
                    raise line.distrust(f"a request for a file that nobody offered ({min(unknown)[:12]})")
                line.doing = "files were sent"
                line.send([sources[sha256] for sha256 in hashes], progress)
                line.stay_alive()
            case Progressed(done, total, text):
                line.doing = f"'{text}' was under way"
                progress(done, total, f"{text}, on {address}")
            case Sent():
                if into is None:
                    raise line.distrust("a file where none was asked for")
                line.doing = "results were fetched"
                progress(0, 1, f"fetching results from {address}")
                line.fetch(record, into)
            case Failed(kind, message):
                raise _error(kind, f"On {address}: {message}")
            case Result():
                if not all(into and (into / sha256).is_file() for sha256 in record.files.values()):
                    raise line.distrust("a result without its files")
                return record
    raise line.failure()


def _error(name: str, message: str) -> EdgeattnError:
    """What was raised there, as the same class here."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, EdgeattnError)):
        kind = EdgeattnError
    if kind is errors.NoEngine:
        kind = errors.ModelError  # the former makes a sentence of a reason, and this is that sentence
    return kind(message)


def _entry(source: Source) -> dict[str, Any]:
    if isinstance(source, bytes):
        return {"sha256": sha256_bytes(source), "size": len(source)}
    return {"sha256": sha256_file(source), "size": source.stat().st_size}


def _whole_files(folder: Path) -> list[Path]:
    """Files that an earlier connection brought, as they were sent."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_file() and sha256_file(path) == path.name]
