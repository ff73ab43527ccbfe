"""What the far side may say, and no more: its words decide what is read, written and shown here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeattn.bundle.archive import unsafe_names

_BAD_NAME = "a file name that no step gives"


@dataclass(frozen=True)
class Hello:
    """The program there has begun."""


@dataclass(frozen=True)
class Received:
    """A file arrived whole."""


@dataclass(frozen=True)
class Need:
    """Files, by hash, that are not there yet."""

    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Progressed:
    done: int
    total: int
    text: str


@dataclass(frozen=True)
class Sent:
    """A file whose bytes follow."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Failed:
    """`kind`: a class of edgeattn/errors.py, or what claims to be one."""

    kind: str
    message: str


@dataclass(frozen=True)
class Result:
    """`files`: their hashes by name."""

    values: dict[str, Any]
    files: dict[str, str]
    cached: bool


Record = Hello | Received | Need | Progressed | Sent | Failed | Result


def parse(text: bytes) -> Record:
    """One record, as `bootstrap` lists them. Raises ValueError, with a few words on what is wrong with it."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("a record that is no JSON") from error
    if not isinstance(told, dict):
        raise ValueError("a record that is no object")
    for kind, make in _KINDS.items():
        if kind in told:
            try:
                return make(told[kind])
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"'{kind}' without what belongs to it") from error
    raise ValueError("a record of no known kind")


def printable(text: str) -> str:
    """Another machine's words, without signs that would steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _need(told: Any) -> Need:
    return Need(tuple(_hash(sha256) for sha256 in _of(list, told)))


def _progressed(told: Any) -> Progressed:
    if len(_of(list, told)) != 3:
        raise TypeError
    done, total, text = told
    return Progressed(_of(int, done), _of(int, total), printable(_of(str, text)))


def _sent(told: Any) -> Sent:
    return Sent(_name(told["name"]), _hash(told["sha256"]), _size(told["size"]))


def _failed(told: Any) -> Failed:
    return Failed(_of(str, told["kind"]), printable(_of(str, told["message"])))


def _result(told: Any) -> Result:
    files: Mapping[str, Any] = _of(dict, told["files"])
    if unsafe_names(files):
        raise ValueError(_BAD_NAME)
    hashes = {_name(name): _hash(entry["sha256"]) for name, entry in files.items()}
    return Result(_of(dict, told["values"]), hashes, _of(bool, told["cached"]))


_KINDS: dict[str, Callable[[Any], Record]] = {
    "hello": lambda told: Hello(),
    "received": lambda told: Received(),
    "need": _need,
    "progress": _progressed,
    "file": _sent,
    "error": _failed,
    "result": _result,
}


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise TypeError
    return value


def _name(value: Any) -> str:
    """That of a file: nothing that would leave the folder it is put into."""
    if unsafe_names([_of(str, value)]):
        raise ValueError(_BAD_NAME)
    return str(value)


def _hash(value: Any) -> str:
    """It becomes a file's name here."""
    if not re.fullmatch("[0-9a-f]{64}", _of(str, value)):
        raise ValueError("a hash that is none")
    return str(value)


def _size(value: Any) -> int:
    if _of(int, value) < 0:
        raise ValueError("a size that is none")
    return int(value)
