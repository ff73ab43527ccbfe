import re
from html.parser import HTMLParser

import pytest
import sample_reports as made

from edgeattn.report.cells import every_figure, executed, flat, stage_row
from edgeattn.report.html import page, view
from edgeattn.report.pictures import gallery, picture
from edgeattn.report.sections import example
from edgeattn.report.wording import NBSP

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Checker(HTMLParser):
    """Keeps a stack of open tags and collects what a browser would load or run."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.loaded, self.tags, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for key, value in attrs if key in ("src", "href", "srcset", "action", "xlink:href")]
        assert not [key for key, _ in attrs if key.startswith("on")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def pages():
    return {name: page(make()) for name, make in made.EVERY.items()}


def parsed(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.stack == []
    return checker


@pytest.mark.parametrize("name", made.EVERY)
def test_page_is_balanced_and_loads_nothing(pages, name):
    found = parsed(pages[name])
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in found.loaded)
    assert "script" not in found.tags
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//|@import|url\((?!#)", pages[name])


def test_hostile_texts_stay_texts(pages):
    assert "<script" not in pages["hostile"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages["hostile"]
    shown = "".join(parsed(pages["hostile"]).text)
    # Recipe, why, note, class label, setting, command: all there as they are.
    assert shown.count("<script>alert(1)</script>") > 10


def test_light_and_dark_and_phone(pages):
    text = pages["passed"]
    assert "prefers-color-scheme: dark" in text and "color-scheme: light dark" in text
    light, dark = (text.split("@media screen and (prefers-color-scheme: dark)")[i] for i in (0, 1))
    for name in ("page", "surface", "ink", "muted", "line", "accent", "float", "good", "warn", "bad"):
        assert f"--{name}:" in light and f"--{name}:" in dark.split("* {")[0]
    assert 'name="viewport"' in text
    # Every table lies in a container that scrolls by itself.
    assert text.count("<table") == len(re.findall(r'class="panel scroll[^>]*>\s*<table', text))


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("passed", ["Shippable", "INT8 is ready to ship", "−0.10 point", "6.96×", "1.31×", "95 % 1.27 to 1.35"]),
        ("passed", ["n = 2,000", "35.3", "0.412 ms", "INT8 99.3 %, 20 layers", "lr", "0.002", "scene_0001.png"]),
        ("passed", ["McNemar exact", "range MINMAX", "chosen", "12 epochs", "avx512_vnni", "Golden self-test passed."]),
        ("missed", ["Not shippable", "budget: at most 0.50 point, missed", "selected"]),
        ("not_worth_it", ["BF16 is ready to ship; INT8 is not worth it", "Not worth it: no faster than its float"]),
        ("deferred", ["Passed so far", "TensorRT builds on the device itself.", "emulated, not the device", "25W"]),
        ("failed", ["Not shippable", "Parity failed: 12 dB", "No predictions were compared"]),
        ("detect", ["−0.0031", "mAP50 0.8312 → 0.8281", "at most 0.0100 of mAP50", "0.8032 to 0.8530"]),
        ("detect", ["One sample, stage by stage", "Results that differ most", "Further metrics", "0.5123", "−0.0022"]),
        ("align", ["0.12 px worse", "corner error, px", "corner error 2.41 → 2.53 px", "Input a", "Input b"]),
        ("align", ["median corner error, px", "lower is better", "within 1px, %", "−2.50", "pairs of images"]),
        ("restore", ["30.12 dB", "−0.04 dB", "psnr, dB", "ssim", "The same sample in the other rows (4)"]),
        ("older", ["INT8 is ready to ship", "Changed predictions were not collected"]),
    ],
)
def test_page_says(pages, name, texts):
    shown = "".join(parsed(pages[name]).text).replace(NBSP, " ")
    assert [text for text in texts if text not in shown] == []


def test_what_was_not_measured_is_a_dash_never_zero():
    row = made.row("compile", "int8", None, None, None, status="deferred", reason="Waits.")
    cells = stage_row(made.report(), row)
    single = [cells[k] for k in ("backend", "p", "p50", "p99", "size", "memory", "energy")]
    assert set(single) == {"–"}
    assert [cells[k] for k in ("metric", "delta", "sqnr", "ratio")] == [("–", "")] * 4
    assert cells["notes"] == ["Waits."] and cells["executed"] == []
    assert set(every_figure({}).values()) == {"–"}


def test_real_zero_is_a_zero():
    report = made.report()
    assert stage_row(report, made.find(report, "export/fp32"))["delta"] == ("0.00", "0.00 to 0.00")


def test_the_reference_is_called_one_and_has_no_interval_against_itself(pages):
    report = made.report()
    cells = stage_row(report, made.find(report, "train/fp32"))
    assert cells["delta"] == ("reference", "") and cells["ratio"] == ("1.00", "")
    steps = view(report)["way"]["steps"]
    assert steps[0]["lines"] == ["reference"]
    assert [line.replace(NBSP, " ") for line in steps[1]["lines"]] == [
        "0.00 point",
        "95 % 0.00 to 0.00",
        "SQNR 123.4 dB",
    ]
    made.find(report, "export/fp32")["drift"] = None
    assert view(report)["way"]["steps"][1]["lines"] == ["not compared"]


def test_executed_is_a_share_of_the_multiply_adds():
    row = {"execution": {"layers": {"int8": 3}, "macs": {"bf16": 25, "int8": 75}}}
    assert [(p["name"], p["share"], p["layers"]) for p in executed(row)] == [("INT8", 75.0, 3), ("BF16", 25.0, None)]
    assert executed({"execution": {"layers": {}, "macs": {}}}) == []
    assert executed({"execution": None}) == executed({}) == []


def test_notes_are_sentences():
    report = made.report()
    row = made.find(report, "compile/int8")
    row["notes"] = ["float parts run in bf16", "Kept as is!"]
    row["latency"] |= {"throttled": True, "engine_only": False}
    assert stage_row(report, row)["notes"] == [
        "Float parts run in BF16.",
        "Kept as is!",
        "Throttled while it was timed.",
    ]


def test_a_quantized_row_names_the_setting_the_search_chose():
    report = made.report()
    row = made.find(report, "quantize/int8")
    row["notes"] = ["Classifier kept in float."]
    assert [note.replace(NBSP, " ") for note in stage_row(report, row)["notes"]] == [
        "Quantized with range MINMAX, no bias correction, chosen from 4 settings (35.9 dB on the calibration images).",
        "Classifier kept in float.",
    ]
    assert "range MINMAX, no bias correction" in view(report)["way"]["steps"][2]["lines"]
    report["search"] = None
    assert stage_row(report, row)["notes"] == ["Classifier kept in float."]


def test_a_bundle_says_what_the_whole_call_costs_and_is_never_called_not_worth_it():
    report = made.report()
    row = made.find(report, "bundle/int8")
    row["latency"] = made.latency(0.445, 0.155, {"variant": "int8", "ratio": 1.08, "ratio_ci95": [1.06, 1.11]})
    quantized = made.find(report, "quantize/int8")
    quantized["latency"] = made.latency(0.6, 0.2, {"variant": "fp16", "ratio": 1.2, "ratio_ci95": [1.1, 1.3]})
    assert stage_row(report, row)["notes"][-1].replace(NBSP, " ") == (
        "The whole call takes 1.08× the engine's time (95 % 1.06 to 1.11)."
    )
    assert "Not worth it" not in page(report)


def test_what_ships_is_not_called_not_worth_it():
    report = made.not_worth_it()
    row = made.find(report, "compile/int8")
    assert stage_row(report, row)["notes"] == ["Not worth it: no faster than its float parent."]
    report["selected"] |= {"variant": "int8", "artifact_sha256": made.HASHES["int8"]}
    assert stage_row(report, row)["notes"] == []
    assert "not worth it" not in page(report).lower()


def test_the_cards_show_what_the_budget_judges():
    report = made.report()
    report["budget"] = {"latency_p99_ms_max": 0.1, "size_mb_max": 0.5}
    bundle = made.find(report, "bundle/int8")["latency"]
    cards = {card["title"]: card for card in view(report)["cards"]}
    latency = cards["Latency, p50"]
    assert latency["figure"].replace(NBSP, " ") == "0.445 ms"
    assert latency["lines"][0].replace(NBSP, " ") == f"p99 {bundle['p99_ms']:.3f} ms"
    assert latency["lines"][-1].replace(NBSP, " ") == "the bundle's whole call; the engine alone 0.412 ms"
    assert latency["limit"]["value"] == latency["lines"][0].removeprefix("p99 ")
    assert cards["Size"]["figure"].replace(NBSP, " ") == "803 kB"
    assert [line.replace(NBSP, " ") for line in cards["Size"]["lines"]] == [
        "the bundle",
        "its engine 418 kB, 37 % of train/fp32",
    ]
    assert cards["Size"]["limit"]["tone"] == cards["Latency, p50"]["limit"]["tone"] == "missed"
    report["rows"].remove(made.find(report, "bundle/int8"))
    cards = {card["title"]: card for card in view(report)["cards"]}
    assert cards["Latency, p50"]["figure"].replace(NBSP, " ") == "0.412 ms"
    assert cards["Size"]["lines"] == ["37 % of train/fp32"]


def test_the_seconds_are_those_of_building_and_checking():
    assert "built and checked in" in every_figure({})


def test_the_bundle_does_not_compete_with_its_engine():
    report = made.report()
    made.find(report, "bundle/int8")["latency"] = made.latency(0.1, 0.05)
    assert "compile/int8" in view(report)["trade_sentence"] and "bundle" not in view(report)["trade_sentence"]
    assert [row["name"] for row in view(report)["rows"] if row["front"]] == ["compile/bf16", "compile/int8"]


def test_an_interval_past_the_limit_is_said_by_the_pill_and_the_budget_table_alone():
    report = made.report()
    report["budget"] = {"metric_drop_max": 0.3}
    shown = " ".join("".join(parsed(page(report)).text).split())
    assert shown.count("though the interval of the accuracy reaches past its limit") == 1
    assert shown.count("reaches past the") == 1
    assert "at most 0.30 point, kept by the estimate" in shown


def test_energy_column_only_where_energy_was_measured(pages):
    assert "Energy" not in pages["passed"]
    report = made.report()
    made.find(report, "compile/int8")["energy"] = {"mean_w": 6.1, "mj_per_frame": 2.513, "source": "INA3221"}
    shown = "".join(parsed(page(report)).text).replace(NBSP, " ")
    assert "2.51 mJ" in shown and "6.10 W" in shown and "INA3221" in shown


def test_flat():
    assert flat({"a": {"b": [1, 2], "c": None}, "d": "x", "e": {}}) == [
        ("a.b", "[1, 2]"),
        ("a.c", "null"),
        ("d", "x"),
        ("e", "{}"),
    ]
    assert flat({}) == []


def test_example_refuses_what_is_no_png():
    for data in ("bm8gcG5n", '"><script>', "", None, 7):
        assert picture(data, "x")["image"] is None
    assert example({})["image"]["image"] is None and example({})["pictures"] == []
    small, large = (example({"image_png_base64": made.png(0, side)})["image"] for side in (160, 161))
    assert small["image"].startswith("data:image/png;base64,iVBOR")
    assert small["small"] and not large["small"]


def test_per_class_shades_by_change():
    report = made.report()
    report["per_class"] = {"labels": ["a"], "values": {"train/fp32": [90.0], "compile/int8": [87.5], "x": [None]}}
    cells = view(report)["per_class"]["lines"][0]["cells"]
    assert [(c["value"], c["change"], c["shade"]) for c in cells] == [
        ("90.0", "", 0.0),
        ("87.5", "−2.5", -0.5),
        ("–", "", 0.0),
    ]


def test_the_gallery_goes_from_the_input_to_what_ships():
    def titles(report):
        found = gallery(report)
        return [shot["title"] for shot in found["main"]], [shot["title"] for shot in found["more"]]

    others = ["export/fp32", "quantize/int8", "compile/bf16", "bundle/int8"]
    assert titles(made.detect()) == (["Input", "Attention", "train/fp32", "compile/int8"], others)
    assert titles(made.align())[0] == ["Input a", "Input b", "Attention", "train/fp32", "compile/int8"]
    assert titles(made.restore())[0] == ["Input", "train/fp32", "compile/int8"]
    report = made.detect() | {"selected": None}
    assert titles(report) == (["Input", "Attention", "train/fp32"], ["export/fp32", "quantize/int8", "compile/bf16",
        "compile/int8", "bundle/int8"])  # fmt: skip
    assert gallery(made.report()) is None


def test_a_gallery_names_what_ships_and_what_was_only_selected():
    ships, selected = (gallery(make())["main"][-1]["note"] for make in (made.detect, made.align))
    assert (ships, selected) == ("ships, INT8 in openvino", "selected, INT8 in openvino")
    assert gallery(made.detect())["main"][-2]["note"] == "the reference, FP32 in pytorch"


def test_sections_without_anything_to_show_are_missing(pages):
    for title in ("One sample, stage by stage", "Further metrics", 'class="beside"', "Results that differ most"):
        assert title not in pages["passed"] and title in pages["detect"]
    assert "Per class" not in pages["align"]


def test_further_metrics_start_with_the_reference():
    report = made.align()
    report["rows"] = [*report["rows"][1:], report["rows"][0]]
    found = view(report)["further"]
    assert found["columns"][0] == found["reference"] == "train/fp32"
    assert [line["name"] for line in found["lines"]] == [
        "median corner error, px",
        "within 1px, %",
        "photometric error",
    ]
    at = found["columns"].index("compile/int8")
    assert [line["cells"][at] for line in found["lines"]] == [("1.42", "+0.11"), ("36.00", "−2.50"), ("0.0412", "")]
    assert [line["direction"] for line in found["lines"]] == [
        "lower is better",
        "higher is better",
        "lower is better",
    ]


def test_a_task_that_is_not_known_here_still_has_its_metrics():
    report = made.detect() | {"task": "of_tomorrow"}
    assert view(report)["further"]["lines"][0]["name"] == "mAP"
    assert "Results that differ most" in page(report)


def test_per_class_of_a_share_shades_over_a_twentieth():
    lines = view(made.detect())["per_class"]["lines"]
    assert [(c["value"], c["change"], c["shade"]) for c in lines[0]["cells"]] == [
        ("0.800", "", 0.0),
        ("0.794", "−0.006", -0.12),
    ]
    assert view(made.detect())["per_class"]["each"] is None
