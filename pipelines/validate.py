"""Validation: whether every file of a root is as it was written, and every release what its
manifest, card and funnel say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe.funnel import Funnel
from pipelines.engine.stage import MANIFEST, Manifest
from pipelines.images.isolated import faults
from pipelines.releases import SUPERSEDED
from pipelines.releases.croissant import told
from pipelines.releases.sample import CLUSTER
from pipelines.releases.shards import release_digest, shard_batches
from pipelines.store import Folder
from pipelines.takedown.redact_files import last_digests, redactions, sha256_of
from pipelines.takedown.run import remains

SHARDS = "shards.json"


def validate(root: Folder) -> list[str]:
    """What is not as its manifest and its redactions say, and what was taken down and is still
    there, in words; empty if all is well.
    """
    problems: list[str] = []
    for kind, check in (("collections", _collection), ("releases", _release)):
        for name in (root / kind).names():
            try:
                problems += check(root / kind / name)
            except (
                ValueError,
                OSError,
                KeyError,
                TypeError,
                AttributeError,
            ) as error:  # what it should say cannot be known
                problems.append(f"{(root / kind / name).path()} cannot be checked: {_words(error)}")
    return problems or remains(root)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
    if isinstance(error, KeyError):
        return (
            f"a manifest of it does not tell {error}: it is damaged, or of another version of"
            " Winnow"
        )
    if isinstance(error, TypeError | AttributeError):
        return f"a manifest of it is damaged, or of another version of Winnow ({error})"
    return str(error)


def _collection(home: Folder) -> Iterator[str]:
    if home.exists(MANIFEST) and not isinstance(home.read_json(MANIFEST), dict):
        yield f"{home.path(MANIFEST)} is no manifest"
    inner = [home / "candidates", home / "urls", home / "fetches"]
    measured = [home / "measurements" / name for name in (home / "measurements").names()]
    for folder in (*inner, *measured):
        if manifest := Manifest.read(folder):
            yield from _files(home, folder, manifest)


def _files(home: Folder, folder: Folder, manifest: Manifest) -> Iterator[str]:
    """What of the files of a manifest is missing, cut or changed."""
    chains = redactions(home)
    for file in manifest.files:
        name = str(file["name"])
        place = folder if folder.exists(name) else folder.beside("images")
        if not place.exists(name):
            yield f"{folder.path(name)} is missing"
            continue
        chain = chains.get(_within(home, place, name), {})
        try:
            found = sha256_of(place, name)
        except OSError as error:
            yield f"{place.path(name)} cannot be read: {_words(error)}"
            continue
        if found not in last_digests(file["sha256"], chain):
            size = int(fsspec.open(place.path(name)).fs.size(place.path(name)))
            cut = size < file["bytes"] and not chain
            yield f"{place.path(name)} is " + (
                f"cut: it has {size:,} of {file['bytes']:,} bytes"
                if cut
                else "not as it was written"
            )
    for part in manifest.failed:
        yield f"{folder.path()}: part {part} was set aside; the command that made it tries it again"


def _within(home: Folder, folder: Folder, name: str) -> str:
    """The path of a file from its collection or release on, as redactions spell it."""
    return f"{folder.url.removeprefix(home.url)}/{name}".lstrip("/")


def _release(home: Folder) -> Iterator[str]:
    """Of a finished release first the files, then what they hold; what was taken out of a
    superseded one is no fault.
    """
    shards = Manifest.read(home, SHARDS)
    if shards is None:
        if home.exists(MANIFEST):
            yield f"{home.path(SHARDS)} is missing"
        return
    damaged = list(_files(home, home, shards))
    yield from damaged
    if damaged or not home.exists(MANIFEST) or home.exists(SUPERSEDED):
        return
    manifest = home.read_json(MANIFEST)
    yield from _sidecars(home, manifest, shards)
    if "columns" in manifest:  # which releases of earlier versions do not tell
        yield from _contents(home, manifest)


def _sidecars(home: Folder, manifest: Mapping[str, Any], shards: Manifest) -> Iterator[str]:
    """Whether manifest, funnel, card and Croissant file say the same."""
    for name in ("samples", "captions"):
        if manifest[name] != shards.counts[name]:
            yield (
                f"{home.path(MANIFEST)} tells of {manifest[name]:,} {name}, its shards of"
                f" {shards.counts[name]:,}"
            )
    if manifest["files"] != list(shards.files):
        yield f"{home.path(MANIFEST)} and {SHARDS} list different files"
    yield from _funnel(home, manifest)
    if not home.exists("README.md") or f"Digest `{manifest['digest']}`" not in home.read(
        "README.md"
    ).decode(errors="replace"):
        yield f"{home.path('README.md')} is not the card of this release"
    if "columns" in manifest:
        yield from _croissant(home, manifest)


def _funnel(home: Folder, manifest: Mapping[str, Any]) -> Iterator[str]:
    try:
        funnel = Funnel.from_json(home.read_json("funnel.json"))
    except FileNotFoundError:
        yield f"{home.path('funnel.json')} is missing"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{home.path('funnel.json')} is no funnel: {error}"
    else:
        if funnel.recipe != manifest["recipe"]:
            yield (
                f"{home.path('funnel.json')} is of recipe {funnel.recipe}, the release of"
                f" {manifest['recipe']}"
            )
        if funnel.kept < manifest["captions"]:
            yield (
                f"{home.path('funnel.json')} keeps {funnel.kept:,} candidates, fewer than the"
                f" {manifest['captions']:,} captions"
            )


def _croissant(home: Folder, manifest: Mapping[str, Any]) -> Iterator[str]:
    path = home.path("croissant.json")
    try:
        found = home.read_json("croissant.json")
        objects = [one for one in found["distribution"] if one["@type"] == "cr:FileObject"]
        files = {one["name"]: (one["sha256"], one["contentSize"]) for one in objects}
        columns = told(found)
    except FileNotFoundError:
        yield f"{path} is missing"
        return
    except (ValueError, KeyError, TypeError) as error:
        yield f"{path} is no description of a release: {error!r}"
        return
    if files != {
        file["name"]: (file["sha256"], f"{file['bytes']} B") for file in manifest["files"]
    }:
        yield f"{path} lists other files, sizes or digests than the manifest"
    if missing := set(manifest["columns"]) - columns:
        yield f"{path} does not tell of the column {min(missing)}"


@dataclass(kw_only=True)
class _Seen:
    """What the samples of a release hold, as they are read: 64 bits of each image_id and cluster,
    by split.
    """

    images: dict[str, list[np.ndarray]] = field(default_factory=dict)
    clusters: dict[str, list[np.ndarray]] = field(default_factory=dict)
    samples: int = 0
    captions: int = 0

    def add(self, split: str, batch: pa.RecordBatch) -> None:
        self.samples += batch.num_rows
        self.captions += len(pc.list_flatten(batch["caption"]))
        self.images.setdefault(split, []).append(_numbers(batch["image_id"]))
        if CLUSTER in batch.schema.names:
            self.clusters.setdefault(split, []).append(
                _numbers(pc.coalesce(batch[CLUSTER], batch["image_id"]))
            )


def _numbers(ids: pa.Array) -> np.ndarray:
    """[n] the first 64 bits of each sha256."""
    return np.frombuffer(bytes.fromhex("".join(one[:16] for one in ids.to_pylist())), dtype=">u8")


def _contents(home: Folder, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What of the samples is not as it should be; a batch at a time is in memory, and 16 bytes of
    every sample.
    """
    schema = pa.schema([(name, kind_of(text)) for name, text in manifest["columns"].items()])
    columns = [
        name for name in ("image", "caption", "image_id", "split", CLUSTER) if name in schema.names
    ]
    names = [str(file["name"]) for file in manifest["files"]]
    seen = _Seen()
    for name in names:
        yield from _shard(home, name, schema, columns, seen)
    for what, count in (("samples", seen.samples), ("captions", seen.captions)):
        if count != manifest[what]:
            yield f"{home.path()} holds {count:,} {what}, its manifest tells of {manifest[what]:,}"
    yield from _apart(home, seen)
    if release_digest(home, names, schema, manifest["digested"]) != manifest["digest"]:
        yield f"{home.path()} holds other samples than its digest is of"


