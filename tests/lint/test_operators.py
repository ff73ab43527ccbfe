from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from edgeattn.lint._support import CURES, SINCE

IMAGE = {"x": [1, 8, 16, 16]}
BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64


def axes(*values):
    return np.array(values, np.int64)


RELU = [("Relu", "x", "y")]
# rule; the broken row; the mended one (None: a Relu); inputs; constants; words of the sentence
CASES = [
    ("unsupported", ("Det", "x", "y"), None, {"x": [2, 4, 4]}, {}, "No version up to 11.4 supports Det."),
    (
        "unsupported",
        ("BitShift", "u v", "y", {"direction": "LEFT"}),
        ("Add", "u v", "y"),
        {"u": (TensorProto.INT32, [4]), "v": (TensorProto.INT32, [4])},
        {},
        "BitShift",
    ),
    ("plugin", ("Relu", "x", "y", {"domain": "com.microsoft"}), None, IMAGE, {}, "It belongs to 'com.microsoft'."),
    (
        "limit",
        ("MaxPool", "x", "y,at", {"kernel_shape": [2, 2]}),
        ("MaxPool", "x", "y", {"kernel_shape": [2, 2]}),
        IMAGE,
        {},
        "Only the first output is supported, 'at'",
    ),
    (
        "limit",
        ("MaxPool", "x", "y", {"kernel_shape": [2, 2], "dilations": [2, 2]}),
        ("MaxPool", "x", "y", {"kernel_shape": [2, 2], "dilations": [1, 1]}),
        IMAGE,
        {},
        "all ones, they are [2, 2]",
    ),
    (
        "limit",
        ("AveragePool", "x", "y", {"kernel_shape": [2]}),
        ("GlobalAveragePool", "x", "y"),
        {"x": [1, 8, 16]},
        {},
        "must have 4 or 5 dimensions, it has 3",
    ),
    (
        "limit",
        ("LayerNormalization", "x w b", "y,mean"),
        ("LayerNormalization", "x w b", "y"),
        IMAGE,
        {"w": np.ones(16, np.float32), "b": np.ones(16, np.float32)},
        "'mean' is asked for",
    ),
    (
        "limit",
        ("GridSample", "x g", "y"),
        None,
        {"x": [1, 1, 4, 4, 4], "g": [1, 4, 4, 4, 3]},
        {},
        "must have 4 dimensions, it has 5",
    ),
    (
        "limit",
        ("Resize", "x _ s", "y", {"antialias": 1, "mode": "linear"}),
        ("Resize", "x _ s", "y", {"mode": "linear"}),
        IMAGE,
        {"s": np.float32([1, 1, 0.5, 0.5])},
        "`antialias` must be 0, it is 1",
    ),
    (
        "limit",
        ("Resize", "x _ _ n", "y", {"keep_aspect_ratio_policy": "not_larger", "axes": [2, 3]}),
        ("Resize", "x _ _ n", "y", {"axes": [2, 3]}),
        IMAGE,
        {"n": axes(8, 8)},
        "must be stretch, it is not_larger",
    ),
    (
        "limit",
        ("Resize", "x r s", "y", {"coordinate_transformation_mode": "tf_crop_and_resize"}),
        ("Resize", "x r s", "y"),
        IMAGE,
        {"s": np.float32([1, 1, 2, 2]), "r": np.float32([0] * 4 + [1] * 4)},
        "half_pixel",
    ),
    (
        "limit",
        ("Resize", "x _ s", "y", {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "ceil"}),
        ("Resize", "x _ s", "y", {"coordinate_transformation_mode": "tf_half_pixel_for_nn"}),
        IMAGE,
        {"s": np.float32([1, 1, 2, 2])},
        "round_prefer_floor, it is ceil",
    ),
    (
        "limit",
        ("Resize", "x _ s", "y", {"mode": "linear"}),
        ("Resize", "x _ t", "y", {"mode": "linear"}),
        {"x": [1, 2, 2, 2, 2]},
        {"s": np.float32([1, 2, 2, 2, 2]), "t": np.float32([1, 1, 2, 2, 2])},
        "at most 3 axes",
    ),
    (
        "cubic",
        ("Resize", "x _ s", "y", {"mode": "cubic"}),
        ("Resize", "x _ s", "y", {"mode": "linear"}),
        IMAGE,
        {"s": np.float32([1, 1, 2, 2])},
        "mode cubic",
    ),
    (
        "limit",
        ("ReduceMean", "x a", "y"),
        ("ReduceMean", "x c", "y"),
        {"x": [1, 8], "a": (INT64, [1])},
        {"c": axes(1)},
        "`axes` must be a constant, here it is computed ('a')",
    ),
    (
        "limit",
        ("Unsqueeze", "x a", "y"),
        ("Unsqueeze", "x c", "y"),
        {"x": [1, 8], "a": (INT64, [1])},
        {"c": axes(1)},
        "`axes` must be a constant",
    ),
    (
        "limit",
        ("CumSum", "x a", "y"),
        ("CumSum", "x c", "y"),
        {"x": [1, 8], "a": (INT64, [])},
        {"c": np.int64(1)},
        "`axis` must be a constant",
    ),
    (
        "limit",
        ("ScatterND", "x i u", "y", {"reduction": "add"}),
        ("ScatterND", "x i u", "y"),
        {"x": [4], "u": [1]},
        {"i": axes(1).reshape(1, 1)},
        "`reduction` must be none, it is add",
    ),
    (
        "limit",
        ("TopK", "x k", "y,i", {"sorted": 0}),
        ("TopK", "x k", "y,i"),
        IMAGE,
        {"k": axes(2)},
        "`sorted` must be 1, it is 0",
    ),
    (
        "limit",
        ("TopK", "x k", "y,i"),
        ("TopK", "x l", "y,i"),
        {"x": [1, 5000]},
        {"k": axes(3840), "l": axes(3839)},
        "`K` must be less than 3840, it is 3840",
    ),
    (
        "limit",
        ("Einsum", "x x", "y", {"equation": "aB,aB->a"}),
        ("Einsum", "x x", "y", {"equation": "ab,ab->a"}),
        {"x": [1, 8]},
        {},
        "lower-case letters alone, it has B",
    ),
    (
        "limit",
        ("BatchNormalization", "x w w w w", "y", {"training_mode": 1}),
        ("BatchNormalization", "x w w w w", "y"),
        IMAGE,
        {"w": np.ones(8, np.float32)},
        "`training_mode` must be 0, it is 1",
    ),
    (
        "limit",
        ("Dropout", "x r t", "y"),
        ("Dropout", "x r f", "y"),
        IMAGE,
        {"r": np.float32(0.5), "t": np.bool_(True), "f": np.bool_(False)},
        "must be false, it is true",
    ),
    (
        "limit",
        ("OneHot", "i d v", "y"),
        ("OneHot", "i e v", "y"),
        {"i": (INT64, [2]), "d": (INT64, [])},
        {"e": np.int64(4), "v": np.float32([0, 1])},
        "`depth` must be a constant",
    ),
    (
        "limit",
        ("Constant", "", "y", {"value_strings": ["a"]}),
        ("Constant", "", "y", {"value_floats": [1.0]}),
        IMAGE,
        {},
        "`value_strings` is not supported",
    ),
    (
        "limit",
        ("LpNormalization", "x", "y", {"p": 3}),
        ("LpNormalization", "x", "y", {"p": 1}),
        IMAGE,
        {},
        "`p` must be 1 or 2, it is 3",
    ),
    (
        "limit",
        ("DeformConv", "x w o", "y", {"pads": [1, 1, 0, 0]}),
        ("DeformConv", "x w o", "y", {"pads": [1, 1, 1, 1]}),
        {"x": [1, 8, 16, 16], "o": [1, 18, 16, 16]},
        {"w": np.ones((4, 8, 3, 3), np.float32)},
        "same before and after",
    ),
    (
        "limit",
        ("LSTM", "s w r", "y", {"hidden_size": 2, "input_forget": 1}),
        ("LSTM", "s w r", "y", {"hidden_size": 2}),
        {"s": [3, 1, 2]},
        {"w": np.ones((1, 8, 2), np.float32), "r": np.ones((1, 8, 2), np.float32)},
        "`input_forget`",
    ),
    ("data-dependent", ("NonZero", "x", "y"), ("TopK", "x k", "v,y"), IMAGE, {"k": axes(2)}, "depends on the data"),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{c[1][0]}-{i}" for i, c in enumerate(CASES)])
def test_a_form_that_tensorrt_lacks(make, proves, case):
    rule, broken, mended, inputs, constants, words = case
    kinds = {"NonZero": INT64, "BitShift": TensorProto.INT32, "Constant": TensorProto.STRING}
    models = []
    for entry in (broken, mended or RELU[0]):
        kind = kinds.get(entry[0], TensorProto.FLOAT)
        kind = TensorProto.INT32 if "u" in inputs and entry[0] == "Add" else kind
        kind = INT64 if entry[0] == "TopK" and rule == "data-dependent" else kind
        kind = TensorProto.FLOAT if "value_floats" in str(entry) else kind
        models.append(make(entry, inputs=inputs, constants=constants, outputs={"y": kind}))
    assert words in proves(f"operators.{rule}", *models).what


def test_the_rules_have_names():
    """The ids of the table above, whole, for tests/lint/test_rules.py."""
    assert {f"operators.{case[0]}" for case in CASES} | {"operators.too-new"} == {
        "operators.unsupported",
        "operators.plugin",
        "operators.limit",
        "operators.cubic",
        "operators.data-dependent",
        "operators.too-new",
    }


@pytest.mark.parametrize(
    ("operator", "inputs", "constants", "before", "from_"),
    [
        ("Attention", "q q q", {}, (10, 13), (10, 14)),
        ("RMSNormalization", "q w", {"w": np.ones(8, np.float32)}, (10, 14), (10, 15)),
        ("Swish", "q", {}, (10, 16), (11, 0)),
        ("HannWindow", "n", {"n": np.int64(8)}, (10, 3), (10, 4)),
    ],
)
def test_operators_that_came_later(make, said, operator, inputs, constants, before, from_):
    opset = {"Attention": 23, "RMSNormalization": 23, "Swish": 24}.get(operator, 20)
    model = make((operator, inputs, "y"), inputs={"q": [1, 2, 16, 8]}, constants=constants, opset=opset)
    (found,) = said(model, "operators.", tensorrt=before)
    assert found.rule == "operators.too-new"
    assert f"came with TensorRT {from_[0]}.{from_[1]}." in found.what
    assert said(model, "operators.", tensorrt=from_) == []


def test_attention_as_an_operator_has_limits(make, said):
    inputs = {"q": [1, 16, 8], "p": [1, 2, 4, 8]}
    model = make(
        ("Attention", "q q q _ p p", "y,k,v", {"q_num_heads": 2, "kv_num_heads": 2, "softcap": 2.0}),
        inputs=inputs,
        opset=23,
    )
    texts = " ".join(found.what for found in said(model, "operators.", tensorrt=(11, 4)))
    for words in (
        "Q must have 4",
        "K must have 4",
        "V must have 4",
        "past_key is not",
        "past_value is not",
        "first output",
    ):
        assert words in texts
    assert "`softcap` must be 0.0, it is 2.0" in texts


def test_a_limit_inside_a_branch_is_found(make, said):
    """Bodies of If are looked into, and know the constants around them."""
    body = make(("ReduceMean", "x c", "inner"), ("Det", "x", "det"), outputs={"det": 1}).graph
    del body.input[:]
    model = make(
        ("If", "b", "y", {"then_branch": body, "else_branch": body}),
        inputs={"x": [2, 4, 4], "b": (BOOL, [])},
        constants={"c": axes(1)},
    )
    assert {found.rule for found in said(model, "operators.")} == {"operators.unsupported"}


def test_a_local_function_is_looked_into(make, said):
    from onnx import helper

    model = make(("Ours", "x", "y", {"domain": "ours"}), inputs={"x": [2, 4, 4]})
    inner = [helper.make_node("Det", ["a"], ["b"], name="det")]
    model.functions.append(helper.make_function("ours", "Ours", ["a"], ["b"], inner, [helper.make_opsetid("", 20)]))
    assert [found.operator for found in said(model, "operators.")] == ["Det"]


def test_a_local_function_for_another_opset(make, said):
    """ONNX leaves it as it is, which makes it no operator that nobody knows."""
    from onnx import helper

    model = make(("Ours", "x", "y", {"domain": "ours"}))
    inner = [helper.make_node("Relu", ["a"], ["b"])]
    for opset, rules in ((13, ["operators.function"]), (20, [])):
        del model.functions[:]
        sites = [helper.make_opsetid("", opset)]
        model.functions.append(helper.make_function("ours", "Ours", ["a"], ["b"], inner, sites))
        found = said(model, "operators.")
        assert [item.rule for item in found] == rules
    del model.functions[:]
    assert [item.rule for item in said(model, "operators.")] == ["operators.plugin"]


def test_the_table_and_its_cures_name_operators_that_exist():
    import onnx

    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    ours = {"ParametricSoftplus", "ScaledTanh"}  # experimental operators of old
    assert SINCE.keys() - known <= ours
    assert CURES.keys() <= known
    assert all(operator not in SINCE or SINCE[operator] > (10, 0) for operator in CURES)
