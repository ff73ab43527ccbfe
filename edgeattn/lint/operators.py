"""Operators that TensorRT's parser lacks, and the limits of those it has.

Source of the limits: the column "Restrictions" of onnx-tensorrt's docs/operators.md (10.15) and onnxOpCheckers.cpp
(10.6); docs/operators.md of 10.0 has the same where it says anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from edgeattn.lint._support import CURES, SINCE
from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity
from edgeattn.onnxgraph.view import Graph, Node

UNSUPPORTED = Rule(
    "operators.unsupported",
    Severity.ERROR,
    "TensorRT's parser has no importer for it and refuses the whole file.",
    "Replace it by operators that TensorRT has.",
)
TOO_NEW = Rule(
    "operators.too-new",
    Severity.ERROR,
    "This version's parser has no importer for it and refuses the whole file.",
    "Write it out in older operators, or update TensorRT.",
)
PLUGIN = Rule(
    "operators.plugin",
    Severity.ERROR,
    "It is no ONNX operator: without a plugin of that name TensorRT refuses the whole file.",
    "Export it as ONNX operators.",
)
FUNCTION = Rule(
    "operators.function",
    Severity.WARNING,
    "ONNX itself cannot write it out, so what is inside was not judged.",
    "Export the model again with one opset for all of it, or with the function written out.",
)
LIMIT = Rule(
    "operators.limit",
    Severity.ERROR,
    "TensorRT has the operator, but not this form of it, and refuses the file.",
    "Write it within that limit.",
)
CUBIC = Rule(
    "operators.cubic",
    Severity.WARNING,
    "The documented modes are nearest and linear; a parser that takes cubic as well promises nothing.",
    "Use linear, or let the camera's side resize.",
)
DATA_DEPENDENT = Rule(
    "operators.data-dependent",
    Severity.WARNING,
    "Its buffers need an output allocator, no CUDA graph can be captured, and what follows has no fixed size.",
    "Prefer a fixed number of results, such as TopK's.",
)

_NAMED_BY_DATA = {"NonMaxSuppression", "NonZero"}


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Every node against the table and its own limits."""
    for node in graph.nodes:
        known = _known(graph, node, rules)
        if known is not None:
            yield known
            continue
        if node.operator in _NAMED_BY_DATA:
            yield DATA_DEPENDENT.at(node, "How many results it gives depends on the data.")
        if node.operator == "Resize" and node.get("mode", "nearest") == "cubic":
            yield CUBIC.at(node, "It resizes with mode cubic.")
        for limit in _LIMITS.get(node.operator, ()):
            yield from (LIMIT.at(node, what) for what in limit(graph, node))


def _known(graph: Graph, node: Node, rules: Rules) -> Finding | None:
    """What keeps this version from reading the operator at all, or us from judging it."""
    if (node.domain, node.operator) in graph.functions:
        return FUNCTION.at(node, f"It calls a local function for another opset than {graph.opset}, the graph's.")
    if not node.is_onnx:
        return PLUGIN.at(node, f"It belongs to '{node.domain}'.")
    since = SINCE.get(node.operator)
    if since is None:
        return _cured(UNSUPPORTED.at(node, f"No version up to 11.4 supports {node.operator}."), node)
    if rules.tensorrt < since:
        version = ".".join(map(str, since))
        return _cured(TOO_NEW.at(node, f"{node.operator} came with TensorRT {version}."), node)
    return None


def _cured(finding: Finding, node: Node) -> Finding:
    return replace(finding, cure=CURES.get(node.operator, finding.cure))


Limit = Callable[[Graph, Node], Iterable[str]]


def _first_output_only(graph: Graph, node: Node) -> Iterator[str]:
    if any(node.outputs[1:]):
        yield f"Only the first output is supported, '{next(filter(None, node.outputs[1:]))}' is asked for as well."


def _rank(*allowed: int) -> Limit:
    def limit(graph: Graph, node: Node) -> Iterator[str]:
        shape = graph.shape(node.input(0))
        if shape is not None and len(shape) not in allowed:
            yield f"Its input must have {' or '.join(map(str, allowed))} dimensions, it has {len(shape)}."

    return limit


def _attribute(name: str, default: object, *allowed: object) -> Limit:
    def limit(graph: Graph, node: Node) -> Iterator[str]:
        value = node.get(name, default)
        if value not in allowed:
            yield f"`{name}` must be {' or '.join(map(str, allowed))}, it is {value}."

    return limit


def _constant(index: int, name: str) -> Limit:
    def limit(graph: Graph, node: Node) -> Iterator[str]:
        given = node.input(index)
        if given and given not in graph.constants:
            yield f"`{name}` must be a constant, here it is computed ('{given}')."

    return limit


