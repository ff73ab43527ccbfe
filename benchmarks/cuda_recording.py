"""What a recorded call and one memory save: the backend's own calls on a GPU, with PyTorch where the engine would be.

    python benchmarks/cuda_recording.py [--out FILE]

TensorRT is not involved, so no figure here is one of an engine: the network is our SE-ResNet-20 in FP16, launched by
PyTorch kernel by kernel into the stream that the backend gives it, as TensorRT launches its layers. Compared are the
ways of `Context`: recorded or launched one by one, frames copied from pinned memory or read by the GPU from the CPU's.
All ways in turn, in rounds; medians, and ratios with 95 % intervals over the rounds. Then calls a second of 1, 2, 4 and
8 contexts in as many threads. Prints one JSON object; without a GPU one sentence.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from edgeattn.backends import _cuda
from edgeattn.backends._tensorrt_context import Context
from edgeattn.backends._tensorrt_tensor import Tensor
from edgeattn.backends.base import Specs
from edgeattn.models import se_resnet
from edgeattn.stats import ratio_of_rounds

SIDE, CLASSES = 32, 10
CALLS, ROUNDS, SECONDS = 40, 40, 2.0


class Engine:
    """As much of TensorRT's engine and context as `Context` asks for."""

    all_binding_shapes_specified = True

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._network = network
        self._addresses: dict[str, int] = {}

    def create_execution_context(self) -> Any:
        return Engine(self._network)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1, CLASSES)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        into = torch.cuda.ExternalStream(stream)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(into), torch.inference_mode():
            frame = _at(self._addresses["frame"], (1, SIDE, SIDE, 3), "|u1")
            logits = self._network(frame.permute(0, 3, 1, 2).half() / 64 - 2)
            _at(self._addresses["logits"], (1, CLASSES), "<f4").copy_(logits)
        return True


def _at(address: int, shape: tuple[int, ...], kind: str) -> torch.Tensor:
    described = {"shape": shape, "typestr": kind, "data": (address, False), "strides": None, "version": 3}
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=described), device="cuda:0")


def _context(engine: Engine, *, graph: bool, shared: bool) -> Context:
    frame, logits = (1, SIDE, SIDE, 3), (1, CLASSES)
    tensors = (
        Tensor("frame", True, np.dtype(np.uint8), frame, frame, frame, on_host=False),
        Tensor("logits", False, np.dtype(np.float32), logits, logits, logits, on_host=False),
    )
    specs = Specs(inputs=(tensors[0].spec,), outputs=(tensors[1].spec,))
    return Context(engine, tensors, specs, _cuda.runtime(), graph=graph, shared=shared)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path)
    wanted = options.parse_args()
    if not torch.cuda.is_available():
        print("torch finds no GPU here, and what a recorded call saves is to be seen on one alone.")
        return 0
    torch.manual_seed(0)
    network = se_resnet.Network(se_resnet.Settings(depth=20), CLASSES).eval().half().cuda()
    engine = Engine(network)
    frame = {"frame": np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)}
    ways = {
        "recorded, copied": _context(engine, graph=True, shared=False),
        "one by one, copied": _context(engine, graph=False, shared=False),
        "recorded, one memory": _context(engine, graph=True, shared=True),
    }
    answers = {name: context.infer(frame)["logits"] for name, context in ways.items()}
    first = answers["recorded, copied"]
    apart = max(float(np.abs(answer - first).max()) for answer in answers.values())
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, context in ways.items():
            started = time.perf_counter()
            for _ in range(CALLS):
                context.infer(frame)
            times[name].append((time.perf_counter() - started) * 1e3 / CALLS)
    side_by_side = {}
    for count in (1, 2, 4, 8):
        contexts = [_context(engine, graph=True, shared=False) for _ in range(count)]
        side_by_side[count] = _calls_a_second(contexts, frame)
    result = {
        "gpu": _cuda.runtime().device_name(),
        "cuda": _cuda.runtime().version(),
        "torch": torch.__version__,
        "rounds": ROUNDS,
        "calls_a_round": CALLS,
        "recorded": {name: context.recorded for name, context in ways.items()},
        "largest_difference": apart,
        "median_ms": {name: round(float(np.median(found)), 4) for name, found in times.items()},
        "ratio_to_one_by_one": {
            name: ratio_of_rounds(times[name], times["one by one, copied"], seed=0) for name in ways
        },
        "calls_a_second_by_contexts": side_by_side,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if wanted.out is not None:
        wanted.out.write_text(text)
    return 0


def _calls_a_second(contexts: list[Context], frame: dict[str, Any]) -> int:
    done = [0] * len(contexts)
    until = time.perf_counter() + SECONDS

    def run(index: int) -> None:
        while time.perf_counter() < until:
            contexts[index].infer(frame)
            done[index] += 1

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(contexts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return round(sum(done) / SECONDS)


if __name__ == "__main__":
    sys.exit(main())
