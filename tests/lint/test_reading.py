from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeattn.errors import ModelError
from edgeattn.lint.reading import parse, read


def test_a_file_with_its_weights_beside_it(make, tmp_path):
    model = make(("Mul", "x w", "y"), constants={"w": np.ones(2000, np.float32)}, inputs={"x": [1, 2000]})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert read(path).graph.initializer[0].raw_data == np.ones(2000, np.float32).tobytes()
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="keeps in other files cannot be read"):
        read(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is no protobuf at all, only text", "is not an ONNX file"),
        (b"", "holds no ONNX graph"),
        (onnx.ModelProto(ir_version=10).SerializeToString(), "holds no ONNX graph"),
    ],
)
def test_what_is_no_onnx(tmp_path, content, words):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        read(tmp_path / "model.onnx")
    assert "give a .onnx, an engine's folder or a bundle" in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx cannot be read \(No such file or directory\); check the path\."):
        read(tmp_path / "none.onnx")


def damaged(model, **settings):
    for name, value in settings.items():
        setattr(model.graph.initializer[0], name, value)
    return model


BROKEN = {
    "too few bytes": ({"raw_data": b"\0" * 12}, "is broken .cannot reshape array of size 3"),
    "half a number": ({"raw_data": b"\0" * 3}, "is broken .buffer size must be a multiple"),
    "an unknown type": ({"data_type": 99}, "ONNX has no element type 99.; export the model again"),
    "no type": ({"data_type": 0}, "ONNX has no element type 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_tensor_that_is_not_what_it_says(make, tmp_path, name):
    settings, words = BROKEN[name]
    model = damaged(make(("Mul", "x w", "y"), constants={"w": np.ones(8, np.float32)}), **settings)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=words):
        read(tmp_path / "model.onnx")
    body = make(("Constant", "", "inner", {"value": model.graph.initializer[0]})).graph
    del body.input[:]
    around = make(("If", "b", "y", {"then_branch": body, "else_branch": body}), inputs={"b": (9, [])})
    with pytest.raises(ModelError, match=words):
        parse(around.SerializeToString(), "model.onnx in a bundle")


def test_a_shape_of_less_than_nothing(make):
    model = make(("Mul", "x w", "y"), constants={"w": np.ones(8, np.float32)})
    model.graph.initializer[0].dims[0] = -1
    with pytest.raises(ModelError, match=r"its shape is \[-1\]"):
        parse(model.SerializeToString(), "model.onnx")


def test_weights_beside_a_graph_that_is_in_a_bundle(make):
    model = make(("Mul", "x w", "y"), constants={"w": np.ones(8, np.float32)})
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="keeps 'w' in another file, which cannot be read from here"):
        parse(model.SerializeToString(), "model.onnx in a bundle")


def test_an_input_of_no_type(make):
    model = make(("Relu", "x", "y"))
    model.graph.input[0].type.tensor_type.elem_type = 77
    with pytest.raises(ModelError, match="states the element type 77 for 'x', which ONNX does not have"):
        parse(model.SerializeToString(), "model.onnx")


def test_names_that_are_no_text(make):
    data = make(("Relu", "x", "why")).SerializeToString().replace(b"Relu", b"Rel\xff")
    with pytest.raises(ModelError, match=r"A name in model\.onnx is no UTF-8 text; export the model again"):
        parse(data, "model.onnx")


def test_an_opset_that_is_no_number_of_one(make):
    with pytest.raises(ModelError, match="states opset 1099511627776, which ONNX does not have"):
        parse(make(("Relu", "x", "y"), opset=2**40).SerializeToString(), "model.onnx")


def test_the_body_of_a_function_is_looked_into(make):
    model = make(("Ours", "x", "y", {"domain": "ours"}))
    inner = onnx.helper.make_node("Constant", [], ["b"], value=onnx.TensorProto(dims=[4], data_type=1))
    sites = [onnx.helper.make_opsetid("", 20)]
    model.functions.append(onnx.helper.make_function("ours", "Ours", ["a"], ["b"], [inner], sites))
    with pytest.raises(ModelError, match=r"A tensor of a node in model\.onnx is broken"):
        parse(model.SerializeToString(), "model.onnx")


def test_a_truncated_file(make, tmp_path):
    data = make(("Mul", "x w", "y"), constants={"w": np.ones(8, np.float32)}).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError):
        read(tmp_path / "model.onnx")
