"""What an import reads: samples, each an image or the place where it should be, with its texts; as
candidates and as an index of images.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from pipelines.permission.outcomes import address_outcome
from pipelines.schema import CANDIDATES, identify
from pipelines.sources.held import MISSING, PLACES
from pipelines.sources.lists.charset import text_of
from pipelines.urls import without_blanks

# in any case, the first that is there
URL_KEYS = ("url", "image_url", "img_url", "image_link", "coco_url", "flickr_url")
TEXT_KEYS = (
    "text",
    "caption",
    "captions",
    "alt",
    "alt_text",
    "txt",
    "top_caption",
    "title",
    "sentences",
    "sentence",
    "description",
)
# what calls itself an image, decodable or not
IMAGE_ENDINGS = frozenset(
    (
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "webp",
        "gif",
        "bmp",
        "tif",
        "tiff",
        "avif",
        "ico",
        "heic",
        "heif",
        "jp2",
        "svg",
    )
)
TEXT_ENDINGS = frozenset({"txt", "caption", "text"})
SIDECAR_BYTES = 4 * 1024 * 1024  # of a .txt or .json beside an image; a larger one is no caption
DEPTH = 16  # lists and objects around a text at most; JSON may have as many as Python's stack bears
WEB = re.compile(r"https?://", re.IGNORECASE)


class Place(NamedTuple):
    """Where the bytes of an image lie; see `held.PLACES`."""

    kind: str
    archive: str = ""
    offset: int | None = None
    size: int | None = None
    row: int | None = None
    column: str | None = None


NOWHERE = Place(MISSING)


class Keys(NamedTuple):
    """The names of text and address that the user gave; empty to find them."""

    text: str = ""
    url: str = ""


FOUND_BY_NAME = Keys()


@dataclass(kw_only=True, slots=True)
class Sample:
    """An image with its texts. `key` is its path within the data set; `identity` tells it from all
    others of the data set.

    Without a `place` the data set does not claim to hold the image: one with a web address of its
    own can be fetched there.
    """

    key: str
    identity: str = ""
    texts: list[str] = field(default_factory=list)
    url: str = ""
    page_url: str = ""
    place: Place | None = None


def given(name: str, key: str) -> str:
    """The address of an image that has none on the web: `given://<name>/<key>`, nothing of which
    can be taken for a path.
    """
    parts = [quote(part.encode("utf-8", "surrogateescape"), safe="") for part in key.split("/")]
    return f"given://{quote(name, safe='')}/" + "/".join(
        part if part.strip(".") else part.replace(".", "%2E") for part in parts
    )


def address(sample: Sample, name: str) -> str:
    """The image's own web address where it has one that may be asked for (or nothing else), else a
    given one.
    """
    own = without_blanks(sample.url)
    if WEB.match(own) and (
        sample.place is None or address_outcome(own) in (None, "address.placeholder")
    ):
        return own
    return given(name, sample.key)


def tables(samples: Iterable[Sample], name: str, counts: Counter[str]) -> tuple[pa.Table, pa.Table]:
    """Rows of CANDIDATES, one for each image and text (an image without any has one with an empty
    text), and the index of PLACES.
    """
    rows: dict[str, list[Any]] = {
        column: [] for column in ("candidate_id", "page_url", "image_url", "text", "place")
    }
    places: list[tuple[Any, ...]] = []
    for sample in samples:
        url = address(sample, name)
        place = sample.place if sample.place is not None or WEB.match(url) else NOWHERE
        counts["samples"] += 1
        if place is not None:
            places.append((url, *place))
        counts[_where(place)] += 1
        counts["import.no_text"] += not sample.texts
        for number, text in enumerate(sample.texts or [""]):
            # so that another name for the data set changes no candidate
            own = url if WEB.match(url) else ""
            rows["candidate_id"].append(
                identify(
                    None, None, own, text, "given", f"{sample.identity or sample.key}#{number}"
                )
            )
            rows["page_url"].append(sample.page_url or None)
            rows["image_url"].append(url)
            rows["text"].append(text)
            rows["place"].append(number)
    counts["candidates"] = len(rows["text"])
    return _candidates(rows), _index(places)


def _where(place: Place | None) -> str:
    """The name under which a sample is counted: its image is in the data set, should be, may not be
    taken from there, or is on the web.
    """
    if place is None:
        return "import.elsewhere"
    return "archive_images" if place.archive else f"import.{place.kind}"


def _candidates(rows: dict[str, list[Any]]) -> pa.Table:
    count = len(rows["text"])
    known: dict[str, Any] = {
        **rows,
        "alternatives": [[]] * count,
        "text_source": ["given"] * count,
        "context": [""] * count,
        "images_on_page": np.ones(count, dtype=np.int32),
    }
    return pa.table(
        [pa.array(known.get(entry.name, [None] * count), entry.type) for entry in CANDIDATES],
        schema=CANDIDATES,
    )


def _index(places: list[tuple[Any, ...]]) -> pa.Table:
    names = ("image_url", *Place._fields)
    known = dict(zip(names, zip(*places, strict=True), strict=True)) if places else {}
    return pa.table(
        [pa.array(known.get(entry.name, [None] * len(places)), entry.type) for entry in PLACES],
        schema=PLACES,
    )


def plain(text: str) -> str:
    """A text that Arrow can hold: without NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def texts_of(value: Any, depth: int = 0) -> list[str]:
    """The texts that a value of a table or of JSON holds: a string, or a list of them, or objects
    with a `raw` one (COCO's sentences).

    What lies deeper than `DEPTH` is no text of an image.
    """
    if (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, float) and math.isnan(value))
        or depth > DEPTH
    ):
        return []
    if isinstance(value, bytes):
        return [plain(value.decode("utf-8", "replace"))]
    if isinstance(value, Mapping):
        return texts_of(
            next((value[key] for key in ("raw", *TEXT_KEYS) if key in value), None), depth + 1
        )
    if isinstance(value, list | tuple):
        return [text for entry in value for text in texts_of(entry, depth + 1)]
    return [plain(str(value))]


