import pytest
import sample_reports as made

from edgeattn.report import facts, sentences, wording
from edgeattn.report.scale import scale_of


def test_budget():
    def of(report):
        return sentences.budget(facts.limits(report, facts.selected_row(report)))

    assert of(made.report()) == "All 4 limits are kept"
    assert of(made.report() | {"budget": {"metric_drop_max": 0.5, "size_mb_max": 2.0}}) == "Both limits are kept"
    assert of(made.missed()) == "3 of 4 limits missed: accuracy, SQNR and p99 latency"
    assert of(made.deferred()) == "3 of 4 limits kept; not measured: p99 latency"


@pytest.mark.parametrize(
    ("make", "bound", "value", "state"),
    [
        (made.report, "at most 0.50 point", "0.10 point", "kept"),
        (made.detect, "at most 0.0100 of mAP50", "0.0031 of mAP50", "kept"),
        (made.align, "at most 0.10 px", "0.12 px", "missed"),
        (made.restore, "at most 0.10 dB", "0.04 dB", "kept"),
    ],
)
def test_the_metric_lost_in_its_own_unit(make, bound, value, state):
    report = make()
    row = facts.selected_row(report)
    limit = next(limit for limit in facts.limits(report, row) if limit.key == "metric_drop_max")
    texts = [text.replace(wording.NBSP, " ") for text in sentences.limit_texts(limit, scale_of(row))]
    assert texts == ["accuracy lost", bound, value]
    assert sentences.limit_state(limit) == state
    made.find(report, "compile/int8")["drift"]["metric_delta"] = None
    assert sentences.limit_texts(facts.limits(report, row)[0], scale_of(row))[2] == wording.NOTHING
