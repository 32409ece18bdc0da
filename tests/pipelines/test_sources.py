"""What there is to read, near and far."""

import gzip
import io
import random
from collections import Counter
from pathlib import Path

import pytest

from pipelines.sources import paths as sources
from pipelines.sources.archives.boundaries import first_boundary
from pipelines.sources.archives.extract import Extract
from pipelines.sources.archives.responses import responses
from pipelines.sources.paths import Source, expand, fingerprint, opened, read_range
from pipelines.sources.retrying import ATTEMPTS, NoRanges, Unreachable
from pipelines.store import Folder
from tests.pipelines.ranges import ranged
from tests.pipelines.test_archives import record

DATA = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.sources.retrying.PAUSE", 0.01)


def urls(*patterns: str, prefix: str = "") -> list[str]:
    return [source.url for source in expand(patterns, prefix)]


def test_paths_patterns_and_urls(tmp_path: Path) -> None:
    for name in ("b.warc", "a.warc", "odd[1].warc"):
        (tmp_path / name).write_bytes(b"")
    a, b = str(tmp_path / "a.warc"), str(tmp_path / "b.warc")
    assert urls(f"{tmp_path}/?.warc") == [a, b]
    assert urls(f"file://{b}", a, b) == [a, b]
    assert urls(f"{tmp_path}/odd[1].warc") == [f"{tmp_path}/odd[1].warc"]
    with pytest.raises(
        ValueError, match=r"there is no archive at .*\.arc: give a file, a pattern such as"
    ):
        urls(f"{tmp_path}/*.arc")


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(b"")
    (tmp_path / "below").mkdir()
    assert urls(f"{tmp_path}/*") == [f"{tmp_path}/a.warc"]
    with pytest.raises(
        ValueError, match=r"below is a folder: give a file, a pattern such as 'dir/\*\.warc\.gz'"
    ):
        urls(f"{tmp_path}/below")


def test_a_host_that_never_answered_is_not_waited_for_at_each_line_of_a_list() -> None:
    with ranged({"/a": DATA}) as web:
        web.fail = 100
        for _ in range(3):
            with pytest.raises(Unreachable):
                read_range(f"{web.url}/a", 0, 10)
        assert len(web.asked) == ATTEMPTS + 2
        web.fail = 0
        assert read_range(f"{web.url}/a", 0, 10) == DATA[:10]
        web.fail = 2
        assert read_range(f"{web.url}/a", 0, 10) == DATA[:10]


def test_a_local_path_list(tmp_path: Path) -> None:
    (tmp_path / "crawl-data" / "x").mkdir(parents=True)
    (tmp_path / "crawl-data" / "x" / "1.warc.gz").write_bytes(b"")
    (tmp_path / "2.warc.gz").write_bytes(b"")
    lines = [
        "crawl-data/x/1.warc.gz",
        "crawl-data/x/2.warc.gz",
        "",
        "crawl-data/x/3.warc.gz",
        "s3://other/4.warc.gz",
    ]
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    near = [Source(url=f"{tmp_path}/2.warc.gz"), Source(url=f"{tmp_path}/crawl-data/x/1.warc.gz")]
    far = [
        Source(url="https://data.commoncrawl.org/crawl-data/x/3.warc.gz", listed=True),
        Source(url="s3://other/4.warc.gz", listed=True),
    ]
    assert expand([f"{tmp_path}/warc.paths.gz"]) == [*near, *far]
    assert urls(f"{tmp_path}/warc.paths.gz", prefix="s3://commoncrawl/") == [
        "s3://commoncrawl/crawl-data/x/1.warc.gz",
        "s3://commoncrawl/crawl-data/x/2.warc.gz",
        "s3://commoncrawl/crawl-data/x/3.warc.gz",
        "s3://other/4.warc.gz",
    ]


def test_an_empty_path_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "warc.paths").write_bytes(b"\n")
    with pytest.raises(ValueError, match=r"warc\.paths is empty: it must name one archive a line"):
        urls(f"{tmp_path}/warc.paths")


def test_a_path_list_of_a_host_is_joined_to_that_host_and_nothing_in_it_is_looked_at() -> None:
    names = [f"crawl-data/CC/{number}.warc.gz" for number in range(50)]
    with ranged(
        {
            "/crawl-data/CC/warc.paths.gz": gzip.compress("\n".join(names).encode()),
            f"/{names[0]}": b"x",
        }
    ) as web:
        found = expand([f"{web.url}/crawl-data/CC/warc.paths.gz"])
        assert found == [Source(url=f"{web.url}/{name}", listed=True) for name in sorted(names)]
        before = len(web.asked) + len(web.heads)
        assert len({fingerprint(source) for source in found}) == 50
        stage = Extract(
            out=Folder("memory://none"), archives=(f"{web.url}/crawl-data/CC/warc.paths.gz",)
        )
        assert len(stage.parts()) == 50
        assert len(web.asked) + len(web.heads) - before < 8


def test_names_beside_a_list_and_names_that_are_nowhere() -> None:
    with ranged(
        {
            "/lists/a.paths": b"x/1.warc.gz",
            "/lists/x/1.warc.gz": b"x",
            "/lists/b.paths": b"x/9.warc.gz",
        }
    ) as web:
        assert urls(f"{web.url}/lists/a.paths") == [f"{web.url}/lists/x/1.warc.gz"]
        assert urls(f"{web.url}/lists/b.paths") == ["https://data.commoncrawl.org/x/9.warc.gz"]


