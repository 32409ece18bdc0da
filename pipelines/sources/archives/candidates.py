"""From pages to candidates: rows of CANDIDATES gathered page by page."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.html.images_of_page import TARGET_WIDTH, Picture, read_page
from pipelines.permission.outcomes import headers_outcome
from pipelines.schema import CANDIDATES

ROWS = 20_000  # gathered before they become a record batch
OF_PAGE = (
    "page_url",
    "images_on_page",
    "page_language",
    "archive",
    "offset",
    "captured_at",
    "permission",
)
OF_PICTURE = (
    "image_url",
    "alternatives",
    "context",
    "place",
    "declared_width",
    "declared_height",
    "region",
)
OF_ROW = ("candidate_id", "text", "text_source")


@dataclass(slots=True)
class Rows:
    """Columns under construction of one schema."""

    schema: pa.Schema
    columns: dict[str, list[Any]] = field(default_factory=dict)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0

    def append(self, values: dict[str, Any]) -> None:
        """One row; a column that it does not name is null."""
        for name in self.schema.names:
            self.columns.setdefault(name, []).append(values.get(name))
        self.rows += 1
        if self.rows % ROWS == 0:
            self._flush()

    def _flush(self) -> None:
        if self.columns:
            arrays = [pa.array(self.columns[entry.name], entry.type) for entry in self.schema]
            self.batches.append(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
            self.columns = {}

    def table(self) -> pa.Table:
        self._flush()
        return pa.Table.from_batches(self.batches, schema=self.schema)


class Candidates:
    """Rows of CANDIDATES under construction. What pages and pictures say is held once and repeated
    when a record batch is made.
    """

    def __init__(self, *, target_width: int = TARGET_WIDTH, surrounding: bool = False) -> None:
        """`surrounding` gives each image a candidate whose text is the words around it."""
        self.target_width, self.surrounding = target_width, surrounding
        self.rows = 0
        self.left_out = 0  # images of pages that have too many
        self._batches: list[pa.RecordBatch] = []
        self._clear()

    def _clear(self) -> None:
        self._pages: list[tuple[Any, ...]] = []
        self._pictures: list[tuple[Any, ...]] = []
        self._texts: list[tuple[str, str, str]] = []
        self._page_of: list[int] = []  # of each picture, its page
        self._picture_of: list[int] = []  # of each row, its picture

    def add_page(
        self,
        html: bytes,
        url: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        captured_at: str | None = None,
        archive: str | None = None,
        offset: int | None = None,
    ) -> None:
        """The candidates of one page in document order, one for each image and text."""
        pairs = list(headers)
        content_type = next((value for name, value in pairs if name.lower() == "content-type"), "")
        page = read_page(html, url, content_type, target_width=self.target_width)
        self.left_out += page.left_out
        if not page.pictures:
            return
        permission = headers_outcome(pairs) or page.permission
        self._pages.append(
            (url, len(page.pictures), page.language, archive, offset, captured_at, permission)
        )
        begin = f"{url}\x1f{captured_at or ''}\x1f"
        for place, picture in enumerate(page.pictures):
            self._append(picture, place, begin)
        if len(self._texts) >= ROWS:
            self._flush()

    def _append(self, picture: Picture, place: int, begin: str) -> None:
        number = len(self._pictures)
        url, alternatives, texts, context, width, height, region, _ = picture
        self._pictures.append((url, alternatives, context, place, width, height, region))
        self._page_of.append(len(self._pages) - 1)
        if self.surrounding and context:
            texts = (*texts, ("surrounding", context))
        for source, text in texts:
            # what schema.identify makes of these fields
            packed = f"{begin}{url}\x1f{text}\x1f{source}\x1f{place}".encode(
                "utf-8", "surrogatepass"
            )
            self._texts.append((hashlib.blake2b(packed, digest_size=16).hexdigest(), text, source))
            self._picture_of.append(number)
        self.rows += len(texts)

    def _flush(self) -> None:
        """What was gathered as a record batch."""
        if not self._texts:
            return
        picture_of = pa.array(self._picture_of, pa.int32())
        page_of = pa.array(self._page_of, pa.int32()).take(picture_of)
        columns = _columns(OF_ROW, self._texts)
        columns |= {
            name: column.take(picture_of)
            for name, column in _columns(OF_PICTURE, self._pictures).items()
        }
        columns |= {
            name: column.take(page_of) for name, column in _columns(OF_PAGE, self._pages).items()
        }
        self._batches.append(
            pa.RecordBatch.from_arrays(
                [columns[name] for name in CANDIDATES.names], schema=CANDIDATES
            )
        )
        self._clear()

    def table(self) -> pa.Table:
        """All rows so far."""
        self._flush()
        return pa.Table.from_batches(self._batches, schema=CANDIDATES)


def _columns(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, pa.Array]:
    return {
        name: pa.array(values, CANDIDATES.field(name).type)
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


def candidates_of_page(
    html: bytes,
    url: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    captured_at: str | None = None,
    archive: str | None = None,
    offset: int | None = None,
    target_width: int = TARGET_WIDTH,
    surrounding: bool = False,
) -> list[dict[str, Any]]:
    """The candidates of one page as rows of CANDIDATES."""
    candidates = Candidates(target_width=target_width, surrounding=surrounding)
    candidates.add_page(html, url, headers, captured_at=captured_at, archive=archive, offset=offset)
    rows: list[dict[str, Any]] = candidates.table().to_pylist()
    return rows
