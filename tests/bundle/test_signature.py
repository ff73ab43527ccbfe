import builtins
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgeattn.bundle.manifest import Manifest
from edgeattn.bundle.reader import open_bundle
from edgeattn.bundle.writer import write_bundle
from edgeattn.errors import BundleError, MissingLibrary

Files = dict[str, Path | bytes]


def _keys(folder: Path, name: str) -> tuple[Path, Path]:
    pytest.importorskip("cryptography", reason="the library cryptography is not installed")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32))
    secret, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    secret.write_bytes(private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return secret, public


def test_accepted_and_refused(tmp_path: Path, manifest: Manifest, files: Files) -> None:
    secret, public = _keys(tmp_path, "ours")
    _, stranger = _keys(tmp_path, "stranger")
    path = write_bundle(tmp_path / "a.edgeattn", manifest, files, sign_key=secret)
    assert open_bundle(path, key=public).signed == "verified"
    assert open_bundle(path).signed == "not checked"
    with pytest.raises(BundleError, match="was not made by the owner of"):
        open_bundle(path, key=stranger)
    again = write_bundle(tmp_path / "b.edgeattn", manifest, files, sign_key=secret)
    assert again.read_bytes() == path.read_bytes()


def test_a_forged_manifest_is_refused(tmp_path: Path, manifest: Manifest, files: Files) -> None:
    secret, public = _keys(tmp_path, "ours")
    path = write_bundle(tmp_path / "a.edgeattn", manifest, files, sign_key=secret)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    values = json.loads(entries["manifest.json"])
    entries["manifest.json"] = json.dumps({**values, "labels": ["x", "y", "z"]}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert open_bundle(path).manifest.labels == ("x", "y", "z")
    with pytest.raises(BundleError, match="or the manifest was altered"):
        open_bundle(path, key=public)


def test_a_key_demands_a_signature(tmp_path: Path, bundle: Path) -> None:
    _, public = _keys(tmp_path, "ours")
    with pytest.raises(BundleError, match="is not signed, but a key was given"):
        open_bundle(bundle, key=public)


def test_a_signature_of_another_length(tmp_path: Path, repack: Any) -> None:
    with pytest.raises(BundleError, match="has 3 bytes; an Ed25519 signature has 64"):
        open_bundle(repack({"manifest.sig": b"abc"}), key=tmp_path / "key.pem")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_not_a_key(tmp_path: Path, manifest: Manifest, files: Files, content: bytes) -> None:
    secret, public = _keys(tmp_path, "ours")
    path = write_bundle(tmp_path / "a.edgeattn", manifest, files, sign_key=secret)
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(content)
    with pytest.raises(BundleError, match=r"wrong\.pem does not hold an Ed25519 public key"):
        open_bundle(path, key=wrong)
    with pytest.raises(BundleError, match=r"ours\.pem does not hold an Ed25519 public key"):
        open_bundle(path, key=secret)
    with pytest.raises(BundleError, match=r"pub\.pem does not hold an unencrypted Ed25519 private key"):
        write_bundle(tmp_path / "b.edgeattn", manifest, files, sign_key=public)
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(path, key=tmp_path / "missing.pem")
    assert not (tmp_path / "b.edgeattn").exists()


def test_another_kind_of_key(tmp_path: Path, manifest: Manifest, files: Files) -> None:
    secret, _ = _keys(tmp_path, "ours")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    other = X25519PrivateKey.generate()
    key = tmp_path / "x25519.pem"
    key.write_bytes(other.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    path = write_bundle(tmp_path / "a.edgeattn", manifest, files, sign_key=secret)
    with pytest.raises(BundleError, match="does not hold an Ed25519 public key"):
        open_bundle(path, key=key)


def test_without_the_library(
    tmp_path: Path, manifest: Manifest, files: Files, repack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingLibrary, match=r"pip install \"edgeattn\[signing\]\""):
        open_bundle(repack({"manifest.sig": bytes(64)}), key=tmp_path / "key.pem")
    with pytest.raises(MissingLibrary, match="cryptography"):
        write_bundle(tmp_path / "b.edgeattn", manifest, files, sign_key=tmp_path / "key.pem")
