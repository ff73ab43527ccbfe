"""`edgeattn verify`: whole, genuine, right on this machine."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeattn.bundle.manifest import Manifest
from edgeattn.bundle.reader import open_bundle
from edgeattn.bundle.writer import write_bundle


def test_a_good_bundle(deployed, tool):
    ended = tool("verify", deployed.bundle)
    assert (ended.code, ended.err) == (0, "")
    assert "self-test: passed on 4 golden samples" in ended.out
    ended = tool("verify", deployed.bundle, "--json", "--threads", "1")
    assert (ended.code, ended.err) == (0, "")
    values = json.loads(ended.out)
    assert (values["schema"], values["passed"], values["engine"]) == ("edgeattn.verify/1", True, "compiled")
    assert values["variant"] == deployed.report["selected"]["variant"]


def truncated(data):
    return data[: len(data) // 2]


def flipped(name):
    def flip(data):
        """The zip directory still says what it said; only the content is another."""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            info = archive.getinfo(name)
        at = info.header_offset + 30 + len(name) + info.compress_size // 2
        changed = bytearray(data)
        changed[at] ^= 1
        return bytes(changed)

    return flip


SPOILT = {
    "truncated": (truncated, ["cut short"]),
    "a few bytes missing": (lambda data: data[:-3], []),
    "bytes behind its end": (lambda data: data + b"more", ["behind its end"]),
    "engine altered": (flipped("engine/engine.blob"), ["engine/engine.blob"]),
    "graph altered": (flipped("model.onnx"), ["model.onnx"]),
    "golden altered": (flipped("golden.npz"), ["golden.npz"]),
    "empty": (lambda data: b"", []),
    "not a bundle": (lambda data: b"GIF89a" * 100, []),
}


@pytest.mark.parametrize("command", ["verify", "run"])
@pytest.mark.parametrize(("spoil", "parts"), SPOILT.values(), ids=SPOILT)
def test_a_bundle_that_is_not_whole(deployed, tool, within, photos, command, spoil, parts):
    path = tool.folder / "spoilt.edgeattn"
    path.write_bytes(spoil(deployed.bundle.read_bytes()))
    ended = within(command, path, *(["--source", photos / "cat"] if command == "run" else []))
    assert (ended.code, ended.out) == (2, ""), ended.err
    for part in [str(path), *parts]:
        assert part in ended.error


def test_another_zip_a_missing_file_and_a_folder(tool, within):
    with zipfile.ZipFile(tool.folder / "other.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    for path, said in (("other.zip", "manifest.json"), ("none.edgeattn", "none.edgeattn"), (".", "")):
        ended = within("verify", path)
        assert ended.code == 2, ended.err
        assert said in ended.error


def rebuilt(bundle: Path, out: Path, files=None) -> Path:
    """The bundle written again, with some of its files exchanged and hashes that are right."""
    opened = open_bundle(bundle)
    content = {name: opened.read(name) for name in opened.manifest.files}
    manifest: Manifest = replace(opened.manifest, files={})
    return write_bundle(out, manifest, {**content, **(files or {})})


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_failed_self_test_is_a_verdict(deployed, tool, options):
    """Whole in every hash, but the engine computes something else than its golden samples say."""
    opened = open_bundle(deployed.bundle)
    with np.load(io.BytesIO(opened.read("golden.npz")), allow_pickle=False) as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    outputs = [name for name in golden if "logits" in name and golden[name].size > 1]
    assert outputs, list(golden)
    for name in outputs:
        golden[name] = -golden[name] - 1
    buffer = io.BytesIO()
    np.savez(buffer, **golden)
    path = rebuilt(deployed.bundle, tool.folder / "wrong.edgeattn", {"golden.npz": buffer.getvalue()})
    ended = tool("verify", path, *options)
    assert (ended.code, ended.err) == (1, "")
    if options:
        assert json.loads(ended.out)["passed"] is False
    else:
        assert "self-test: FAILED" in ended.out and "logits" in ended.out


def test_an_engine_of_another_machine_is_built_again(deployed, tool):
    engine = json.loads(open_bundle(deployed.bundle).read("engine/engine.json"))
    engine["fingerprint"]["cpu"] = "another"
    path = rebuilt(deployed.bundle, tool.folder / "b.edgeattn", {"engine/engine.json": json.dumps(engine).encode()})
    ended = tool("verify", path)
    assert (ended.code, ended.err) == (0, ""), ended.err
    assert "rebuilt from model.onnx: cpu is '" in ended.out


def test_signatures(deployed, tool, store):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for name in ("owner", "other"):
        key = Ed25519PrivateKey.generate()
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (tool.folder / f"{name}.pem").write_bytes(secret)
        (tool.folder / f"{name}.pub.pem").write_bytes(public)
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out", "--sign", "owner.pem")
    assert ended.code == 0, ended.err
    signed = tool.folder / "out/tiny-cpu.edgeattn"
    ended = tool("verify", signed, "--key", "owner.pub.pem")
    assert ended.code == 0 and "signature: by the key's owner" in ended.out
    for bundle, key_file, said in (
        (signed, "other.pub.pem", "was not made by the owner of other.pub.pem"),
        (signed, "owner.pem", "does not hold an Ed25519 public key"),
        (signed, "tiny.yaml", "does not hold an Ed25519 public key"),
        (signed, "none.pem", "none.pem cannot be read"),
        (deployed.bundle, "owner.pub.pem", "is not signed"),
    ):
        ended = tool("verify", bundle, "--key", key_file)
        assert ended.code == 2, ended.err
        assert said in ended.error


@pytest.mark.parametrize(("key", "said"), [("none.pem", "none.pem cannot be read"), ("tiny.yaml", "private key")])
def test_a_key_that_cannot_sign_is_found_before_anything_is_made(tool, key, said):
    ended = tool("deploy", "tiny.yaml", "--store", "store", "--out", "out", "--sign", key)
    try:
        import cryptography  # noqa: F401
    except ImportError:
        assert ended.code == 3, ended.err
        assert 'pip install "edgeattn[signing]"' in ended.error
    else:
        assert ended.code == 2, ended.err
        assert said in ended.error
    assert not (tool.folder / "store").exists() and not (tool.folder / "out").exists()


def test_without_the_engine_s_library(deployed, tool):
    (tool.folder / "blocked/openvino").mkdir(parents=True)
    (tool.folder / "blocked/openvino/__init__.py").write_text("raise ImportError('no openvino here')")
    ended = tool("verify", deployed.bundle, FIRST=str(tool.folder / "blocked"))
    assert ended.code == 3, ended.err
    assert "no openvino here" in ended.error and 'pip install "edgeattn[openvino]"' in ended.error
