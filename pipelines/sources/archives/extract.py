"""From archives to candidates: a part of candidates for each WARC or WAT file, or each range of a
large one, and an index of the images that the archives hold.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.accounts import Account
from pipelines.engine.stage import Output, Part, Stage
from pipelines.html.images_of_page import TARGET_WIDTH
from pipelines.permission.outcomes import headers_outcome
from pipelines.permission.takedown_list import TakedownList
from pipelines.sources.archives import wacz
from pipelines.sources.archives.candidates import Candidates, Rows
from pipelines.sources.archives.earlier_crawls import unchanged
from pipelines.sources.archives.responses import HTML, Response, is_html, responses
from pipelines.sources.archives.revisits import resolved
from pipelines.sources.archives.warc import Record
from pipelines.sources.archives.wat import pages_of
from pipelines.sources.archives.wat_rows import WatRows
from pipelines.sources.fetch_result import has_content
from pipelines.sources.held import ARCHIVE_IMAGES, HELD
from pipelines.sources.paths import Source, expand, fingerprint, information, inside
from pipelines.store import Folder, Written
from pipelines.tables import write_parquet

# what records of archives, and places where one is lost, become
RECORDS = Account(
    of="records",
    into=("pages", "archive_images", "record.", "skipped.", "archive."),
    also=("archive.truncated", "archive.wrong_length", "skipped.no_text", "skipped.no_address"),
)
# of a compressed archive: a part of some minutes; Common Crawl's archives have about 1 GB
RANGE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Reads WARC files into candidates; `pages` is the folder of our own crawl, `archives` what
    `sources.expand` takes.

    What a repeated crawl found unchanged is read where the earlier crawl stored it; of other
    archives, a record that refers to another for its body has that of the one that it names, if one
    of the archives holds it (see `sources.revisits`).

    A gzipped archive larger than `range_bytes` becomes several parts, each of which reads the
    records that begin in its range. An archive that a path list names at a remote host is one part:
    it is not looked at before it is read.
    """

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 8
    accounts: ClassVar[tuple[Account, ...]] = (RECORDS,)
    pages: Folder | None = None
    archives: tuple[str, ...] = ()
    prefix: str = ""  # what the lines of a path list are joined to
    target_width: int = TARGET_WIDTH
    surrounding: bool = False  # a candidate for the words around an image too
    range_bytes: int = RANGE_BYTES

    def config(self) -> dict[str, Any]:
        return {
            "target_width": self.target_width,
            "surrounding": self.surrounding,
            "range_bytes": self.range_bytes,
        }

    def inputs(self) -> dict[str, str]:
        return {label: fingerprint(source) for label, source in self._sources()}

    def parts(self) -> list[Part]:
        return ranges_of(self._sources(), self.range_bytes)

    def process(self, part: Part) -> Output:
        label, url, start, end = part.inputs
        found = Found(label=label, target_width=self.target_width, surrounding=self.surrounding)
        limits = int(start), int(end) if end else None
        if not wacz.is_package(url) and wacz.parted(url) is None:
            self._read(found, url, *limits)
        else:
            self._read_packed(found, url, *limits)
        return found.output(self.out, part.name, self.forgotten)

    def _read_packed(self, found: "Found", url: str, start: int, end: int | None) -> None:
        """What lies in a WACZ file, or all of one; what cannot be read there is counted."""
        try:
            archives = inside(url)
        except ValueError:
            archives = []
        for archive in archives:
            try:
                self._read(found, archive, start, end)
            except ValueError:
                found.lost("archive.unreadable")
        if not archives:
            found.lost("archive.broken_wacz")

    def _read(self, found: "Found", url: str, start: int, end: int | None) -> None:
        revisits: list[Record] = []
        for response in responses(
            url, found.counts, wanted=found.wants, start=start, end=end, revisits=revisits
        ):
            found.add(response, url)
        if self.pages is not None:
            for earlier, response in unchanged(url, revisits, found.counts):
                found.add(response, earlier.path, earlier.offset)
        elif revisits:
            self._revisited(found, url, revisits)

    def _revisited(self, found: "Found", url: str, revisits: list[Record]) -> None:
        others = (source.url for _, source in self._sources() if source.url != url)
        left = len(revisits)
        for place, response in resolved(revisits, url, others):
            left -= 1
            if self.forgotten.url(place.target):
                found.counts["skipped.forgotten"] += 1
            elif found.wants(response.status, response.media_type):
                found.add(response, place.archive, place.offset, place.target)
        found.counts["archive.revisit_unresolved"] += left

    def _sources(self) -> list[tuple[str, Source]]:
        """(label that provenance keeps, what to read) of each archive: our own by name, given ones
        as found.
        """
        own = (
            []
            if self.pages is None
            else [(name, self.pages.path(name)) for name in self.pages.names() if ".warc" in name]
        )
        given = [(source.url, source) for source in expand(self.archives, self.prefix)]
        for url, _ in given:
            _require_kind(
                url, (".wat", ".wet"), "give WAT files as wat; WET files hold texts without images"
            )
        return [*((name, Source(url=url)) for name, url in own), *given]


