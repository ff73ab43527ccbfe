"""Reports made by hand, with invented but plausible figures, for the tests of this room."""

from __future__ import annotations

import base64
import copy
import struct
import zlib
from typing import Any

import numpy as np

HASHES = {name: format(i + 10, "x")[-1] * 64 for i, name in enumerate(("train", "export", "fp32", "bf16", "int8"))}
LABELS = [str(digit) for digit in range(10)]


def png(seed: int, side: int = 32) -> str:
    """A small grey noise image as base64 PNG."""
    pixels = np.random.default_rng(seed).integers(40, 220, (side, side), dtype=np.uint8)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def samples(p50: float, seed: int) -> list[float]:
    """400 calls around `p50`, skewed as latencies are, one of them a real outlier."""
    rng = np.random.default_rng(seed)
    values = p50 * (0.97 + rng.gamma(2.0, 0.018, 400) * rng.choice([1, 3], 400, p=[0.93, 0.07]))
    values[7] = p50 * 2.6
    return [round(float(value), 4) for value in values]


def latency(p50: float, ratio: float | None, parent: dict[str, Any] | None = None, seed: int = 0) -> dict[str, Any]:
    calls = samples(p50, seed)
    return {
        "threads": 2,
        "batch": 1,
        "n": 2000,
        "p50_ms": p50,
        "p90_ms": round(float(np.percentile(calls, 90)), 4),
        "p99_ms": round(float(np.percentile(calls, 99)), 4),
        "mean_ms": round(p50 * 1.02, 4),
        "min_ms": round(p50 * 0.97, 4),
        "ratio_to_reference": ratio,
        "ratio_ci95": None if ratio in (None, 1.0) else [round(ratio * 0.97, 4), round(ratio * 1.03, 4)],
        "throttled": False,
        "engine_only": True,
        "samples_ms": calls,
        "parent": parent,
        "protocol": "Blocks of 50 calls, interleaved with the reference in random order, after 20 warm-up calls.",
    }


def drift(delta: float, interval: list[float], p: float | None, sqnr: float | None, agree: float) -> dict[str, Any]:
    return {
        "reference": "train/fp32",
        "metric_delta": delta,
        "ci95": interval,
        "p_value": p,
        "test": "McNemar exact",
        "sqnr_db": sqnr,
        "cosine": 0.99995 if sqnr and sqnr < 60 else 1.0,
        "max_abs": 0.08 if sqnr and sqnr < 60 else 1e-5,
        "agreement": agree,
    }


def row(
    stage: str, variant: str, backend: str | None, digest: str | None, size: int | None, **fields: Any
) -> dict[str, Any]:
    value = fields.pop("value", None)
    metric = {"name": "top-1", "value": value, "n": 2000, "higher_is_better": True, "unit": "%"}
    if value is not None:
        metric["ci95"] = [round(value - 1.21, 2), round(value + 1.13, 2)]
    made: dict[str, Any] = {
        "stage": stage,
        "variant": variant,
        "backend": backend,
        "status": "ok",
        "reason": None,
        "artifact": {"path": f".edgeattn/artifacts/{stage}/{variant}", "sha256": digest, "size_bytes": size}
        if digest
        else None,
        "seconds": 4.2,
        "metric": metric if value is not None else None,
        "drift": None,
        "latency": None,
        "memory": None,
        "energy": None,
        "emulated": False,
        "notes": [],
        "execution": None,
    }
    return {**made, **fields}


