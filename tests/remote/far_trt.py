"""Stand-ins for TensorRT, CUDA and a Jetson's file system, in each Python of the far side that imports this at start.

It is the world of tests/backends/trt_world.py: ONNX Runtime computes in place of a GPU. Engines outlive the process
that built them: beside a plan its graph is kept in `~/plans`. The board is what a test put into `~/board`.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

_HOME = Path("~").expanduser()
_VERSION = "10.3.0"


def _world() -> Any:
    import trt_world

    class Kept(dict):  # type: ignore[type-arg]
        """Plans by key; of earlier processes too."""

        def get(self, key: str, default: Any = None) -> Any:
            graph = _HOME / "plans" / f"{key}.onnx"
            if key not in self and graph.is_file():
                return trt_world.of_onnx(graph), json.loads(graph.with_suffix(".json").read_text())
            return super().get(key, default)

    class World(trt_world.World):  # type: ignore[misc, name-defined]
        def plan(self, net: Any, config: dict[str, Any]) -> bytes:
            made: bytes = super().plan(net, config)
            graph = _HOME / "plans" / f"{made[28:].decode()}.onnx"
            graph.parent.mkdir(exist_ok=True)
            graph.write_bytes(self.read[id(net)][1].read_bytes())
            graph.with_suffix(".json").write_text(json.dumps({"flags": config["flags"], "profile": {}}))
            return made

    def read(path: Path) -> Any:
        net = trt_world.of_onnx(path)
        world.read[id(net)] = net, path  # held, so that the number stays its own
        return net

    world = World(_VERSION, read)
    world.violations = world.cuda.violations = _Told()
    world.read = {}
    world._plans = Kept()
    return world


class _Told(list):  # type: ignore[type-arg]
    """What NVIDIA's library would not allow, at once where the test looks: a killed process has no last words."""

    def append(self, violation: str) -> None:
        super().append(violation)
        with (_HOME / "violations").open("a") as file:
            file.write(f"{violation}\n")


def _cuda_changed(module: Any) -> None:
    world = _world()
    sys.modules["tensorrt"] = world.trt
    module._open = lambda path: world.cuda


def _jetson_changed(module: Any) -> None:
    module.ROOT = _HOME / "board"


_CHANGES = {"edgeattn.backends._cuda": _cuda_changed, "edgeattn.board.jetson": _jetson_changed}


class _Finder(importlib.abc.MetaPathFinder):
    """Changes a module right after it was imported, before whoever imported it sees it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        change = _CHANGES.get(name)
        if change is None:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        class Loader(importlib.abc.Loader):
            def create_module(self, spec: Any) -> None:
                return None

            def exec_module(self, module: Any) -> None:
                run(module)
                change(module)

        spec.loader = Loader()
        return spec


sys.meta_path.insert(0, _Finder())
