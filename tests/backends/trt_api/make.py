"""Cuts NVIDIA's API, as `trt_api.py dump` recorded it from the bindings' own wheels, to what the backend may touch.

    python tests/backends/trt_api/make.py FOLDER_OF_DUMPS

reads `<version>.json` there and writes the file of that name here. The dumps hold names, enum values and signatures,
no documentation. All enums are kept, and all members of the classes that are: a name that is not in the file does not
exist in that version.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

VERSIONS = ("8.6.1", "10.3.0", "10.7.0", "10.13.3", "10.16.1", "11.0.0", "11.4.0")
CLASSES = (
    *(
        "Builder",
        "Dims",
        "EngineInspector",
        "IBuilderConfig",
        "IConvolutionLayer",
        "ICudaEngine",
        "IDeconvolutionLayer",
    ),
    *("IEinsumLayer", "IExecutionContext", "IHostMemory", "ILayer", "ILogger", "IMatrixMultiplyLayer"),
    *("INetworkDefinition", "IOptimizationProfile", "IOutputAllocator", "IProfiler", "IProgressMonitor", "ITensor"),
    *("ITimingCache", "Logger", "OnnxParser", "ParserError", "Runtime"),
)


def trim(api: dict) -> dict:
    """The part of a dump that is kept; of a part the same part."""
    classes = {
        name: _without_network_layers(name, description)
        for name, description in api["classes"].items()
        if name in CLASSES or "enum" in description
    }
    kept = {key: api[key] for key in ("functions", "python", "version", "wheel")}
    return {**kept, "classes": classes}


def _without_network_layers(name: str, description: dict) -> dict:
    """The backend gets its network from the parser and adds no layer itself, which is most of INetworkDefinition."""
    if name != "INetworkDefinition":
        return description
    methods = {key: value for key, value in description["methods"].items() if not key.startswith("add_")}
    return {**description, "methods": methods}


def main(folder: Path) -> None:
    for version in VERSIONS:
        api = json.loads((folder / f"{version}.json").read_text())
        text = json.dumps(trim(api), indent=0, sort_keys=True, separators=(",", ":"))
        Path(__file__).with_name(f"{version}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