def rows() -> list[dict[str, Any]]:
    return [
        row("train", "fp32", "pytorch", HASHES["train"], 1_131_000, value=91.35, seconds=212.0,
            latency=latency(2.87, 1.0, seed=1), memory={"peak_rss_mb": 412.0},
            drift=drift(0.0, [0.0, 0.0], None, None, 1.0) | {"max_abs": 0.0}),
        row("export", "fp32", "onnxruntime", HASHES["export"], 1_118_000, value=91.35, seconds=6.1,
            latency=latency(0.63, 0.2195, seed=2), memory={"peak_rss_mb": 96.0},
            drift=drift(0.0, [0.0, 0.0], 1.0, 123.4, 1.0)),
        row("quantize", "fp16", "onnxruntime", "f" * 64, 566_000, value=91.35, seconds=2.0,
            drift=drift(0.0, [-0.1, 0.1], 1.0, 62.0, 1.0)),
        row("quantize", "int8", "onnxruntime", "9" * 64, 342_000, value=91.30, seconds=31.0,
            drift=drift(-0.05, [-0.4, 0.3], 0.88, 35.6, 0.9935),
            notes=["Kept in float: Softmax, sigmoid of the gates, the classifier."]),
        row("compile", "fp32", "openvino", HASHES["fp32"], 1_240_000, value=91.35, status="cached", seconds=0.0,
            latency=latency(0.78, 0.2718, seed=3), memory={"peak_rss_mb": 88.0},
            drift=drift(0.0, [0.0, 0.0], 1.0, 121.0, 1.0),
            execution={"layers": {"fp32": 25}, "macs": {"fp32": 41_300_000}}),
        row("compile", "bf16", "openvino", HASHES["bf16"], 1_240_000, value=91.40,
            latency=latency(0.54, 0.1882, seed=4), memory={"peak_rss_mb": 87.0},
            drift=drift(0.05, [-0.1, 0.2], 0.69, 50.2, 0.9985),
            execution={"layers": {"bf16": 25}, "macs": {"bf16": 41_300_000}}),
        row("compile", "int8", "openvino", HASHES["int8"], 418_000, value=91.25,
            latency=latency(0.412, 0.1436, {"variant": "bf16", "ratio": 0.763, "ratio_ci95": [0.741, 0.786]}, seed=5),
            memory={"peak_rss_mb": 79.0}, drift=drift(-0.10, [-0.45, 0.25], 0.65, 35.3, 0.993),
            execution={"layers": {"int8": 20, "bf16": 5}, "macs": {"int8": 41_000_000, "bf16": 300_000}}),
        row("bundle", "int8", "openvino", "b" * 64, 803_000, value=91.25,
            latency=latency(0.445, 0.155, {"variant": "int8", "ratio": 1.08, "ratio_ci95": [1.06, 1.11]}, seed=6),
            memory={"peak_rss_mb": 92.0},
            drift=drift(-0.10, [-0.45, 0.25], 0.65, 35.3, 0.993), notes=["Golden self-test passed."]),
    ]  # fmt: skip


