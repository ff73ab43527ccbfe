from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn.onnxgraph.view import Graph

FLOAT, HALF, INT8, INT64, UINT8, DOUBLE = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT8,
    TensorProto.INT64,
    TensorProto.UINT8,
    TensorProto.DOUBLE,
)
ONE32, ONE16 = np.float32(1), np.float16(1)
W32, W16 = np.ones((4, 3, 3, 3), np.float32), np.ones((4, 3, 3, 3), np.float16)
VECTOR, IMAGE = [1, 8], [1, 3, 8, 8]


def case(*rows, inputs, constants=None, out=FLOAT, **settings):
    return {"rows": rows, "inputs": inputs, "constants": constants, "outputs": {"y": out}, **settings}


def to(kind):
    return {"to": kind}


def half_a_body(output):
    """Relu of x as `e` or `f`, of which `output` is to leave the body."""
    node = helper.make_node("Relu", ["x"], ["f" if output == "f" else "e"])
    return helper.make_graph([node], output, [], [helper.make_tensor_value_info(output, FLOAT, VECTOR)])


CASES = [
    (
        "mixed",
        case(("Add", "x c", "y"), inputs={"x": (HALF, VECTOR)}, constants={"c": ONE32}, out=HALF),
        case(("Add", "x c", "y"), inputs={"x": (HALF, VECTOR)}, constants={"c": ONE16}, out=HALF),
        "Its inputs have different types: 'x' is float16, 'c' is float32.",
    ),
    (
        "mixed",
        case(("Conv", "x w b", "y"), inputs={"x": (HALF, IMAGE)}, constants={"w": W16, "b": W32[:, 0, 0, 0]}, out=HALF),
        case(("Conv", "x w b", "y"), inputs={"x": (HALF, IMAGE)}, constants={"w": W16, "b": W16[:, 0, 0, 0]}, out=HALF),
        "Its inputs have different types: 'x' is float16, 'b' is float32.",
    ),
    (
        "mixed",
        case(("MatMul", "x z", "y"), inputs={"x": (HALF, [2, 2]), "z": (FLOAT, [2, 2])}, out=HALF),
        case(("MatMul", "x z", "y"), inputs={"x": (HALF, [2, 2]), "z": (HALF, [2, 2])}, out=HALF),
        "Its inputs have different types: 'x' is float16, 'z' is float32.",
    ),
    (  # ONNX allows it
        "mixed",
        case(("Pow", "x e", "y"), inputs={"x": VECTOR}, constants={"e": np.int64(2)}),
        case(("Pow", "x e", "y"), inputs={"x": VECTOR}, constants={"e": np.float32(2)}),
        "Its inputs have different types: 'x' is float32, 'e' is int64.",
    ),
    (
        "mixed",
        case(("Concat", "x z", "y", {"axis": 0}), inputs={"x": (HALF, VECTOR), "z": VECTOR}, out=HALF),
        case(("Concat", "x z", "y", {"axis": 0}), inputs={"x": (HALF, VECTOR), "z": (HALF, VECTOR)}, out=HALF),
        "Its inputs have different types: 'x' is float16, 'z' is float32.",
    ),
    (
        "q-scale",
        case(("QDQ", "x", "d", {}), ("Relu", "d", "y"), inputs={"x": (HALF, VECTOR)}),
        case(("QDQ", "x", "d", {"type": np.float16}), ("Relu", "d", "y"), inputs={"x": (HALF, VECTOR)}, out=HALF),
        "It quantizes float16 with a scale that is float32.",
    ),
    (
        "dq-fp32",
        case(
            ("QDQ", "x", "d", {}),
            ("DQ", "w", "v", {}),
            ("Conv", "d v", "c"),
            ("Cast", "c", "y", to(HALF)),
            inputs={"x": IMAGE},
            constants={"w": W32.astype(np.int8)},
            out=HALF,
        ),
        case(
            ("Cast", "x", "h", to(HALF)),
            ("QDQ", "h", "d", {"type": np.float16}),
            ("DQ", "w", "v", {"type": np.float16}),
            ("Conv", "d v", "y"),
            inputs={"x": IMAGE},
            constants={"w": W32.astype(np.int8)},
            out=HALF,
        ),
        "Its scale is FP32 in an FP16 graph, and Conv 'c' reads it.",
    ),
    (
        "inference",
        case(("MatMul", "x z", "y"), inputs={"x": [2, 3], "z": [2, 3]}),
        case(("MatMul", "x z", "y"), inputs={"x": [2, 3], "z": [3, 2]}),
        "ONNX's strict shape inference fails:",
    ),
    (
        "unmade",
        case(("Relu", "a", "y"), ("Relu", "x", "a"), inputs={"x": VECTOR}),
        case(("Relu", "x", "a"), ("Relu", "a", "y"), inputs={"x": VECTOR}),
        "It reads 'a', which no node before it gives.",
    ),
    (
        "unmade",
        case(("Relu", "x", "a"), inputs={"x": VECTOR}),
        case(("Relu", "x", "y"), inputs={"x": VECTOR}),
        "The output 'y' is given by no node.",
    ),
    (
        "stale",
        case(("QDQ", "x", "d", {}), ("Relu", "d", "y"), inputs={"x": VECTOR}, stated={"d_q": UINT8}),
        case(("QDQ", "x", "d", {}), ("Relu", "d", "y"), inputs={"x": VECTOR}, stated={"d_q": INT8}),
        "The file states 'd_q' to be uint8, it is int8.",
    ),
    (
        "unsupported",
        case(("Cast", "x", "y", to(TensorProto.UINT16)), inputs={"x": VECTOR}, out=TensorProto.UINT16),
        case(("Cast", "x", "y", to(INT64)), inputs={"x": VECTOR}, out=INT64),
        "It gives 'y', which is uint16.",
    ),
    (
        "double",
        case(("Cast", "x", "y", to(DOUBLE)), inputs={"x": VECTOR}, out=DOUBLE),
        case(("Cast", "x", "y", to(FLOAT)), inputs={"x": (INT64, VECTOR)}),
        "It gives 'y', which is float64.",
    ),
    (
        "int8-cast",
        case(("Cast", "x", "y", to(INT8)), inputs={"x": VECTOR}, out=INT8),
        case(("QDQ", "x", "y", {}), inputs={"x": VECTOR}),
        "It casts 'x' to int8.",
    ),
    (
        "uint8",
        case(
            ("Transpose", "x", "t", {"perm": [0, 2, 1]}),
            ("Cast", "t", "y", to(FLOAT)),
            inputs={"x": (UINT8, [1, 4, 3])},
        ),
        case(
            ("Cast", "x", "t", to(FLOAT)),
            ("Transpose", "t", "y", {"perm": [0, 2, 1]}),
            inputs={"x": (UINT8, [1, 4, 3])},
        ),
        "It reads 'x', which is UINT8.",
    ),
    (
        "uint8",
        case(("Cast", "x", "u", to(UINT8)), ("Transpose", "u", "y"), inputs={"x": VECTOR}, out=UINT8),
        case(("Transpose", "x", "t"), ("Cast", "t", "y", to(UINT8)), inputs={"x": VECTOR}, out=UINT8),
        "It gives 'u', which is UINT8.",
    ),
    (
        "uint8",
        case(("Cast", "x", "y", to(INT64)), inputs={"x": (UINT8, VECTOR)}, out=INT64),
        case(("Cast", "x", "y", to(HALF)), inputs={"x": (UINT8, VECTOR)}, out=HALF),
        "It casts UINT8 to int64, not to FP32 or FP16.",
    ),
    (
        "int8",
        case(("Q", "x", "q", {}), ("Relu", "q", "r"), ("DQ", "r", "y", {}), inputs={"x": VECTOR}),
        case(("Q", "x", "q", {}), ("DQ", "q", "d", {}), ("Relu", "d", "y"), inputs={"x": VECTOR}),
        "It reads 'q', which is int8.",
    ),
    (
        "int8",
        case(("Cast", "x", "y", to(FLOAT)), inputs={"x": (INT8, VECTOR)}),
        case(
            ("Q", "x", "q", {}),
            ("Reshape", "q s", "r"),
            ("DQ", "r", "y", {}),
            inputs={"x": VECTOR},
            constants={"s": np.int64([8])},
        ),
        "It reads 'x', which is int8.",
    ),
    (
        "unmade",
        case(
            ("If", "c", "y", {"then_branch": half_a_body("none"), "else_branch": half_a_body("f")}),
            inputs={"x": VECTOR, "c": (TensorProto.BOOL, [])},
        ),
        case(
            ("If", "c", "y", {"then_branch": half_a_body("e"), "else_branch": half_a_body("f")}),
            inputs={"x": VECTOR, "c": (TensorProto.BOOL, [])},
        ),
        "Its body's output 'none' is given by no node.",
    ),
    (
        "uint8-shape",
        case(("Shape", "x", "y"), inputs={"x": (UINT8, VECTOR)}, out=INT64),
        case(("Cast", "x", "f", to(FLOAT)), ("Shape", "f", "y"), inputs={"x": (UINT8, VECTOR)}, out=INT64),
        "It reads the shape of 'x', which is UINT8.",
    ),
]


