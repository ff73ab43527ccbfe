"""What TensorRT would refuse or get wrong, found on the ONNX graph alone, without TensorRT or a device.

`lint/<family>.py` is a family of rules, found by its file name: `Rule`s as constants and `check(graph, rules, ranges)`.
A rule names its source; nothing here was tried on a device.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from edgeattn.errors import InputError

if TYPE_CHECKING:
    import onnx

    from edgeattn.lint.base import Family, Finding, Rule, Rules
    from edgeattn.onnxgraph.view import Graph

_SHARED = {"base", "listing", "reading", "work"}


def names() -> list[str]:
    """Every family's name, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED and m.name[0] != "_")


def find(name: str) -> Family:
    """The family called `name`. Raises InputError with the known names."""
    if name not in names():
        raise InputError(f"There is no family of rules '{name}'; known: {', '.join(names())}.")
    return cast("Family", importlib.import_module(f"{__name__}.{name}"))


def known_rules() -> dict[str, Rule]:
    """Every rule of every family by its id."""
    from edgeattn.lint.base import Rule

    found = (value for name in names() for value in vars(find(name)).values())
    return {value.id: value for value in found if isinstance(value, Rule)}


def lint(model: onnx.ModelProto | Graph, rules: Rules, ranges: Mapping[str, float] | None = None) -> list[Finding]:
    """Everything that `rules` have against `model`: the graph as a whole first, then node by node in the graph's order.

    `ranges` are the largest |x| of tensors over the calibration samples, by their names in the FP32 graph; the families
    that judge values say little without. The model is not changed.
    """
    from edgeattn.onnxgraph.view import as_graph

    graph = as_graph(model)
    place = {node.label: index for index, node in enumerate(graph.nodes)}
    found = {item: None for name in names() for item in find(name).check(graph, rules, ranges or {})}
    return sorted(found, key=lambda item: (place.get(item.node, -1), item.rule, item.what))
