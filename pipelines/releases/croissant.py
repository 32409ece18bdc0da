"""The Croissant file of a release: JSON-LD that says which files there are and what their columns mean (MLCommons, Croissant 1.0)."""

from collections.abc import Iterable, Mapping
from typing import Any

from filters.catalogue import catalogue
from pipelines.releases.sample import CLUSTER, ORIGINAL, SPLITS

CONFORMS = "http://mlcommons.org/croissant/1.0"
LICENCE = "The pictures and texts belong to their authors; this release gives no right to them beyond what the law does."
TYPES = {"arrow": "application/vnd.apache.arrow.file", "webdataset": "application/x-tar"}
PICTURES = ("*.jpg", "*.png", "*.webp", "*.gif", "*.bmp", "*.tif", "*.avif", "*.img")
SAID = {
    "image": "The encoded picture, as it was stored.",
    "caption": "The texts that were kept for the picture.",
    "image_id": "The sha256 of the picture's original bytes, in hexadecimal digits.",
    "split": "The part of the release that the sample belongs to; near duplicates of a picture belong to the same.",
    "text_source": "Where in its page each text was found.",
    "page_url": "The page on which each text was found.",
    "image_url": "The address of the picture beside each text.",
    "candidate_id": "The reference, among those collected, that each text was taken from.",
    ORIGINAL: "Each text as it was found, before it was rewritten.",
    CLUSTER: "The smallest image_id among the near duplicates of the picture.",
}
# the standard context of Croissant 1.0
_OWN = (
    "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes isLiveDataset jsonPath key md5"
    " parentField path recordSet references regex repeated replace samplingRate separator source subField transform"
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
# what the picture and the description of a sample share in a tar: the name before the dot
_KEY: dict[str, Any] = {
    "@type": "cr:Field",
    "@id": "samples/key",
    "name": "key",
    "description": "The name that the files of a sample share.",
    "dataType": "sc:Text",
    "source": {"fileSet": {"@id": "descriptions"}, "extract": {"fileProperty": "filename"}, "transform": {"regex": r"^(\d+)\."}},
    "references": {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "filename"}, "transform": {"regex": r"^(\d+)\."}},
}


def croissant(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The Croissant description of the release that a manifest is of; the same release gives the same bytes, so it bears no date."""
    fields = [_field(name, kind, manifest["format"]) for name, kind in manifest["columns"].items()]
    fields = [_KEY, *fields] if manifest["format"] == "webdataset" else fields
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": manifest["name"],
        "description": f"{manifest['samples']} images with {manifest['captions']} texts, kept by the recipe {manifest['recipe']} "
        f"from {', '.join(manifest['collections'])}. Digest {manifest['digest']}.",
        "version": "1.0.0",  # a release does not change
        "license": LICENCE,
        "distribution": [*_files(manifest), *_sets(manifest)],
        "recordSet": [_splits(manifest), {"@type": "cr:RecordSet", "@id": "samples", "name": "samples", "field": fields}],
    }


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
    if manifest["format"] == "arrow":
        yield _set("shards", TYPES["arrow"], ["*.arrow"])
        return
    tars = [{"@id": file["name"]} for file in manifest["files"]]
    yield {**_set("pictures", "image/*", list(PICTURES)), "containedIn": tars}
    yield {**_set("descriptions", "application/json", ["*.json"]), "containedIn": tars}


def _set(name: str, kind: str, includes: list[str]) -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": kind, "includes": includes}


def _splits(manifest: Mapping[str, Any]) -> dict[str, Any]:
    name = {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}
    there = [{"splits/name": split} for split in SPLITS if split in manifest["splits"]]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [name],
        "data": there,
    }


def _field(name: str, kind: str, format: str) -> dict[str, Any]:
    depth = kind.count("list<")
    plain = kind.removeprefix("list<item: ").removesuffix(">") if depth else kind
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": name,
        "description": _said(name),
        "dataType": "sc:ImageObject" if name == "image" else _type(plain),
        "source": _source(name, bool(depth), format),
    }
    field |= {"repeated": True} if depth else {}
    field |= {"references": {"field": {"@id": "splits/name"}}} if name == "split" else {}
    return field


def _source(name: str, several: bool, format: str) -> dict[str, Any]:
    if format == "arrow":
        return {"fileSet": {"@id": "shards"}, "extract": {"column": name}}
    if name == "image":
        return {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "content"}}
    path = f"$['{name}']" + ("[*]" if several else "")
    return {"fileSet": {"@id": "descriptions"}, "extract": {"jsonPath": path}}


def _said(name: str) -> str:
    return SAID.get(name) or (catalogue()[name].says if name in catalogue() else name)


def _type(kind: str) -> str:
    if kind == "bool":
        return "sc:Boolean"
    if "int" in kind:
        return "sc:Integer"
    return "sc:Float" if kind in ("halffloat", "float", "double") else "sc:Text"
