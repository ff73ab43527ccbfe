import pytest
import sample_reports as made

from edgeattn.report import facts, sentences, wording


def plain(text):
    return text.replace(wording.NBSP, " ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("passed", "INT8 is ready to ship"),
        ("missed", "Not ready to ship: INT8 misses the budget for accuracy, SQNR and p99 latency"),
        ("not_worth_it", "BF16 is ready to ship; INT8 is not worth it"),
        ("deferred", "INT8 passes every check that can run here; the device is still to be measured"),
        ("failed", "Nothing to ship: export/fp32 failed"),
    ],
)
def test_headline(name, text):
    assert sentences.headline(made.EVERY[name]()) == text


def test_headline_of_rarer_ends():
    report = made.not_worth_it()
    row = made.find(report, "compile/int8")
    row["latency"]["parent"]["ratio_ci95"] = [0.7, 0.8]
    row["drift"]["sqnr_db"] = 12.0
    assert sentences.headline(report) == "BF16 is ready to ship; INT8 drifts past the budget"
    report["rows"].remove(row)
    assert sentences.headline(report) == "BF16 is ready to ship"

    report = made.report()
    report["verdict"] = {"passed": False, "reasons": []}
    assert sentences.headline(report) == "Not ready to ship: INT8 did not pass"
    report["selected"] = None
    assert sentences.headline(report) == "Nothing to ship: no variant was selected"
    report["rows"][3]["status"] = "deferred"
    assert sentences.headline(report) == "Nothing to ship yet: 1 row must be measured on the device"


def test_a_headline_without_a_missed_limit_gives_the_verdicts_reason():
    report = made.report()
    reasons = ["The bundle is outside the budget: int8 takes an unmeasured amount ms at p99. More."]
    report["verdict"] = {"passed": False, "reasons": reasons}
    assert sentences.headline(report) == (
        "Not ready to ship: the bundle is outside the budget: INT8 takes an unmeasured amount ms at p99"
    )
    made.find(report, "compile/bf16").update(status="failed", reason="It overflows.")
    made.find(report, "bundle/int8").update(status="failed", reason="It fails its self-test.")
    report["verdict"]["reasons"] = ["compile/bf16: It overflows.", "bundle/int8: It fails its self-test."]
    assert sentences.headline(report) == "Not ready to ship: bundle/int8 failed"


def test_the_headline_of_nothing_selected_gives_the_verdicts_reason():
    report = made.report() | {"selected": None}
    why = ["int8 loses 1.4 of the metric, at most 0.5 allowed.", "No engine is inside the budget."]
    report["verdict"] = {"passed": False, "reasons": why}
    assert sentences.headline(report) == "Nothing to ship: no engine is inside the budget"
    made.find(report, "compile/bf16")["status"] = "failed"
    assert sentences.headline(report) == "Nothing to ship: no engine is inside the budget"
    report["verdict"]["reasons"] = ["compile/bf16: It overflows."]
    assert sentences.headline(report) == "Nothing to ship: compile/bf16 failed"


def test_a_bundle_past_the_budget_is_said_though_its_engine_is_inside():
    report = made.report()
    report["budget"] = {"size_mb_max": 0.5}
    report["verdict"] = {"passed": False, "reasons": ["The bundle is outside the budget: int8 is 0.803 MB large."]}
    assert sentences.headline(report) == "Not ready to ship: INT8 misses the budget for size"


def test_int8_that_failed_is_said_beside_what_ships():
    report = made.not_worth_it()
    made.find(report, "quantize/int8")["status"] = "failed"
    report["rows"].remove(made.find(report, "compile/int8"))
    assert sentences.headline(report) == "BF16 is ready to ship; INT8 failed"


