"""Attention alignment against SIFT and ORB with RANSAC, on the pairs of a `warps` recipe's evaluation split.

    EDGEATTN_DATA=DIR python benchmarks/alignment_against_sift.py [BUNDLE] [bsds_align]

BUNDLE is by default what `edgeattn zoo bsds_align` left in reports/zoo; without one there is nothing to compare.
Error: mean distance of the four corners; a method that finds nothing counts as the identity, and errors over 1,000 px
as 1,000. Time: whole calls, two colour images to a homography, pair by pair in turn; the bundle's also warps the image.
Prints one JSON object for clean and one for degraded pairs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeattn import runtime
from edgeattn.cli.options import data_root
from edgeattn.data import warps
from edgeattn.imaging import Frame
from edgeattn.metrics.alignment import corner_error_px
from edgeattn.recipe import load_recipe, parse_settings
from edgeattn.stats import ratio_of_rounds

Homography = NDArray[np.float64]
_DEPLOYED = Path("reports/zoo/bsds_align")
_WORST_PX = 1000.0
_RATIO = 0.8  # Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", 2004, section 7.1
_RANSAC_PX = 3.0


def by_keypoints(detector: Any, norm: int, ratio: float | None) -> Callable[[Frame, Frame], Homography]:
    """Keypoints, nearest neighbours (by Lowe's ratio, or mutual ones), RANSAC."""
    matcher = cv2.BFMatcher(norm, crossCheck=ratio is None)

    def align(a: Frame, b: Frame) -> Homography:
        grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in (a, b)]
        (points_a, first), (points_b, second) = (detector.detectAndCompute(image, None) for image in grey)
        if first is None or second is None:
            return np.eye(3)
        if ratio is None:
            matches = matcher.match(first, second)
        else:
            pairs = [pair for pair in matcher.knnMatch(first, second, k=2) if len(pair) == 2]
            matches = [one for one, other in pairs if one.distance < ratio * other.distance]
        if len(matches) < 4:
            return np.eye(3)
        places_a = np.array([points_a[match.queryIdx].pt for match in matches], np.float32)
        places_b = np.array([points_b[match.trainIdx].pt for match in matches], np.float32)
        found, _ = cv2.findHomography(places_a, places_b, cv2.RANSAC, _RANSAC_PX)
        return np.eye(3) if found is None else np.asarray(found, np.float64)

    return align


def compare(model: runtime.Model, settings: warps.Settings, seed: int) -> dict[str, Any]:
    """Errors and times of the three methods on one evaluation split."""
    methods: dict[str, Callable[[Frame, Frame], Homography]] = {
        "edgeattn": lambda a, b: model(a, b).homography,  # type: ignore[attr-defined]
        "sift": by_keypoints(cv2.SIFT_create(), cv2.NORM_L2, _RATIO),  # type: ignore[attr-defined]  # cv2's stubs lack both
        "orb": by_keypoints(cv2.ORB_create(500), cv2.NORM_HAMMING, None),  # type: ignore[attr-defined]
    }
    pairs = warps.load(settings, data_root(), seed).evaluation
    errors: dict[str, list[float]] = {name: [] for name in methods}
    times: dict[str, list[float]] = {name: [] for name in methods}
    for index in range(len(pairs)):
        sample = pairs[index]
        a, b = sample.frames
        for name, align in methods.items():
            started = time.perf_counter()
            found = align(a, b)
            times[name].append((time.perf_counter() - started) * 1e3)
            errors[name].append(min(corner_error_px(found, sample.target, *a.shape[:2]), _WORST_PX))
    figures: dict[str, Any] = {"pairs": len(pairs), "degraded": settings.eval_degraded}
    for name in methods:
        values = np.array(errors[name])
        figures[name] = {
            "mean_px": round(float(values.mean()), 3),
            "median_px": round(float(np.median(values)), 3),
            "within_5_px_percent": round(float((values <= 5).mean() * 100), 1),
            "p50_ms": round(float(np.median(times[name])), 3),
        }
    ratio, interval = ratio_of_rounds(times["edgeattn"], times["sift"], seed=0)
    figures["time_over_sift"] = [round(ratio, 3), [round(v, 3) for v in interval]]
    return figures


def main() -> None:
    """Clean, then degraded pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=next(iter(sorted(_DEPLOYED.glob("*.edgeattn"))), None))
    parser.add_argument("recipe", nargs="?", default="bsds_align")
    options = parser.parse_args()
    if options.bundle is None:
        print(f"There is no bundle in {_DEPLOYED}; name one, or make it with: edgeattn zoo bsds_align")
        return
    recipe = load_recipe(options.recipe)
    with runtime.load(options.bundle) as model:
        for degraded in (0.0, 1.0):
            fields = {**recipe.data.settings, "eval_degraded": degraded}
            settings = parse_settings(warps.Settings, fields, options.recipe)
            print(json.dumps(compare(model, settings, recipe.seed), indent=1))


if __name__ == "__main__":
    main()
