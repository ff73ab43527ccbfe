from __future__ import annotations

import json

import onnx
import pytest

from edgeattn.artifact import Precision, sha256_file
from edgeattn.errors import DataError, ModelError
from edgeattn.progress import silent
from edgeattn.quantize import policy
from edgeattn.quantize.form import CPU, TENSORRT
from edgeattn.quantize.run import quantize
from edgeattn.recipe import QuantizeSection

ONE = QuantizeSection(candidates=("minmax",))


@pytest.fixture
def source(attention_network, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(attention_network.SerializeToString())
    (folder / "model.json").write_text('{"name": "x", "task": "classify"}')
    return folder


def made(source, precision, calls, settings=ONE, name="out", **options):
    out = source.parent / name
    out.mkdir()
    quantize(source, precision, calls, settings, out, silent, **options)
    return out


def test_int8_depends_on_the_frames_and_not_on_their_order(source, calls):
    images = calls(9)
    first = made(source, Precision.INT8, images, name="a")
    again = made(source, Precision.INT8, images, name="b")
    turned = made(source, Precision.INT8, images[::-1], name="c")
    other = made(source, Precision.INT8, calls(9, 5), name="d")
    hashes = [{p.name: sha256_file(p) for p in folder.iterdir()} for folder in (first, again, turned, other)]
    assert hashes[0].keys() == {"model.onnx", "model.json", "quantization.json"}
    assert hashes[0] == hashes[1] == hashes[2]
    assert hashes[3]["model.onnx"] != hashes[0]["model.onnx"]
    record = json.loads((first / "quantization.json").read_text())
    assert record["calibration_samples"] == 6  # a third is held back to judge
    assert [entry["setting"] for entry in record["search"] if entry["chosen"]] == ["minmax"] == [record["setting"]]
    assert "Softmax decides where to look" in record["float_nodes"].values()


def test_the_record_names_what_of_an_fp16_rest_stays_fp32(source, calls):
    for form, reasons in ((CPU, set()), (TENSORRT, {"LayerNormalization in FP32"})):
        out = made(source, Precision.INT8, calls(4), name=form.name, form=form)
        record = json.loads((out / "quantization.json").read_text())
        assert set(record["fp32_nodes"].values()) == reasons
        assert record["kept_by"] == "the attention-safe policy"


def test_the_record_names_what_the_setting_keeps(source, calls, attention_network):
    (classifier,) = policy.classifier_nodes(attention_network.graph)
    records = [
        json.loads((made(source, Precision.INT8, calls(4), setting, name=name) / "quantization.json").read_text())
        for name, setting in (("a", ONE), ("b", QuantizeSection(candidates=("minmax+float-classifier",))))
    ]
    assert classifier not in records[0]["float_nodes"]
    assert records[1]["float_nodes"][classifier].startswith("classifier: this setting")


def test_the_judges_are_at_most_as_many_as_asked(source, calls):
    out = made(source, Precision.INT8, calls(9), QuantizeSection(candidates=("minmax",), search_samples=1))
    assert json.loads((out / "quantization.json").read_text())["calibration_samples"] == 8


def test_two_frames_depend_on_both_and_not_on_the_order_of_the_pairs(two_frames, tmp_path):
    model, pairs = two_frames
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "model.json").write_text('{"task": "classify"}')
    calls = pairs(6)
    # Of the same first frames: if those alone gave the order, it would be the one in which the pairs came.
    same_first = [{"frame_a": calls[0]["frame_a"], "frame_b": call["frame_b"]} for call in calls]
    swapped = [{"frame_a": call["frame_b"], "frame_b": call["frame_a"]} for call in calls]
    graphs = {
        name: (made(folder, Precision.INT8, given, name=name) / "model.onnx").read_bytes()
        for name, given in {
            "a": same_first,
            "b": same_first[::-1],
            "c": [dict(reversed(call.items())) for call in same_first],
            "d": calls,
            "e": swapped,
        }.items()
    }
    assert graphs["a"] == graphs["b"] == graphs["c"]
    assert len({graphs["a"], graphs["d"], graphs["e"]}) == 3


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_images(count, source, calls):
    with pytest.raises(DataError, match=rf"INT8 needs at least 3 calibration images .* got {count}; raise data"):
        made(source, Precision.INT8, calls(count))
    assert not list((source.parent / "out").iterdir())


def test_fp16_needs_no_images_and_names_its_islands(source):
    out = made(source, Precision.FP16, [])
    onnx.checker.check_model(out / "model.onnx", full_check=True)
    record = json.loads((out / "quantization.json").read_text())
    assert set(record["float_nodes"].values()) == {"LayerNormalization in FP32"}
    assert record["kept_by"] == "range and form"
    assert (out / "model.json").read_text() == '{"name": "x", "task": "classify"}'


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_precisions_without_a_graph_of_their_own(precision, source):
    with pytest.raises(ModelError, match=f"no quantized graph for {precision.value}; fp16 and int8"):
        made(source, precision, [])


def test_a_skipped_setting_is_in_the_record_and_never_chosen(source, calls, monkeypatch):
    import nncf

    real, times = nncf.quantize, []

    def first_fails(*arguments, **options):
        times.append(1)
        if len(times) == 1:
            raise RuntimeError("No such layer.")
        return real(*arguments, **options)

    monkeypatch.setattr(nncf, "quantize", first_fails)
    out = made(source, Precision.INT8, calls(9), QuantizeSection(candidates=("minmax", "mean-minmax")))
    record = json.loads((out / "quantization.json").read_text())
    assert record["skipped"] == {"minmax": "NNCF cannot apply it (No such layer)"}
    assert [(entry["setting"], entry["chosen"]) for entry in record["search"]] == [("mean-minmax", True)]
    assert record["setting"] == "mean-minmax"


def test_a_graph_that_has_no_fp16_form(source, monkeypatch):
    def refused(model, **options):
        raise onnx.checker.ValidationError("No such type.")

    monkeypatch.setattr(onnx.checker, "check_model", refused)
    with pytest.raises(ModelError, match=r"The graph has no sound FP16 form \(No such type\)\."):
        made(source, Precision.FP16, [])
