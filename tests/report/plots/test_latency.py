import numpy as np

from edgeattn.report.plots import latency


def test_below():
    np.testing.assert_allclose(latency.below(2), [4 / 3, 4])