def report() -> dict[str, Any]:
    """A run that ships INT8 inside its budget."""
    rng = np.random.default_rng(3)
    base = [round(float(v), 1) for v in 91.4 + rng.uniform(-6, 6, 10)]
    return {
        "schema": "edgeattn.report/1",
        "recipe": "digit_scenes",
        "target": "cpu",
        "task": "classify",
        "model": "se_resnet",
        "created": "2025-11-20T13:11:05Z",
        "seed": 7,
        "git": "1a2b3c4",
        "wall_seconds": 402.5,
        "host": {
            "cpu": "AMD EPYC 9R14",
            "cores": 2,
            "isa": ["avx512f", "avx512_vnni", "avx512_bf16"],
            "memory_gb": 7.6,
            "os": "Linux 6.8",
            "python": "3.11.9",
            "packages": {"torch": "2.13.0", "openvino": "2026.4.0", "nncf": "3.4.0", "onnxruntime": "1.31.0"},
            "device": None,
        },
        "data": {
            "name": "scenes",
            "train_n": 12000,
            "calibration_n": 300,
            "eval_n": 2000,
            "calibration_sha256": "c" * 64,
            "eval_sha256": "e" * 64,
            "eval_origins_sha256": "f" * 64,
        },
        "budget": {
            "metric_drop_max": 0.5,
            "sqnr_db_min": 25,
            "latency_p99_ms_max": 1.0,
            "size_mb_max": 2.0,
            "energy_mj_max": None,
        },
        "rows": rows(),
        "selected": {
            "variant": "int8",
            "backend": "openvino",
            "artifact_sha256": HASHES["int8"],
            "why": "The fastest variant inside the budget, and measurably faster than BF16.",
        },
        "verdict": {"passed": True, "reasons": ["Every limit of the budget is kept."]},
        "examples": [
            {"name": f"scene_{i:04d}.png", "image_png_base64": png(i), "truth": "7", "reference": "7 (61%)",
             "changed": {"compile/int8": "1 (55%)"}}
            for i in range(4)
        ],
        "settings": {
            "recipe": {"task": "classify", "training": {"epochs": 12, "lr": 0.002}, "variants": ["fp32", "int8"]},
            "target": {"backend": "openvino", "threads": 2, "peaks": {"int8_gops": 889, "fp32_gops": 237}},
        },
        "per_class": {
            "labels": LABELS,
            "values": {
                "train/fp32": base,
                "compile/bf16": [v + (0.5 if i == 3 else 0.0) for i, v in enumerate(base)],
                "compile/int8": [round(v + {2: -0.5, 3: 0.5, 7: -1.5}.get(i, 0), 1) for i, v in enumerate(base)],
            },
        },
        "training": {
            "history": [
                {"epoch": e, "train_loss": round(2.2 * 0.74**e + 0.21, 4), "eval_metric": round(91.5 - 62 * 0.6**e, 2)}
                for e in range(1, 13)
            ],
            "seconds": 212.0,
            "params": 272_000,
            "macs": 41_300_000,
        },
        "bundle": {"path": "reports/digit_scenes-cpu/digit_scenes.edgeattn", "sha256": "b" * 64, "size_bytes": 803_000},
        "search": [
            {"setting": "default", "sqnr_db": 20.7, "chosen": False},
            {"setting": "range MINMAX", "sqnr_db": 28.4, "chosen": False},
            {"setting": "range MINMAX, full bias correction", "sqnr_db": 35.3, "chosen": False},
            {"setting": "range MINMAX, no bias correction", "sqnr_db": 35.9, "chosen": True},
        ],
        "command": "edgeattn deploy digit_scenes --target cpu --seed 7",
    }  # fmt: skip


def find(made: dict[str, Any], name: str) -> dict[str, Any]:
    """The row called `stage/variant`."""
    return next(r for r in made["rows"] if f"{r['stage']}/{r['variant']}" == name)


def missed() -> dict[str, Any]:
    """INT8 loses 1.4 points and its p99 is past the limit."""
    made = report()
    row_ = find(made, "compile/int8")
    row_["metric"] |= {"value": 89.95, "ci95": [88.6, 91.2]}
    row_["drift"] |= {"metric_delta": -1.4, "ci95": [-1.95, -0.85], "p_value": 0.00001, "sqnr_db": 15.2}
    made["budget"]["latency_p99_ms_max"] = 0.4
    made["verdict"] = {"passed": False, "reasons": ["The metric drops by 1.40 points, the budget allows 0.50."]}
    return made


def not_worth_it() -> dict[str, Any]:
    """INT8 is as fast as BF16, so BF16 ships."""
    made = report()
    find(made, "compile/int8")["latency"] = latency(
        0.536, 0.1868, {"variant": "bf16", "ratio": 0.993, "ratio_ci95": [0.962, 1.021]}, seed=5
    )
    made["rows"] = [r for r in made["rows"] if r["stage"] != "bundle"]
    made["selected"] |= {
        "variant": "bf16",
        "artifact_sha256": HASHES["bf16"],
        "why": "INT8's latency interval overlaps that of BF16, its float parent; the parent is shipped.",
    }
    return made


