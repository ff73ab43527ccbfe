import pytest

from edgeattn.report.scale import Scale, scale_named, scale_of, scale_per_label, task_of
from edgeattn.report.wording import NBSP

PERCENT, SHARE = Scale("top1", "%", True), Scale("mAP50", "", True)
PIXELS, ERROR = Scale("corner error", "px", False), Scale("photometric error", "", False)


@pytest.mark.parametrize(
    ("scale", "given", "value", "amount", "short", "change"),
    [
        (PERCENT, -0.1, "−0.10 %", "−0.10 point", "−0.10 point", "−0.10 point"),
        (SHARE, -0.0031, "−0.0031", "−0.0031 of mAP50", "−0.0031", "−0.0031 of mAP50"),
        (SHARE, 0.0031, "0.0031", "0.0031 of mAP50", "+0.0031", "+0.0031 of mAP50"),
        (PIXELS, 0.12, "0.12 px", "0.12 px", "0.12 px worse", "0.12 px worse"),
        (PIXELS, -0.02, "−0.02 px", "−0.02 px", "0.02 px better", "0.02 px better"),
        (PIXELS, 0.001, "0.00 px", "0.00 px", "0.00 px", "0.00 px"),
        (ERROR, 0.0012, "0.0012", "0.0012 of photometric error", "0.0012 worse", "0.0012 worse"),
        (PIXELS, None, "–", "–", "–", "–"),
    ],
)
def test_figures(scale, given, value, amount, short, change):
    found = (scale.value(given), scale.amount(given), scale.short(given), scale.change(given))
    assert tuple(text.replace(NBSP, " ") for text in found) == (value, amount, short, change)


def test_heads():
    assert [scale.head for scale in (PERCENT, SHARE, PIXELS)] == ["top1, %", "mAP50", "corner error, px"]
    assert (SHARE.direction, PIXELS.direction) == ("higher is better", "lower is better")


def test_scales_of_a_row_and_of_a_task():
    assert scale_of(None) == Scale("metric", "", True)
    row = {"metric": {"name": "corner_error", "unit": "px", "higher_is_better": False}}
    assert scale_of(row) == PIXELS
    assert scale_named({"task": "align"}, "photometric_error") == ERROR
    assert scale_named({"task": "align"}, "of_tomorrow") == Scale("of tomorrow", "", True)
    assert scale_named({"task": "none"}, "corner_error") == Scale("corner error", "", True)
    assert scale_per_label({"task": "segment"}).unit == "%" and scale_per_label({"task": "detect"}).unit == ""
    assert task_of({"task": "none"}) is None
