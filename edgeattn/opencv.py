"""OpenCV, imported when something of it is first used: an engine is built and proven on a device without it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from edgeattn.errors import MissingLibrary


@lru_cache(maxsize=1)
def require() -> Any:
    """The module `cv2`. Raises MissingLibrary where it cannot be used: better at the start than at the first frame."""
    try:
        import cv2 as opencv
    except (ImportError, OSError) as error:
        raise MissingLibrary(
            f"OpenCV, which prepares frames, cannot be used ({error}); install it with: pip install "
            "opencv-python-headless (on a Jetson: sudo apt install python3-opencv)."
        ) from error
    return opencv


class _WhenUsed:
    def __getattr__(self, name: str) -> Any:
        return getattr(require(), name)


if TYPE_CHECKING:
    import cv2
else:
    cv2 = _WhenUsed()

__all__ = ["cv2", "require"]
