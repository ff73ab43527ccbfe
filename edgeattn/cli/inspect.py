"""`edgeattn inspect`: what a graph, an engine or a bundle holds, and what TensorRT would have against it."""

from __future__ import annotations

import importlib.util
import json
import math
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeattn import jetpack
from edgeattn.artifact import sha256_file
from edgeattn.cli.options import echo_json, json_option
from edgeattn.errors import MissingLibrary, ModelError, RecipeError

if TYPE_CHECKING:
    from edgeattn.lint.base import Rules
    from edgeattn.recipe import Target

SCHEMA = "edgeattn.inspect/1"
_ENGINE, _ENGINE_SCHEMA, _GRAPH = "engine.json", "edgeattn.engine/", "model.onnx"
_ENGINE_FIELDS = {"layers": dict, "macs": dict, "fingerprint": dict, "notes": list}
_FLOAT_BITS = 1023  # an integer of more may be larger than any float


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", help="Judge by the rules of this device; see: edgeattn targets.")
@click.option("--tensorrt", metavar="VERSION", help="Judge by the rules of this TensorRT version, such as 10.3.")
@click.option("--dla", is_flag=True, help="Also by those of the deep learning accelerator (Orin NX and AGX Orin).")
@click.option(
    "--ranges",
    type=click.Path(path_type=Path),
    help="JSON: tensor of the FP32 graph -> largest |x| in calibration; finds what overflows in FP16.",
)
@json_option
def command(
    file: Path, target: str | None, tensorrt: str | None, dla: bool, ranges: Path | None, as_json: bool
) -> None:
    """List what FILE holds: each node of a graph with its precision, the layers of an engine, a bundle's contents.

    With --target or --tensorrt the graph is judged too: what TensorRT would refuse, get wrong or run slowly, each
    finding with node, rule, consequence and cure. Neither TensorRT nor a device is needed. With --target also comes the
    least latency that the board's data sheet allows, an estimate. FILE is a .onnx, a bundle, or the folder of a model
    or an engine.

    \b
    Exit codes: 0 nothing stands against it; 1 TensorRT would refuse it or compute something else; 2 bad input.

    \b
    Examples:
      edgeattn inspect model.onnx --target jetson
      edgeattn inspect model.onnx --tensorrt 10.3
      edgeattn inspect digit_scenes-cpu.edgeattn --json
    """
    from edgeattn.cli import inspection

    if target is not None and tensorrt is not None:
        raise click.UsageError("--target says which TensorRT it is; give one of --target and --tensorrt.")
    device = None if target is None else _device(target, dla)
    rules, note = _rules(device, tensorrt, dla)
    facts = {"schema": SCHEMA, "file": str(file), **_facts(file, rules, _ranges(ranges))}
    if device is not None and "work" in facts:
        facts |= _roofline(device, facts["work"])
    if note and "findings" in facts:
        facts["note"] = note
    if as_json:
        echo_json(facts)
    else:
        inspection.show(facts)
    sys.exit(1 if any(found["severity"] == "error" for found in facts.get("findings", [])) else 0)


def _device(name: str, dla: bool) -> Target:
    from edgeattn.recipe import load_target

    device = load_target(name)
    hardware = getattr(device, "hardware", None)
    if dla and hardware is not None and not hardware.dla_cores:
        raise RecipeError(f"The target {device.name} has no deep learning accelerator; leave --dla out.")
    return device


def _roofline(device: Target, work: dict[str, Any]) -> dict[str, Any]:
    """The least latency on that board, an estimate; nothing for a device whose data sheet is not known."""
    if (hardware := getattr(device, "hardware", None)) is None:
        return {}
    from edgeattn.measure import roofline

    bound = roofline.on(hardware, work["least_macs"], work["weights_bytes"], work["input_bytes"] + work["output_bytes"])
    return {"roofline": {"target": device.name, **bound.to_dict()}}


def _rules(device: Target | None, tensorrt: str | None, dla: bool) -> tuple[list[Rules], str | None]:
    """Those asked for, oldest version first, or none and a sentence why."""
    if device is None and tensorrt is None:
        return [], "Not judged: give --tensorrt, such as 10.3, or --target to have the graph judged."
    _needs_onnx()
    from edgeattn.lint.base import Rules, parse_version, rules_for

    if tensorrt is not None:
        return [Rules(parse_version(tensorrt), dla=dla)], None
    assert device is not None
    if device.backend != "tensorrt":
        return [], f"Not judged: the target {device.name} uses {device.backend}, which has no rules of this kind."
    span = getattr(device, "tensorrt", None)
    versions = [str(v) for v in (getattr(span, "min", None), getattr(span, "max", None)) if v]
    if not versions:
        raise RecipeError(f"The target {device.name} does not say its TensorRT version; give --tensorrt instead.")
    from edgeattn.lint.dla import builds_for_it

    rules = [rules_for(device, version, dla=dla) for version in dict.fromkeys(versions)]
    able = [each for each in rules if builds_for_it(each.tensorrt)]
    others = _without_dla(device, [each for each in rules if each not in able]) if dla else ""
    if not able or not others:
        return rules, None
    return able, f"Not judged for TensorRT {others}, which {device.name} runs too: it builds nothing for a DLA."


def _without_dla(device: Target, unable: list[Rules]) -> str:
    """The TensorRTs of the target's JetPacks that have no DLA, between those it is judged by too; `unable` are of
    those."""
    from edgeattn.lint.dla import builds_for_it

    found: dict[str, list[str]] = {}
    for release in filter(None, map(jetpack.named, getattr(device, "jetpack", ()))):
        if release.supported and not builds_for_it(jetpack.version(release.tensorrt)):
            found.setdefault(release.tensorrt, []).append(release.jetpack)
    texts = [f"{tensorrt} (JetPack {' and '.join(names)})" for tensorrt, names in found.items()]
    known = [jetpack.version(tensorrt) for tensorrt in found]
    rest = [each for each in unable if not any(full[: len(each.tensorrt)] == each.tensorrt for full in known)]
    return ", ".join([*texts, *(each.version for each in rest)])