def _shard(
    home: Folder, name: str, schema: pa.Schema, columns: list[str], seen: _Seen
) -> Iterator[str]:
    split, start = name.split("-")[0], 0
    broken: list[str] = []
    silent, strays = 0, 0
    try:
        for batch in shard_batches(home, name, schema, columns):
            seen.add(split, batch)
            broken += [f"{start + row} ({error})" for row, error in _undecodable(batch["image"])]
            silent += _without_captions(batch["caption"])
            strays += pc.sum(pc.fill_null(pc.not_equal(batch["split"], split), True)).as_py()
            start += batch.num_rows
    except (ValueError, OSError) as error:
        yield f"{home.path(name)} cannot be read: {error}"
    if broken:
        yield (
            f"{home.path(name)}: {len(broken):,} pictures cannot be decoded, first that of sample"
            f" {broken[0]}"
        )
    if silent:
        yield f"{home.path(name)}: {silent:,} samples have no caption"
    if strays:
        yield f"{home.path(name)}: {strays:,} samples say that they are of another split"


def _undecodable(images: pa.Array) -> Iterator[tuple[int, str]]:
    """Rows whose picture cannot be decoded, and why."""
    return (
        (row, fault)
        for row, fault in enumerate(faults(image.as_py() for image in images))
        if fault is not None
    )


def _without_captions(captions: pa.Array) -> int:
    """How many samples have no text at all; an empty one is the recipe's choice."""
    lengths = pc.fill_null(pc.list_value_length(captions), 0).to_numpy(zero_copy_only=False)
    nulls = pc.filter(pc.list_parent_indices(captions), pc.list_flatten(captions).is_null())
    return int((lengths == 0).sum()) + len(nulls.unique())


def _apart(home: Folder, seen: _Seen) -> Iterator[str]:
    """Whether every picture is in one sample, and every cluster in one split."""
    images = np.concatenate(
        [one for several in seen.images.values() for one in several] or [np.zeros(0)]
    )
    values, counts = np.unique(images, return_counts=True)
    if (counts > 1).any():
        first = f"{int(values[counts > 1][0]):016x}…"
        yield (
            f"{home.path()}: {int((counts > 1).sum()):,} pictures are in more than one sample or"
            f" split, first {first}"
        )
    splits = [np.unique(np.concatenate(several)) for several in seen.clusters.values()]
    values, counts = np.unique(np.concatenate(splits or [np.zeros(0)]), return_counts=True)
    if (counts > 1).any():
        first = f"{int(values[counts > 1][0]):016x}…"
        yield (
            f"{home.path()}: {int((counts > 1).sum()):,} clusters of near duplicates are in more"
            f" than one split, first {first}"
        )


def kind_of(text: str) -> pa.DataType:
    """The Arrow type that a manifest names."""
    if text.startswith("list<item: "):
        return pa.list_(kind_of(text.removeprefix("list<item: ").removesuffix(">")))
    return pa.type_for_alias(text)
