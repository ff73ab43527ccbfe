"""The rules as a whole: versions, order, sentences, and that each has a test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeattn import lint
from edgeattn.errors import RecipeError
from edgeattn.lint.base import Finding, Rules, Severity, parse_version


@pytest.mark.parametrize("version", [(8, 6), (9, 3), (11, 5), (12, 0)])
def test_versions_whose_rules_are_not_known(version):
    with pytest.raises(
        RecipeError, match=r"are not known; there are those of 10\.0 to 11\.4\. JetPack 5 and 6\.0 have"
    ):
        Rules(version)


@pytest.mark.parametrize(
    ("text", "version"), [("10.3", (10, 3)), ("10.16.2.10", (10, 16, 2, 10)), ("11.4.1", (11, 4, 1))]
)
def test_a_version_as_text(text, version):
    assert parse_version(text) == version
    assert Rules(version).version == text


@pytest.mark.parametrize("text", ["", "10", "10.x", "v10.3", "10.3.1.2.3", "-1.2", "10..3", "²0.3", "10.1234567"])
def test_no_version(text):
    with pytest.raises(RecipeError, match=r"is written as 10\.3 or 10\.16\.2\.10, got"):
        parse_version(text)


def test_every_rule_belongs_to_its_family_and_has_a_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for name in lint.names():
        ids = [
            rule.id for rule in vars(lint.find(name)).values() if hasattr(rule, "consequence") and hasattr(rule, "at")
        ]
        assert ids and len(set(ids)) == len(ids)
        assert all(rule.startswith(f"{name}.") for rule in ids)
    missing = [rule for rule in lint.known_rules() if f'"{rule}"' not in tests]
    assert not missing


def test_the_texts_are_sentences():
    for rule in lint.known_rules().values():
        for text in (rule.consequence, rule.cure):
            assert re.fullmatch(r"[A-Z][^\n]*\.", text), (rule.id, text)
            assert "  " not in text
        assert len(rule.consequence) < 240 and len(rule.cure) < 180, rule.id


def test_an_error_says_who_refuses_or_what_goes_wrong():
    words = ("refuse", "infinite", "NaN", "wrong channels", "misreads", "builds nothing", "fixed shapes", "overflows")
    words += ("older forms",)
    for rule in lint.known_rules().values():
        if rule.severity is Severity.ERROR:
            assert any(word in rule.consequence for word in words), rule.id


@pytest.fixture
def messy(make):
    rows = [("Det", "x", "a"), ("Erf", "a", "b"), ("Det", "z", "c"), ("BitwiseNot", "i", "o")]
    return make(
        *rows, inputs={"x": [2, 4, 4], "z": [2, 4, 4], "i": (6, [2])}, outputs={"b": 1, "c": 1, "o": 6}, opset=23
    )


def test_the_order_is_the_graphs(messy):
    found = lint.lint(messy, Rules((10, 3), dla=True))
    assert [(item.node, item.rule) for item in found] == [
        ("", "opset.ceiling"),
        ("a", "dla.gpu"),
        ("a", "operators.unsupported"),
        ("b", "dla.gpu"),
        ("c", "dla.gpu"),
        ("c", "operators.unsupported"),
        ("o", "dla.gpu"),
        ("o", "operators.unsupported"),
    ]
    assert lint.lint(messy, Rules((10, 3), dla=True)) == found


def test_a_finding_in_one_line_and_as_json(messy):
    found = lint.lint(messy, Rules((10, 3)))
    assert (
        found[0]
        .sentence()
        .startswith(
            "The file has opset 23; TensorRT 10.0 reads 20, 10.9 reads 22, 10.13 reads 24. The parser of this version"
        )
    )
    assert found[1].sentence() == (
        "Det 'a': No version up to 11.4 supports Det. TensorRT's parser has no importer for it and refuses the whole "
        "file. Replace it by operators that TensorRT has."
    )
    values = json.loads(json.dumps(found[1].to_dict()))
    assert values["severity"] == "error"
    assert Finding(**{**values, "severity": Severity(values["severity"])}) == found[1]


def test_nothing_is_wrong_with_a_plain_network(make):
    weights = {"w": np.ones((8, 3, 3, 3), np.float32)}
    rows = [
        ("Cast", "x", "f", {"to": 1}),
        ("Transpose", "f", "t", {"perm": [0, 3, 1, 2]}),
        ("Conv", "t w", "c"),
        ("Relu", "c", "y"),
    ]
    model = make(*rows, inputs={"x": (2, [1, 16, 16, 3])}, constants=weights)
    assert lint.lint(model, Rules((10, 3))) == lint.lint(model, Rules((11, 4))) == []


BROKEN = {
    "a node without inputs": [("Conv", "", "y")],
    "one without outputs": [("Softmax", "x", "")],
    "attributes of another kind": [
        ("Concat", "x x", "a", {"axis": "one"}),
        ("MaxPool", "a", "b", {"dilations": 3, "kernel_shape": "wide"}),
        ("Transpose", "b", "c", {"perm": [7, 9]}),
        ("Softmax", "c", "y", {"axis": [99]}),
    ],
    "Q/DQ of which nothing fits": [
        ("QDQ", "x", "d", {"axis": 99, "scale": [0.1, 0.2, 0.3], "zero": None}),
        ("DequantizeLinear", "d", "y"),
    ],
    "a circle": [
        ("Reshape", "y s", "a"),
        ("Identity", "a", "s"),
        ("Transpose", "a", "b"),
        ("Add", "b b", "y"),
        ("Conv", "b a", "c"),
    ],
    "names that nobody gives": [("MatMul", "nobody nowhere", "a"), ("Softmax", "a", "b"), ("MatMul", "b none", "y")],
    "an operator of no version": [("Nonsense", "x", "y")],
    "a weight of too few dimensions": [("DQ", "axes", "d", {}), ("QDQ", "x", "q", {}), ("Conv", "q d", "y")],
    "tensors that are lists": [
        ("Constant", "", "a", {"value": [onnx.TensorProto()]}),
        ("ConstantOfShape", "axes", "b", {"value": [onnx.TensorProto()]}),
        ("Add", "a b", "y"),
    ],
    "sums over nothing": [("ReduceMean", "zero axes", "a"), ("Softmax", "zero", "y")],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_graphs_are_judged_and_listed_all_the_same(make, name):
    from edgeattn.lint.listing import computing, listing

    constants = {"zero": np.float16(0), "axes": np.int64([0])}
    model = make(*BROKEN[name], outputs={"y": 1}, constants=constants)
    model.graph.initializer[0].raw_data = b"\0"  # does not fit its shape
    found = lint.lint(model, Rules((10, 3), dla=True), {"x": float("nan")})
    assert any(item.severity is Severity.ERROR for item in found)
    computing(listing(model, Rules((10, 3), dla=True)))
