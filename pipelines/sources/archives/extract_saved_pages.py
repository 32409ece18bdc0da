"""From saved pages to candidates: a folder of HTML files, and the images that lie beside them."""

import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote, unquote

import fsspec
import pyarrow as pa

from pipelines.accounts import Account
from pipelines.engine.stage import Output, Part, Stage
from pipelines.html.images_of_page import TARGET_WIDTH
from pipelines.schema import CANDIDATES, identify
from pipelines.sources.archives.candidates import Candidates, Rows
from pipelines.sources.archives.responses import PAGE_BYTES
from pipelines.sources.datasets.samples import given, plain
from pipelines.sources.held import HELD, PLACES
from pipelines.sources.paths import is_local, opened
from pipelines.store import Written, digest
from pipelines.tables import write_parquet

PAGES = (".html", ".htm", ".xhtml")
FILES = 1000  # pages of a part
# stands for a folder without an address while its pages are read; .invalid is nobody's (RFC 2606)
LOCAL = "https://saved.invalid/"


@dataclass(frozen=True, kw_only=True)
class ExtractHtml(Stage):
    """Reads saved pages: `html` is a folder (with the folders in it), a file, or a pattern, local
    or at an fsspec URL.

    With `base_url`, the address of a page is that joined with its path in the folder: give what the
    folder was downloaded from. Without, pages and what they refer to beside them are called
    `given://<folder>/<path>`, and links to elsewhere stay as they are. Images that lie in the
    folder are not fetched but read there.
    """

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 4
    accounts: ClassVar[tuple[Account, ...]] = (
        Account(of="files", into=("pages", "pages.unreadable", "pages.other_file")),
    )
    html: str
    base_url: str = ""
    target_width: int = TARGET_WIDTH
    surrounding: bool = False

    def __post_init__(self) -> None:
        if self.base_url and not re.match(r"https?://[^/?#]+", self.base_url):
            raise ValueError(
                "give the base address of saved pages whole, such as https://example.org/; not"
                f" {self.base_url}"
            )

    def config(self) -> dict[str, Any]:
        return {
            "base_url": self.base_url,
            "target_width": self.target_width,
            "surrounding": self.surrounding,
        }

    def inputs(self) -> dict[str, str]:
        root, files = self._files()
        system, path = fsspec.core.url_to_fs(root)
        known = ((name, system.info(f"{path}/{name}")) for name in files)
        return {
            root: digest(
                [
                    (name, info.get("size"), str(info.get("mtime") or info.get("ETag") or ""))
                    for name, info in known
                ]
            )
        }

    def parts(self) -> list[Part]:
        root, files = self._files()
        pages = [name for name in files if name.lower().endswith(PAGES)]
        cut = [tuple(pages[start : start + FILES]) for start in range(0, len(pages), FILES)]
        # which are none: images, styles, notes; counted once
        others = [len(files) - len(pages)] + [0] * len(cut)
        return [
            Part(name=f"{index:05d}", inputs=(root, str(others[index]), *names))
            for index, names in enumerate(cut)
        ]

    def process(self, part: Part) -> Output:
        root, others, *names = part.inputs
        saved = _Saved(root=root, base_url=self.base_url)
        rows = Candidates(target_width=self.target_width, surrounding=self.surrounding)
        counts = Counter(
            {"files": len(names) + int(others), "pages": 0, "pages.other_file": int(others)}
        )
        for name in names:
            try:
                with opened(f"{root}/{name}") as file:
                    body = file.read(PAGE_BYTES + 1)
            except (OSError, ValueError):  # gone since it was listed, or not for us
                counts["pages.unreadable"] += 1
                continue
            counts["pages"] += 1
            counts["pages.cut"] += len(body) > PAGE_BYTES
            rows.add_page(
                body[:PAGE_BYTES], saved.address(name), archive=plain(f"{saved.name}/{name}")
            )
        table = rows.table()
        held = saved.held(table)
        files: list[Written] = [
            write_parquet(
                self.out, f"part-{part.name}.parquet", self.forgotten.blank(saved.named(table))
            )
        ]
        if held.num_rows:
            files.append(write_parquet(self.out, f"{HELD}{part.name}.parquet", held))
        return Output(
            files=tuple(files),
            counts={**counts, "candidates": table.num_rows, "archive_images": held.num_rows},
        )

    def _files(self) -> tuple[str, list[str]]:
        """The folder, and all its files or the matching ones, by their paths in it."""
        system, path = fsspec.core.url_to_fs(self.html)
        if system.isdir(path):
            root, found = path.rstrip("/"), system.find(path)
        else:
            found = (
                [path]
                if system.exists(path)
                else [name for name in system.glob(path) if not system.isdir(name)]
            )
            root = os.path.commonpath([os.path.dirname(name) for name in found]) if found else ""
        if is_local(self.html):
            # no pipes, and no links to nowhere
            found = [name for name in found if os.path.isfile(name)]
        if not any(name.lower().endswith(PAGES) for name in found):
            raise ValueError(
                f"there is no saved page at {self.html}: give a folder that holds .html, .htm or"
                " .xhtml files, or a pattern"
            )
        names = sorted(name[len(root) :].lstrip("/") for name in found)
        return root if is_local(self.html) else str(system.unstrip_protocol(root)), names


@dataclass(kw_only=True)
class _Saved:
    """A folder of saved pages and how its files are called."""

    root: str
    base_url: str

    @property
    def name(self) -> str:
        return self.root.rstrip("/").rsplit("/", 1)[-1]

    @property
    def base(self) -> str:
        return (self.base_url or LOCAL).rstrip("/") + "/"

    def address(self, name: str) -> str:
        return self.base + quote(os.fsencode(name))  # a name may be no UTF-8

    def held(self, table: pa.Table) -> pa.Table:
        """Where each image that lies in the folder is, by its address; nothing outside the
        folder.
        """
        rows = Rows(PLACES)
        for url in sorted(set(table["image_url"].to_pylist())):
            name = self._file(url)
            if name is not None:
                rows.append(
                    {
                        "image_url": self._named(url),
                        "archive": f"{self.root}/{name}",
                        "offset": 0,
                        "kind": "file",
                    }
                )
        return rows.table()

    def _file(self, url: str) -> str | None:
        """The path in the folder of the file behind an address, if there is one."""
        if not url.startswith(self.base):
            return None
        name = unquote(re.split(r"[?#]", url[len(self.base) :], maxsplit=1)[0])
        if not name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            return None
        system, path = fsspec.core.url_to_fs(self.root)
        inside = not is_local(self.root) or os.path.realpath(f"{path}/{name}").startswith(
            f"{os.path.realpath(path)}/"
        )
        return name if inside and system.isfile(f"{path}/{name}") else None

    def _named(self, url: str) -> str:
        """The address that is kept: one of a folder without an address is a given one."""
        return (
            url
            if self.base_url or not url.startswith(LOCAL)
            else given(self.name, unquote(url[len(LOCAL) :]))
        )

    def named(self, table: pa.Table) -> pa.Table:
        """The candidates under the addresses that are kept."""
        if self.base_url:
            return table
        rows = table.to_pylist()
        for row in rows:
            row["page_url"], row["image_url"] = (
                self._named(row["page_url"]),
                self._named(row["image_url"]),
            )
            row["alternatives"] = [self._named(url) for url in row["alternatives"]]
            row["candidate_id"] = identify(
                row["page_url"],
                None,
                row["image_url"],
                row["text"],
                row["text_source"],
                row["place"],
            )
        return pa.Table.from_pylist(rows, schema=CANDIDATES)
