"""Open a bundle: everything is verified before any library parses a byte of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeattn.artifact import sha256_bytes
from edgeattn.bundle import signature
from edgeattn.bundle.archive import Archive
from edgeattn.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from edgeattn.errors import BundleError

# A manifest of a thousand labels takes some 30 kB.
_MANIFEST_BYTES_MAX = 4 << 20

Signed = Literal["verified", "not checked", "unsigned"]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. `sha256` is the manifest's hash, which covers every file; `signed` says what was checked.

    No file stays open: `read` opens the bundle again and hashes what it returns, so that a bundle replaced meanwhile is
    noticed.
    """

    path: Path
    manifest: Manifest
    sha256: str
    size_bytes: int
    signed: Signed

    def read(self, name: str) -> bytes:
        """The content of one listed file. Raises BundleError when there is none or it changed since it was verified."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"The bundle {self.path} holds no file '{name}'.")
        with Archive(self.path) as archive:
            data = archive.read(name) if archive.sizes.get(name) == entry.size_bytes else b""
        if len(data) != entry.size_bytes or sha256_bytes(data) != entry.sha256:
            raise BundleError(f"'{name}' in the bundle {self.path} changed while it was in use; open it again.")
        return data


def open_bundle(path: Path, *, key: Path | None = None) -> Bundle:
    """Verify the bundle at `path` whole: structure, signature, list of files, sizes, hashes.

    With `key` (a public key, PEM) a bundle that is unsigned or signed by somebody else is refused. Without it hashes
    tell damage, not a forger. Raises BundleError and, with a key, MissingLibrary when `cryptography` is absent.
    """
    with Archive(path) as archive:
        sizes = archive.sizes
        if MANIFEST not in sizes:
            raise BundleError(f"{path} is a zip file but holds no {MANIFEST}; give a file that edgeattn wrote.")
        if sizes[MANIFEST] > _MANIFEST_BYTES_MAX:
            raise BundleError(
                f"The manifest of {path} has {sizes[MANIFEST]} bytes; at most {_MANIFEST_BYTES_MAX} were expected."
            )
        described = archive.read(MANIFEST)
        signed = _check_signature(archive, described, key)
        manifest = Manifest.from_json(described, str(path))
        _check_listing(archive, manifest)
        _check_hashes(archive, manifest)
        return Bundle(path, manifest, sha256_bytes(described), archive.size_bytes, signed)


def _check_signature(archive: Archive, described: bytes, key: Path | None) -> Signed:
    size = archive.sizes.get(SIGNATURE)
    if key is None:
        return "unsigned" if size is None else "not checked"
    if size is None:
        raise BundleError(
            f"The bundle {archive.path} is not signed, but a key was given; sign it or leave out the key."
        )
    if size != signature.SIGNATURE_BYTES:
        raise BundleError(
            f"The signature of {archive.path} has {size} bytes; an Ed25519 signature has {signature.SIGNATURE_BYTES}."
        )
    signature.check(described, archive.read(SIGNATURE), key, str(archive.path))
    return "verified"


def _check_listing(archive: Archive, manifest: Manifest) -> None:
    present = {name: size for name, size in archive.sizes.items() if name not in (MANIFEST, SIGNATURE)}
    for name, entry in manifest.files.items():
        if name not in present:
            raise BundleError(f"The bundle {archive.path} lacks '{name}', which its manifest lists; copy it again.")
        if present[name] != entry.size_bytes:
            raise BundleError(
                f"'{name}' in the bundle {archive.path} has {present[name]} bytes, its manifest says "
                f"{entry.size_bytes}; it was altered, copy or download it again."
            )
    if unlisted := sorted(present.keys() - manifest.files.keys()):
        raise BundleError(
            f"The bundle {archive.path} holds '{unlisted[0]}', which its manifest does not list; it was altered."
        )


def _check_hashes(archive: Archive, manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        digest = hashlib.sha256()
        for chunk in archive.chunks(name):
            digest.update(chunk)
        if digest.hexdigest() != entry.sha256:
            raise BundleError(
                f"'{name}' in the bundle {archive.path} is not what its manifest describes (SHA-256 differs); it was "
                "altered or damaged, copy or download it again."
            )
