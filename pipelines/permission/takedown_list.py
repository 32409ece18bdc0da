"""What was taken down for ever: addresses, domains and images, remembered under `<root>/forgotten/`
and asked by every stage.

An address is compared without its scheme (http and https are one), user, default port and fragment,
with its host in lower case and in ASCII, and with its path as RFC 3986 6.2.2 spells it; its query
counts as it is. A domain covers all its subdomains. An image is known by the sha256 of its original
bytes, which is its `image_id`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from pipelines.urls import ascii_host

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from pipelines.store import Folder

FOLDER = "forgotten"
FORGOTTEN = "permission.forgotten"
KINDS = ("urls", "domains", "sha256")
# columns that stages read without asking: what was there becomes an empty string
NEVER_NULL = ("image_url", "text")
_PORTS = (80, 443, None)
_UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # RFC 3986 2.3
# the latter are escaped by some and by others not, and nobody means two things by that
_ONE_SPELLING = frozenset(_UNRESERVED + "'[]|")
_AUTHORITY = r"^\s*[A-Za-z][A-Za-z0-9+.-]*:[/\\]{2,}(?P<authority>[^/?#\\]*)"


@dataclass(frozen=True, kw_only=True)
class TakedownList:
    """The list of what was taken down, in the spelling in which it is compared; picklable, so that
    stages carry it.
    """

    urls: frozenset[str] = field(default_factory=frozenset)
    domains: frozenset[str] = field(default_factory=frozenset)
    sha256: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(
        cls, *, urls: Iterable[str] = (), domains: Iterable[str] = (), sha256: Iterable[str] = ()
    ) -> "TakedownList":
        """A list of what people wrote; ValueError for what is no address, no domain, or no hash."""
        return cls(
            urls=frozenset(_checked_url(url) for url in urls),
            domains=frozenset(_checked_domain(name) for name in domains),
            sha256=frozenset(_checked_hash(text) for text in sha256),
        )

    @classmethod
    def read(cls, root: "Folder") -> "TakedownList":
        """All that was ever taken down in a root."""
        folder = root / FOLDER
        records = [
            folder.read_json(name)
            for name in folder.names()
            if re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{16}\.json", name)
        ]
        return cls.from_json(
            {kind: {value for record in records for value in record[kind]} for kind in KINDS}
        )

    def remember(self, root: "Folder", note: str = "") -> bool:
        """Write what is not on the root's list yet as one record of it, for ever; False if all of
        it was there.
        """
        known = TakedownList.read(root)
        fresh = {kind: sorted(getattr(self, kind) - getattr(known, kind)) for kind in KINDS}
        if not any(fresh.values()):
            return False
        now = datetime.now(UTC)
        data = (
            json.dumps(
                {**fresh, "when": now.isoformat(timespec="seconds"), "note": note},
                indent=1,
                ensure_ascii=False,
            ).encode()
            + b"\n"
        )
        (root / FOLDER).create(
            f"{now:%Y%m%dT%H%M%SZ}-{hashlib.sha256(data).hexdigest()[:16]}.json", data
        )
        return True

    def __or__(self, other: "TakedownList") -> "TakedownList":
        return TakedownList(
            urls=self.urls | other.urls,
            domains=self.domains | other.domains,
            sha256=self.sha256 | other.sha256,
        )

    def __bool__(self) -> bool:
        return bool(self.urls or self.domains or self.sha256)

    def __len__(self) -> int:
        return len(self.urls) + len(self.domains) + len(self.sha256)

    @cached_property
    def digest(self) -> str:
        """Of what the list holds, not of when or why."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, list[str]]:
        """Sorted lists, for another process; `from_json` reads them."""
        return {kind: sorted(getattr(self, kind)) for kind in KINDS}

    @classmethod
    def from_json(cls, value: Mapping[str, Iterable[str]]) -> "TakedownList":
        """What `to_json` gave, or an earlier version of it that spelled addresses otherwise."""
        urls = frozenset(_spelled(url) for url in value["urls"])
        return cls(
            urls=urls, domains=frozenset(value["domains"]), sha256=frozenset(value["sha256"])
        )

    def url(self, url: str) -> bool:
        """Whether the address of a page or an image was taken down, by itself or with its
        domain.
        """
        if not (self.urls or self.domains):
            return False
        return self.domain(host_of(_authority(url))) or address(url) in self.urls

    def domain(self, host: str) -> bool:
        """Whether a host was taken down, by itself or with a domain above it."""
        labels = host_of(host).split(".")
        return any(".".join(labels[start:]) in self.domains for start in range(len(labels)))

    def image(self, image_id: str | None) -> bool:
        """Whether an image was taken down by its hash."""
        return image_id in self.sha256

    def addresses(self, urls: "pa.Array | pa.ChunkedArray") -> "np.ndarray":
        """[n] truths: which addresses of a column were taken down; a null was not.

        Hosts are compared once each; only addresses on the host of a listed one are spelled out one
        by one.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if not (self.urls or self.domains) or not len(urls):
            return np.zeros(len(urls), dtype=bool)
        column = pa.chunked_array([urls]) if isinstance(urls, pa.Array) else urls
        authority = pc.fill_null(
            pc.struct_field(pc.extract_regex(column, _AUTHORITY), "authority"), ""
        )
        distinct = authority.combine_chunks().dictionary_encode()
        hosts = [host_of(one) for one in distinct.dictionary.to_pylist()]
        place = distinct.indices.to_numpy(zero_copy_only=False)
        gone = np.array([self.domain(host) for host in hosts])[place]
        listed = {host_of(_authority(url)) for url in self.urls}
        maybe = np.flatnonzero(np.array([host in listed for host in hosts])[place] & ~gone)
        spelled = column.take(pa.array(maybe)).to_pylist()
        gone[maybe] = [url is not None and address(url) in self.urls for url in spelled]
        return np.asarray(gone, dtype=bool)

    def candidates(self, table: "pa.Table") -> "np.ndarray":
        """[n] truths: which candidates were taken down, by the address of the page or by any
        address of the image.
        """
        import numpy as np
        import pyarrow.compute as pc

        gone = np.zeros(table.num_rows, dtype=bool)
        for name in {"page_url", "image_url"} & set(table.column_names):
            gone |= self.addresses(table[name])
        if "alternatives" in table.column_names:
            lists = table["alternatives"].combine_chunks()
            found = self.addresses(pc.list_flatten(lists))
            gone[pc.list_parent_indices(lists).to_numpy()[found]] = True
        return gone

    def images(self, image_ids: "pa.Array | pa.ChunkedArray") -> "np.ndarray":
        """[n] truths: which images of a column were taken down by their hashes; a null was not."""
        import pyarrow as pa

        return among(image_ids, pa.array(sorted(self.sha256), pa.string()))

    def blank(self, candidates: "pa.Table") -> "pa.Table":
        """Candidates as they may be stored: of those taken down only the id and the reason
        remain.
        """
        return erased(candidates, self.candidates(candidates)) if self else candidates


NOTHING = TakedownList()


def among(values: "pa.Array | pa.ChunkedArray", listed: "pa.Array") -> "np.ndarray":
    """[n] truths: which values are among those listed; a null never is."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(values, value_set=listed, skip_nulls=True)
    return np.asarray(
        found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy(),
        dtype=bool,
    )


