"""The benchmark of engines, from its command line to its figures, on the tiny network that others deploy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/int8_against_default.py"


@pytest.mark.slow
def test_int8_against_the_default(deployed, listed, tmp_path):
    before = listed(deployed.store)
    command = [sys.executable, str(SCRIPT), str(deployed.recipe), "--store", str(deployed.store), "--seconds", "0.05"]
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert listed(deployed.store) == before, "network and engine were there"
    found, rows = json.loads(ended.stdout), {f"{r['stage']}/{r['variant']}": r for r in deployed.report["rows"]}
    assert found["n"] == 120
    # The same network on the same images, and the same engine, as the deployment measured; in a process whose math
    # libraries round elsewhere, which INT8 makes larger.
    assert found["pytorch"] == rows["train/fp32"]["metric"]
    assert found["int8"]["metric"] == rows["compile/int8"]["metric"]
    drift, measured = found["int8"]["drift"], rows["compile/int8"]["drift"]
    assert drift["reference"] == "pytorch" and drift["n"] == measured["n"]
    assert (drift["metric_delta"], drift["ci95"]) == (measured["metric_delta"], measured["ci95"])
    assert drift["sqnr_db"] == pytest.approx(measured["sqnr_db"], abs=0.5)
    assert found["default"]["drift"]["sqnr_db"] > found["int8"]["drift"]["sqnr_db"]
    low, high = found["latency"]["speedup_ci95"]
    assert 0 < low <= found["latency"]["speedup"] <= high
