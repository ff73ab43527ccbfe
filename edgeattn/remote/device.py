"""A machine that was reached and has all that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeattn.progress import Progress
from edgeattn.remote.conversation import Request, converse
from edgeattn.remote.host import Host
from edgeattn.remote.line import Source
from edgeattn.remote.package import needed, pack


@dataclass(frozen=True)
class Done:
    """A finished step: its `values`, and where on this machine the files are that it made. `cached`: found there."""

    values: dict[str, Any]
    files: dict[str, Path]
    cached: bool


@dataclass
class Device:
    """What is on the other side; see `connect`. `facts` are those of `steps.describe`, as it was last looked at."""

    host: Host
    backend: str
    package: bytes
    facts: Mapping[str, Any]
    progress: Progress

    @property
    def address(self) -> str:
        return self.host.address

    @property
    def cpu(self) -> str:
        return str(self.facts["identity"]["cpu"])

    @property
    def cores(self) -> int:
        return int(self.facts["identity"]["cores"])

    @property
    def precisions(self) -> list[str]:
        return list(self.facts["precisions"])

    @property
    def fingerprint(self) -> dict[str, str]:
        """What engines compiled there depend on (`backends.base.Compiler.fingerprint`)."""
        return dict(self.facts["fingerprint"])

    @property
    def module(self) -> str | None:
        """Which Jetson it is, such as "p3767-0005"; None where it is none."""
        return (self.facts["board"] or {}).get("module")

    @property
    def libraries(self) -> dict[str, str]:
        return dict(self.facts["host"]["packages"])

    def describe(self) -> dict[str, Any]:
        """The report's `host.device`: what is told of any machine, and of a board how it is set."""
        machine = {key: value for key, value in self.facts["host"].items() if key != "device"}
        return {"address": self.address, **machine, **(self.facts["board"] or {}), "fingerprint": self.fingerprint}

    def look_again(self) -> None:
        """Ask a board how it is set now: hours of training may have passed. Raises as `step`."""
        if self.facts["board"] is not None:
            self.facts = _facts(self.host, self.backend, self.package, self.progress)

    def step(
        self,
        name: str,
        key: str,
        values: Mapping[str, Any],
        files: Mapping[str, Source],
        into: Path,
        *,
        force: bool = False,
    ) -> Done:
        """Run the step `name` of `steps` there, or take its record `key`; its files are fetched to below `into`.

        `key` is a hash of all that the result depends on. `files` are sent as far as they are not there. `into` may be
        given again after a failure, and keeps what was fetched by then. Raises what the step raises there, with the
        host's name before it, and ConnectionFailed, StorageError.
        """
        request = Request(name, key, values, self.package, needed(self.backend), files, force)
        result = converse(self.host, request, into, self.progress)
        return Done(result.values, {name: into / sha256 for name, sha256 in result.files.items()}, result.cached)


def connect(host: Host, backend: str, task_module: str, progress: Progress) -> Device:
    """Go there, check Python and libraries, and ask what it is.

    `task_module`: the full name of the recipe's task. Raises ConnectionFailed, MissingLibrary, StorageError, and
    InputError for options that ssh does not take.
    """
    package = pack(task_module)
    progress(0, 1, f"connecting to {host.address}")
    return Device(host, backend, package, _facts(host, backend, package, progress), progress)


def _facts(host: Host, backend: str, package: bytes, progress: Progress) -> dict[str, Any]:
    question = Request("describe", None, {"backend": backend}, package, needed(backend))
    return converse(host, question, None, progress).values