def erased(
    table: "pa.Table",
    gone: "np.ndarray",
    *,
    keep: Iterable[str] = ("candidate_id",),
    mark: str = "permission",
) -> "pa.Table":
    """A table in which the rows of `gone` hold nothing but the columns `keep`, and
    `permission.forgotten` in the column `mark`.

    Everything else is null there, or empty where other stages count on a text.
    """
    import pyarrow as pa

    for entry in table.schema:
        if entry.name not in keep:
            empty = "" if entry.name in NEVER_NULL and not pa.types.is_list(entry.type) else None
            table = emptied(table, entry.name, gone, FORGOTTEN if entry.name == mark else empty)
    return table


def emptied(table: "pa.Table", name: str, gone: "np.ndarray", value: str | None) -> "pa.Table":
    """A table with one value in some rows of a column, and no trace in memory of what was there.

    `if_else` alone would hide it: it marks a value as null and leaves its bytes in the buffer, from
    where they would be written.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    place = table.schema.get_field_index(name)
    entry = table.schema.field(place)
    left = table.column(place).take(pa.array(np.arange(table.num_rows), mask=gone))
    return table.set_column(
        place,
        entry,
        left if value is None else pc.if_else(pa.array(gone), pa.scalar(value, entry.type), left),
    )


def address(url: str) -> str:
    """An address in the spelling in which it is compared; what is no web address is compared as it
    is, without a fragment.
    """
    plain = url.strip().split("#", 1)[0]
    try:
        parts = urlsplit(plain)
        port = "" if parts.port in _PORTS else f":{parts.port}"
    except ValueError:
        return plain
    if parts.scheme.lower() not in ("http", "https"):
        return plain
    path = _without_dots(_spelled(parts.path.replace("\\", "/")) or "/")
    return f"//{host_of(parts.netloc)}{port}{path}" + (
        f"?{_spelled(parts.query)}" if parts.query else ""
    )


def host_of(authority: str) -> str:
    """`xn--bcher-kva.example` of `user@Bücher.example.:443`: the host alone, lower case, in ASCII
    where it can be.
    """
    host = unquote(authority.strip()).rsplit("@", 1)[-1].lower()
    host = host[1:].split("]", 1)[0] if host.startswith("[") else host.split(":", 1)[0]
    return ascii_host(host.rstrip("."))


def _authority(url: str) -> str:
    found = re.match(_AUTHORITY, url if "://" in url or not url.startswith("//") else f"http:{url}")
    return found["authority"] if found else ""


def _spelled(text: str) -> str:
    """RFC 3986 6.2.2: capital hexadecimal digits, no escapes that need not be, and what must be
    escaped is.
    """

    def settle(match: re.Match[str]) -> str:
        letter = chr(int(match[1], 16))
        return letter if letter in _ONE_SPELLING else match[0].upper()

    return quote(re.sub(r"%([0-9A-Fa-f]{2})", settle, text), safe="%/?:@!$&'()*+,;=-._~[]|")


def _without_dots(path: str) -> str:
    """RFC 3986 5.2.4: `/a/./b/../c` is `/a/c`."""
    kept: list[str] = []
    steps = path.split("/")[1:]
    for step in steps:
        if step == "..":
            del kept[-1:]
        elif step != ".":
            kept.append(step)
    return "/" + "/".join(kept) + ("/" if steps[-1] in (".", "..") and kept else "")


def _checked_url(url: str) -> str:
    if not re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*:)?//[^/\s]", url):
        raise ValueError(f"{url!r} is no address: write it whole, as https://example.org/path")
    return address(url)


def _checked_domain(name: str) -> str:
    host = host_of(name)
    if not host or re.search(r"[\s/\\?#*@]", name.strip()) or "" in host.split("."):
        raise ValueError(
            f"{name!r} is no domain: write it as example.org, without scheme, path or star; its"
            " subdomains are meant too"
        )
    if _is_public_suffix(host):
        raise ValueError(
            f"{name!r} is a public suffix: forgetting it would forget every domain below it; name"
            " the domains themselves"
        )
    return host


def _is_public_suffix(host: str) -> bool:
    """Whether others register domains below this name, by the list that tldextract carries; it asks
    nobody.
    """
    import tldextract

    found = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)(host)
    return found.suffix == host


def _checked_hash(text: str) -> str:
    found: Any = re.fullmatch(r"(?:sha256:)?([0-9a-f]{64})", text.strip().lower())
    if not found:
        raise ValueError(f"{text!r} is no sha256: give the 64 hexadecimal digits of an image_id")
    return str(found[1])
