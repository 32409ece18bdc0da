"""Candidates of WAT pages: rows of CANDIDATES gathered column by column."""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.schema import CANDIDATES
from pipelines.texts_of_image import TEXT_CHARACTERS
from pipelines.wat import WatPage

OF_IMAGE = ("candidate_id", "image_url", "text", "text_source", "place")
OF_PAGE = ("page_url", "images_on_page", "page_language", "offset", "captured_at", "permission")
SOURCES = ("alt", "title")
ROWS = 20_000  # gathered before they become a table


@dataclass(slots=True)
class WatRows:
    """Rows under construction: a column for each attribute of an image, and a tuple for what the images of a page share.

    With `textless`, an image of which nothing is said has a row with an empty alt, as on the WARC road.
    """

    archive: str | None = None
    textless: bool = False
    columns: tuple[list[Any], ...] = field(default_factory=lambda: tuple([] for _ in OF_IMAGE))
    pages: list[tuple[Any, ...]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # rows of each page
    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0

    def append(self, page: WatPage) -> None:
        """The candidates of a page, one for each image and text."""
        digests, urls, texts, sources, places = self.columns
        before, join = len(urls), page.base.join
        shared = blake2b(f"{page.url}\x1f{page.captured_at}\x1f".encode("utf-8", "surrogatepass"), digest_size=16)
        for place, link in page.links:
            url = link.get("url")
            if url.__class__ is not str or not (url := join(url)):
                continue
            for source in SOURCES:
                text = link.get(source)
                if text.__class__ is not str or not text or (text.isspace() and source == "title"):
                    if not self.textless or not _stands_for_nothing(link, source):
                        continue
                    text = ""
                text = text[:TEXT_CHARACTERS]
                one = shared.copy()  # as schema.identify, the fields of the page hashed once
                one.update(f"{url}\x1f{text}\x1f{source}\x1f{place}".encode("utf-8", "surrogatepass"))
                digests.append(one.digest())
                urls.append(url)
                texts.append(text)
                sources.append(source)
                places.append(place)
        self.counts.append(len(urls) - before)
        self.rows += len(urls) - before
        self.pages.append((page.url, page.count, page.language, page.offset, page.captured_at, page.permission))
        if len(urls) >= ROWS:
            self._flush()

    def table(self) -> pa.Table:
        self._flush()
        return pa.concat_tables([CANDIDATES.empty_table(), *self.tables])

    def _flush(self) -> None:
        rows = len(self.columns[0])
        if rows:
            of_page = pa.array(np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts))
            made: dict[str, Any] = {entry.name: pa.nulls(rows, entry.type) for entry in CANDIDATES}  # what WAT does not tell stays null
            made |= dict(zip(OF_IMAGE, self.columns, strict=True))
            made["candidate_id"] = _in_hex(self.columns[0])
            for name, values in zip(OF_PAGE, zip(*self.pages, strict=True), strict=True):
                made[name] = pa.array(values, CANDIDATES.field(name).type).take(of_page)
            made["archive"] = pa.repeat(pa.scalar(self.archive, pa.string()), rows)
            made["context"] = pa.repeat("", rows)
            made["alternatives"] = pa.ListArray.from_arrays(np.zeros(rows + 1, np.int32), pa.array([], pa.string()))
            self.tables.append(pa.table(made, CANDIDATES))
        self.columns, self.pages, self.counts = tuple([] for _ in OF_IMAGE), [], []


def _stands_for_nothing(link: dict[str, Any], source: str) -> bool:
    """Whether an empty alt is a candidate on the WARC road: where it stands, or nothing else is said of the image."""
    title = link.get("title")
    return source == "alt" and ("alt" in link or not isinstance(title, str) or not title or title.isspace())


def _in_hex(digests: list[bytes]) -> pa.StringArray:
    """Digests of 16 bytes in hex."""
    offsets = np.arange(len(digests) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(len(digests), pa.py_buffer(offsets), pa.py_buffer(b"".join(digests).hex().encode()))
