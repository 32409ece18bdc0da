"""Where an image stands in its page, and how much of it the page gives it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from filters.base import Filter, Level, measured

BESIDE = ("nav", "aside", "header", "footer")  # landmarks around what a page is about
# pixels: the smallest side of DataComp basic and COYO, which judge the picture itself; ALIGN asks
# for more than 200
SIDE = 200


@dataclass(frozen=True)
class PlaceFilter(Filter):
    """Position and dominance, from what the page says; nothing is fetched.

    LAIT (ImageBERT, section 3) keeps the dominant images of a page by features of the DOM tree and
    publishes no rule. Our choice: an image dominates unless something speaks against it: it stands
    in a landmark beside the content, or the page declares a side under 200 pixels. An imported pair
    has no page, so nothing speaks against it; its count and place are null.
    """

    name: ClassVar[str] = "place"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Tells where an image stands in its page and whether it is a dominant one"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = (
        "place",
        "images_on_page",
        "declared_width",
        "declared_height",
        "region",
        "page_language",
    )
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "page.images": pa.int32(),  # how many images the page has
        "page.place": pa.int32(),  # index of the image among them, from 0
        "page.declared_area": pa.int64(),  # CSS pixels; null unless both sides are declared
        # the landmark that holds the image: main, article, nav, aside, header, footer; null if none
        # does
        "page.region": pa.string(),
        # what the page says of itself, without its region: `en` of `en-US`
        "page.language": pa.string(),
        "page.content": pa.bool_(),  # in no landmark beside the content
        "page.dominant": pa.bool_(),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        wide, high, region = (
            batch.column(name) for name in ("declared_width", "declared_height", "region")
        )
        content = pc.invert(pc.is_in(region, value_set=pa.array(BESIDE)))
        small = pc.or_(*(pc.fill_null(pc.less(side, SIDE), False) for side in (wide, high)))
        columns = {
            "page.images": batch.column("images_on_page"),
            "page.place": batch.column("place"),
            "page.declared_area": pc.multiply(wide.cast(pa.int64()), high.cast(pa.int64())),
            "page.region": region,
            "page.language": _language(batch.column("page_language")),
            "page.content": content,
            "page.dominant": pc.and_(content, pc.invert(small)),
        }
        return measured(self.writes, columns)


def _language(named: pa.Array) -> pa.Array:
    """The first part of a language tag (RFC 5646) in lower case; null where that is not two or
    three letters.
    """
    return pc.struct_field(
        pc.extract_regex(pc.utf8_lower(named), r"^\s*(?P<language>[a-z]{2,3})(?:[-_,;\s].*)?$"),
        "language",
    )
