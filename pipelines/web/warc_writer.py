"""The WARC files of a crawl: written record by record, rotated by size, and taken up again after a
kill.
"""

import io
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipelines.times import now

SUFFIX = ".warc.gz"
ROTATE_BYTES = 1024 * 1024 * 1024  # Common Crawl's and Heritrix's usual size of an archive
NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
Headers = Iterable[tuple[str, str]]


def part_names(folder: Path) -> list[str]:
    """The archives of a crawl in order."""
    return sorted(path.name for path in folder.glob(f"part-*{SUFFIX}"))


def whole_length(path: Path) -> int:
    """How many bytes of a file of gzip members are whole members; what follows was being written
    when the writer died.
    """
    whole = position = 0
    member = zlib.decompressobj(wbits=31)
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            while data:
                try:
                    member.decompress(data)
                except zlib.error:
                    return whole
                position += len(data) - len(member.unused_data)
                data = member.unused_data
                if member.eof:
                    whole, member = position, zlib.decompressobj(wbits=31)
    return whole


def mend(folder: Path) -> int:
    """Cut the unfinished record off the last archive of a killed crawl; returns the bytes cut."""
    names = part_names(folder)
    if not names:
        return 0
    path = folder / names[-1]
    whole, size = whole_length(path), path.stat().st_size
    if whole < size:
        os.truncate(path, whole)
    return size - whole


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request and its answer: `status` is e.g. `200 OK`, `body` the bytes as sent, without
    transfer encoding.
    """

    url: str
    status: str
    headers: Headers
    body: bytes
    request: Headers
    address: str | None = None
    cut: bool = False  # whether only the beginning of its body was read


class _Head(StatusAndHeaders):  # type: ignore[misc]
    """Headers that are written byte by byte as they came; warcio's own would be escaped."""

    def compute_headers_buffer(self, header_filter: object = None) -> None:
        self.headers_buff = self.to_bytes(header_filter, "latin-1")


class PageWriter:
    """Appends exchanges; each record is one gzip member, and what belongs together is handed to the
    system at once.
    """

    def __init__(
        self, folder: Path, *, rotate_bytes: int = ROTATE_BYTES, software: str = "winnow"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._rotate_bytes, self._software = folder, rotate_bytes, software
        names = part_names(folder)
        self._open(max(0, len(names) - 1))

    def _open(self, number: int) -> None:
        self._number, name = number, f"part-{number:05d}{SUFFIX}"
        self._file: IO[bytes] = open(self._folder / name, "ab")  # noqa: SIM115 - closed by close() or by the next rotation
        self._writer = WARCWriter(self._file, gzip=True, warc_version="1.1")
        if self._file.tell() == 0:
            info = {"software": self._software, "format": "WARC File Format 1.1"}
            self._writer.write_record(self._writer.create_warcinfo_record(name, info))
            self._file.flush()

    def write(self, exchange: Exchange) -> None:
        """Store an answer with its request."""
        self._append("response", exchange, io.BytesIO(exchange.body), {})

    def write_unchanged(self, exchange: Exchange, *, refers_to: Mapping[str, str]) -> None:
        """Store a 304 as a revisit record; `refers_to` are the WARC headers that name the earlier
        response.
        """
        self._append(
            "revisit", exchange, io.BytesIO(b""), {"WARC-Profile": NOT_MODIFIED, **refers_to}
        )

    def write_note(self, url: str, fields: Mapping[str, str]) -> None:
        """Store a metadata record about an address that has no response record."""
        body = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()
        self._rotate()
        extra = {"WARC-Date": now(), "Content-Type": "application/warc-fields"}
        record = self._writer.create_warc_record(
            url, "metadata", io.BytesIO(body), length=len(body), warc_headers_dict=extra
        )
        self._writer.write_record(record)
        self._file.flush()

    def _append(
        self, kind: str, exchange: Exchange, payload: io.BytesIO, named: Mapping[str, str]
    ) -> None:
        self._rotate()
        extra = {"WARC-Date": now()} | (
            {"WARC-IP-Address": exchange.address} if exchange.address else {}
        )
        extra |= {"WARC-Truncated": "length"} if exchange.cut else {}
        answer = _Head(exchange.status, _kept(exchange.headers), protocol="HTTP/1.1")
        response = self._writer.create_warc_record(
            exchange.url,
            kind,
            payload=payload,
            http_headers=answer,
            warc_headers_dict={**extra, **named},
        )
        self._writer.write_record(response)
        extra.pop("WARC-Truncated", None)
        asked = _Head(
            f"GET {_path(exchange.url)} HTTP/1.1", list(exchange.request), is_http_request=True
        )
        extra["WARC-Concurrent-To"] = response.rec_headers.get_header("WARC-Record-ID")
        self._writer.write_record(
            self._writer.create_warc_record(
                exchange.url, "request", http_headers=asked, warc_headers_dict=extra
            )
        )
        self._file.flush()

    def _rotate(self) -> None:
        if self._file.tell() >= self._rotate_bytes:
            self.close()
            self._open(self._number + 1)

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _kept(headers: Headers) -> list[tuple[str, str]]:
    """Headers as they are true of the stored body: the chunks of a chunked one are gone."""
    return [
        (f"X-Crawler-{name}" if name.lower() == "transfer-encoding" else name, value)
        for name, value in headers
    ]


def _path(url: str) -> str:
    rest = url.split("://", 1)[-1]
    return f"/{rest.split('/', 1)[1]}" if "/" in rest else "/"