def joined(label: str, name: str) -> str:
    """A name below the label of its source, which is empty for a data set of one file."""
    return f"{label}/{name}" if label else name


def found_key(names: Iterable[str], wanted: Iterable[str]) -> str | None:
    """The first wanted name that is there, in any case."""
    lower = {name.strip().lower(): name for name in reversed(list(names))}
    return next((lower[name] for name in wanted if name in lower), None)


def json_value(data: str | bytes) -> Any:
    """A JSON value; ValueError if it is none."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def apply_metadata(sample: Sample, value: Any, keys: Keys) -> None:
    """Take texts and addresses out of a JSON value that stands beside an image."""
    if not isinstance(value, dict):
        sample.texts = sample.texts or texts_of(value if isinstance(value, str | list) else None)
        return
    text = keys.text or found_key(value, TEXT_KEYS)
    url = keys.url or found_key(value, URL_KEYS)
    page = found_key(value, ("page_url",))
    sample.texts = _spoken(
        sample.texts, [entry for entry in texts_of(value.get(text or "")) if entry]
    )
    sample.url = sample.url or "".join(texts_of(value.get(url or ""))[:1])
    sample.page_url = sample.page_url or "".join(texts_of(value.get(page or ""))[:1])


def _spoken(own: list[str], told: list[str]) -> list[str]:
    """Texts of a text file and of JSON: the file speaks before JSON, unless its text is one of
    several that stand there.
    """
    among = len(own) == 1 and own[0].strip() in (text.strip() for text in told)
    return told if among or not own else own


def apply_sidecar(
    sample: Sample, ending: str, data: bytes, counts: Counter[str], keys: Keys
) -> None:
    """Take in the .txt, .caption or .json beside an image: a text file speaks before JSON; what
    cannot be read is counted.
    """
    if ending in TEXT_ENDINGS:
        text, unicode = text_of(data)
        counts["import.not_utf8"] += not unicode
        words = plain(text).strip()
        sample.texts = _spoken([words] if words else [], sample.texts)
        return
    text, unicode = text_of(data)
    try:
        apply_metadata(sample, json_value(text), keys)
        counts["import.not_utf8"] += not unicode
    except ValueError:
        counts["import.bad_sidecar"] += 1
