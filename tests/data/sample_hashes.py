"""Of whole splits, for the tests of the formats."""

from __future__ import annotations

from edgeattn.data.base import Dataset, sample_hash


def dataset_hashes(dataset: Dataset) -> list[str]:
    """`sample_hash` of every sample, in order."""
    return [sample_hash(dataset[i]) for i in range(len(dataset))]
