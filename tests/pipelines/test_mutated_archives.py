"""Archives with bytes flipped, cut out, put in, repeated and joined: no traceback, no hang, and
every record is accounted for.
"""

import gzip
import io
import random
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.sources.archives.extract import RECORDS, Extract, ExtractWat
from pipelines.store import Folder
from tests.pipelines.test_archives import record


def made(dice: random.Random, count: int) -> list[bytes]:
    """Records of all kinds."""
    kinds: list[Callable[[str], bytes]] = [
        lambda url: record(
            url, b"<img src=/x.jpg alt='%s'>" % dice.randbytes(dice.randint(0, 400)).hex().encode()
        ),
        lambda url: record(url, dice.randbytes(500), "Content-Type: image/jpeg\r\n"),
        lambda url: record(url, b"", kind="request"),
        lambda url: record(
            url,
            gzip.compress(b"<img src=/y.jpg alt=y>"),
            "Content-Type: text/html\r\nContent-Encoding: gzip\r\n",
        ),
        lambda url: record(url, b"x").replace(b"200 OK", b"404 No"),
        lambda url: record(url, b"", kind="revisit"),
        lambda url: record(url, b"{}", kind="metadata"),
    ]
    return [dice.choice(kinds)(f"http://a.example/{number}") for number in range(count)]


def wacz(records: list[bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        target.writestr("archive/a.warc.gz", b"".join(map(gzip.compress, records)))
    return packed.getvalue()


PACKED: dict[str, Callable[[list[bytes]], bytes]] = {
    "plain.warc": lambda records: b"".join(records),
    "members.warc.gz": lambda records: b"".join(map(gzip.compress, records)),
    "one.warc.gz": lambda records: gzip.compress(b"".join(records)),
    "zstd.warc.zst": lambda records: b"".join(map(zstd.compress, records)),
    "lz4.warc.lz4": lambda records: b"".join(map(lz4.frame.compress, records)),
    "package.wacz": wacz,
}


def mutated(data: bytes, dice: random.Random, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        place, length = dice.randrange(len(changed) or 1), dice.randint(1, 3000)
        kind = dice.randrange(6)
        if kind <= 1 and changed:
            changed[place] ^= 1 << dice.randrange(8)
        elif kind == 2:
            changed[place : place + dice.randint(0, 40)] = dice.randbytes(dice.randint(0, 40))
        elif kind == 3:
            del changed[place : place + length if dice.random() < 0.7 else None]
        elif kind == 4:
            changed[place:place] = changed[dice.randrange(len(changed) or 1) :][:length]
        else:
            changed += other
    return bytes(changed)


def accounted(
    folder: Path, name: str, data: bytes, range_bytes: int = 1 << 28
) -> Counter[str] | None:
    """The counts of an archive, which add up; None for one that is refused by a message that names
    it.
    """
    (folder / name).write_bytes(data)
    stage = Extract(
        out=Folder(str(folder / "candidates")),
        archives=(str(folder / name),),
        range_bytes=range_bytes,
    )
    counts: Counter[str] = Counter()
    try:
        for part in stage.parts():
            output = stage.process(part)
            RECORDS.check(output.counts["records"], output.counts, part.name)
            counts.update(output.counts)
    except ValueError as error:
        if name not in str(error):
            raise
        return None
    return counts


@pytest.mark.parametrize("name", PACKED)
def test_two_hundred_records_mutated(tmp_path: Path, name: str) -> None:
    records = made(random.Random(1), 200)
    other = PACKED[random.Random(2).choice(list(PACKED))](made(random.Random(3), 5))
    whole = accounted(tmp_path, name, PACKED[name](records))
    assert whole is not None
    assert whole["records"] == 200
    assert not [
        one
        for one in whole
        if one.startswith("archive.") and one != "archive.revisit_unresolved" and whole[one]
    ]
    for seed in range(17):  # by six forms: a hundred
        dice = random.Random(seed)
        counts = accounted(
            tmp_path,
            name,
            mutated(PACKED[name](records), dice, other),
            dice.choice((1 << 28, 10_000)),
        )
        assert counts is None or sum(counts.values()) > 0


BYTES = st.binary(max_size=60)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@QUIET
@given(
    name=st.sampled_from(sorted(PACKED)),
    count=st.integers(0, 6),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 80), BYTES), max_size=4),
    repeated=st.integers(1, 3),
    cut=st.floats(0, 1),
)
def test_whatever_is_done_to_an_archive(
    name: str, count: int, edits: list[tuple[float, int, bytes]], repeated: int, cut: float
) -> None:
    data = bytearray(PACKED[name](made(random.Random(count), count)) * repeated)
    for where, length, new in edits:
        place = int(where * len(data))
        data[place : place + length] = new
    with tempfile.TemporaryDirectory() as folder:
        accounted(
            Path(folder), name, bytes(data[: len(data) if cut > 0.5 else int(2 * cut * len(data))])
        )


PAGE_OF_WAT = (
    b'{"Envelope":{"Payload-Metadata":{"HTTP-Response-Metadata":{"HTML-Metadata":{"Links":[]}}}}}'
)
WAT = b"".join(
    gzip.compress(
        record(f"http://a.example/{number}", b"", kind="metadata").replace(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", body
        )
    )
    for number, body in enumerate((PAGE_OF_WAT, b"{" * 45, b"", b"x" * 45))
)


@QUIET
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 80), BYTES), max_size=4))
def test_whatever_is_done_to_a_wat_file(edits: list[tuple[float, int, bytes]]) -> None:
    data = bytearray(WAT)
    for where, length, new in edits:
        place = int(where * len(data))
        data[place : place + length] = new
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.warc.wat.gz"
        path.write_bytes(bytes(data))
        stage = ExtractWat(out=Folder(f"{folder}/candidates"), wat=(str(path),))
        try:
            output = stage.process(stage.parts()[0])
        except ValueError as error:
            if path.name not in str(error):
                raise
        else:
            RECORDS.check(output.counts["records"], output.counts, "wat")
