import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgeattn.artifact import sha256_bytes
from edgeattn.bundle.reader import open_bundle
from edgeattn.errors import BundleError


def test_opens_and_reads(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.manifest.labels == ("blue", "green", "red")
    assert opened.read("engine/engine.blob") == b"blob" * 50
    assert opened.signed == "unsigned"
    assert opened.size_bytes == bundle.stat().st_size
    with zipfile.ZipFile(bundle) as archive:
        assert opened.sha256 == sha256_bytes(archive.read("manifest.json"))


def test_a_bundle_zipped_again_by_another_tool_still_opens(repack: Any) -> None:
    assert open_bundle(repack({}, zipfile.ZIP_DEFLATED)).read("model.onnx") == b"onnx"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"manifest.json": None}, "is a zip file but holds no manifest.json"),
        ({"manifest.json": b" " * (5 << 20)}, "manifest .* has 5242880 bytes"),
        ({"manifest.json": b"{}"}, "schema None"),
        ({"model.onnx": None}, "lacks 'model.onnx', which its manifest lists"),
        ({"model.onnx": b"onnX"}, r"'model\.onnx' .* \(SHA-256 differs\)"),
        ({"model.onnx": b"onnx!"}, "'model.onnx' .* has 5 bytes, its manifest says 4"),
        ({"engine/engine.blob": b"blob" * 49 + b"blib"}, r"'engine/engine\.blob' .* \(SHA-256 differs\)"),
        ({"virus.so": b"x"}, "holds 'virus.so', which its manifest does not list"),
        ({"../up": b"x"}, r"file name '\.\./up'"),
        ({"/abs": b"x"}, "file name '/abs'"),
        ({"a\\b": b"x"}, "file name"),
        ({"MODEL.onnx": b"x"}, "'MODEL.onnx' twice"),
    ],
)
def test_alterations(repack: Any, changes: dict[str, bytes | None], says: str) -> None:
    path = repack(changes)
    before = path.read_bytes()
    with pytest.raises(BundleError, match=says) as caught:
        open_bundle(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
    assert path.read_bytes() == before


def test_an_altered_manifest_with_right_hashes_needs_a_signature_to_notice(repack: Any, bundle: Path) -> None:
    """What hashes cannot tell: a forger who writes them too. That is what a key is for (test_signature)."""
    with zipfile.ZipFile(bundle) as archive:
        values = json.loads(archive.read("manifest.json"))
    values["labels"] = ["x", "y", "z"]
    assert open_bundle(repack({"manifest.json": json.dumps(values).encode()})).manifest.labels == ("x", "y", "z")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(repack: Any) -> None:
    path = repack({"model.onnx": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="has 67108864 bytes, its manifest says 4"):
        open_bundle(path)


def test_content_longer_than_declared_is_never_returned(repack: Any) -> None:
    """The directory says 4 bytes, the compressed stream holds 64 MiB."""
    path = repack({"model.onnx": b"onnx" + bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02", 0, data.rfind(b"model.onnx"))
    data[entry + 24 : entry + 28] = (4).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"'model\.onnx' .* is damaged"):
        open_bundle(path)


def test_any_flipped_byte_is_noticed_or_harmless(bundle: Path, tmp_path: Path) -> None:
    """Dates in the zip's headers are covered by nothing; whatever is read must be unchanged."""
    data = bundle.read_bytes()
    manifest, path = open_bundle(bundle).manifest, tmp_path / "flipped.edgeattn"
    generator = random.Random(0)
    noticed = 0
    for at in generator.sample(range(len(data)), 300):
        changed = bytearray(data)
        changed[at] ^= generator.randrange(1, 256)
        path.write_bytes(changed)
        try:
            assert open_bundle(path).manifest == manifest
        except BundleError:
            noticed += 1
    assert noticed > 200


def test_any_cut_is_noticed(bundle: Path, tmp_path: Path) -> None:
    data, path = bundle.read_bytes(), tmp_path / "cut.edgeattn"
    inner_end = data.rfind(b"PK\x05\x06", 0, len(data) - 22) + 22  # of golden.npz, itself a zip
    for length in [*range(1, len(data), 37), inner_end, inner_end + 1, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(BundleError, match=r"cut short" if length > 3 else "does not begin"):
            open_bundle(path)


def test_anything_behind_the_end_is_noticed(bundle: Path) -> None:
    bundle.write_bytes(bundle.read_bytes() + bytes(1000))
    with pytest.raises(BundleError, match="1000 bytes behind its end"):
        open_bundle(bundle)


def test_reading_what_is_not_there(bundle: Path) -> None:
    with pytest.raises(BundleError, match="holds no file 'other'"):
        open_bundle(bundle).read("other")


def test_a_bundle_replaced_while_open(bundle: Path, repack: Any) -> None:
    opened = open_bundle(bundle)
    repack({"model.onnx": b"onnX"}).replace(bundle)
    with pytest.raises(BundleError, match="changed while it was in use"):
        opened.read("model.onnx")