def _ranges(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        if not _is_regular(path):
            raise RecipeError(f"{path} is no regular file; --ranges takes a JSON file of tensor names and numbers.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}); check the path after --ranges.") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is no JSON file; --ranges takes an object of tensor names and numbers.") from error
    if not isinstance(values, dict) or any(type(value) not in (int, float) for value in values.values()):
        raise RecipeError(f"{path} must be a JSON object of tensor names and numbers for --ranges.")
    for name, value in values.items():
        if not 0 <= value <= math.inf or (isinstance(value, int) and value.bit_length() > _FLOAT_BITS):
            raise RecipeError(
                f"{path} gives '{name[:40]}' the range {str(value)[:40]}; --ranges takes the largest |x| of each "
                "tensor, a number from 0."
            )
    return {name: float(value) for name, value in values.items()}


def _facts(path: Path, rules: list[Rules], ranges: dict[str, float]) -> dict[str, Any]:
    if path.is_dir() and (path / _ENGINE).is_file():
        if rules:
            raise ModelError(f"{path} holds an engine; the rules are for graphs, give the .onnx it was compiled from.")
        return {"kind": "engine", "engine": _engine((path / _ENGINE).read_bytes(), str(path / _ENGINE))}
    if path.is_dir():
        if not (path / _GRAPH).is_file():
            raise ModelError(f"There is neither {_ENGINE} nor {_GRAPH} in {path}; give a file, or such a folder.")
        path = path / _GRAPH
    if _is_zip(path):
        return _bundle(path, rules, ranges)
    _needs_onnx()
    from edgeattn.lint.reading import read

    model = read(path)
    size = {"sha256": sha256_file(path), "size_bytes": path.stat().st_size}
    return {"kind": "onnx", **size, **_graph(model, rules, ranges)}


def _is_zip(path: Path) -> bool:
    try:
        if not _is_regular(path):  # what waits for a writer, or never ends
            raise ModelError(f"{path} is no regular file; give a .onnx, an engine's folder or a bundle.")
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04" or path.suffix == ".edgeattn"
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def _is_regular(path: Path) -> bool:
    """Raises OSError where there is nothing at all."""
    return stat.S_ISREG(path.stat().st_mode)


def _bundle(path: Path, rules: list[Rules], ranges: dict[str, float]) -> dict[str, Any]:
    """The manifest, the engine's description where there is one, and the graph where it can be read."""
    from edgeattn.bundle.reader import open_bundle

    bundle = open_bundle(path)
    manifest = bundle.manifest
    facts: dict[str, Any] = {
        "kind": "bundle", "sha256": bundle.sha256, "size_bytes": bundle.size_bytes, "signature": bundle.signed,
        "manifest": json.loads(manifest.to_json()),
    }  # fmt: skip
    description = f"{manifest.engine_dir}/{_ENGINE}"
    if description in manifest.files:
        facts["engine"] = _engine(bundle.read(description), f"{description} in {path}")
    if rules or (not facts.get("engine") and importlib.util.find_spec("onnx")):
        _needs_onnx()
        from edgeattn.lint.reading import parse

        facts |= _graph(parse(bundle.read(_GRAPH), f"{_GRAPH} in {path}"), rules, ranges)
    return facts


def _engine(data: bytes, where: str) -> dict[str, Any]:
    """What a backend wrote about its engine when it compiled it."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is no description of an engine; compile the model again.") from error
    if not isinstance(values, dict) or not str(values.get("schema", "")).startswith(_ENGINE_SCHEMA):
        raise ModelError(f"{where} is no description of an engine; compile the model again.")
    for field, kind in _ENGINE_FIELDS.items():
        if field in values and not isinstance(values[field], kind):
            expected = "a list" if kind is list else "an object"
            raise ModelError(f"`{field}` in {where} must be {expected}; compile the model again.")
    return values


def _graph(model: Any, rules: list[Rules], ranges: dict[str, float]) -> dict[str, Any]:
    """The nodes of an ONNX model, what is found, and for which of the versions."""
    from edgeattn.lint import lint
    from edgeattn.lint.listing import computing, listing
    from edgeattn.lint.work import work
    from edgeattn.onnxgraph.view import Graph

    graph = Graph(model)
    nodes = listing(graph, rules[0] if rules else None)
    found: dict[Any, list[str]] = {}
    for each in rules:
        for item in lint(graph, each, ranges):
            found.setdefault(item, []).append(each.version)
    return {
        "opset": graph.opset,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "inputs": [_tensor(graph, name) for name in graph.inputs],
        "outputs": [_tensor(graph, name) for name in graph.outputs],
        "precisions": computing(nodes),
        "work": work(graph).to_dict(),
        "nodes": [node.to_dict() for node in nodes],
        "tensorrt": [each.version for each in rules],
        "findings": [{**item.to_dict(), "tensorrt": versions} for item, versions in found.items()],
    }


def _tensor(graph: Any, name: str) -> dict[str, Any]:
    shape = graph.shape(name)
    return {"name": name, "dtype": graph.type_name(name), "shape": None if shape is None else list(shape)}


def _needs_onnx() -> None:
    if importlib.util.find_spec("onnx") is None:
        raise MissingLibrary('onnx cannot be found, which reads graphs; install with: pip install "edgeattn[train]".')
