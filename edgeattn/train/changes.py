"""Which random changes of training frames which targets allow. Loads no torch: a recipe is judged before any work."""

from __future__ import annotations

from edgeattn.errors import RecipeError
from edgeattn.recipe import Augment


def check(settings: Augment, kind: str, *, degraded: bool) -> None:
    """Raises RecipeError for changes that spoil clean images, and for boxes to be turned.

    `degraded`: the frames are clean images that the data's degradation spoils.
    """
    if degraded and (settings.noise or settings.erase):
        raise RecipeError(
            "train.augment.noise and train.augment.erase are not for clean images, which the data's degradation "
            "spoils; leave them out, and set data.noise or data.holes."
        )
    if kind == "boxes" and settings.rotate:
        # The corners of a turned box span one that is far too large for a round object: at 45 degrees twice the area.
        raise RecipeError(
            f"train.augment.rotate must be 0 where boxes are taught, got {settings.rotate:g}: the upright box around a "
            "turned one is larger than the object in it; use flip, shift and scale."
        )