@pytest.mark.parametrize("entry", CASES, ids=[f"{entry[0]}-{i}" for i, entry in enumerate(CASES)])
def test_each_rule(make, said, entry):
    rule, broken, mended, words = entry
    built = [make(*c["rows"], **{k: v for k, v in c.items() if k != "rows"}) for c in (broken, mended)]
    found = said(built[0], "typing.")
    assert [item.rule for item in found][:1] == [f"typing.{rule}"], [item.sentence() for item in found]
    assert {item.rule for item in found} == {f"typing.{rule}"} and len(found) <= 2
    assert found[0].what.startswith(words)
    assert said(built[1], "typing.") == []


def test_cast_like_is_a_cast(make, said):
    like = {"l": np.float16(0)}
    assert (
        said(make(("CastLike", "x l", "y"), inputs={"x": (UINT8, VECTOR)}, constants=like, outputs={"y": HALF})) == []
    )
    back = make(
        ("Cast", "x", "f", to(HALF)),
        ("CastLike", "f x", "y"),
        inputs={"x": (UINT8, VECTOR)},
        outputs={"y": UINT8},
    )
    assert said(back, "typing.") == []
    whole = make(
        ("CastLike", "x l", "y"), inputs={"x": (UINT8, VECTOR)}, constants={"l": np.int64(0)}, outputs={"y": INT64}
    )
    assert [item.what for item in said(whole, "typing.")] == ["It casts UINT8 to int64, not to FP32 or FP16."]


