"""Reading the inspector's JSON, of layers written after NVIDIA's documentation of 10.x and 11.x, not by an engine."""

import json

import pytest

from edgeattn.backends import _tensorrt_inspect as inspect
from edgeattn.errors import ModelError

# The convolution of the developer guide's example (10.x), and the same as 11.x splits it.
OLD = {
    "Name": "res4_0_branch2a + res4_0_branch2a_relu",
    "LayerType": "CaskConvolution",
    "Inputs": [
        {
            "Name": "gpu_0/res3",
            "Dimensions": [16, 512, 28, 28],
            "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format.",
        }
    ],
    "Outputs": [
        {
            "Name": "gpu_0/res4",
            "Dimensions": [16, 256, 28, 28],
            "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format.",
        }
    ],
    "ParameterType": "Convolution",
    "Kernel": [1, 1],
    "Weights": {"Type": "Int8", "Count": 131072},
    "Bias": {"Type": "Float", "Count": 256},
    "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32",
    "Metadata": "[ONNX Layer: res4_0_branch2a]\x1e[ONNX Layer: res4_0_branch2a_relu]",
}


def new(layer):
    def split(tensor):
        text = tensor.pop("Format/Datatype")
        return {**tensor, "Format": text.rpartition(" Int8")[0], "Datatype": "Int8"}

    return {**layer, **{key: [split(dict(t)) for t in layer[key]] for key in ("Inputs", "Outputs")}}


def text(*layers, **more):
    return json.dumps({"Layers": list(layers), **more})


def one(**values):
    kinds = {
        key: [{"Name": "t", "Format/Datatype": kind} for kind in values.pop(key, ())] for key in ("Inputs", "Outputs")
    }
    return {"Name": "layer", "LayerType": "kgen", **kinds, **values}


@pytest.mark.parametrize("layer", [OLD, new(OLD)], ids=["10.x", "11.x"])
def test_both_forms_say_the_same(layer):
    (found,) = inspect.layers(text(layer), {"res4_0_branch2a": 1000})
    assert found.precision == "int8"
    assert found.nodes == ("res4_0_branch2a", "res4_0_branch2a_relu")
    assert found.kind == "CaskConvolution Convolution"
    assert (found.device, found.macs, found.tactic) == ("gpu", 1000, OLD["TacticName"])


@pytest.mark.parametrize(
    ("told", "precision"),
    [
        ("Row major linear FP16 format", "fp16"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Row major linear FP32", "fp32"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BF16", "bf16"),
        ("FP8", "fp8"),
        ("Row major linear INT32 format", "unknown"),
        ("Row major linear BOOL", "unknown"),
        ("N/A due to dynamic shapes", "unknown"),
    ],
)
def test_types_as_they_are_written(told, precision):
    assert inspect.layers(text(one(Inputs=[told], Outputs=[told])), {})[0].precision == precision


@pytest.mark.parametrize(
    ("layer", "macs", "precision", "why"),
    [
        (one(Inputs=["Int8", "Half"], Outputs=["Half"]), 9, "int8", "a product's residual is no operand"),
        (one(Inputs=["Int8", "Half"], Outputs=["Half"]), 0, "fp16", "it takes 8-bit data and works in float"),
        (one(Inputs=["Int8"], Outputs=["Float"]), 0, "fp32", "it writes float"),
        (
            one(Inputs=["Half"], Outputs=["Int8"], Weights={"Type": "Half", "Count": 4}),
            9,
            "fp16",
            "its weights are FP16",
        ),
        (one(Inputs=["Half"], Outputs=["Half"], Weights={"Type": "Int8", "Count": 0}), 9, "fp16", "it has no weights"),
        (one(Inputs=["Int32"], Outputs=["Half"]), 0, "fp16", "indices do not count"),
        (one(), 0, "unknown", "nothing is told"),
    ],
)
def test_precision_of_a_layer(layer, macs, precision, why):
    layer["Metadata"] = "[ONNX Layer: node]"
    assert inspect.layers(text(layer), {"node": macs} if macs else {})[0].precision == precision, why


def test_what_moves_data_is_not_counted():
    moved = [
        one(LayerType=kind, Inputs=["Half"], Outputs=["Half"]) for kind in ("Reformat", "NoOp", "Constant", "Shuffle")
    ]
    assert inspect.layers(text(*moved), {}) == []


def test_multiply_adds_go_to_the_product_among_the_layers_of_a_node():
    split = [
        one(Name="cast", Inputs=["Float"], Outputs=["Half"], Metadata="[ONNX Layer: gemm]"),
        one(Name="product", LayerType="gemm", Inputs=["Half"], Outputs=["Half"], Metadata="[ONNX Layer: gemm]"),
        one(Name="alone", Inputs=["Float"], Outputs=["Float"], Metadata="[ONNX Layer: einsum]"),
        one(Name="conv1 + relu1", Inputs=["Half"], Outputs=["Half"]),  # no metadata: by the name
    ]
    counts = {"gemm": 10, "einsum": 20, "conv1": 30, "lost": 40}
    found = inspect.layers(text(*split), counts)
    assert {layer.name: layer.macs for layer in found} == {"cast": 0, "product": 10, "alone": 20, "conv1 + relu1": 30}
    assert inspect.totals(found, counts) == ({"fp16": 2, "fp32": 2}, {"fp16": 40, "fp32": 20, "unknown": 40})


def test_names_only():
    """What an engine that was built without detail has: layers without types."""
    found = inspect.layers(json.dumps({"Layers": ["conv1 + relu1", "softmax"], "Bindings": ["x", "y"]}), {"conv1": 7})
    assert [(layer.nodes, layer.precision, layer.macs) for layer in found] == [
        (("conv1", "relu1"), "unknown", 7),
        (("softmax",), "unknown", 0),
    ]


def test_metadata_with_bare_control_characters():
    (found,) = inspect.layers(text(OLD).replace("\\u001e", "\x1e"), {})
    assert found.nodes == ("res4_0_branch2a", "res4_0_branch2a_relu")


@pytest.mark.parametrize(
    "wrong", ["", "no JSON", "[]", "{}", '{"Layers": 3}', '{"Layers": [{"Inputs": 1}]}', "[" * 100_000]
)
def test_what_is_no_description_of_layers(wrong):
    with pytest.raises(ModelError, match="inspector gave no list of layers"):
        inspect.layers(wrong, {})


@pytest.mark.parametrize(
    ("asked", "executed", "says"),
    [
        ("int8", {"int8": 100}, []),
        ("int8", {"int8": 90, "fp16": 10}, ["10 % of the multiply-adds are not quantized."]),
        ("fp16", {"fp16": 90, "fp32": 10}, []),
        (None, {"fp16": 1}, []),
        ("int8", {}, []),
    ],
)
def test_notes(asked, executed, says):
    assert inspect.notes(asked, executed, "multiply-adds") == says
