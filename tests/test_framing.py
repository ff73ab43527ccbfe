from typing import Any

import numpy as np
import pytest

from edgeattn.errors import DataError
from edgeattn.framing import choose_calls, frame_up
from edgeattn.imaging import Preprocess


def _random(*size: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_most_frames_are_one_call(fit: Any) -> None:
    frame, preprocess = _random(20, 40), Preprocess(8, 12, fit)
    framing = frame_up(preprocess, [frame], ["frame"])
    fitted, matrix = preprocess.apply_with_matrix(frame)
    (call,), (view,) = framing.calls, framing.views
    assert list(call) == ["frame"] and call["frame"].dtype == np.uint8
    assert (call["frame"] == fitted[None]).all()
    assert view.frame is frame and (view.matrix == matrix).all()
    assert framing.tiling is None
    assert framing.merge([{"logits": np.ones((1, 3))}])["logits"].shape == (1, 3)


def test_two_frames_go_into_one_call_each_with_its_own_view() -> None:
    frames, preprocess = [_random(20, 40), _random(16, 8, seed=1)], Preprocess(8, 8, "letterbox")
    framing = frame_up(preprocess, frames, ["frame_a", "frame_b"])
    (call,) = framing.calls
    assert list(call) == ["frame_a", "frame_b"]
    for (name, value), view, frame in zip(call.items(), framing.views, frames, strict=True):
        fitted, matrix = preprocess.apply_with_matrix(frame)
        assert value.shape == (1, 8, 8, 3) and (value[0] == fitted).all(), name
        assert view.frame is frame and (view.matrix == matrix).all()
    assert framing.views[0].matrix[0, 0] == 0.2 and framing.views[1].matrix[0, 0] == 0.5


def test_a_large_frame_in_tiles_is_several_calls_and_one_output() -> None:
    """20 x 30 in tiles of 16 that share 4: two rows of three; outputs at twice the size, two of them."""
    frame = _random(20, 30)
    framing = frame_up(Preprocess(16, 16, "tile", 4), [frame], ["frame"])
    assert [call["frame"].shape for call in framing.calls] == [(1, 16, 16, 3)] * 6
    assert (framing.calls[0]["frame"][0] == frame[:16, :16]).all()
    assert (framing.calls[-1]["frame"][0] == frame[4:, 14:]).all()
    (view,) = framing.views
    assert view.frame is frame and (view.matrix == np.eye(3)).all()
    seen = [call["frame"].transpose(0, 3, 1, 2).astype(np.float32) for call in framing.calls]
    outputs = [{"same": value, "twice": value.repeat(2, axis=2).repeat(2, axis=3)} for value in seen]
    merged = framing.merge(outputs)
    assert list(merged) == ["same", "twice"]
    np.testing.assert_allclose(merged["same"], frame.transpose(2, 0, 1)[None], atol=1e-3)
    assert merged["twice"].shape == (1, 3, 40, 60)
    np.testing.assert_allclose(merged["twice"][:, :, ::2, ::2], merged["same"], atol=1e-3)


@pytest.mark.parametrize("size", [(5, 7), (16, 16)])
def test_a_frame_no_larger_than_a_tile_is_one_call(size: tuple[int, int]) -> None:
    framing = frame_up(Preprocess(16, 16, "tile", 4), [_random(*size)], ["frame"])
    (call,) = framing.calls
    assert call["frame"].shape == (1, 16, 16, 3)
    assert framing.merge([{"y": np.ones((1, 2, 16, 16), np.float32)}])["y"].shape == (1, 2, *size)


def test_outputs_that_are_no_maps_cannot_be_merged() -> None:
    framing = frame_up(Preprocess(16, 16, "tile", 4), [_random(20, 20)], ["frame"])
    with pytest.raises(DataError, match=r"output of shape \(1, 3\) is no map of a tile of 16 x 16"):
        framing.merge([{"logits": np.ones((1, 3), np.float32)}] * 4)


@pytest.mark.parametrize(
    ("count", "names", "says"),
    [
        (0, ["frame"], r"takes 1 frame\(s\) per call \(frame\), got 0"),
        (2, ["frame"], r"takes 1 frame\(s\) per call \(frame\), got 2"),
        (1, ["frame_a", "frame_b"], r"takes 2 frame\(s\) per call \(frame_a, frame_b\), got 1"),
    ],
)
@pytest.mark.parametrize("fit", ["crop", "tile"])
def test_a_wrong_number_of_frames(fit: Any, count: int, names: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        frame_up(Preprocess(8, 8, fit, 2), [_random(8, 8)] * count, names)


@pytest.mark.parametrize("fit", ["crop", "tile"])
def test_what_is_not_a_frame(fit: Any) -> None:
    for wrong in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(DataError, match="A frame must be uint8"):
            frame_up(Preprocess(8, 8, fit, 2), [wrong], ["frame"])


def test_pairs_are_not_tiled() -> None:
    with pytest.raises(DataError, match=r"Tiles are for models of one frame; use another input\.fit"):
        frame_up(Preprocess(8, 8, "tile", 2), [_random(8, 8)] * 2, ["a", "b"])


@pytest.mark.parametrize(
    ("tiles", "count", "chosen"),
    [
        ([1, 1, 1], None, ["0.0", "1.0", "2.0"]),
        ([1, 1, 1], 2, ["0.0", "1.0"]),
        ([1, 1, 1], 9, ["0.0", "1.0", "2.0"]),
        ([4, 1, 3], None, ["0.2", "1.0", "2.1", "0.3", "2.2", "0.0", "2.0", "0.1"]),
        ([3, 2], 4, ["0.1", "1.1", "0.2", "1.0"]),
        ([], None, []),
    ],
)
def test_which_calls_are_chosen(tiles: list[int], count: int | None, chosen: list[str]) -> None:
    """The middle tile of each sample first, then the next of each."""
    calls: Any = [[{"frame": f"{sample}.{tile}"} for tile in range(n)] for sample, n in enumerate(tiles)]
    assert [call["frame"] for call in choose_calls(calls, count)] == chosen


@pytest.mark.parametrize(("samples", "tiles", "made"), [(10, 40, 300), (400, 2, 400), (400, 1, 400), (2, 3, 6)])
def test_at_least_so_many_tiles_are_chosen(samples: int, tiles: int, made: int) -> None:
    assert len(choose_calls([[{}] * tiles] * samples)) == made
