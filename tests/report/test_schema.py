import json
import math

import pytest
import sample_reports as made

from edgeattn.errors import InputError
from edgeattn.report.schema import dump, load, plain, validate


@pytest.mark.parametrize("name", made.EVERY)
def test_accepts_every_sample(name):
    validate(plain(made.EVERY[name]()))


def without(*keys):
    def change(report):
        for key in keys[:-1]:
            report = report[key]
        del report[keys[-1]]

    return change


def put(value, *keys):
    def change(report):
        for key in keys[:-1]:
            report = report[key]
        report[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("schema"), "schema is missing"),
        (put("edgeattn.report/2", "schema"), '"edgeattn.report/2", expected "edgeattn.report/1"'),
        (without("recipe"), "recipe is missing"),
        (without("host", "isa"), "host.isa is missing"),
        (without("rows", 6, "latency", "p99_ms"), "rows[6].latency.p99_ms is missing"),
        (without("rows", 0, "drift", "agreement"), "rows[0].drift.agreement is missing"),
        (put("fast", "rows", 6, "latency", "p50_ms"), 'rows[6].latency.p50_ms is "fast", expected a number'),
        (put(True, "rows", 6, "latency", "p50_ms"), "rows[6].latency.p50_ms is true, expected a number"),
        (put(1, "rows", 6, "emulated"), "rows[6].emulated is 1, expected true or false"),
        (put([1.0], "rows", 6, "drift", "ci95"), "rows[6].drift.ci95 is [1.0], expected a list of 2"),
        (put(["a", 1.0], "rows", 6, "drift", "ci95"), 'rows[6].drift.ci95[0] is "a", expected a number'),
        (put("done", "rows", 1, "status"), 'rows[1].status is "done", expected one of ok, cached'),
        (put(None, "rows", 1, "stage"), "rows[1].stage is null, expected a text"),
        (put({}, "rows"), "rows is {}, expected a list"),
        (put([], "verdict"), "verdict is [], expected an object"),
        (put("0.5", "budget", "metric_drop_max"), 'budget.metric_drop_max is "0.5", expected a number'),
        (put("x", "rows", 0, "metric", "others"), 'rows[0].metric.others is "x", expected an object'),
        (put({"mAP": "x"}, "rows", 0, "metric", "others"), 'rows[0].metric.others.mAP is "x", expected a number'),
        (put(3, "rows", 0, "metric", "unit"), "rows[0].metric.unit is 3, expected a text"),
        (put([None], "rows", 0, "metric", "ci95"), "rows[0].metric.ci95 is [null], expected a list of 2"),
        (
            put({"x": 3}, "examples", 0, "pictures"),
            "examples[0].pictures.x is 3, expected a PNG or JPEG as base64 text",
        ),
        (put([], "gallery"), "gallery is [], expected an object"),
        (put({"name": "a", "frames": [], "attention": None}, "gallery"), "gallery.results is missing"),
        (put(1.5, "data", "eval_n"), "data.eval_n is 1.5, expected a whole number"),
    ],
)
def test_names_the_field_that_is_wrong(change, words):
    report = made.report()
    change(report)
    with pytest.raises(InputError) as caught:
        validate(report)
    assert words in str(caught.value)


@pytest.mark.parametrize("field", ["git", "model", "seed", "wall_seconds", "selected"])
def test_null_is_not_missing(field):
    report = made.report()
    report[field] = None
    validate(report)


def test_the_later_fields_may_be_missing_or_null():
    for report in (made.older(), made.report()):
        assert "gallery" not in report and "others" not in report["rows"][0]["metric"]
        validate(report)
    report = made.restore() | {"gallery": None}
    report["rows"][0]["metric"] |= {"ci95": [None, None], "others": {"ssim": None}}
    report["rows"][1]["drift"]["ci95"] = [None, 0.5]
    report["examples"][0]["pictures"] = None
    validate(report)


def test_refuses_figures_without_hash():
    report = made.report()
    made.find(report, "compile/int8")["artifact"]["sha256"] = None
    with pytest.raises(InputError, match=r"rows\[6\] \(compile/int8\) has a metric and a latency but no"):
        validate(report)


def test_refuses_a_selected_hash_of_no_row():
    report = made.report()
    report["selected"]["artifact_sha256"] = "0" * 64
    with pytest.raises(InputError, match=r"mixes hashes: selected\.artifact_sha256 000000000000 "):
        validate(report)


def test_refuses_the_selected_hash_of_another_variant():
    report = made.report()
    report["selected"]["artifact_sha256"] = made.HASHES["bf16"]
    with pytest.raises(InputError, match="mixes hashes"):
        validate(report)


def test_load_takes_the_file_or_its_folder(tmp_path):
    (tmp_path / "report.json").write_text(dump(made.report()))
    assert load(tmp_path) == load(tmp_path / "report.json") == made.report()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        ("[]", "A report is a JSON object, this is []"),
        ("{}", "schema is missing"),
        ('{"schema": "edgeattn.report/1"}', "recipe is missing"),
    ],
)
def test_load_says_what_is_wrong(tmp_path, content, words):
    file = tmp_path / "report.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        load(file)
    assert words in str(caught.value) and "report.json" in str(caught.value)


def test_plain_makes_json_of_anything():
    given = {"a": (1.0, math.inf), "b": math.nan, 3: "x\ud800y", "c": [True, None]}
    assert plain(given) == {"a": [1.0, None], "b": None, "3": "x\ufffdy", "c": [True, None]}


def test_dump_keeps_lists_of_numbers_on_one_line_and_changes_no_value():
    value = {"a": [1, -2.5, 1e-07], "b": ["[\n 1\n]", [1]], "c": []}
    text = dump(value)
    assert '"a": [1, -2.5, 1e-07],' in text
    assert json.loads(text) == value
