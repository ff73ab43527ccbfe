"""An ONNX file as a TensorRT network: read, its parser's errors as one sentence, its multiply-adds counted."""

from __future__ import annotations

import re
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from edgeattn.backends import _tensorrt_library as lib
from edgeattn.errors import ModelError

_CURES = {
    "MODEL_DESERIALIZE_FAILED": "the file is no readable ONNX model, export it again",
    "INVALID_VALUE": "the graph is wrong there, export the model again",
    "INVALID_GRAPH": "the graph is wrong there, export the model again",
    "INVALID_NODE": "the graph is wrong there, export the model again",
    "MEM_ALLOC_FAILED": "close other programs and try again",
}
_CURE = (
    "this version cannot take the node as it is: change it in the model, or use a newer TensorRT; "
    "'edgeattn inspect MODEL --tensorrt VERSION' finds all such nodes without a device"
)
_ONNX_NAME = re.compile(r"\[ONNX Layer: (.*?)\]")


def create(trt: Any, builder: Any) -> Any:
    """An empty network whose types are those of the graph.

    The flag's number differs between versions; from 11 on every network is of this kind and the flag changes nothing.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    if network is None:
        raise lib.refusal("create a network")
    return network


def read(trt: Any, network: Any, model: Path) -> None:
    """Fill `network` from an ONNX file, its external data beside it. Raises ModelError naming the node."""
    parser = trt.OnnxParser(network, lib.logger(trt))
    if not parser.parse_from_file(str(model)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        raise _parse_error(trt, model, errors)
    if not network.num_outputs:
        raise ModelError(f"{model} holds no graph; export the model again.")


def _parse_error(trt: Any, model: Path, errors: list[Any]) -> ModelError:
    if not errors:
        return lib.refusal(f"read {model}")
    # What comes first caused the rest; an error of the whole file has no operator.
    first = next((error for error in errors if error.node_operator()), errors[0])
    operator = first.node_operator()
    where = f"node '{first.node_name()}' ({operator}): " if operator else ""
    desc = " ".join(str(first.desc()).split()).rstrip(".") or "no reason given"
    more = f", and {len(errors) - 1} more such errors" if len(errors) > 1 else ""
    cure = _CURES.get(first.code().name, _CURE if operator else "export the model again")
    error = ModelError(f"TensorRT {trt.__version__} cannot read {model}: {where}{desc}{more}; {cure}.")
    error.__cause__ = RuntimeError("\n".join(f"{e.node_name()} ({e.node_operator()}): {e.desc()}" for e in errors))
    return error


def onnx_names(metadata: str) -> list[str]:
    """The ONNX nodes that a layer of a network or engine was made of, as its metadata tell."""
    return _ONNX_NAME.findall(metadata)


def multiply_adds(trt: Any, network: Any) -> tuple[dict[str, int], list[str]]:
    """Multiply-adds of every convolution and matrix product, by the ONNX node's name; a dynamic size counts as 1.

    And notes on what could not be counted: that is no reason to build nothing.
    """
    counts: Counter[str] = Counter()
    failures: list[Exception] = []
    for index in range(network.num_layers):
        try:
            layer = network.get_layer(index)
            if count := _layer(trt, layer):
                names = onnx_names(layer.metadata)
                counts[names[0] if names else layer.name] += count
        except lib.UNREADABLE as error:
            failures.append(error)
    if not failures:
        return dict(counts), []
    why = lib.reason(failures[0])
    return dict(counts), [
        f"The multiply-adds of {len(failures)} of {network.num_layers} layers could not be counted ({why})."
    ]


def _layer(trt: Any, layer: Any) -> int:
    kinds = trt.LayerType
    if layer.type in (kinds.CONVOLUTION, kinds.DECONVOLUTION):
        # `get_layer` gives the base class; its binding lets the class be set to what `type` says it is.
        forward = layer.type == kinds.CONVOLUTION
        layer.__class__ = trt.IConvolutionLayer if forward else trt.IDeconvolutionLayer
        data, out = _sizes(layer.get_input(0)), _sizes(layer.get_output(0))
        kernel = prod(max(size, 1) for size in layer.kernel_size_nd)
        # Each output takes a kernel of each channel of its group; transposed, each input goes into one.
        return int((prod(out) * data[1] if forward else prod(data) * out[1]) * kernel // layer.num_groups)
    if layer.type == kinds.MATRIX_MULTIPLY:
        layer.__class__ = trt.IMatrixMultiplyLayer
        left = _sizes(layer.get_input(0))
        return int(prod(_sizes(layer.get_output(0))) * left[-2 if layer.op0 == trt.MatrixOperation.TRANSPOSE else -1])
    if layer.type == kinds.EINSUM:
        layer.__class__ = trt.IEinsumLayer
        return einsum(layer.equation, [_sizes(layer.get_input(i)) for i in range(layer.num_inputs)])
    return 0


def einsum(equation: str, shapes: list[list[int]]) -> int:
    """Multiply-adds of two operands without an ellipsis: one for every combination of the labels. Else 0."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if len(terms) != 2 or "." in equation or [len(term) for term in terms] != [len(shape) for shape in shapes]:
        return 0
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        sizes.update(zip(term, shape, strict=True))
    return prod(sizes.values())


def _sizes(tensor: Any) -> list[int]:
    return [max(int(size), 1) for size in tensor.shape]
