"""Erasing samples from the shards of a release: rows of an Arrow file are emptied in their places,
those of a tar are left out.
"""

import tarfile
from typing import IO

import fsspec
import numpy as np
import pyarrow as pa

from pipelines.permission.takedown_list import TakedownList
from pipelines.releases.webdataset import Packed, packed
from pipelines.takedown.redact_files import Mask, Place, copied, dirty_rows, erase_table, replaced

_LISTS = ("caption", "original_text", "page_url", "image_url", "candidate_id")
_KEYS = pa.schema([("image_id", pa.string()), *((name, pa.list_(pa.string())) for name in _LISTS)])


def dirty_samples(place: Place, mask: Mask) -> int:
    """How many samples of a shard still hold what is to be erased."""
    if not place.name.endswith(".tar"):
        return dirty_rows(place, mask)
    with fsspec.open(place.folder.path(place.name), "rb") as source:
        return len(_doomed(source, place, mask))


def erase_samples(place: Place, mask: Mask, forgotten: TakedownList) -> int:
    """Erase samples from a shard; returns how many, 0 if it stays as it is."""
    if not place.name.endswith(".tar"):
        return erase_table(place, mask, forgotten)
    with fsspec.open(place.folder.path(place.name), "rb") as source:
        doomed = _doomed(source, place, mask)
        if doomed:
            source.seek(0)
            with replaced(place, forgotten) as file:
                position = 0
                for sample in doomed:
                    copied(source, file, sample.start - position)
                    position = source.seek(sample.end)
                copied(source, file, None)
    return len(doomed)


def _doomed(source: IO[bytes], place: Place, mask: Mask) -> list[Packed]:
    """The samples of a tar to erase, in order; ValueError if it is not whole, as nobody knows then
    what it holds.
    """
    try:
        found = [(sample, sample.json(source)) for sample in packed(source)]
    except (ValueError, tarfile.HeaderError) as error:
        words = f"{place.folder.path(place.name)} cannot be read, so nobody knows what it holds"
        raise ValueError(f"{words}: remove it or bring it back ({error})") from error
    keys = pa.Table.from_pylist([row for _, row in found], schema=_KEYS)
    return [found[row][0] for row in np.flatnonzero(mask(keys, set(_KEYS.names)))]
