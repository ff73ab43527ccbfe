import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeattn.errors import DataError
from edgeattn.imaging import Preprocess, decode_image, encode_png, printable, read_image


def _ramp(height: int, width: int) -> np.ndarray:
    """Blue counts columns, green rows."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0], frame[..., 1] = np.arange(width), np.arange(height)[:, None]
    return frame


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7), (31, 33), (480, 640), (33, 32), (1, 500)])
def test_any_size_becomes_the_networks(fit: Any, size: tuple[int, int]) -> None:
    fitted, matrix = Preprocess(32, 48, fit).apply_with_matrix(np.zeros((*size, 3), np.uint8))
    assert (fitted.shape, fitted.dtype, fitted.flags.c_contiguous) == ((32, 48, 3), np.uint8, True)
    assert matrix.shape == (3, 3) and matrix.dtype == np.float64


def test_the_right_size_is_left_as_it_is() -> None:
    frame = _ramp(8, 8)
    fitted, matrix = Preprocess(8, 8, "letterbox").apply_with_matrix(frame)
    assert (fitted == frame).all() and (matrix == np.eye(3)).all()
    turned, _ = Preprocess(8, 8).apply_with_matrix(frame.transpose(1, 0, 2))
    assert turned.flags.c_contiguous


def test_crop_cuts_the_middle() -> None:
    """8 x 16 to 8 x 8: no scaling, columns 4 to 11 stay."""
    fitted, matrix = Preprocess(8, 8, "crop").apply_with_matrix(_ramp(8, 16))
    assert fitted[0, :, 0].tolist() == list(range(4, 12))
    assert matrix.tolist() == [[1, 0, -4], [0, 1, 0], [0, 0, 1]]


def test_letterbox_pads_with_grey() -> None:
    """4 x 8 to 8 x 8: no scaling, two rows of grey above and below."""
    fitted, matrix = Preprocess(8, 8, "letterbox").apply_with_matrix(_ramp(4, 8))
    assert (fitted[[0, 1, 6, 7]] == 114).all()
    assert (fitted[2:6] == _ramp(4, 8)).all()
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 2], [0, 0, 1]]


def test_letterbox_of_an_odd_rest() -> None:
    """3 x 8 to 8 x 8: of five rows to pad, three are above (-5 // 2 = -3)."""
    fitted, matrix = Preprocess(8, 8, "letterbox").apply_with_matrix(_ramp(3, 8))
    assert (fitted[3:6] == _ramp(3, 8)).all()
    assert (fitted[:3] == 114).all() and (fitted[6:] == 114).all()
    assert matrix[1, 2] == 3


def test_shrinking_averages() -> None:
    """2 x 2 blocks of 0, 2, 4, 6 average to 3: no aliasing."""
    block = np.array([[0, 2], [4, 6]], np.uint8)
    frame = np.repeat(np.tile(block, (4, 4))[..., None], 3, axis=2)
    assert (Preprocess(4, 4).apply(frame) == 3).all()


def test_enlarging_interpolates() -> None:
    """0 and 100 twice as wide: 0, 25, 75, 100 (weights 1/4 and 3/4), not nearest neighbours."""
    frame = np.zeros((1, 2, 3), np.uint8)
    frame[0, 1] = 100
    assert Preprocess(2, 4).apply(frame)[0, :, 0].tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(60, 90), (200, 100), (20, 16)])
