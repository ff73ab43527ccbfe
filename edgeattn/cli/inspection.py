"""What `edgeattn inspect` found, for a person: tables on a terminal, one plain line for each thing elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_NODE_COLUMNS = ("precision", "operator", "opset", "placement", "node")


def show(facts: Mapping[str, Any]) -> None:
    """Print the facts of `inspect` on standard output."""
    for key, value in _headings(facts):
        click.echo(f"{key:<11}{value}")
    if "nodes" in facts:
        _nodes(facts["nodes"])
        _findings(facts["findings"], facts["tensorrt"])
    if "note" in facts:
        click.echo(facts["note"])
    if facts.get("tensorrt"):
        counts = Counter(found["severity"] for found in facts["findings"])
        numbers = [f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}" for name in _STYLES]
        click.echo(f"{', '.join(numbers)} for TensorRT {' and '.join(facts['tensorrt'])}")


def _headings(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [("file", facts["file"])]
    if "sha256" in facts:
        lines.append(("sha256", f"{facts['sha256']}, {facts['size_bytes']} bytes"))
    if "manifest" in facts:
        lines += _manifest(facts["manifest"], facts["signature"])
    if "engine" in facts:
        lines += _engine(facts["engine"])
    if "nodes" in facts:
        lines.append(("graph", f"opset {facts['opset']}, {len(facts['nodes'])} nodes, by {facts['producer'] or '?'}"))
        lines += [(kind, _spec(each)) for kind in ("input", "output") for each in facts[f"{kind}s"]]
        lines.append(("computing", _counted(facts["precisions"])))
        lines.append(("macs", _counted(facts["work"]["macs"])))
    if "roofline" in facts:
        lines.append(("roofline", f"{facts['roofline']['target']}. {facts['roofline']['sentence']}"))
    return lines


def _manifest(manifest: Mapping[str, Any], signature: str) -> list[tuple[str, str]]:
    provenance = manifest["provenance"]
    return [
        ("holds", f"{manifest['task']}, {manifest['variant']} for {manifest['target']} ({manifest['backend']})"),
        ("labels", f"{len(manifest['labels'])}: {', '.join(manifest['labels'][:8])}"),
        *[(kind, _spec(each)) for kind in ("input", "output") for each in manifest[f"{kind}s"]],
        ("signature", signature),
        *[("file in it", f"{name}, {entry['size_bytes']} bytes") for name, entry in manifest["files"].items()],
        *[("from", f"{key}: {value}") for key, value in provenance.items() if isinstance(value, str)],
    ]


def _engine(engine: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            "engine",
            f"{engine.get('backend')}, asked for {engine.get('asked_precision')}, runs in {engine.get('precision')}",
        ),
        ("layers", _counted(engine.get("layers", {}))),
        ("macs", _counted(engine.get("macs", {}))),
        *[("built for", f"{key}: {value}") for key, value in sorted(engine.get("fingerprint", {}).items())],
        *[("note", str(note)) for note in engine.get("notes", [])],
    ]


def _spec(tensor: Mapping[str, Any]) -> str:
    shape = "?" if tensor["shape"] is None else " x ".join("?" if s is None else str(s) for s in tensor["shape"])
    return f"{tensor['name']}: {tensor['dtype']} {shape}"


def _counted(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none that compute"


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> None:
    rows = [tuple(str("-" if node[key] is None else node[key]) for key in _NODE_COLUMNS) for node in nodes]
    if not sys.stdout.isatty():
        click.echo(f"{'precision':<10}{'operator':<23}{'opset':>5}  {'placement':<10}node")
        for precision, operator, opset, placement, name in rows:
            click.echo(f"{precision:<10}{operator:<23}{opset:>5}  {placement:<10}{name}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for heading in _NODE_COLUMNS:
        table.add_column(heading, justify="right" if heading == "opset" else "left", no_wrap=heading != "node")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


def _findings(findings: Sequence[Mapping[str, Any]], versions: Sequence[str]) -> None:
    """Of a finding that not all of `versions` make it is said which do."""
    console = Console(highlight=False) if sys.stdout.isatty() else None
    for found in findings:
        where = f"{found['operator']} '{found['node']}': " if found["node"] else ""
        only = "" if found["tensorrt"] == versions else f"TensorRT {' and '.join(found['tensorrt'])}: "
        text = f"{only}{where}{found['what']} {found['consequence']} {found['cure']}"
        if console:
            severity = found["severity"]
            console.print(f"[{_STYLES[severity]}]{severity:<8}[/]{found['rule']}  {escape(text)}")
        else:
            click.echo(f"{found['severity']:<8}{found['rule']}  {text}")