def branch(output, kind):
    """x to `kind` and back, by names that every branch has."""
    ours = np.ones(4, helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("Cast", ["x"], ["t"], to=kind),
        helper.make_node("Add", ["t", "one"], ["u"]),
        helper.make_node("Cast", ["u"], [output], to=FLOAT),
    ]
    given = helper.make_tensor_value_info(output, FLOAT, [4])
    return helper.make_graph(nodes, output, [], [given], [numpy_helper.from_array(ours, "one")])


@pytest.mark.parametrize("kinds", [(HALF, FLOAT), (FLOAT, HALF), (HALF, HALF)])
def test_branches_may_call_different_things_the_same(make, said, kinds):
    then, other = (branch(name, kind) for name, kind in zip("ab", kinds, strict=True))
    model = make(
        ("If", "c", "y", {"then_branch": then, "else_branch": other}),
        inputs={"x": [4], "c": (TensorProto.BOOL, [])},
    )
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, [4]))
    onnx.checker.check_model(model)
    assert said(model, "typing.") == []
    assert sorted(Graph(model).type(name) for name in ("t", "t_2")) == sorted(kinds)
    assert sorted(Graph(model).type(name) for name in ("one", "one_2")) == sorted(kinds)


def test_the_ids_of_this_family(make, said):
    """Whole, for tests/lint/test_rules.py."""
    assert {f"typing.{entry[0]}" for entry in CASES} == {
        "typing.mixed",
        "typing.q-scale",
        "typing.dq-fp32",
        "typing.inference",
        "typing.stale",
        "typing.unsupported",
        "typing.double",
        "typing.int8-cast",
        "typing.int8",
        "typing.uint8",
        "typing.uint8-shape",
        "typing.unmade",
    }


def test_fp16_scales_need_opset_19(make, said):
    rows = [("QDQ", "x", "d", {"type": np.float16}), ("Relu", "d", "y")]

    def found(opset):
        model = make(*rows, inputs={"x": (HALF, VECTOR)}, outputs={"y": HALF}, opset=opset)
        return [item.rule for item in said(model, "typing.")]

    assert found(18) == ["typing.qdq-opset", "typing.qdq-opset"]
    assert found(19) == []


def test_integers_are_no_concern_of_a_mixed_pair(make, said):
    model = make(("Gather", "x i", "y"), inputs={"x": VECTOR}, constants={"i": np.int64(0)})
    assert said(model, "typing.") == []
    branches = make(
        ("Where", "b x c", "y"), inputs={"b": (TensorProto.BOOL, VECTOR), "x": VECTOR}, constants={"c": ONE32}
    )
    assert said(branches, "typing.") == []


def test_a_graph_that_inference_gives_up_on_is_still_looked_through(make, said):
    model = make(
        ("MatMul", "x z", "m"), ("Cast", "m", "y", to(INT8)), inputs={"x": [2, 3], "z": [2, 3]}, outputs={"y": INT8}
    )
    assert [item.rule for item in said(model, "typing.")] == ["typing.inference", "typing.int8-cast"]


def test_an_fp32_product_that_fp16_could_not_hold_is_meant(make, said):
    rows = [("QDQ", "x", "d", {}), ("DQ", "w", "v", {}), ("MatMul", "d v", "c"), ("Cast", "c", "y", to(HALF))]
    model = make(*rows, inputs={"x": [4, 32]}, constants={"w": np.ones((32, 32), np.int8)}, outputs={"y": HALF})
    assert [item.node for item in said(model, "typing.dq-fp32", ranges={"c": 5e4})] == ["d", "v"]
    assert said(model, "typing.dq-fp32", ranges={"c": 7e4}) == []
