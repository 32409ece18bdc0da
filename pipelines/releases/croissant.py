"""The Croissant file of a release: JSON-LD that says which files there are and what their columns
mean (MLCommons, Croissant 1.0).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from filters.recipe.catalogue import catalogue
from pipelines.releases.sample import CLUSTER, ORIGINAL, SPLITS

CONFORMS = "http://mlcommons.org/croissant/1.0"
LICENCE = (
    "The pictures and texts belong to their authors; this release gives no right to them beyond"
    " what the law does."
)
TYPES = {"arrow": "application/vnd.apache.arrow.file", "webdataset": "application/x-tar"}
PICTURES = ("*.jpg", "*.png", "*.webp", "*.gif", "*.bmp", "*.tif", "*.avif", "*.img")
SAID = {
    "image": "The encoded picture, as it was stored.",
    "caption": "The texts that were kept for the picture.",
    "image_id": "The sha256 of the picture's original bytes, in hexadecimal digits.",
    "split": (
        "The part of the release that the sample belongs to; near duplicates of a picture belong to"
        " the same."
    ),
    "text_source": "Where in its page each text was found.",
    "page_url": "The page on which each text was found.",
    "image_url": "The address of the picture beside each text.",
    "candidate_id": "The reference, among those collected, that each text was taken from.",
    ORIGINAL: "Each text as it was found, before it was rewritten.",
    CLUSTER: "The smallest image_id among the near duplicates of the picture.",
}
# the standard context of Croissant 1.0
_OWN = (
    "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes"
    " isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace"
    " samplingRate separator source subField transform"
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "dct": "http://purl.org/dc/terms/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _OWN.split()},
}
# of the name of a file in a tar, what the files of a sample share
_KEY = {"regex": r"^(\d+)"}


def croissant(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The Croissant description of the release that a manifest is of; the same release gives the
    same bytes, so it bears no date.

    It has records of samples where there is a reader that generates them (mlcroissant 1.1): of
    tars, their pictures and first texts. There is none for Arrow files, nor for the JSON in tars,
    so what these hold is told in words.
    """
    records = [_splits(manifest), *(_samples() if manifest["format"] == "webdataset" else ())]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": manifest["name"],
        "description": (
            f"{manifest['samples']} images with {manifest['captions']} texts, kept by the recipe"
            f" {manifest['recipe']} from {', '.join(manifest['collections'])}. Digest"
            f" {manifest['digest']}."
        ),
        "version": "1.0.0",  # a release does not change
        "license": LICENCE,
        "distribution": [*_files(manifest), *_sets(manifest)],
        "recordSet": records,
    }


def told(croissant: Mapping[str, Any]) -> set[str]:
    """The columns that a Croissant file tells of: as fields of samples, or in the words of a set of
    files.
    """
    fields = {
        one["name"]
        for group in croissant["recordSet"]
        if group["@id"] == "samples"
        for one in group["field"]
    }
    words = " ".join(one.get("description", "") for one in croissant["distribution"])
    return fields | set(re.findall(r"`([^`]+)`", words))


def _files(manifest: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for file in manifest["files"]:
        yield {
            "@type": "cr:FileObject",
            "@id": file["name"],
            "name": file["name"],
            "contentUrl": file["name"],
            "contentSize": f"{file['bytes']} B",
            "encodingFormat": TYPES[manifest["format"]],
            "sha256": file["sha256"],
        }


def _sets(manifest: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    columns = "; ".join(
        f"`{name}` ({kind}): {_said(name)}" for name, kind in manifest["columns"].items()
    )
    if manifest["format"] == "arrow":
        said = f"Arrow IPC files, a row for each picture. Columns: {columns}"
        yield {**_set("shards", TYPES["arrow"], ["*.arrow"]), "description": said}
        return
    tars = [{"@id": file["name"]} for file in manifest["files"]]
    said = f"One JSON object for each picture, with all but its bytes. Columns: {columns}"
    yield {**_set("pictures", "image/*", list(PICTURES)), "containedIn": tars}
    yield {**_set("texts", "text/plain", ["*.txt"]), "containedIn": tars}
    yield {
        **_set("descriptions", "application/json", ["*.json"]),
        "containedIn": tars,
        "description": said,
    }


def _set(name: str, kind: str, includes: list[str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "encodingFormat": kind,
        "includes": includes,
    }


def _splits(manifest: Mapping[str, Any]) -> dict[str, Any]:
    there = [{"splits/name": split} for split in SPLITS if split in manifest["splits"]]
    field = _field("splits/name", "sc:Text", "The name of a part of the release.")
    return {
        **_records("splits", [field]),
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "data": there,
    }


def _samples() -> Iterator[dict[str, Any]]:
    """Pictures and first texts, joined by their names: a reader joins the files of a set with the
    records of another.
    """
    yield {
        **_records(
            "images",
            [
                _field("images/key", "sc:Text", "The name of the sample.", _named("pictures")),
                _field("images/image", "sc:ImageObject", SAID["image"], _content("pictures")),
            ],
        ),
        "key": {"@id": "images/key"},
    }
    key = _field(
        "samples/key", "sc:Text", "The name that the files of a sample share.", _named("texts")
    )
    image = _field(
        "samples/image", "sc:ImageObject", SAID["image"], {"field": {"@id": "images/image"}}
    )
    caption = _field(
        "samples/caption",
        "sc:Text",
        "The first of the texts that were kept for the picture.",
        _content("texts"),
    )
    yield _records(
        "samples", [{**key, "references": {"field": {"@id": "images/key"}}}, image, caption]
    )


def _records(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


def _field(
    place: str, kind: str, said: str, source: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    about = {
        "@type": "cr:Field",
        "@id": place,
        "name": place.partition("/")[2],
        "description": said,
        "dataType": kind,
    }
    return about if source is None else {**about, "source": source}


def _named(files: str) -> dict[str, Any]:
    return {"fileSet": {"@id": files}, "extract": {"fileProperty": "filename"}, "transform": _KEY}


def _content(files: str) -> dict[str, Any]:
    return {"fileSet": {"@id": files}, "extract": {"fileProperty": "content"}}


def _said(name: str) -> str:
    said = SAID.get(name) or (catalogue()[name].says if name in catalogue() else name)
    return said.removesuffix(".")
