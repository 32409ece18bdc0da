"""Revisits: records without a body of their own, which refer to the record that has it (WARC 1.1,
6.7).

The record is looked for in the same archive, then in others of the same collection: by its id, by
its address and date, or by the digest of its payload, as the revisit has them. File names that a
revisit gives are not followed, as they may lead anywhere.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from pipelines.sources.archives.responses import READ, Headers, Response, http_of, response_of, walk
from pipelines.sources.archives.warc import Record
from pipelines.sources.paths import opened

# other archives that are looked through for what one refers to, each from front to end
SIBLINGS = 16
# what a revisit does not say anew (RFC 9111 3.2): the form of a body that it has not, and its own
# transfer
OF_THE_BODY = frozenset(
    {
        "content-type",
        "content-length",
        "content-encoding",
        "content-range",
        "transfer-encoding",
        "connection",
    }
)
DIGEST = "warc-payload-digest"
Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A record that has a body: where it is, and under which address."""

    archive: str
    offset: int
    target: str
    digest: str


def updated(headers: Headers, newer: Headers) -> Headers:
    """Stored headers with those of a revisit in their place: what a page permits today counts."""
    names = {name.lower() for name, _ in newer} - OF_THE_BODY
    kept = tuple(pair for pair in headers if pair[0].lower() not in names)
    return (*kept, *(pair for pair in newer if pair[0].lower() in names))


def resolved(
    revisits: Sequence[Record], archive: str, others: Iterable[str]
) -> Iterator[tuple[Place, Response]]:
    """Of the revisits of an archive those whose bodies are there or in one of some others.

    Each with where its body is, and the response as it is now, its offset and date being its own.
    """
    places = _places(revisits, [archive, *islice(others, SIBLINGS)])
    wanted: dict[str, list[tuple[Place, Record]]] = defaultdict(list)
    for revisit in revisits:
        place = _place(revisit, places)
        if place is not None:
            wanted[place.archive].append((place, revisit))

    for holder, pairs in wanted.items():
        pairs.sort(key=lambda pair: pair[0].offset)
        with opened(holder) as stream:
            for place, revisit in pairs:
                found = response_of(stream, place.offset, target=place.target)
                if found is not None:
                    yield place, _renewed(found, revisit)


def _renewed(found: Response, revisit: Record) -> Response:
    headers, _, _ = http_of(revisit)
    return replace(
        found,
        url=revisit.target,
        headers=updated(found.headers, headers),
        captured_at=revisit.date,
        offset=revisit.offset,
    )


def _places(revisits: Sequence[Record], archives: Sequence[str]) -> dict[Key, Place]:
    """The first record under each key that a revisit names, looked for until all have one."""
    keys = {key for revisit in revisits for key in _referred(revisit)}
    found: dict[Key, Place] = {}
    for archive in archives:
        for place, names in _bodies(archive, keys):
            for key in names:
                found.setdefault(key, place)
        if all(_place(revisit, found) is not None for revisit in revisits):
            break
    return found


def _bodies(archive: str, keys: Collection[Key]) -> Iterator[tuple[Place, list[Key]]]:
    """The records of an archive that are referred to by one of these keys; none if it is no
    archive. Unreachable if the network fails.
    """

    def read(record: Record) -> tuple[Place, list[Key]] | None:
        names = [key for key in _own(record) if key in keys] if record.kind in READ else []
        digest = record.fields.get(DIGEST, "").lower()
        place = Place(archive=archive, offset=record.offset, target=record.target, digest=digest)
        return (place, names) if names else None

    with suppress(ValueError):  # which is told of where it is read itself
        yield from walk(archive, Counter(), read, limit=0)


def _own(record: Record) -> Iterator[Key]:
    """What a record can be referred to by."""
    fields = record.fields
    yield "id", fields.get("warc-record-id", "")
    yield "date", record.target, record.date
    yield "digest", fields.get(DIGEST, "").lower()


def _referred(revisit: Record) -> Iterator[Key]:
    """What a revisit refers to its record by, the surest first."""
    fields = revisit.fields
    if name := fields.get("warc-refers-to", ""):
        yield "id", name
    if date := fields.get("warc-refers-to-date", ""):
        yield (
            "date",
            fields.get("warc-refers-to-target-uri", "").strip("<> ") or revisit.target,
            date,
        )
    if digest := fields.get(DIGEST, "").lower():
        yield "digest", digest


def _place(revisit: Record, places: Mapping[Key, Place]) -> Place | None:
    """Where the body of a revisit is; not where the digests say that it is another one."""
    digest = revisit.fields.get(DIGEST, "").lower()
    known = (places[key] for key in _referred(revisit) if key in places)
    return next((place for place in known if not digest or place.digest in ("", digest)), None)
