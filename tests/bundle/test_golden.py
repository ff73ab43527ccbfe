import io
from typing import Any

import numpy as np
import pytest

from edgeattn.bundle.archive import write_zip
from edgeattn.bundle.golden import check_golden, make_golden, tolerance
from edgeattn.errors import BundleError, StageFailed


def _frame(b: int, g: int, r: int) -> dict[str, Any]:
    return {"frame": np.full((1, 8, 8, 3), (b, g, r), np.uint8)}


@pytest.mark.parametrize(
    ("expected", "allowed"),
    [
        ([[-1.0, 1.0]], 0.05),  # standard deviation 1
        ([[-1.0], [1.0]], 0.05),  # over all samples
        ([[8.0, 8.0]], 0.008),  # a constant: a thousandth of its magnitude
        ([[0.0, 0.0]], 1e-6),
        ([[1e-4, -1e-4]], 5e-6),  # small outputs are not waved through
    ],
)
def test_tolerance(expected: list[list[float]], allowed: float) -> None:
    assert tolerance([np.array(values) for values in expected]) == pytest.approx(allowed)


def test_a_quantized_engine_is_given_three_times_as_much(means: Any) -> None:
    """Logits (0 0 100) and (0 0 200), 5 % too large: off by 10. A float engine may be off by 3.82, this one by 11.5."""
    frames = [_frame(0, 0, 100), _frame(0, 0, 200)]
    assert tolerance([np.array([-1.0, 1.0])], quantized=True) == pytest.approx(0.15)
    data = make_golden(means(), frames, quantized=True)
    assert check_golden(means(gain=1.05), data).passed
    assert not check_golden(means(gain=1.05), make_golden(means(), frames)).passed
    assert not check_golden(means(gain=1.1), data).passed


def test_passes_on_the_engine_it_was_made_with(means: Any) -> None:
    test = check_golden(means(), make_golden(means(), [_frame(0, 0, 200), _frame(200, 0, 0)]))
    assert test.passed and test.samples == 2 and test.failures == ()
    assert test.outputs[0].worst_error == 0.0


def test_same_outputs_same_bytes(means: Any) -> None:
    assert make_golden(means(), [_frame(1, 2, 3)]) == make_golden(means(), [_frame(1, 2, 3)])


def test_a_wrong_engine_fails_with_its_worst_sample(means: Any) -> None:
    """Logits (0 0 100) and (0 0 200): mean 50, standard deviation sqrt(50000/6 - 2500) = 76.4, so 3.82 are allowed.

    An engine 10 % too large is off by 20 in sample 1.
    """
    data = make_golden(means(), [_frame(0, 0, 100), _frame(0, 0, 200)])
    test = check_golden(means(gain=1.1), data)
    (failure,) = test.failures
    assert (failure.output, failure.sample) == ("logits", 1)
    assert failure.worst_error == pytest.approx(20.0)
    assert failure.tolerance == pytest.approx(0.05 * np.sqrt(50000 / 6 - 2500))
    assert "output 'logits' is off by 20 in golden sample 1, beyond the tolerance of 3.82" in failure.sentence()
    assert test.to_dict()["outputs"]["logits"]["passed"] is False
    assert check_golden(means(gain=1.01), data).passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_never_passes(means: Any, value: float) -> None:
    data = make_golden(means(), [_frame(1, 1, 100)])
    test = check_golden(means(gain=value), data)
    assert not test.passed
    assert test.to_dict()["outputs"]["logits"]["worst_error"] is None
    with pytest.raises(StageFailed, match="'logits' is NaN or infinite for golden sample 0"):
        make_golden(means(gain=value), [_frame(1, 1, 100)])


def test_another_shape_fails(means: Any) -> None:
    class Wider(means):  # type: ignore[misc]
        def infer(self, inputs: Any) -> dict[str, Any]:
            return {"logits": np.zeros((1, 4), np.float32)}

    assert not check_golden(Wider(), make_golden(means(), [_frame(0, 0, 100)])).passed


def test_another_output_is_another_model(means: Any) -> None:
    class Other(means):  # type: ignore[misc]
        def infer(self, inputs: Any) -> dict[str, Any]:
            return {"scores": np.zeros((1, 3), np.float32)}

    with pytest.raises(BundleError, match=r"gives the outputs \['scores'\].*expects \['logits'\]"):
        check_golden(Other(), make_golden(means(), [_frame(0, 0, 100)]))


def test_without_samples(means: Any) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        make_golden(means(), [])


def _npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


ZERO, ONE = np.zeros((1, 3)), np.float64(1)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a NumPy archive"),
        (b"not an npz", "not a NumPy archive"),
        (_npz({"inputs/0/frame": np.array([{}], object)}), "not a NumPy archive"),
        (_npz({"surprise": ZERO}), "unknown entry 'surprise'"),
        (_npz({"tolerance/logits": np.array("x")}), "unknown entry 'tolerance/logits'"),
        (_npz({}), "incomplete"),
        (_npz({"inputs/0/frame": ZERO, "outputs/0/logits": ZERO}), "incomplete"),
        (_npz({"inputs/0/frame": ZERO, "tolerance/logits": ONE}), "incomplete"),
        (_npz({"inputs/1/frame": ZERO, "outputs/1/logits": ZERO, "tolerance/logits": ONE}), "incomplete"),
    ],
)
def test_what_is_not_golden_io(means: Any, data: bytes, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        check_golden(means(), data)


def test_an_array_too_large_for_memory(means: Any) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    file = io.BytesIO()
    write_zip(file, [("inputs/0/frame.npy", header.getvalue())])
    with pytest.raises(BundleError, match="not a NumPy archive"):
        check_golden(means(), file.getvalue())
