"""Samples of images that lie as files: a folder with texts beside them, COCO's captions, lines of
{"image", "captions"}.
"""

import functools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipelines.sources.datasets.samples import (
    FOUND_BY_NAME,
    IMAGE_ENDINGS,
    NOWHERE,
    SIDECAR_BYTES,
    TEXT_ENDINGS,
    TEXT_KEYS,
    URL_KEYS,
    WEB,
    Keys,
    Place,
    Sample,
    apply_sidecar,
    found_key,
    joined,
    json_value,
    texts_of,
)
from pipelines.sources.held import OUTSIDE
from pipelines.sources.held_readers import opened
from pipelines.sources.lists.charset import text_of
from pipelines.sources.lists.lines import ListBytes

STEMS = 4096  # images of a part
LINES = 8192  # of a part of captions
NAME_KEYS = ("image", "file_name", "filename", "image_path", "path", "img", "file")
# of a file of captions, which is held at once; COCO's own have a hundred million
COCO_BYTES = 1 << 29
SURROGATE = re.compile("[\ud800-\udfff]")
NOTES = frozenset(
    {
        "readme",
        "license",
        "licence",
        "notice",
        "changelog",
        "provenance",
        "authors",
        "classes",
        "labels",
        "copying",
    }
)


def ending_of(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower() if "." in name.rsplit("/", 1)[-1] else ""


def stem_of(name: str) -> str:
    """`a/b.c` of `a/b.c.jpg`: what an image and the texts beside it share."""
    return name[: -len(ending_of(name)) - 1] if ending_of(name) else name


def place_of(folder: str, name: str) -> Place:
    """Where a named file of a data set lies; a name that leads out of the folder, by itself or
    through a link, is never opened.
    """
    if SURROGATE.search(name):  # of a name that is no UTF-8, which no table can hold
        return NOWHERE
    local, root, real_root = _root(folder)
    plain = posixpath.normpath(name.replace("\\", "/"))
    if plain.startswith(("../", "/")) or plain in ("..", ".") or "\0" in name or "://" in name:
        return Place(OUTSIDE)
    if not local:
        return Place("file", f"{folder.rstrip('/')}/{plain}")
    path = os.path.join(root, plain)
    real = (
        os.path.realpath(path)
        if os.path.islink(path)
        else _real_folder(os.path.dirname(path)) + "/"
    )
    return Place("file", path) if real.startswith(real_root) else Place(OUTSIDE)


@functools.lru_cache(maxsize=16)
def _root(folder: str) -> tuple[bool, str, str]:
    """Whether a folder is local, its path, and that without links, with a slash behind."""
    system, root = fsspec.core.url_to_fs(folder)
    local = isinstance(system, LocalFileSystem)
    return local, str(root), os.path.realpath(root).rstrip("/") + "/" if local else ""


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def grouped(names: Sequence[str]) -> list[list[str]]:
    """Names of the files of a folder that are images or texts of some, those of one image together,
    in parts of some thousand.
    """
    stems: dict[str, list[str]] = {}
    for name in names:
        if (
            ending_of(name) in IMAGE_ENDINGS
            or ending_of(name) in TEXT_ENDINGS
            or ending_of(name) == "json"
        ):
            stems.setdefault(stem_of(name), []).append(name)
    with_images = {
        stem.rpartition("/")[0]
        for stem, group in stems.items()
        if any(ending_of(name) in IMAGE_ENDINGS for name in group)
    }
    chosen = [
        stems[stem]
        for stem in sorted(stems)
        if stem.rpartition("/")[0] in with_images and not _is_note(stem, stems[stem])
    ]
    return [
        [name for group in chosen[start : start + STEMS] for name in group]
        for start in range(0, len(chosen), STEMS)
    ]


def _is_note(stem: str, names: Sequence[str]) -> bool:
    """Whether a text without an image speaks of the folder rather than of an image that is gone."""
    return stem.rpartition("/")[2].lower() in NOTES and not any(
        ending_of(name) in IMAGE_ENDINGS for name in names
    )


def file_samples(
    folder: str, label: str, names: Sequence[str], counts: Counter[str], keys: Keys = FOUND_BY_NAME
) -> Iterator[Sample]:
    """A sample for each image among some files of a folder, and for each text whose image is not
    there.
    """
    stems: dict[str, list[str]] = {}
    for name in names:
        stems.setdefault(stem_of(name), []).append(name)
    for stem, group in stems.items():
        about = Sample(key="")
        for name in group:
            if ending_of(name) not in IMAGE_ENDINGS:
                _take_sidecar(about, folder, name, counts, keys)
        images = [name for name in group if ending_of(name) in IMAGE_ENDINGS]
        counts["entries"] += len(images) or 1
        if not images and not (about.texts or about.url):
            counts["import.other"] += 1
            continue
        for name in images or [stem]:
            place = place_of(folder, name) if images else NOWHERE
            yield Sample(
                key=joined(label, name),
                texts=about.texts,
                url=about.url,
                page_url=about.page_url,
                place=place,
            )


def _take_sidecar(about: Sample, folder: str, name: str, counts: Counter[str], keys: Keys) -> None:
    try:
        if place_of(folder, name).kind == OUTSIDE:
            raise ValueError("a link out of the data set")
        with opened(f"{folder.rstrip('/')}/{name}") as file:
            data = file.read(SIDECAR_BYTES + 1)
        if len(data) > SIDECAR_BYTES:
            raise ValueError("no caption is that long")
    except (ValueError, OSError):
        counts["import.bad_sidecar"] += 1
        return
    apply_sidecar(about, ending_of(name), data, counts, keys)


Captioned = tuple[str, str, list[str]]  # file name, web address, texts
BROKEN: Captioned = ("\0", "", [])  # in the place of an entry that is none


@functools.lru_cache(maxsize=1)
def coco_images(url: str, version: str = "") -> list[Captioned]:
    """The images of a file of COCO captions (or of Karpathy's splits of it) in their order;
    ValueError if it is none.
    """
    with opened(url) as file:
        try:
            data = file.read(COCO_BYTES + 1)
            if len(data) > COCO_BYTES:
                raise ValueError(
                    f"more than {COCO_BYTES:,} bytes are not held at once: write lines of"
                    ' {"image", "captions"}'
                )
            value = json_value(text_of(data)[0])
        except ValueError as error:
            raise ValueError(f"{url} is no JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("images"), list):
        raise ValueError(
            f"{url} is no file of COCO captions: it needs the lists `images` and `annotations`"
        )
    images = [image for image in value["images"] if isinstance(image, dict)]
    odd = [BROKEN] * (len(value["images"]) - len(images))
    if any("sentences" in image for image in images):
        return [
            *((_karpathy_name(image), "", texts_of(image.get("sentences"))) for image in images),
            *odd,
        ]
    return [*_coco(url, images, value.get("annotations")), *odd]


def _karpathy_name(image: dict[str, Any]) -> str:
    return joined(
        "".join(texts_of(image.get("filepath"))), "".join(texts_of(image.get("filename")))
    )


def _coco(url: str, images: list[dict[str, Any]], annotations: Any) -> list[Captioned]:
    texts: dict[str, list[str]] = {}
    odd = 0
    for annotation in annotations if isinstance(annotations, list) else []:
        if isinstance(annotation, dict) and "caption" in annotation:
            texts.setdefault(str(annotation.get("image_id")), []).extend(
                texts_of(annotation["caption"])
            )
        else:
            odd += 1
    if not texts:
        raise ValueError(
            f"{url} has no captions: take COCO's captions_*.json, not its instances or keypoints"
        )
    found: list[Captioned] = []
    for image in images:
        address = found_key(image, URL_KEYS)
        name = "".join(texts_of(image.get("file_name")))
        found.append(
            (name, "".join(texts_of(image.get(address or ""))), texts.pop(str(image.get("id")), []))
        )
    unlisted: list[Captioned] = [("", "", captions) for captions in texts.values()]
    return [*found, *unlisted, *[BROKEN] * odd]


def coco_samples(
    url: str, version: str, folder: str, label: str, which: tuple[int, int], counts: Counter[str]
) -> Iterator[Sample]:
    """A sample for some of the images of a file of captions; an entry that is no image, or has no
    caption, is counted.
    """
    first, end = which
    for number, (name, address, texts) in enumerate(
        coco_images(url, version)[first:end], start=first
    ):
        counts["entries"] += 1
        if (name, address, texts) == BROKEN:
            counts["import.bad_line"] += 1
            continue
        place = place_of(folder, name) if name else NOWHERE
        key, identity = joined(label, name or f"{number:09d}"), joined(label, f"#{number:09d}")
        yield Sample(key=key, identity=identity, texts=texts, url=address, place=place)


def line_samples(
    url: str,
    folder: str,
    label: str,
    start: tuple[int, int],
    counts: Counter[str],
    keys: Keys = FOUND_BY_NAME,
) -> Iterator[Sample]:
    """A sample for each of LINES lines of JSON from (byte, line) on; a line that is none, or names
    no image, is counted.
    """
    for line in islice(ListBytes(url).lines(*start), LINES):
        counts["entries"] += 1
        text, unicode = text_of(line.data)
        if not text.strip() and not line.fault:
            counts["import.blank_line"] += 1
            continue
        try:
            sample = of_line(text, folder, keys)
        except ValueError:
            counts["import.bad_line"] += 1
            continue
        counts["import.not_utf8"] += not unicode
        sample.key, sample.identity = (
            joined(posixpath.dirname(label), sample.key),
            joined(label, f"#{line.number - 1:09d}"),
        )
        yield sample


def of_line(line: str, folder: str, keys: Keys = FOUND_BY_NAME) -> Sample:
    """The image that a line names with its texts; ValueError if it names none."""
    value = json_value(line.removeprefix("\ufeff"))
    name_key = found_key(value, NAME_KEYS) if isinstance(value, dict) else None
    if name_key is None or not isinstance(value[name_key], str) or not value[name_key]:
        raise ValueError("no object that names an image")
    others = [key for key in value if key != name_key]
    text, address = (
        keys.text or found_key(others, TEXT_KEYS),
        keys.url or found_key(others, URL_KEYS),
    )
    name = value[name_key]
    sample = Sample(
        key=name,
        texts=texts_of(value.get(text or "")),
        url="".join(texts_of(value.get(address or ""))[:1]),
    )
    if WEB.match(name):
        sample.url = name
    else:
        sample.place = place_of(folder, name)
    return sample


def line_cuts(url: str) -> list[tuple[int, int]]:
    """(byte, line) where each run of LINES lines begins."""
    found, end, number = [], 0, 0
    for line in ListBytes(url).lines():
        if number % LINES == 0:
            found.append((end, number))
        end, number = line.end, line.number
    return found
