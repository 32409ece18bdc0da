"""What the WAT road loses: the same pages read from WARC and from WAT, images and texts
compared.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from pipelines.permission.outcomes import address_outcome
from pipelines.sources.archives.extract import Found
from pipelines.sources.archives.responses import responses
from pipelines.sources.archives.wat import pages_of
from pipelines.sources.archives.wat_rows import WatRows
from pipelines.sources.paths import expand

COLUMNS = ["page_url", "image_url", "alternatives", "text", "text_source"]
Texts = set[tuple[str, str]]  # text_source, text with its blanks collapsed


def compare_roads(warc: str, wat: str) -> dict[str, dict[str, Any]]:
    """Counts of pages, and over the pages that both files hold of images and of texts by their
    source.

    An image is found by WAT if one of its addresses is that of an image link there; a text if it
    stands there beside that link. `placeholders` are images that WAT has under the address of an
    empty stand-in alone. ValueError if a file cannot be read.
    """
    pages: list[set[str]] = [set(), set()]
    tables = _of_warc(warc, pages[0]), _of_wat(wat, pages[1])
    both = pages[0] & pages[1]
    there = _by_address(tables[1], both)
    found, texts = Counter[str](), {name: Counter[str]() for name in ("warc", "wat")}
    for (page, url), (addresses, said) in _by_image(tables[0], both).items():
        match = next(
            (there[page, address] for address in (url, *addresses) if (page, address) in there),
            None,
        )
        found["warc"] += 1
        found["wat"] += match is not None
        for source, text in said:
            texts["warc"][source] += 1
            texts["wat"][source] += match is not None and (source, text) in match
    found["placeholders"] = sum(address_outcome(url) is not None for _, url in there)
    return {
        "pages": {"warc": len(pages[0]), "wat": len(pages[1]), "both": len(both)},
        "images": {
            "warc": found["warc"],
            "wat": found["wat"],
            "lost": found["warc"] - found["wat"],
            "placeholders": found["placeholders"],
        },
        "texts": {
            source: {
                "warc": count,
                "wat": texts["wat"][source],
                "lost": count - texts["wat"][source],
            }
            for source, count in sorted(texts["warc"].items())
        },
    }


def _of_warc(warc: str, pages: set[str]) -> pa.Table:
    found = Found(label="")
    for source in expand([warc]):
        for response in responses(source.url, found.counts, wanted=found.wants):
            before = found.counts["pages"]
            found.add(response, source.url)
            if found.counts["pages"] > before:
                pages.add(response.url)
    return found.rows.table().select(COLUMNS)


def _of_wat(wat: str, pages: set[str]) -> pa.Table:
    rows = WatRows(textless=True)
    for source in expand([wat]):
        for page in pages_of(source.url, Counter()):
            rows.append(page)
            pages.add(page.url)
    return rows.table().select(COLUMNS)


def _by_address(table: pa.Table, pages: set[str]) -> dict[tuple[str, str], Texts]:
    """Texts of each (page, image address)."""
    found: defaultdict[tuple[str, str], Texts] = defaultdict(set)
    for row in _rows(table, pages):
        found[row["page_url"], row["image_url"]] |= {
            (row["text_source"], " ".join(row["text"].split()))
        }
    return found


def _by_image(table: pa.Table, pages: set[str]) -> dict[tuple[str, str], tuple[list[str], Texts]]:
    """(other addresses, texts that say something) of each (page, image) whose address may be asked
    for.
    """
    found: dict[tuple[str, str], tuple[list[str], Texts]] = {}
    for row in _rows(table, pages):
        if address_outcome(row["image_url"]) is None:
            _, said = found.setdefault(
                (row["page_url"], row["image_url"]), (row["alternatives"], set())
            )
            if text := " ".join(row["text"].split()):
                said.add((row["text_source"], text))
    return found


def _rows(table: pa.Table, pages: set[str]) -> Iterable[dict[str, Any]]:
    return (
        row for batch in table.to_batches() for row in batch.to_pylist() if row["page_url"] in pages
    )
