import pytest
import sample_reports as made

from edgeattn.report import facts, sentences, wording


def plain(text):
    return text.replace(wording.NBSP, " ")


@pytest.mark.parametrize(
    ("delta", "interval", "limit", "text"),
    [
        (-0.1, [-0.45, 0.25], 0.5, "INT8 keeps the accuracy: −0.10 point, 95 % between −0.45 and +0.25"),
        (-0.1, [-0.45, 0.25], None, "INT8 shows no loss beyond chance: −0.10 point, 95 % between −0.45 and +0.25"),
        (
            -0.1,
            [-0.75, 0.55],
            0.5,
            "INT8 shows no loss beyond chance, though its interval reaches past the budget of 0.50 point: "
            "−0.10 point, 95 % between −0.75 and +0.55",
        ),
        (
            -0.3,
            [-0.4, -0.2],
            0.5,
            "INT8 loses accuracy, inside the budget of 0.50 point: −0.30 point, 95 % between −0.40 and −0.20",
        ),
        (-0.3, [-0.4, -0.2], None, "INT8 loses accuracy: −0.30 point, 95 % between −0.40 and −0.20"),
        (
            -1.4,
            [-1.95, -0.85],
            0.5,
            "INT8 loses more accuracy than the budget of 0.50 point allows: −1.40 points, 95 % between −1.95 and −0.85",
        ),
        (0.3, [0.2, 0.4], 0.5, "INT8 gains accuracy: +0.30 point, 95 % between +0.20 and +0.40"),
        (0.0, [0.0, 0.0], 0.5, "INT8 scores the same as the reference: 0.00 point, 95 % between 0.00 and 0.00"),
        (-0.1, None, 0.5, "INT8 changed the accuracy by an amount without interval: −0.10 point"),
        (None, None, 0.5, "INT8: the accuracy was not compared with train/fp32"),
    ],
)
def test_accuracy(delta, interval, limit, text):
    row = made.find(made.report(), "compile/int8")
    row["drift"] |= {"metric_delta": delta, "ci95": interval}
    assert plain(sentences.accuracy(row, limit)) == text


def test_accuracy_of_a_metric_that_is_better_when_lower():
    row = made.find(made.report(), "compile/int8")
    row["metric"] |= {"name": "corner error", "unit": "px", "higher_is_better": False}
    row["drift"] |= {"metric_delta": 0.4, "ci95": [0.1, 0.7]}
    assert plain(sentences.accuracy(row, 0.3)) == (
        "INT8 loses more accuracy than the budget of 0.30 px allows: 0.40 px worse, 95 % between +0.10 and +0.70"
    )


def test_stages():
    def of(report):
        return plain(sentences.stages(facts.path(report)))

    assert of(made.report()) == "No stage moved the accuracy beyond chance"
    assert of(made.missed()) == "Accuracy is lost at compile: −1.40 points, 95 % between −1.95 and −0.85"
    assert of(made.failed()) == "The accuracy was not compared between stages"
    exact = made.report()
    for row in exact["rows"]:
        row["drift"] |= {"metric_delta": 0.0, "ci95": [0.0, 0.0]}
    assert of(exact) == "No stage changed a single score"
    exact["rows"][3]["drift"] |= {"metric_delta": 0.6, "ci95": [0.2, 1.0]}
    assert of(exact) == "Accuracy is gained at quantize: +0.60 point, 95 % between +0.20 and +1.00"


def shipped(report):
    return facts.selected_row(report), report["budget"]["metric_drop_max"]


@pytest.mark.parametrize(
    ("make", "accuracy", "stages"),
    [
        (
            made.detect,
            "INT8 loses accuracy, inside the budget of 0.0100 of mAP50: −0.0031 of mAP50, "
            "95 % between −0.0052 and −0.0011",
            "Accuracy is lost at compile: −0.0031 of mAP50, 95 % between −0.0052 and −0.0011",
        ),
        (
            made.align,
            "INT8 loses more accuracy than the budget of 0.10 px allows: 0.12 px worse, 95 % between +0.05 and +0.19",
            "Accuracy is lost at compile: 0.12 px worse, 95 % between +0.05 and +0.19",
        ),
        (
            made.restore,
            "INT8 changed the accuracy by an amount without interval: −0.04 dB",
            "No stage moved the accuracy beyond chance, as far as there are intervals",
        ),
    ],
)
def test_other_units(make, accuracy, stages):
    report = make()
    assert plain(sentences.accuracy(*shipped(report))) == accuracy
    assert plain(sentences.stages(facts.path(report))) == stages


def test_less_error_is_a_gain():
    report = made.align()
    row = made.find(report, "compile/int8")
    row["drift"] |= {"metric_delta": -0.2, "ci95": [-0.3, -0.1]}
    assert plain(sentences.accuracy(row, 0.1)) == ("INT8 gains accuracy: 0.20 px better, 95 % between −0.30 and −0.10")
    row["drift"] |= {"metric_delta": 0.0, "ci95": [None, None]}
    assert plain(sentences.accuracy(row, 0.1)) == ("INT8 changed the accuracy by an amount without interval: 0.00 px")
