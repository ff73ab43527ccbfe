import sample_reports as made

from edgeattn.report import sentences, wording


def plain(text):
    return text.replace(wording.NBSP, " ")


def test_table():
    assert sentences.table(made.report()["rows"]) == "All 8 rows were built and checked"
    assert sentences.table(made.deferred()["rows"]) == (
        "7 rows: 4 checked, 2 deferred, 1 unsupported, 1 of them emulated"
    )
    assert sentences.table(made.failed()["rows"]) == "2 rows: 1 checked, 1 failed"


def test_trade():
    assert sentences.trade(["a", "b"], 3) == "a and b are beaten by no other row on accuracy and latency at once"
    assert sentences.trade(["a"], 1) == "Only a has both an accuracy and a latency"
    assert sentences.trade([], 0) == "No row has both an accuracy and a latency"
    assert sentences.trade([], 2) == "Every latency is emulated, so no row can be said to be the better one"


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


def test_examples_of_tasks_that_give_no_label():
    report = made.detect()
    assert sentences.examples(report) == "The 4 images whose results differ most from the reference's"
    report["examples"] = report["examples"][:1]
    assert sentences.examples(report) == "The one of the images whose result differs from the reference's"
    report["examples"] = None
    assert sentences.examples(report) == "Results that differ were not collected"
    report = made.align()
    assert sentences.examples(report) == "The 4 pairs of images whose results differ most from the reference's"
    report["examples"] = []
    for row in report["rows"]:
        row["drift"]["agreement"] = 1.0
    assert sentences.examples(report) == "No result differs in any row among 2,000 pairs of images"
    for row in report["rows"]:
        row["drift"] = None
    assert sentences.examples(report) == "No results were compared"


def test_per_class_of_a_share():
    assert plain(sentences.per_class(made.detect())) == (
        "“red cell” lost most from train/fp32 to compile/int8: 0.800 to 0.794"
    )


def test_training_ends_at_the_metrics_own_unit():
    found = [plain(sentences.training(make())).rpartition("ending at ")[2] for make in (made.detect, made.align)]
    assert found == ["0.8312", "2.41 px"]


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
    report["training"]["seconds"] = None  # weights that were given: copying them is no training
    assert plain(sentences.training(report)) == "12 epochs trained before this run, ending at 91.37 %"


def test_command_is_the_given_one_or_made_from_the_fields():
    assert sentences.command(made.report()) == "edgeattn deploy digit_scenes --target cpu --seed 7"
    assert sentences.command(made.older()) == "edgeattn deploy digit_scenes --target cpu --seed 7"
    assert sentences.command(made.older() | {"seed": None}) == "edgeattn deploy digit_scenes --target cpu"
