"""Many arrays in files of some megabytes each: a lost connection costs one of them, not all."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeattn.bundle.archive import write_zip

SHARD_BYTES = 8 << 20

Arrays = Mapping[str, NDArray[Any]]


def write_shards(entries: Iterable[Arrays], folder: Path, *, limit_bytes: int = SHARD_BYTES) -> list[Path]:
    """Each mapping of arrays in order into `folder/0000.npz`, `0001.npz`, …; a new one where the limit is passed.

    Same arrays, same bytes. Every file holds one entry at least. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    waiting: list[tuple[str, bytes]] = []
    size = 0

    def write() -> None:
        path = folder / f"{len(written):04d}.npz"
        with path.open("wb") as file:
            write_zip(file, waiting)
        written.append(path)
        waiting.clear()

    for index, arrays in enumerate(entries):
        own = [(f"{index:08d}/{name}.npy", _bytes(array)) for name, array in arrays.items()]
        grown = sum(len(data) for _, data in own)
        if waiting and size + grown > limit_bytes:
            write()
            size = 0
        waiting += own
        size += grown
    if waiting:
        write()
    return written


def read_shards(paths: Sequence[Path]) -> Iterator[dict[str, NDArray[Any]]]:
    """The mappings in the order in which they were written; `paths` in the order of their names."""
    for path in paths:
        with np.load(path, allow_pickle=False) as stored:
            entries: dict[str, dict[str, NDArray[Any]]] = {}
            for key in stored.files:
                index, _, name = key.partition("/")
                entries.setdefault(index, {})[name] = stored[key]
        yield from (entries[index] for index in sorted(entries))


def shards_in(folder: Path) -> list[Path]:
    """The files that `write_shards` wrote into `folder`, in order."""
    return sorted(folder.glob("*.npz"))


def _bytes(array: NDArray[Any]) -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, np.ascontiguousarray(array).reshape(np.shape(array)), allow_pickle=False)
    return data.getvalue()
