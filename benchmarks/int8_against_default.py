"""INT8 against what OpenVINO gives without us: one line, no settings, no calibration (BF16 where there is one).

    EDGEATTN_DATA=DIR python benchmarks/int8_against_default.py cifar10 sign_digits

Uses the store's artifacts and makes what is missing, so that run `edgeattn deploy` first. Per recipe: SQNR of both
against PyTorch FP32 and top-1 over the evaluation split, and the latency of both by interleaved rounds, each in a
process of its own. Prints one JSON object per recipe.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from edgeattn import tasks
from edgeattn.artifact import Precision, Store
from edgeattn.backends import openvino, pytorch
from edgeattn.backends._openvino_library import library
from edgeattn.backends._openvino_runner import OpenvinoRunner
from edgeattn.backends.base import Runner
from edgeattn.cli.options import data_root
from edgeattn.data.base import sources
from edgeattn.errors import MachineError
from edgeattn.measure.candidate import Candidate
from edgeattn.measure.drift import measure_drift, measure_metric, run_outputs
from edgeattn.measure.latency import measure_latency
from edgeattn.pipeline import stages
from edgeattn.pipeline.checks import timed_frames
from edgeattn.pipeline.context import Context, framing
from edgeattn.recipe import load_recipe, load_target
from edgeattn.tasks.base import Views

THREADS = "EDGEATTN_BENCH_THREADS"


def plain(folder: Path, *, threads: int) -> Runner:
    """`Core().compile_model("model.onnx", "CPU")`, nothing more; OpenVINO chooses the threads unless --threads does."""
    core = library().Core()
    config = {"INFERENCE_NUM_THREADS": threads} if THREADS in os.environ else {}
    return OpenvinoRunner(core.compile_model(str(folder / "model.onnx"), "CPU", config))


def compare(recipe: str, store: Path, seconds: float, threads: int | None) -> dict[str, object]:
    """The figures of one recipe."""
    overrides = [] if threads is None else [f"measure.threads={threads}"]
    context = Context(
        load_recipe(recipe, overrides), load_target("cpu"), Store(store), data_root(), lambda done, total, text: None
    )
    trained = stages.train(context)
    exported = stages.export(context, trained)
    engine = stages.compile_engine(context, stages.quantize(context, exported, Precision.INT8), Precision.INT8)
    samples = [context.splits.evaluation[i] for i in range(len(context.splits.evaluation))]
    framings = [framing(context, sample) for sample in samples]
    targets = [sample.target for sample in samples]
    task = tasks.find(context.recipe.task)

    def outputs_of(runner: Runner) -> tuple[list[dict[str, Any]], list[Views]]:
        try:
            return run_outputs(runner, framings)
        finally:
            runner.close()

    reference, views = outputs_of(pytorch.load(trained.path, threads=context.threads))
    cut_from = sources(context.splits.evaluation)
    base_metric, base_scored = measure_metric(task, context.metric, reference, targets, views, sources=cut_from)
    figures: dict[str, object] = {"recipe": recipe, "n": len(samples), "pytorch": base_metric.to_dict()}
    for name, runner in (
        ("default", plain(exported.path, threads=context.threads)),
        ("int8", openvino.load(engine.path, threads=context.threads)),
    ):
        outputs, _ = outputs_of(runner)
        metric, scored = measure_metric(task, context.metric, outputs, targets, views, sources=cut_from)
        drift = measure_drift(task, context.metric, reference, outputs, base_scored, scored, "pytorch")
        figures[name] = {"metric": metric.to_dict(), "drift": drift.to_dict()}
    measured = measure_latency(
        [
            Candidate("default", f"{Path(__file__).stem}:plain", exported.path, context.threads),
            Candidate("int8", "edgeattn.backends.openvino:load", engine.path, context.threads),
        ],
        timed_frames(context),
        reference="default",
        parents={},
        seconds=seconds,
    )
    if measured.failed:
        raise MachineError(" ".join(measured.failed.values()))
    results = measured.latencies
    low, high = results["int8"].ratio_ci95
    figures["latency"] = {
        "default_p50_ms": results["default"].p50_ms,
        "int8_p50_ms": results["int8"].p50_ms,
        "speedup": 1 / results["int8"].ratio_to_reference,
        "speedup_ci95": [1 / high, 1 / low],
        "protocol": results["int8"].protocol,
    }
    return figures


def main() -> None:
    """Compare each recipe named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=["digit_scenes"])
    parser.add_argument("--store", type=Path, default=Path(".edgeattn"))
    parser.add_argument("--seconds", type=float, default=5.0, help="recorded calls per engine")
    parser.add_argument("--threads", type=int, help="of both engines; by default each has its own")
    options = parser.parse_args()
    if options.threads is not None:
        os.environ[THREADS] = str(options.threads)  # the timed processes inherit it
    for recipe in options.recipes:
        print(json.dumps(compare(recipe, options.store, options.seconds, options.threads), indent=1))


if __name__ == "__main__":
    main()
