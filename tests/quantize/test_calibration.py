import subprocess
import sys

import pytest

from edgeattn.errors import DataError
from edgeattn.quantize.calibration import held_back


@pytest.mark.parametrize(
    ("count", "search_samples", "judges"), [(300, 60, 60), (90, 60, 30), (3, 60, 1), (5, 60, 1), (9, 1, 1)]
)
def test_a_third_at_most_judges(count, search_samples, judges):
    assert held_back(count, search_samples) == judges


@pytest.mark.parametrize("count", [0, 2])
def test_too_few(count):
    with pytest.raises(DataError) as caught:
        held_back(count, 60)
    assert str(caught.value) == (
        f"INT8 needs at least 3 calibration images (300 are usual), got {count}; raise data.calibration."
    )


def test_asking_loads_nothing_heavy():
    """It is asked before every run, also where all of it is cached."""
    code = "import sys, edgeattn.quantize.calibration; print({'onnx', 'nncf', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
