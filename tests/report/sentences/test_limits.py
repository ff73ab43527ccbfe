import sample_reports as made

from edgeattn.report import facts, sentences


def test_budget():
    def of(report):
        return sentences.budget(facts.limits(report, facts.selected_row(report)))

    assert of(made.report()) == "All 4 limits are kept"
    assert of(made.report() | {"budget": {"metric_drop_max": 0.5, "size_mb_max": 2.0}}) == "Both limits are kept"
    assert of(made.missed()) == "3 of 4 limits missed: accuracy, SQNR and p99 latency"
    assert of(made.deferred()) == "3 of 4 limits kept; not measured: p99 latency"
