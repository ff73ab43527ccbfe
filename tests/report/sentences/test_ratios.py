import pytest
import sample_reports as made

from edgeattn.report import facts, sentences, wording


def plain(text):
    return text.replace(wording.NBSP, " ")


@pytest.mark.parametrize(
    ("ratio", "interval", "text"),
    [
        (0.5, [0.4, 0.625], "A is 2.00× as fast as B (95 % 1.60 to 2.50)"),
        (0.99, [0.96, 1.02], "A is no faster than B beyond chance: 0.99 of its time, 95 % between 0.96 and 1.02"),
        (1.3, [1.2, 1.4], "A is slower than B: 1.30 of its time, 95 % between 1.20 and 1.40"),
        (0.5, None, "A took 0.50 of the time of B; without interval, this decides nothing"),
        (None, None, "A was not timed against B"),
    ],
)
def test_speed(ratio, interval, text):
    assert plain(sentences.speed(ratio, interval, "A", "B")) == text


def test_worth_of_each_compiled_variant():
    assert [plain(t) for t in sentences.worth(made.report())] == ["INT8 is 1.31× as fast as BF16 (95 % 1.27 to 1.35)"]
    assert [plain(t) for t in sentences.worth(made.not_worth_it())] == [
        "INT8 is no faster than BF16 beyond chance: 0.99 of its time, 95 % between 0.96 and 1.02; not worth it"
    ]
    assert sentences.worth(made.older()) == []


def test_what_ships_is_never_called_not_worth_it():
    """INT8 ships against FP32 when BF16, its parent, missed the budget."""
    report = made.not_worth_it()
    assert sentences.worth(report)[-1].endswith("; not worth it")
    report["selected"] |= {"variant": "int8", "artifact_sha256": made.HASHES["int8"]}
    assert "not worth it" not in sentences.worth(report)[-1]


def test_emulated_speed_says_so():
    row = facts.selected_row(made.deferred())
    assert sentences.against_reference(row).endswith("; emulated, not the device")
