"""Whether engines for a target can be built on this machine."""

from __future__ import annotations

from edgeattn import backends
from edgeattn.board import jetson
from edgeattn.errors import MissingLibrary
from edgeattn.target import Target


def elsewhere(target: Target) -> str | None:
    """Why engines for `target` cannot be built on this machine; None when they can, or when it is no such target."""
    if target.backend != "tensorrt":
        return None
    try:
        backends.find(target.backend)
    except MissingLibrary as error:
        return f"{str(error).partition(';')[0].rstrip('.')}."
    modules = target.hardware.modules if target.hardware else ()
    here = jetson.module_id()
    if modules and here not in modules:
        return f"This machine is {here or 'no Jetson'}, the target {target.name} is {' or '.join(modules)}."
    return None
