from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgeattn.quantize import policy


def nodes(*rows):
    """operator, inputs, output; a node is named after its output."""
    return [helper.make_node(kind, inputs.split(), [output], name=output) for kind, inputs, output in rows]


@pytest.fixture
def graph(hand_made):
    eye = np.eye(4, dtype=np.float32)
    rows = nodes(
        ("Identity", "W", "w_moved"),
        ("MatMul", "x w_moved", "queries"),
        ("Add", "queries b", "queries_b"),
        ("Mul", "queries_b scale", "scaled"),
        ("MatMul", "W x", "keys"),
        ("MatMul", "scaled keys", "scores"),
        ("Softmax", "scores", "softmax"),
        ("MatMul", "softmax x", "mixed"),
        ("Add", "x mixed", "residual"),
        ("ReduceMean", "residual", "pooled"),
        ("LayerNormalization", "residual ones", "norm"),
        ("Sigmoid", "norm", "sigmoid"),
        ("Mul", "norm sigmoid", "gate"),
        ("Mul", "gate pooled", "gated"),
        ("Relu", "gated", "relu"),
        ("MatMul", "relu W", "head"),
        ("Add", "head b", "y"),
    )
    constants = {"W": eye, "b": np.ones(4, np.float32), "ones": np.ones(4, np.float32), "scale": np.float32(0.5)}
    return hand_made(rows, {"x": [4, 4]}, {"y": [4, 4]}, constants).graph


def test_what_stays_in_float_and_why(graph):
    found = policy.float_nodes(graph)
    expected = {
        "scores": "attention score or value product",
        "softmax": "Softmax decides where to look",
        "mixed": "attention score or value product",
        "residual": "residual add",
        "norm": "normalisation",
        "sigmoid": "Sigmoid decides where to look",
        "gate": "gate",
        "gated": "gate",
        "pooled": "sum over many values",
    }
    assert found.keys() == expected.keys()  # so not: weight products, bias adds, the scale, Relu
    assert all(found[name].startswith(reason) for name, reason in expected.items())


def test_the_classifier_is_the_last_weight_product(graph):
    assert policy.classifier_nodes(graph) == ["head"]


def test_a_graph_without_a_classifier_at_its_end(hand_made):
    model = hand_made(
        nodes(("MatMul", "x W", "head"), ("Relu", "head", "y")),
        {"x": [4, 4]},
        {"y": [4, 4]},
        {"W": np.eye(4, dtype=np.float32)},
    )
    assert policy.classifier_nodes(model.graph) == []


def test_what_is_computed_from_weights_alone_is_a_weight(graph):
    names = policy.constant_names(graph)
    assert {"W", "w_moved", "b", "scale"} <= names
    assert not {"x", "queries", "keys"} & names


def test_in_the_real_networks_every_attention_part_stays_in_float(network):
    found = policy.float_nodes(network.graph)
    kinds = [node.op_type for node in network.graph.node if node.name in found]
    for kind in ("Softmax", "LayerNormalization", "Sigmoid"):
        assert kinds.count(kind) == sum(node.op_type == kind for node in network.graph.node)
    assert "Conv" not in kinds
    assert "Gemm" not in kinds
    assert len(policy.classifier_nodes(network.graph)) == 1
