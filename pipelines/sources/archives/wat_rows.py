"""Candidates of WAT pages: the links of many pages read at once, and rows of CANDIDATES made of
them column by column.
"""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from pipelines.html.relative_urls import URL_CHARACTERS
from pipelines.html.texts_of_image import TEXT_CHARACTERS
from pipelines.schema import CANDIDATES
from pipelines.sources.archives.wat import WatPage, loaded, written

LINKS = 8_192  # gathered before they are read
LINK = pa.schema([("url", pa.string()), ("alt", pa.string()), ("title", pa.string())])
# as WatPage has them, but for images
OF_PAGE = ("page_url", "images_on_page", "captured_at", "offset", "page_language", "permission")
# addresses that are whole, or lack what stands before two slashes, one, or none: plain characters,
# no folder that begins with a dot
CHARACTERS = r"!$%&'()*+,\-0-9;=@A-Z_a-z~"
REST = rf"(?:[.:?{CHARACTERS}]|/+(?:[:?{CHARACTERS}]|$))*$"
WHOLE, SCHEMELESS, ROOTED = (
    rf"^https?://[{CHARACTERS}]{REST}",
    rf"^//[{CHARACTERS}]{REST}",
    rf"^/(?:[:?{CHARACTERS}]{REST}|$)",
)
BESIDE = rf"^[{CHARACTERS}](?:[.?{CHARACTERS}]|/+(?:[?{CHARACTERS}]|$))*$"


@dataclass(slots=True)
class WatRows:
    """Rows under construction. With `textless`, an image of which nothing is said has an empty alt,
    as on the WARC road.
    """

    archive: str | None = None
    textless: bool = False
    pages: list[WatPage] = field(default_factory=list)
    links: int = 0
    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # links that gave none, by the reason

    def append(self, page: WatPage) -> None:
        """The candidates of a page, one for each image and text."""
        if page.links:
            self.pages.append(page)
            self.links += len(page.links)
            if self.links >= LINKS:
                self._flush()

    def table(self) -> pa.Table:
        """All rows so far."""
        self._flush()
        return pa.concat_tables([CANDIDATES.empty_table(), *self.tables])

    def _flush(self) -> None:
        if self.pages:
            table = self._made(self.pages, _read(self.pages))
            self.rows += table.num_rows
            self.tables.append(table)
        self.pages, self.links = [], 0

    def _made(self, pages: list[WatPage], links: pa.RecordBatch) -> pa.Table:
        lengths = [len(page.links) for page in pages]
        link, sources, texts = self._said(links["alt"], links["title"])
        page_of = np.repeat(np.arange(len(pages), dtype=np.int32), lengths)[link]
        urls = _joined(links["url"].take(pa.array(link)), pages, page_of)
        there = _flags(pc.not_equal(urls, ""))
        if not there.all():
            self.counts["skipped.no_address"] += int((~there).sum())
            link, page_of = link[there], page_of[there]
            urls, sources, texts = (one.filter(pa.array(there)) for one in (urls, sources, texts))
        places = pa.array(link - np.cumsum([0, *lengths[:-1]])[page_of], pa.int32())
        rows, pick = len(link), pa.array(page_of)
        # what WAT does not tell stays null
        made: dict[str, Any] = {entry.name: pa.nulls(rows, entry.type) for entry in CANDIDATES}
        shared = zip(*((page.url, len(page.links), *page[1:5]) for page in pages), strict=True)
        for name, values in zip(OF_PAGE, shared, strict=True):
            made[name] = pa.array(values, CANDIDATES.field(name).type).take(pick)
        counts = np.bincount(page_of, minlength=len(pages))
        made["candidate_id"] = _identified(
            pages, counts, urls, texts, sources, places.cast(pa.string())
        )
        made |= {
            "image_url": urls,
            "text": texts,
            "text_source": sources,
            "place": places,
            "context": pa.repeat("", rows),
        }
        made["archive"] = pa.repeat(pa.scalar(self.archive, pa.string()), rows)
        made["alternatives"] = pa.ListArray.from_arrays(
            np.zeros(rows + 1, np.int32), pa.array([], pa.string())
        )
        return pa.table(made, CANDIDATES)

    def _said(self, alt: pa.Array, title: pa.Array) -> tuple[np.ndarray, pa.Array, pa.Array]:
        """For each row in order: the link that it is of, its text_source and text."""
        titled = _flags(pc.not_equal(pc.utf8_trim_whitespace(title), ""))
        alted = _flags(pc.not_equal(alt, ""))
        if self.textless:
            alted |= _flags(alt.is_valid()) | ~titled
        self.counts["skipped.no_text"] += int((~alted & ~titled).sum())
        which = np.concatenate([np.flatnonzero(alted), np.flatnonzero(titled)])
        is_title = np.repeat([False, True], [alted.sum(), titled.sum()])
        order = np.lexsort((is_title, which))
        texts = pa.concat_arrays([pc.fill_null(alt, ""), title]).take(
            pa.array((which + is_title * len(alt))[order])
        )
        if len(texts) and pc.max(pc.binary_length(texts)).as_py() > TEXT_CHARACTERS:
            texts = pc.utf8_slice_codeunits(texts, 0, TEXT_CHARACTERS)
        return which[order], pc.if_else(pa.array(is_title[order]), "title", "alt"), texts


