"""`python -m edgeattn.runtime`: build, verify and run bundles where the command line's libraries are not installed.

    python -m edgeattn.runtime build BUNDLE [--twice] [--force] [--key PUBLIC.pem] [--json]
    python -m edgeattn.runtime verify BUNDLE [--key PUBLIC.pem] [--json]
    python -m edgeattn.runtime run BUNDLE --source IMAGE|FOLDER|VIDEO [--out PATH] [--key PUBLIC.pem] [--json]

Exit codes: 0 done, 1 the self-test failed, 2 wrong usage or input, 3 this machine lacks something, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeattn import runtime
from edgeattn.errors import EdgeattnError, StorageError
from edgeattn.runtime.build import build
from edgeattn.runtime.run import json_line, line, run
from edgeattn.runtime.sources import quiet_opencv
from edgeattn.runtime.ticker import Ticker
from edgeattn.runtime.verify import verify
from edgeattn.tasks.base import Result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError):  # a reader that has gone already
            sys.stdout.reconfigure(errors="replace")  # the terminal may have no sign for a label
    try:
        code = {"build": _build, "verify": _verify, "run": _run}[options.command](options)
        sys.stdout.flush()
        return code
    except EdgeattnError as error:
        print(f"edgeattn: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edgeattn: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (such as `head`) has what it wanted; without this the interpreter complains while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # What is left in the buffer of standard output would fail again when Python ends.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
        where, why = error.filename or "the output", error.strerror or error
        print(f"edgeattn: {where} cannot be read or written ({why}).", file=sys.stderr)
        return StorageError.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgeattn.runtime", description="Build, verify and run edgeattn bundles."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, says in (
        ("build", "build the engine for this machine from the bundle's model.onnx, prove it, and keep it for load"),
        ("verify", "check hashes, signature, compatibility and the golden self-test"),
        ("run", "run a bundle on images or a video"),
    ):
        command = commands.add_parser(name, help=says, description=says)
        command.add_argument("bundle", type=Path)
        command.add_argument("--key", type=Path, help="public key (PEM) that must have signed the bundle")
        command.add_argument("--threads", type=int, help="threads of the engine; default: all")
        command.add_argument("--json", action="store_true", help="JSON on standard output, one object per line")
        if name == "run":
            command.add_argument("--source", required=True, help="image, folder of images, or video file")
            command.add_argument("--out", type=Path, help="write overlays: a file, or a folder for several images")
        if name == "build":
            _add_build(command)
    return parser


def _add_build(command: argparse.ArgumentParser) -> None:
    command.add_argument("--optimization-level", type=int, metavar="0..5", help="TensorRT: 0 builds fast, 5 tries most")
    command.add_argument("--workspace-mb", type=int, metavar="MB", help="TensorRT: the most memory a layer may use")
    command.add_argument("--dla", type=int, metavar="CORE", help="TensorRT: run on this DLA core what it can run")
    command.add_argument(
        "--version-compatible", action="store_true", help="TensorRT: newer ones may open it too; costs some speed"
    )
    command.add_argument("--refittable", action="store_true", help="TensorRT: its weights can be replaced")
    command.add_argument("--force", action="store_true", help="build also where an engine that fits is there")
    command.add_argument("--twice", action="store_true", help="build a second engine and report how far the two differ")


def _build(options: argparse.Namespace) -> int:
    asked = {
        "optimization_level": options.optimization_level,
        "workspace_mb": options.workspace_mb,
        "dla_core": options.dla,
        "version_compatible": options.version_compatible or None,
        "refittable": options.refittable or None,
    }
    with Ticker() as progress:
        report = build(
            options.bundle,
            options.key,
            threads=options.threads,
            options={name: value for name, value in asked.items() if value is not None},
            force=options.force,
            twice=options.twice,
            progress=progress,
        )
    print(json.dumps(report.to_dict(), allow_nan=False) if options.json else "\n".join(report.lines()))
    return 0 if report.passed else 1


def _verify(options: argparse.Namespace) -> int:
    with Ticker(patience_s=2.0) as progress:
        report = verify(options.bundle, options.key, threads=options.threads, progress=progress)
    print(json.dumps(report.to_dict()) if options.json else "\n".join(report.lines()))
    return 0 if report.passed else 1


def _run(options: argparse.Namespace) -> int:
    def emit(name: str, result: Result) -> None:
        print(json_line(name, result) if options.json else line(name, result), flush=True)

    quiet_opencv()
    with Ticker(patience_s=2.0) as progress:
        model = runtime.load(options.bundle, key=options.key, threads=options.threads, progress=progress)
    with model:
        for note in model.notes:
            print(f"edgeattn: note: {note}", file=sys.stderr)
        run(model, options.source, emit, out=options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