def test_ranges_of_a_remote_file_are_read_and_nothing_else() -> None:
    with ranged({"/a": DATA}) as web:
        assert read_range(f"{web.url}/a", 1000, 1300) == DATA[1000:1300]
        assert (web.asked, web.heads, web.sent) == ([("/a", 1000, 1300)], [], 300)
        assert read_range(f"{web.url}/a", len(DATA) - 10, len(DATA) + 90) == DATA[-10:]
        assert read_range(f"{web.url}/a", len(DATA) + 5, len(DATA) + 90) == b""
        with pytest.raises(ValueError, match="there is no archive at"):
            read_range(f"{web.url}/b", 0, 10)


def test_a_server_without_ranges_does_not_send_the_whole_file_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = DATA * 100
    with ranged({"/a": large}) as web:
        web.ranges = False
        with pytest.raises(
            NoRanges, match="/a is on a server that sends no byte ranges: copy the file here first"
        ):
            read_range(f"{web.url}/a", 1000, 1300)
        assert len(web.asked) == 1
        with opened(f"{web.url}/a") as file:
            file.seek(5000)
            assert file.read(100) == large[5000:5100]


def test_what_fails_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with ranged({"/a": DATA}) as web:
        web.fail, web.cut = 2, 1
        assert read_range(f"{web.url}/a", 0, 5000) == DATA[:5000]
        assert len(web.asked) == 4
        web.fail = 100
        with pytest.raises(
            Unreachable, match=r"/a cannot be read \(.*503.*\); run the same command again later"
        ):
            read_range(f"{web.url}/a", 0, 5000)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_remote_archive_is_read_in_blocks_and_no_failure_passes_for_its_end(
    monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    monkeypatch.setattr(sources, "BLOCK", 1 << 14)
    draw = random.Random(1)
    pages = [
        gzip.compress(record(f"http://a.example/{number}", draw.randbytes(2000)))
        for number in range(40)
    ]
    with ranged({"/a.warc.gz": b"".join(pages)}) as web:
        web.ranges = ranges
        counts: Counter[str] = Counter()
        web.fail, web.cut = (2, 1) if ranges else (0, 0)
        every = list(responses(f"{web.url}/a.warc.gz", counts, wanted=lambda status, media: True))
        assert [response.url for response in every] == [
            f"http://a.example/{number}" for number in range(40)
        ]
        assert counts == {"records": 40}
        web.fail = 1000
        with pytest.raises(Unreachable):
            list(responses(f"{web.url}/a.warc.gz", counts, wanted=lambda status, media: True))
        assert counts == {"records": 40}


@pytest.mark.parametrize(
    ("text", "number", "line"),
    [
        ("Apache License\nVersion 2.0\n", 1, "Apache License"),
        (
            "a.warc.gz\nb.warc.gz\n\nsee http://x.example/ for more\n",
            3,
            "see http://x.example/ for more",
        ),
        ("http://x.example/a.warc.gz\nshort\n", 2, "short"),
        ("word " * 100_000, 1, "word word word"),
        ("\0\1\2", 1, "\\x00\\x01\\x02"),
    ],
)
def test_a_text_that_lists_no_archives_is_refused_at_once(
    tmp_path: Path, text: str, number: int, line: str
) -> None:
    (tmp_path / "LICENSE.txt").write_text(text)
    with pytest.raises(
        ValueError, match=rf"LICENSE\.txt is no list of archives: its line {number} is "
    ) as raised:
        expand([str(tmp_path / "LICENSE.txt")])
    assert line in str(raised.value)


def test_lines_that_name_archives(tmp_path: Path) -> None:
    (tmp_path / "plain name").write_bytes(b"")
    names = [
        "crawl-data/a.warc.gz",
        "b.warc.wat.gz",
        "c.wacz",
        "http://x.example/d?e=1",
        "s3://bucket/f",
        "g.parquet",
        "plain name",
    ]
    (tmp_path / "list.txt").write_text("\n".join(names))
    assert len(expand([str(tmp_path / "list.txt")])) == len(names)


PATHS = gzip.compress(b"a.warc.gz\n" * 1000)


@pytest.mark.parametrize("data", [PATHS[:-9], b"a.warc.gz\n", PATHS[:-6] + b"abcdef"])
def test_a_damaged_path_list_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "warc.paths.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"the path list .*warc\.paths\.gz is damaged"):
        expand([str(tmp_path / "warc.paths.gz")])


class _Breaks(io.BytesIO):
    """An archive whose network fails once reading has come to a place."""

    def __init__(self, data: bytes, place: int) -> None:
        super().__init__(data)
        self.place = place

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.place:
            raise Unreachable("the network is gone")
        return super().read(size)


def test_a_network_that_fails_where_a_range_begins_moves_no_boundary() -> None:
    """Else the ranges of an archive would overlap, or leave records out, where they were cut
    differently.
    """
    members = [
        gzip.compress(b"WARC/1.1\r\n" + random.Random(number).randbytes(9000))
        for number in range(6)
    ]
    data, second = b"".join(members), len(members[0])
    assert first_boundary(io.BytesIO(data), 5) == second
    for place in (0, second, second + 1, second + 4096):
        with pytest.raises(Unreachable):
            first_boundary(_Breaks(data, place), 5)
