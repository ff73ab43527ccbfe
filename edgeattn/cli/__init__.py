"""The command line: one click command per file of this room, found by file name.

Commands parse, call and print; nothing else in the package prints. Exit codes are docs/contract.md's.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any, cast

import click

from edgeattn import __version__
from edgeattn.errors import EdgeattnError, StorageError

_SHARED = {"console", "datasheet", "inspection", "options", "pages", "stages", "summary"}


class _Commands(click.Group):
    """Imports a command's file only when it is called, so that `edgeattn verify` never loads a training library."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        return cast(click.Command, importlib.import_module(f"{__name__}.{cmd_name}").command)

    def invoke(self, ctx: click.Context) -> Any:
        """The reader of our output has seen enough (`| head`): no failure, though click and rich would end with 1."""
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, SystemExit) as error:
            if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
                raise
            _drop_output()
            ctx.exit(0)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with:  edgeattn deploy digit_scenes --target cpu",
)
@click.version_option(__version__, prog_name="edgeattn")
def group() -> None:
    """Take an attention vision model from PyTorch to a camera, and prove at every step that it is right and fast.

    Exit codes: 0 done and inside the budget; 1 done, but the verdict is no; 2 wrong usage or bad input, nothing was
    changed; 3 this machine lacks something; 130 interrupted, running again resumes.
    """


def main() -> None:
    """Run a command; every failure we know ends in one sentence on standard error and its exit code."""
    # A recipe may name a network of one's own, package.module; last, so that it never stands before a library.
    sys.path.append(str(Path.cwd()))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A dash or a name that the terminal has no sign for must not end a run; standard error escapes them anyway.
        with contextlib.suppress(OSError):  # a reader that has gone already
            sys.stdout.reconfigure(errors="replace")
    try:
        code = group.main(prog_name="edgeattn", standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted; run the same command again to resume")
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to resume")
        code = 130
    except EdgeattnError as error:
        _say(f"error: {error}")
        code = error.exit_code
    except OSError as error:
        _drop_output()
        _say(f"error: {error.filename or 'the output'} cannot be read or written ({error.strerror or error}).")
        code = StorageError.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _drop_output() -> None:
    """What is left in the buffer of standard output would fail again when Python ends."""
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends


def _say(message: str) -> None:
    click.echo(message, err=True)
