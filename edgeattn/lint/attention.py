"""Attention as TensorRT fuses it: all of it in INT8 or none, sequences it has kernels for, the scale on Q.

Source: nvidia-modelopt 0.47 (all or nothing; none above 512), NVIDIA/TensorRT #3724, and the page "Fused Attention" of
the TensorRT documentation (scale).
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeattn.lint._patterns import Attention, attentions
from edgeattn.lint.base import Finding, Ranges, Rule, Rules, Severity
from edgeattn.onnxgraph.view import Graph

HALF = Rule(
    "attention.half-quantized",
    Severity.WARNING,
    "Fused INT8 attention needs all four, fused FP16 attention none: this is fused as neither, each part is a kernel.",
    "Leave both products in float, the safe choice, or quantize Q, K, softmax output and V.",
)
LONG = Rule(
    "attention.int8-long",
    Severity.WARNING,
    "TensorRT has no fused INT8 attention for so long a sequence: it falls apart into single kernels.",
    "Leave both products in float.",
)
SCALE = Rule(
    "attention.scale",
    Severity.WARNING,
    "TensorRT fuses attention whose scale is multiplied into Q (or its root into Q and K) before the first product; in "
    "FP16 scores that are scaled late also overflow first.",
    "Move the scale to Q.",
)


def check(graph: Graph, rules: Rules, ranges: Ranges) -> Iterator[Finding]:
    """Every MatMul, Softmax, MatMul."""
    for found in attentions(graph):
        if found.scaled is not None:
            yield SCALE.at(found.scaled, f"It scales the scores of '{found.scores.label}', not Q.")
        yield from _quantization(graph, found, rules)


def _quantization(graph: Graph, found: Attention, rules: Rules) -> Iterator[Finding]:
    sides = {"Q": found.scores.input(0), "K": found.scores.input(1)}
    sides |= {"softmax output": found.mix.input(0), "V": found.mix.input(1)}
    quantized = [side for side, name in sides.items() if graph.quantized(name)]
    if not quantized:
        return
    if len(quantized) < len(sides):
        rest = [side for side in sides if side not in quantized]
        yield HALF.at(found.softmax, f"Quantized: {_list(quantized)}; in float: {_list(rest)}.")
        return
    shape = graph.shape(found.softmax.output)
    length = shape[-1] if shape else None
    if length is not None and length > rules.seq_len_int8_max:
        what = f"It is quantized and {length} long; {rules.seq_len_int8_max} is the most for INT8."
        yield LONG.at(found.softmax, what)


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