def test_the_matrix_says_where_a_pixel_went(fit: Any, size: tuple[int, int]) -> None:
    """A bright spot's centre of mass moves as the matrix says, within half a network pixel."""
    y, x = size[0] // 2 + 2, size[1] // 2 - 3
    frame = np.zeros((*size, 3), np.uint8)
    cv2.circle(frame, (x, y), 4, (255, 255, 255), -1)
    fitted, matrix = Preprocess(40, 40, fit).apply_with_matrix(frame)
    weight = np.where(fitted[..., 0] == 114, 0, fitted[..., 0]).astype(float)
    rows, columns = np.mgrid[:40, :40]
    seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    assert seen == pytest.approx((matrix @ [x, y, 1])[:2], abs=0.5)


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1), (2, 20_001), (3, 9_000)])
def test_a_crop_of_an_extreme_aspect_ratio_stays_small(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Enlarged whole, 1 x 30 000 would take 4.5 GB; only its middle is needed, and it is where the matrix says."""
    resize, asked = cv2.resize, []

    def resizing(frame: Any, wanted: tuple[int, int], **options: Any) -> Any:
        asked.append(wanted[0] * wanted[1])
        return resize(frame, wanted, **options) if asked[-1] < 1 << 21 else np.zeros((*wanted[::-1], 3), np.uint8)

    monkeypatch.setattr(cv2, "resize", resizing)
    frame = np.zeros((*size, 3), np.uint8)
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2, 1.0])
    # A ramp around the middle, 10 grey levels per pixel along the longer side.
    ramp = np.clip(128 + 10.0 * (np.arange(max(size)) - (max(size) - 1) / 2), 0, 255).astype(np.uint8)
    frame[...] = ramp[:, None, None] if size[1] < size[0] else ramp[None, :, None]
    fitted, matrix = Preprocess(224, 224).apply_with_matrix(frame)
    assert fitted.shape == (224, 224, 3) and max(asked) < 1 << 21
    assert matrix @ middle == pytest.approx([111.5, 111.5, 1], abs=1.0)
    assert matrix[0, 0] == pytest.approx(224 / min(size), rel=0.01) == matrix[1, 1]
    along = fitted[112, :, 0] if size[0] < size[1] else fitted[:, 112, 0]
    inverse = np.linalg.inv(matrix)
    axis = 0 if size[0] < size[1] else 1
    source = inverse[axis, axis] * np.arange(224) + inverse[axis, 2]
    assert along.astype(float) == pytest.approx(np.interp(source, np.arange(max(size)), ramp), abs=1.5)


@pytest.mark.parametrize("size", [(480, 640), (32, 32), (32, 250), (100, 100), (97, 301)])
def test_ordinary_frames_are_cropped_as_ever(size: tuple[int, int]) -> None:
    """Resized whole, then the middle cut: what every trained network has seen."""
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    scale = max(64 / size[0], 64 / size[1])
    whole = (round(size[1] * scale), round(size[0] * scale))
    how = cv2.INTER_AREA if whole[0] * whole[1] < size[0] * size[1] else cv2.INTER_LINEAR
    left, top = (whole[0] - 64) // 2, (whole[1] - 64) // 2
    expected = cv2.resize(frame, whole, interpolation=how)[top : top + 64, left : left + 64]
    assert (Preprocess(64, 64).apply(frame) == expected).all()


def test_what_opencv_cannot_do_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise cv2.error("Insufficient memory")

    monkeypatch.setattr(cv2, "resize", fails)
    with pytest.raises(DataError, match=r"frame of 4 x 6 pixels to 8 x 12 \(Insufficient memory\)"):
        Preprocess(8, 8).apply(np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(DataError, match=r"shape \(0, 4, 3\) could not be encoded"):
        encode_png(np.zeros((0, 4, 3), np.uint8))


def test_names_become_printable() -> None:
    assert printable("Grün/ü.png") == "Grün/ü.png"
    assert printable(os.fsdecode(b"a\xff/b.png")) == "a\\xff/b.png"


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (None, "got NoneType; read the image with OpenCV"),
        ([[1]], "got list"),
        (np.zeros((4, 4), np.uint8), r"got uint8 \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got uint8 \(4, 4, 4\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "got uint8"),
        (np.zeros((4, 4, 3), np.float32), "got float32"),
        (np.zeros((0, 4, 3), np.uint8), r"got uint8 \(0, 4, 3\)"),
    ],
)
def test_what_is_not_a_frame(frame: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Preprocess(8, 8).apply(frame)


def test_dictionary_round_trip() -> None:
    preprocess = Preprocess(8, 16, "letterbox")
    assert preprocess.to_dict() == {"height": 8, "width": 16, "fit": "letterbox"}
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
    tiled = Preprocess(8, 16, "tile", 4)
    assert tiled.to_dict() == {"height": 8, "width": 16, "fit": "tile", "overlap": 4}
    assert Preprocess.from_dict(tiled.to_dict()) == tiled
    # Where nothing is tiled the overlap means nothing, so it must not make another key.
    assert Preprocess(8, 16, "crop", 4).to_dict() == Preprocess(8, 16, "crop").to_dict()


def test_images_are_bgr(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(_ramp(4, 6)))
    assert (read_image(path) == _ramp(4, 6)).all()


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_files_become_three_channels(channels: int) -> None:
    data = cv2.imencode(".png", np.full((4, 6, channels), 77, np.uint8))[1].tobytes()
    assert (decode_image(data, "x") == 77).all()
    assert decode_image(data, "x").shape == (4, 6, 3)


def _too_large() -> bytes:
    """A small PNG whose header promises 100 000 x 100 000 pixels."""
    import struct
    import zlib

    data = bytearray(encode_png(np.zeros((4, 4, 3), np.uint8)))
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    "data", [b"", b"hello", encode_png(_ramp(64, 64))[:100], _too_large()], ids=["empty", "text", "cut", "too large"]
)
def test_what_is_not_an_image(data: bytes) -> None:
    with pytest.raises(DataError, match=rf"x\.png is not an image OpenCV can decode \({len(data)} bytes\)"):
        decode_image(data, "x.png")


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / name)