def _no_dilation(graph: Graph, node: Node) -> Iterator[str]:
    if any(step != 1 for step in node.get("dilations", ())):
        yield f"`dilations` must be all ones, they are {list(node.get('dilations'))}."


def _resize(graph: Graph, node: Node) -> Iterator[str]:
    kind, rounding = node.get("coordinate_transformation_mode", "half_pixel"), node.get("nearest_mode")
    if kind == "tf_half_pixel_for_nn" and rounding not in (None, "round_prefer_floor"):
        yield f"With tf_half_pixel_for_nn `nearest_mode` must be round_prefer_floor, it is {rounding}."
    scales, shape = node.input(2), graph.shape(node.input(0))
    axes = list(node.get("axes", ()))
    if scales and scales not in graph.constants and axes and (shape is None or axes != list(range(len(shape)))):
        yield "`axes` must name every axis in order where the scales are computed."
    factors = graph.value(scales) if scales in graph.constants else None
    if factors is not None and node.get("mode", "nearest") == "linear" and (factors != 1).sum() > 3:
        yield f"Linear resizing has at most 3 axes, here are {int((factors != 1).sum())}."


def _einsum(graph: Graph, node: Node) -> Iterator[str]:
    if strange := sorted(set(str(node.get("equation", ""))) - set("abcdefghijklmnopqrstuvwxyz->., ")):
        yield f"`equation` must have lower-case letters alone, it has {' '.join(strange)}."


def _top_k(graph: Graph, node: Node) -> Iterator[str]:
    count = graph.value(node.input(1))
    if count is not None and count.size == 1 and count.item() >= 3840:
        yield f"`K` must be less than 3840, it is {count.item()}."


def _plain_constant(graph: Graph, node: Node) -> Iterator[str]:
    for name in ("sparse_value", "value_string", "value_strings"):
        if name in node.attributes:
            yield f"`{name}` is not supported."


def _dropout(graph: Graph, node: Node) -> Iterator[str]:
    mode = graph.value(node.input(2))
    if mode is not None and bool(mode.any()):
        yield "`training_mode` must be false, it is true."


def _attention(graph: Graph, node: Node) -> Iterator[str]:
    for index, name in enumerate(("Q", "K", "V", "attn_mask")):
        shape = graph.shape(node.input(index))
        if shape is not None and len(shape) != 4:
            yield f"{name} must have 4 dimensions, it has {len(shape)}."
    for index, name in ((4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")):
        if node.input(index):
            yield f"The input {name} is not supported."
    yield from _first_output_only(graph, node)


def _same_pads(graph: Graph, node: Node) -> Iterator[str]:
    pads = list(node.get("pads", ()))
    if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
        yield f"`pads` must be the same before and after each axis, they are {pads}."


_POOL: tuple[Limit, ...] = (_rank(4, 5), _no_dilation)
_REDUCE = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_PLACES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
_LIMITS: dict[str, tuple[Limit, ...]] = {
    **{f"Reduce{kind}": (_constant(1, "axes"),) for kind in _REDUCE},
    "Attention": (_attention, _attribute("softcap", 0.0, 0.0), _attribute("qk_matmul_output_mode", 0, 0)),
    "AveragePool": _POOL,
    "BatchNormalization": (_attribute("training_mode", 0, 0), _first_output_only),
    "Constant": (_plain_constant,),
    "CumSum": (_constant(1, "axis"),),
    "DeformConv": (_rank(3, 4), _same_pads),
    "DepthToSpace": (_rank(4),),
    "Dropout": (_constant(2, "training_mode"), _dropout),
    "Einsum": (_einsum,),
    "GridSample": (_rank(4),),
    "LayerNormalization": (_first_output_only,),
    "LSTM": (_attribute("input_forget", 0, 0), _attribute("layout", 0, 0)),
    "LpNormalization": (_attribute("p", 2, 1, 2),),
    "LpPool": (*_POOL, _attribute("p", 2, 1, 2)),
    "MaxPool": (*_POOL, _first_output_only),
    "OneHot": (_constant(1, "depth"),),
    "Resize": (
        _attribute("mode", "nearest", "nearest", "linear", "cubic"),
        _attribute("coordinate_transformation_mode", "half_pixel", *_PLACES),
        _attribute("antialias", 0, 0),
        _attribute("keep_aspect_ratio_policy", "stretch", "stretch"),
        _resize,
    ),
    "ScatterND": (_attribute("reduction", "none", "none"),),
    "Squeeze": (_constant(1, "axes"),),
    "TopK": (_attribute("sorted", 1, 1), _top_k),
    "Unsqueeze": (_constant(1, "axes"),),
}
