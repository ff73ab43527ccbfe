"""How the calibration images are divided. Nothing heavy is imported: what cannot work is refused before it is begun."""

from __future__ import annotations

from edgeattn.errors import DataError


def held_back(count: int, search_samples: int) -> int:
    """How many of `count` calibration images only judge the candidates: `search_samples`, but at most a third.

    Raises DataError when that leaves none to judge: 3 images are the fewest.
    """
    if count < 3:
        raise DataError(
            f"INT8 needs at least 3 calibration images (300 are usual), got {count}; raise data.calibration."
        )
    return min(search_samples, count // 3)
