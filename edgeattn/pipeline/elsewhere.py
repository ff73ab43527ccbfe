"""Whether engines for a target can be built on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from edgeattn import backends, jetpack
from edgeattn.board import jetson
from edgeattn.errors import MissingLibrary
from edgeattn.target import Target


def elsewhere(target: Target) -> str | None:
    """Why engines for `target` cannot be built on this machine; None when they can, or when it is no such target."""
    if target.backend != "tensorrt":
        return None
    try:
        compiler = backends.find_compiler(target.backend)
    except MissingLibrary as error:
        return f"{str(error).partition(';')[0].rstrip('.')}."
    return unsuited(target, "This machine", jetson.module_id(), compiler.fingerprint())


def unsuited(target: Target, machine: str, module: str | None, fingerprint: Mapping[str, str]) -> str | None:
    """Why engines for `target` are not for `machine`, a Jetson `module` or none, with that GPU and TensorRT.

    A container hides which module it is; its GPU tells then whether it can be the target. A newer TensorRT than the
    target names is no reason: its rules are not known here, but its parser will tell.
    """
    hardware, tensorrt = target.hardware, fingerprint.get("tensorrt")
    modules = hardware.modules if hardware else ()
    gpu = fingerprint.get("compute_capability"), fingerprint.get("multiprocessors")
    wanted = (hardware.compute_capability, str(hardware.multiprocessors)) if hardware else None
    if modules and module not in modules and (module is not None or gpu != wanted):
        it_is = module or "no Jetson, or a container that hides which one"
        return f"{machine} is {it_is}, the target {target.name} is {' or '.join(modules)}."
    span = target.tensorrt
    if span is not None and tensorrt is not None and jetpack.of_package(tensorrt) < jetpack.version(span.min):
        return f"{machine} has TensorRT {tensorrt}, the target {target.name} is for {span.min} or newer."
    return None
