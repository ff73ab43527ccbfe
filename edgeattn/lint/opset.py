"""The opsets that a version's parser reads (jetpack.opset_max has the sources)."""

from __future__ import annotations

from collections.abc import Iterator

from edgeattn import jetpack
from edgeattn.lint.base import OPSET_MIN, Finding, Ranges, Rule, Rules, Severity
from edgeattn.onnxgraph.view import Graph

CEILING = Rule(
    "opset.ceiling",
    Severity.ERROR,
    "The parser of this version does not know the newer forms of operators: it refuses the file or misreads them.",
    "Export again with an older opset; 20 suits every version from 10.0 on.",
)
FLOOR = Rule(
    "opset.floor",
    Severity.ERROR,
    "TensorRT reads no older forms of operators than those of opset 9.",
    "Export again; 20 suits every version from 10.0 on.",
)


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """The opset of the file as a whole."""
    if graph.opset > rules.opset_max:
        reads = ", ".join(f"{jetpack.dotted(first)} reads {opset}" for first, opset in jetpack.opset_steps())
        yield CEILING.at(None, f"The file has opset {graph.opset}; TensorRT {reads}.")
    elif graph.opset < OPSET_MIN:
        yield FLOOR.at(None, f"The file has opset {graph.opset}; TensorRT reads {OPSET_MIN} and newer.")
