"""From pages to candidates: rows of CANDIDATES gathered page by page."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.images_of_page import TARGET_WIDTH, Page, Picture, read_page
from pipelines.permission import headers_outcome
from pipelines.schema import identify

ROWS = 20_000  # gathered before they become a record batch


@dataclass(slots=True)
class Rows:
    """Columns under construction of one schema."""

    schema: pa.Schema
    columns: dict[str, list[Any]] = field(default_factory=dict)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0

    def append(self, values: dict[str, Any]) -> None:
        for name in self.schema.names:
            self.columns.setdefault(name, []).append(values[name])
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


def candidates_of_page(
    html: bytes,
    url: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    captured_at: str | None = None,
    archive: str | None = None,
    offset: int | None = None,
    target_width: int = TARGET_WIDTH,
) -> list[dict[str, Any]]:
    """The candidates of one page as rows of CANDIDATES, in document order, one for each image and text."""
    pairs = list(headers)
    content_type = next((value for name, value in pairs if name.lower() == "content-type"), "")
    page = read_page(html, url, content_type, target_width=target_width)
    of_page = {
        "page_url": url,
        "images_on_page": len(page.pictures),
        "page_language": page.language,
        "archive": archive,
        "offset": offset,
        "captured_at": captured_at,
        "permission": headers_outcome(pairs) or page.permission,
    }
    return [row for place, picture in enumerate(page.pictures) for row in _candidates(page, picture, place, of_page)]


def _candidates(page: Page, picture: Picture, place: int, of_page: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for source, text in picture.texts:
        yield {
            **of_page,
            "candidate_id": identify(of_page["page_url"], of_page["captured_at"], picture.url, text, source, place),
            "image_url": picture.url,
            "alternatives": list(picture.alternatives),
            "text": text,
            "text_source": source,
            "context": picture.context,
            "place": place,
            "declared_width": picture.width,
            "declared_height": picture.height,
        }
