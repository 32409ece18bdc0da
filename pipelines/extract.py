"""From archives to candidates: one part of candidates for each WARC file, and an index of the images that the archive holds."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipelines.archives import HTML, Response, is_html, responses
from pipelines.candidates import Candidates, Rows
from pipelines.held import ARCHIVE_IMAGES, HELD
from pipelines.images_of_page import TARGET_WIDTH
from pipelines.schema import identify
from pipelines.stage import Output, Part, Stage
from pipelines.store import Folder, write_parquet

HASHED_WHOLE = 64 * 1024 * 1024  # bytes; a larger archive is known by its size and time of change


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Reads WARC files into candidates; `pages` is the folder of our own crawl, `archives` are paths, patterns or fsspec URLs."""

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 2
    pages: Folder | None = None
    archives: tuple[str, ...] = ()
    target_width: int = TARGET_WIDTH

    def config(self) -> dict[str, Any]:
        return {"target_width": self.target_width}

    def inputs(self) -> dict[str, str]:
        return {label: fingerprint(url) for label, url in self._sources()}

    def parts(self) -> list[Part]:
        return [Part(name=f"{index:05d}", inputs=source) for index, source in enumerate(self._sources())]

    def process(self, part: Part) -> Output:
        label, url = part.inputs
        counts: Counter[str] = Counter(pages=0, candidates=0)
        rows, held = Candidates(target_width=self.target_width), Rows(ARCHIVE_IMAGES)
        for response in responses(url, counts, wanted=lambda status, media: _wanted(status, media, counts)):
            if response.media_type.startswith("image/"):
                held.append({"image_url": response.url, "archive": url, "offset": response.offset, "captured_at": response.captured_at})
            elif is_html(response.media_type, response.body):
                self._append_page(rows, response, label, counts)
            else:
                counts["skipped.media_type"] += 1
        counts["candidates"], counts["archive_images"] = rows.rows, held.rows
        files = [write_parquet(self.out, f"part-{part.name}.parquet", rows.table())]
        if held.rows:
            files.append(write_parquet(self.out, f"{HELD}{part.name}.parquet", held.table().sort_by("image_url")))
        return Output(files=tuple(files), counts=dict(counts))

    def _sources(self) -> list[tuple[str, str]]:
        """(label that provenance keeps, address to read) of each archive: our own by name, given ones as found."""
        own = [] if self.pages is None else [(name, self.pages.path(name)) for name in self.pages.names() if ".warc" in name]
        given = [(url, url) for url in expand(self.archives)]
        return [*own, *given]

    def _append_page(self, rows: Candidates, response: Response, label: str, counts: Counter[str]) -> None:
        counts["pages"] += 1
        counts["pages.cut"] += response.cut
        rows.add_page(
            response.body,
            response.url,
            response.headers,
            captured_at=response.captured_at,
            archive=label,
            offset=response.offset,
        )


def _wanted(status: int, media: str, counts: Counter[str]) -> bool:
    if status != 200:
        counts["skipped.status"] += 1
        return False
    if media in HTML or not media or media.startswith("image/"):
        return True
    counts["skipped.media_type"] += 1
    return False


def expand(archives: Sequence[str]) -> list[str]:
    """Sorted archive addresses of paths, patterns and fsspec URLs, each once; ValueError if one finds nothing."""
    found: set[str] = set()
    for pattern in archives:
        system, path = fsspec.core.url_to_fs(pattern)
        matches = system.glob(path) if any(mark in path for mark in "*?[") else [path] if system.exists(path) else []
        if not matches:
            raise ValueError(f"there is no archive at {pattern}: give a WARC file, a pattern such as 'dir/*.warc.gz', or an fsspec URL")
        found |= {str(match) if isinstance(system, LocalFileSystem) else str(system.unstrip_protocol(match)) for match in matches}
    return sorted(found)


def fingerprint(url: str) -> str:
    """What tells one version of an archive from another: its content where that is quickly read, else size and time of change."""
    system, path = fsspec.core.url_to_fs(url)
    try:
        info = system.info(path)
    except FileNotFoundError as error:
        raise ValueError(f"there is no file at {url}") from error
    if isinstance(system, LocalFileSystem) and info["size"] <= HASHED_WHOLE:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    changed = info.get("ETag") or info.get("mtime") or info.get("LastModified")
    return identify(str(info["size"]), str(changed))