@dataclass(frozen=True, kw_only=True)
class ExtractWat(Stage):
    """Reads WAT files into candidates: alt and title of each image link. `textless` has images of
    which neither is said, too.
    """

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 3
    accounts: ClassVar[tuple[Account, ...]] = (RECORDS,)
    wat: tuple[str, ...] = ()
    prefix: str = ""
    textless: bool = False
    range_bytes: int = RANGE_BYTES

    def config(self) -> dict[str, Any]:
        return {"textless": self.textless, "range_bytes": self.range_bytes}

    def inputs(self) -> dict[str, str]:
        return {label: fingerprint(source) for label, source in self._sources()}

    def parts(self) -> list[Part]:
        return ranges_of(self._sources(), self.range_bytes)

    def process(self, part: Part) -> Output:
        label, url, start, end = part.inputs
        counts: Counter[str] = Counter(records=0, pages=0, candidates=0)
        rows = WatRows(archive=label, textless=self.textless)
        for page in pages_of(url, counts, start=int(start), end=int(end) if end else None):
            rows.append(page)
        written = write_parquet(
            self.out, f"part-{part.name}.parquet", self.forgotten.blank(rows.table())
        )
        counts["candidates"] = rows.rows
        return Output(files=(written,), counts=dict(counts + rows.counts))

    def _sources(self) -> list[tuple[str, Source]]:
        return [(source.url, source) for source in expand(self.wat, self.prefix)]


@dataclass(kw_only=True)
class Found:
    """What one part found so far: candidates, places of held images, counts."""

    label: str
    target_width: int = TARGET_WIDTH
    surrounding: bool = False
    counts: Counter[str] = field(default_factory=lambda: Counter(records=0, pages=0, candidates=0))
    held: Rows = field(default_factory=lambda: Rows(ARCHIVE_IMAGES))
    rows: Candidates = field(init=False)

    def __post_init__(self) -> None:
        self.rows = Candidates(target_width=self.target_width, surrounding=self.surrounding)

    def wants(self, status: int, media: str) -> bool:
        """Whether a response is worth reading, by status and media type; one that is not is
        counted.
        """
        if not has_content(status):
            self.counts["skipped.status"] += 1
            return False
        if media in HTML or not media or media.startswith("image/"):
            return True
        self.counts["skipped.media_type"] += 1
        return False

    def lost(self, why: str) -> None:
        """Count an archive of which nothing can be read as a record that is lost."""
        self.counts["records"] += 1
        self.counts[why] += 1

    def add(
        self,
        response: Response,
        archive: str,
        offset: int | None = None,
        stored_as: str | None = None,
    ) -> None:
        """A wanted response of an archive: a page's candidates, or the place of an image.

        `archive` and `offset` are where its body lies, if not in the record itself, and `stored_as`
        the address that it has there.
        """
        if response.media_type.startswith("image/"):
            if stored_as is not None and headers_outcome(response.headers) is not None:
                # said today, where the stored image says another thing
                self.counts["skipped.permission"] += 1
                return
            place = response.offset if offset is None else offset
            self.held.append(
                {
                    "image_url": response.url,
                    "archive": archive,
                    "offset": place,
                    "captured_at": response.captured_at,
                    "stored_as": stored_as if stored_as != response.url else None,
                }
            )
        elif is_html(response.media_type, response.body):
            self.counts["pages"] += 1
            self.counts["pages.cut"] += response.cut
            headers, at = response.headers, response.captured_at
            self.rows.add_page(
                response.body,
                response.url,
                headers,
                captured_at=at,
                archive=self.label,
                offset=response.offset,
            )
        else:
            self.counts["skipped.media_type"] += 1

    def output(self, out: Folder, name: str, forgotten: TakedownList) -> Output:
        """The files of the part, without what was taken down."""
        self.counts["candidates"], self.counts["archive_images"] = self.rows.rows, self.held.rows
        if self.rows.left_out:
            self.counts["pages.images_left_out"] = self.rows.left_out
        files: list[Written] = [
            write_parquet(out, f"part-{name}.parquet", forgotten.blank(self.rows.table()))
        ]
        if self.held.rows:
            files.append(
                write_parquet(out, f"{HELD}{name}.parquet", self.held.table().sort_by("image_url"))
            )
        return Output(files=tuple(files), counts=dict(self.counts))


def ranges_of(sources: Sequence[tuple[str, Source]], range_bytes: int) -> list[Part]:
    """A part for each archive, or for each range of one that can be cut; inputs are label, address,
    start and end (empty: the end).
    """
    cut = [
        (label, source.url, *limits)
        for label, source in sources
        for limits in _ranges(source, range_bytes)
    ]
    return [Part(name=f"{index:05d}", inputs=inputs) for index, inputs in enumerate(cut)]


def _ranges(source: Source, range_bytes: int) -> Iterator[tuple[str, str]]:
    inside = wacz.parted(source.url)
    cut = (inside[0] if inside is not None else source.url).endswith(".gz") and not source.listed
    size = information(source.url).get("size") if cut else None
    starts = range(0, max(int(size or 0), 1), range_bytes)
    for start in starts:
        yield str(start), str(start + range_bytes) if start != starts[-1] else ""


def _require_kind(url: str, other: tuple[str, ...], remedy: str) -> None:
    name = url.rsplit("/", 1)[-1]
    if any(name.endswith((kind, f"{kind}.gz")) for kind in other):
        raise ValueError(f"{url} is no WARC file by its name: {remedy}")
