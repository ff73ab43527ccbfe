"""What `edgeattn` on the command line starts: the commands, or one sentence where only the runtime is installed."""

from __future__ import annotations

import importlib.util
import sys

_NEEDED = ("click", "filelock", "jinja2", "matplotlib", "psutil", "pydantic", "yaml", "rich")


def main() -> None:
    """Run `edgeattn.cli`, whose libraries a device does without."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"error: The edgeattn command needs {', '.join(missing)}, which a device does without; install it with: "
            'pip install "edgeattn[cli]", or on the device use: python -m edgeattn.runtime --help.',
            file=sys.stderr,
        )
        sys.exit(3)
    from edgeattn.cli import main as run

    run()