def deferred() -> dict[str, Any]:
    """Made for a Jetson that is not here: engines wait for it, accuracy is emulated."""
    made = report()
    made["target"] = "jetson-orin-nano"
    for row_ in made["rows"]:
        if row_["stage"] == "compile":
            row_ |= {
                "backend": "tensorrt", "status": "deferred", "reason": "TensorRT builds on the device itself.",
                "artifact": None, "metric": None, "drift": None, "latency": None, "memory": None, "execution": None,
                "seconds": None,
            }  # fmt: skip
    find(made, "compile/fp32")["status"] = "unsupported"
    made["rows"] = [r for r in made["rows"] if r["stage"] != "bundle"]
    emulated = find(made, "quantize/int8")
    emulated |= {"emulated": True, "latency": latency(0.71, 0.2474, seed=8)}
    made["selected"] |= {"backend": "onnxruntime", "artifact_sha256": "9" * 64, "why": "The only INT8 variant."}
    made["host"]["device"] = {"jetpack": "6.2", "power_mode": "25W"}
    return made


def failed() -> dict[str, Any]:
    """The export failed: nothing after it exists."""
    made = report()
    made["rows"] = [made["rows"][0], row("export", "fp32", "onnxruntime", None, None, status="failed",
                    reason="Parity failed: 12 dB against PyTorch, expected at least 100 dB.")]  # fmt: skip
    made |= {"selected": None, "examples": [], "per_class": None, "bundle": None, "search": None}
    made["verdict"] = {"passed": False, "reasons": ["export/fp32 failed."]}
    return made


def older() -> dict[str, Any]:
    """Only what the contract promises: every later field is gone."""
    made = copy.deepcopy(report())
    for key in ("examples", "settings", "per_class", "training", "bundle", "search", "command"):
        del made[key]
    for row_ in made["rows"]:
        row_.pop("execution")
        for part, keys in (("metric", ["unit"]), ("latency", ["samples_ms", "parent", "protocol"])):
            for key in keys if row_[part] else ():
                del row_[part][key]
    return made


def gallery(*, frames: int = 1, attention: bool = True) -> dict[str, Any]:
    """Pictures of one sample in every row of `rows()` that was checked."""
    names = ("train/fp32", "export/fp32", "quantize/int8", "compile/bf16", "compile/int8", "bundle/int8")
    return {
        "name": "scene_0000.png",
        "frames": [png(20 + index, 320) for index in range(frames)],
        "attention": png(30, 320) if attention else None,
        "results": {name: png(40 + index, 320) for index, name in enumerate(names)},
    }


def _of_task(
    task: str, model: str, metric: dict[str, Any], reference: float, changes: dict[str, Any]
) -> dict[str, Any]:
    """`report()` with another task's metric: `changes` gives delta, interval and the further metrics of some rows."""
    made = report() | {"recipe": f"scenes_{task}", "task": task, "model": model, "per_class": None}
    made["command"] = f"edgeattn deploy scenes_{task} --target cpu --seed 7"
    for row_ in made["rows"]:
        name = f"{row_['stage']}/{row_['variant']}"
        delta, interval, others = changes.get(name, changes["train/fp32"])
        value = round(reference + delta, 6)
        spread = 0.03 * reference
        ends = [round(value - spread, 6), round(value + spread, 6)]
        row_["metric"] = {"value": value, "ci95": ends, "n": 200, "others": others} | metric
        row_["drift"] |= {"metric_delta": delta, "ci95": interval, "p_value": None, "test": "paired permutation"}
    for entry in made["training"]["history"]:
        entry["eval_metric"] = round(reference * entry["eval_metric"] / 91.37, 4)
    for index, entry in enumerate(made["examples"]):
        shown = {name: png(50 + 2 * index + i, 320) for i, name in enumerate(("train/fp32", "compile/int8"))}
        entry["pictures"] = shown
    made["gallery"] = gallery(frames=2 if task == "align" else 1, attention=task != "restore")
    return made


def detect() -> dict[str, Any]:
    """A share of 1 without unit: INT8 loses 0.0031 of mAP50, inside its budget."""
    made = _of_task(
        "detect", "attention_rcnn", {"name": "mAP50", "unit": "", "higher_is_better": True}, 0.8312,
        {
            "train/fp32": (0.0, [0.0, 0.0], {"mAP": 0.5123}),
            "compile/int8": (-0.0031, [-0.0052, -0.0011], {"mAP": 0.5101}),
            "bundle/int8": (-0.0031, [-0.0052, -0.0011], {"mAP": None}),
        },
    )  # fmt: skip
    made["budget"] |= {"metric_drop_max": 0.01}
    made["per_class"] = {
        "labels": ["red cell", "white cell"],
        "values": {"train/fp32": [0.8, 0.8624], "compile/int8": [0.7938, None]},
    }
    return made


