"""Pictures are shown as what they are, and what is none is not shown."""

import base64

import pytest

from edgeattn.report.pictures import picture

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (100).to_bytes(4, "big") + bytes(20)


@pytest.mark.parametrize(
    ("data", "starts", "small"),
    [
        (PNG, "data:image/png;base64,iVBOR", True),
        (PNG.replace((100).to_bytes(4, "big"), (500).to_bytes(4, "big")), "data:image/png;base64,iVBOR", False),
        (b"\xff\xd8\xff\xe0" + bytes(40), "data:image/jpeg;base64,/9j/", False),
    ],
    ids=["small png", "png", "jpeg"],
)
def test_a_picture(data, starts, small):
    shown = picture(base64.b64encode(data).decode(), "title")
    assert shown["image"].startswith(starts) and shown["small"] is small


@pytest.mark.parametrize("data", [None, "", 3, "no base64!", base64.b64encode(b"<svg onload=x>").decode()])
def test_what_is_no_picture(data):
    assert picture(data, "title")["image"] is None
