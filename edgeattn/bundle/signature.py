"""Ed25519 over the bytes of `manifest.json`, which holds the hash of everything else.

Keys are PEM files, made with any tool, for example:

    openssl genpkey -algorithm ed25519 -out secret.pem
    openssl pkey -in secret.pem -pubout -out public.pem
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeattn.artifact import sha256_bytes
from edgeattn.errors import BundleError, MissingLibrary

SIGNATURE_BYTES = 64


def sign(data: bytes, key: Path) -> bytes:
    """The 64-byte signature of `data` by the private key in the PEM file `key`. Raises BundleError, MissingLibrary."""
    serialization, ed25519 = _library()
    try:
        private = serialization.load_pem_private_key(_read_key(key), password=None)
    except (ValueError, TypeError) as error:
        raise _not_a_key(key, "private", "unencrypted ") from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise _not_a_key(key, "private", "unencrypted ")
    return bytes(private.sign(data))


def identity(key: Path) -> str:
    """A name for a private key that tells nothing about it: the hash of a signature, which Ed25519 makes repeatable.

    Raises BundleError, MissingLibrary.
    """
    return sha256_bytes(sign(b"edgeattn key identity", key))


def check(data: bytes, signature: bytes, key: Path, where: str) -> None:
    """Raise BundleError unless `signature` over `data` is by the owner of the public key in the PEM file `key`."""
    serialization, ed25519 = _library()
    from cryptography.exceptions import InvalidSignature

    try:
        public = serialization.load_pem_public_key(_read_key(key))
    except ValueError as error:
        raise _not_a_key(key, "public") from error
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise _not_a_key(key, "public")
    try:
        public.verify(signature, data)
    except InvalidSignature as error:
        raise BundleError(
            f"The signature of {where} was not made by the owner of {key}, or the manifest was altered; do not use it."
        ) from error


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingLibrary(
            'Signatures need the library cryptography; install it with: pip install "edgeattn[signing]".'
        ) from error
    return serialization, ed25519


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"The key file {path} cannot be read ({error.strerror}); check the path.") from error


def _not_a_key(path: Path, kind: str, extra: str = "") -> BundleError:
    return BundleError(
        f"{path} does not hold an {extra}Ed25519 {kind} key in PEM form; "
        "make one with: openssl genpkey -algorithm ed25519."
    )