def align() -> dict[str, Any]:
    """Pixels, lower is better: INT8 is 0.12 px worse, past the budget of 0.10 px; BF16 is 0.02 px better."""
    others = {"median_corner_error": 1.31, "within_1px": 38.5, "photometric_error": 0.0412}
    made = _of_task(
        "align", "attention_align", {"name": "corner_error", "unit": "px", "higher_is_better": False}, 2.41,
        {
            "train/fp32": (0.0, [0.0, 0.0], others),
            "compile/bf16": (-0.02, [-0.05, 0.01], others | {"median_corner_error": 1.30}),
            "compile/int8": (0.12, [0.05, 0.19], others | {"median_corner_error": 1.42, "within_1px": 36.0}),
            "bundle/int8": (0.12, [0.05, 0.19], others),
        },
    )  # fmt: skip
    made["budget"] |= {"metric_drop_max": 0.1}
    made["verdict"] = {"passed": False, "reasons": ["int8 loses 0.12 of the metric, at most 0.1 allowed."]}
    return made


def restore() -> dict[str, Any]:
    """Decibels; the ends of some intervals could not be told."""
    made = _of_task(
        "restore", "restore_unet", {"name": "psnr", "unit": "dB", "higher_is_better": True}, 30.12,
        {
            "train/fp32": (0.0, [0.0, 0.0], {"ssim": 0.8812, "psnr_y": 31.5}),
            "compile/int8": (-0.04, [-0.05, None], {"ssim": 0.8795, "psnr_y": 31.44}),
        },
    )  # fmt: skip
    made["budget"] |= {"metric_drop_max": 0.1}
    find(made, "compile/int8")["metric"]["ci95"] = [None, None]
    find(made, "compile/bf16")["metric"] |= {"value": None, "ci95": None}
    return made


HOSTILE = "<script>alert(1)</script>|`$x^2$`\x07 \"'&"


def hostile() -> dict[str, Any]:
    """Texts that try to break out of HTML, SVG, Markdown or XML."""
    made = report()
    made["per_class"]["labels"] = [HOSTILE, *LABELS[1:]]
    made["examples"][0] |= {"name": HOSTILE, "truth": HOSTILE, "reference": HOSTILE, "changed": {HOSTILE: HOSTILE}}
    made["examples"][1]["image_png_base64"] = 'x"><script>alert(2)</script>'
    made["recipe"] = HOSTILE
    made["settings"]["recipe"][HOSTILE] = HOSTILE
    made["rows"][0]["notes"] = [HOSTILE]
    made["rows"][2] |= {"variant": HOSTILE, "status": "failed", "reason": HOSTILE}
    made["selected"]["why"] = HOSTILE
    made["search"][0]["setting"] = HOSTILE
    made["training"]["history"][0]["epoch"] = 0
    made["command"] = HOSTILE
    made["gallery"] = gallery() | {"name": HOSTILE, "frames": ['x"><script>alert(3)</script>'], "attention": HOSTILE}
    made["gallery"]["results"][HOSTILE] = HOSTILE
    made["examples"][2]["pictures"] = {HOSTILE: HOSTILE, "compile/int8": png(9)}
    made["rows"][0]["metric"] |= {"name": HOSTILE, "unit": HOSTILE, "others": {HOSTILE: 1.0}}
    made["host"]["device"] = {HOSTILE: {HOSTILE: [HOSTILE]}}
    return made


EVERY = {
    "passed": report, "missed": missed, "not_worth_it": not_worth_it, "deferred": deferred, "failed": failed,
    "older": older, "hostile": hostile, "detect": detect, "align": align, "restore": restore,
}  # fmt: skip