def test_what_ships_is_never_called_not_worth_it():
    """INT8 ships against FP32 when BF16, its parent, missed the budget."""
    report = made.not_worth_it()
    assert sentences.worth(report)[-1].endswith("; not worth it")
    report["selected"] |= {"variant": "int8", "artifact_sha256": made.HASHES["int8"]}
    assert "not worth it" not in sentences.worth(report)[-1]


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
        "INT8 loses more accuracy than the budget of 0.30 px allows: +0.40 px, 95 % between +0.10 and +0.70"
    )


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


def test_emulated_speed_says_so():
    row = facts.selected_row(made.deferred())
    assert sentences.against_reference(row).endswith("; emulated, not the device")


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


def test_table():
    assert sentences.table(made.report()["rows"]) == "All 8 rows were built and checked"
    assert sentences.table(made.deferred()["rows"]) == (
        "7 rows: 4 checked, 2 deferred, 1 unsupported, 1 of them emulated"
    )
    assert sentences.table(made.failed()["rows"]) == "2 rows: 1 checked, 1 failed"


def test_budget():
    def of(report):
        return sentences.budget(facts.limits(report, facts.selected_row(report)))

    assert of(made.report()) == "All 4 limits are kept"
    assert of(made.report() | {"budget": {"metric_drop_max": 0.5, "size_mb_max": 2.0}}) == "Both limits are kept"
    assert of(made.missed()) == "3 of 4 limits missed: accuracy, SQNR and p99 latency"
    assert of(made.deferred()) == "3 of 4 limits kept; not measured: p99 latency"


def test_examples():
    report = made.report()
    assert sentences.examples(report) == "4 example predictions that changed in some row"
    report["examples"] = report["examples"][:1]
    assert sentences.examples(report) == "1 example prediction that changed in some row"
    report["examples"] = []
    assert plain(sentences.examples(report)) == (
        "No example was kept; the lowest agreement with the reference is 99.30 %"
    )
    for row in report["rows"]:
        row["drift"]["agreement"] = 1.0
    assert sentences.examples(report) == "No prediction changed in any row among 2,000 images"
    assert sentences.examples(made.older()) == "Changed predictions were not collected"
    assert sentences.examples(made.failed()) == "No predictions were compared"


def test_per_class():
    report = made.report()
    report["per_class"] = {"labels": ["a", "b"], "values": {"train/fp32": [90.0, 80.0], "compile/int8": [89.0, 82.0]}}
    assert plain(sentences.per_class(report)) == "“a” lost most from train/fp32 to compile/int8: 90.0 % to 89.0 %"
    report["per_class"]["values"]["compile/int8"] = [90.0, None]
    assert sentences.per_class(report) == "No class lost from train/fp32 to compile/int8"
    del report["per_class"]["values"]["compile/int8"]
    assert sentences.per_class(report) == "2 classes"


def test_search_and_training():
    report = made.report()
    assert plain(sentences.search(report["search"])) == (
        "“range MINMAX, no bias correction” was chosen: 35.9 dB on the calibration images, "
        "15.2 dB above the weakest of 4 settings"
    )
    assert sentences.search([{"setting": "x", "sqnr_db": None, "chosen": False}]) == (
        "1 INT8 setting tried on the calibration images"
    )
    assert plain(sentences.training(report)) == "12 epochs in 3 min 32 s, ending at 91.37 %"


def test_trade():
    assert sentences.trade(["a", "b"], 3) == "a and b are beaten by no other row on accuracy and latency at once"
    assert sentences.trade(["a"], 1) == "Only a has both an accuracy and a latency"
    assert sentences.trade([], 0) == "No row has both an accuracy and a latency"
    assert sentences.trade([], 2) == "Every latency is emulated, so no row can be said to be the better one"


def test_command_is_the_given_one_or_made_from_the_fields():
    assert sentences.command(made.report()) == "edgeattn deploy digit_scenes --target cpu --seed 7"
    assert sentences.command(made.older()) == "edgeattn deploy digit_scenes --target cpu --seed 7"
    assert sentences.command(made.older() | {"seed": None}) == "edgeattn deploy digit_scenes --target cpu"