def _flags(array: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=bool)


def _read(pages: list[WatPage]) -> pa.RecordBatch:
    """The links of the pages as rows of LINK; those are mended that hold what is no text, or wrong
    UTF-8.
    """
    links = [link for page in pages for link in page.links]
    batch = _parsed(links)
    if batch is None:
        values = (loaded(b'{%s"}' % link) for link in links)
        batch = _parsed([written(value if isinstance(value, dict) else {}) for value in values])
        assert batch is not None, "links written anew are JSON"
    return batch


def _parsed(links: list[bytes]) -> pa.RecordBatch | None:
    """Links as rows of LINK; None if one of them is not a single object of texts."""
    data = b'{%s"}' % b'"}\n{'.join(links)
    parse = pj.ParseOptions(
        explicit_schema=LINK, newlines_in_values=False, unexpected_field_behavior="ignore"
    )
    try:
        table = pj.read_json(
            pa.BufferReader(data),
            pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse,
        )
        data.decode()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    return table.to_batches()[0] if table.num_rows == len(links) else None


def _joined(urls: pa.Array, pages: list[WatPage], page_of: np.ndarray) -> pa.Array:
    """The whole addresses as `base.join` gives them, empty where there is none: the plain ones
    together, the others one by one.
    """
    urls, pick = pc.fill_null(urls, ""), pa.array(page_of)
    bases = [page.base for page in pages]
    begun = zip(*((base.origin, base.scheme, base.folder) for base in bases), strict=True)
    origins, schemes, folders = (pa.array(values).take(pick) for values in begun)
    whole, schemeless, rooted, beside = (
        pc.match_substring_regex(urls, pattern) for pattern in (WHOLE, SCHEMELESS, ROOTED, BESIDE)
    )
    begins = pc.case_when(
        pc.make_struct(whole, schemeless, rooted, beside), "", schemes, origins, folders
    )
    joined = pc.binary_join_element_wise(begins, urls, "")
    simple = pc.and_(pc.not_equal(origins, ""), pc.less(pc.binary_length(urls), URL_CHARACTERS))
    odd = np.flatnonzero(~_flags(pc.and_(begins.is_valid(), simple)))
    if len(odd):
        found = [
            bases[page].join(url)
            for page, url in zip(
                page_of[odd].tolist(), urls.take(pa.array(odd)).to_pylist(), strict=True
            )
        ]
        mask = np.zeros(len(urls), bool)
        mask[odd] = True
        joined = pc.replace_with_mask(joined, pa.array(mask), pa.array(found, pa.string()))
    return joined


def _identified(pages: list[WatPage], counts: np.ndarray, *fields: pa.Array) -> pa.StringArray:
    """As schema.identify of address and time of the page, hashed once a page, and of the fields of
    each of its rows.
    """
    packed = pc.binary_join_element_wise(*fields, "\x1f")
    _, offsets, data = packed.buffers()
    limits = np.frombuffer(offsets, np.int32)[
        packed.offset : packed.offset + len(packed) + 1
    ].tolist()
    text = data.to_pybytes() if data is not None else b""
    digests = []
    row = 0
    for page, count in zip(pages, counts.tolist(), strict=True):
        shared = blake2b(
            f"{page.url}\x1f{page.captured_at}\x1f".encode("utf-8", "surrogatepass"), digest_size=16
        )
        for start, end in pairwise(limits[row : row + count + 1]):
            one = shared.copy()
            one.update(text[start:end])
            digests.append(one.digest())
        row += count
    ends = np.arange(len(packed) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(
        len(packed), pa.py_buffer(ends), pa.py_buffer(b"".join(digests).hex().encode())
    )
