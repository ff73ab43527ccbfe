"""The first bytes of a plan, read before TensorRT sees them: whose it is and which version wrote it.

TensorRT may crash or run code from a plan that is not its own. `trtexec --getPlanVersionOnly` reads the same bytes,
in 10.3 and 11.1 alike: tag, serialization version, and at 24 to 27 major, minor, patch and build of the library.
"""

from __future__ import annotations

import re

_TAG = 0x74727466  # "ftrt", read as a little-endian number
_SERIALIZATION = 0
HEADER_SIZE = 28


def unusable(head: bytes, library: str, *, newer_is_fine: bool) -> str | None:
    """Why TensorRT `library` (its `__version__`) cannot open a plan that begins with `head`; None when it can.

    `newer_is_fine`: the plan was built version-compatible, so that a later TensorRT may open it.
    """
    if len(head) < HEADER_SIZE:
        return f"the plan is truncated ({len(head)} bytes, its header alone has {HEADER_SIZE})"
    if int.from_bytes(head[:4], "little") != _TAG:
        return "the plan is none of TensorRT's (it does not begin with 'ftrt')"
    if (layout := int.from_bytes(head[4:8], "little")) != _SERIALIZATION:
        return f"the plan has an unknown layout ({layout}, known is {_SERIALIZATION})"
    # The fourth byte is the build, which `__version__` names in some packages only.
    wrote, here = tuple(head[24:27]), release(library)
    if wrote == here or (newer_is_fine and wrote < here):
        return None
    return f"the plan was built by TensorRT {'.'.join(map(str, wrote))}, here is {library}"


def release(version: str) -> tuple[int, ...]:
    """Major, minor and patch of a `__version__`."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
