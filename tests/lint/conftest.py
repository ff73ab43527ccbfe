"""Minimal graphs in one line each, and what the lint says of them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeattn.lint import known_rules, lint
from edgeattn.lint.base import Rules

FLOAT = TensorProto.FLOAT


def expand(kind, inputs, output, attributes, constants):
    """One row as nodes; `QDQ`, `Q` and `DQ` bring their scale and zero point along as initializers."""
    if kind not in ("QDQ", "Q", "DQ"):
        domain = attributes.pop("domain", "")
        outputs = output.split(",")
        read = ["" if name == "_" else name for name in inputs.split()]
        return [helper.make_node(kind, read, outputs, name=outputs[0], domain=domain, **attributes)]
    with np.errstate(over="ignore"):  # infinity in FP16 may be what a test wants
        scale = np.asarray(attributes.pop("scale", 0.1), attributes.pop("type", np.float32))
    zero = attributes.pop("zero", np.zeros(scale.shape, np.int8))
    constants[f"{output}_scale"] = scale
    if zero is not None:
        constants[f"{output}_zero"] = np.asarray(zero)
    rest = [f"{output}_scale", *([f"{output}_zero"] if zero is not None else [])]
    between = f"{output}_q" if kind == "QDQ" else output
    made = []
    if kind in ("QDQ", "Q"):
        name = f"{output}_quantize" if kind == "QDQ" else output
        made.append(helper.make_node("QuantizeLinear", [inputs, *rest], [between], name=name, **attributes))
    if kind in ("QDQ", "DQ"):
        source = between if kind == "QDQ" else inputs
        made.append(helper.make_node("DequantizeLinear", [source, *rest], [output], name=output, **attributes))
    return made


def build(*rows, inputs=None, outputs=None, constants=None, opset=20, stated=None):
    """A graph of rows `(operator, "inputs", "outputs")`, with a mapping of attributes where there are any.

    A node is named after its first output; `_` is an input left out. `inputs` are name -> shape (float) or (type,
    shape); `outputs` name -> type, by default the last row's, float. `stated` is what value_info claims.
    """
    constants = dict(constants or {})
    nodes = [n for kind, names, output, *more in rows
             for n in expand(kind, names, output, dict(*more), constants)]  # fmt: skip
    given = {k: v if isinstance(v, tuple) else (FLOAT, v) for k, v in (inputs or {"x": [1, 8]}).items()}
    results = outputs or {nodes[-1].output[0]: FLOAT}
    graph = helper.make_graph(
        nodes,
        "minimal",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in given.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in results.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        value_info=[helper.make_tensor_value_info(name, kind, None) for name, kind in (stated or {}).items()],
    )
    domains = {"": opset} | {row[3]["domain"]: 1 for row in rows if len(row) > 3 and "domain" in row[3]}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*d) for d in domains.items()], ir_version=10)


@pytest.fixture
def make():
    return build


@pytest.fixture
def said():
    """The findings of a graph, by default those of one family's rules for TensorRT 10.3."""

    def said(model, family="", *, tensorrt=(10, 3), ranges=None, **rules):
        before = model.SerializeToString(deterministic=True)
        found = lint(model, Rules(tensorrt, **rules), ranges)
        assert model.SerializeToString(deterministic=True) == before
        return [item for item in found if item.rule.startswith(family)]

    return said


@pytest.fixture
def proves(said):
    """That one rule and nothing else of its family is found in `broken`, and nothing of it in `mended`."""

    def proves(rule, broken, mended, node=None, **settings):
        family = rule.partition(".")[0] + "."
        found = said(broken, family, **settings)
        assert [item.rule for item in found] == [rule], [item.sentence() for item in found]
        (item,) = found
        assert item.severity is known_rules()[rule].severity
        if node is not None:
            assert item.node == node
        for text in (item.what, item.consequence, item.cure):
            assert text[0].isupper() or text[0] == "`"
            assert text.endswith(".") and "  " not in text
        assert said(mended, family, **settings) == []
        return item

    return proves
