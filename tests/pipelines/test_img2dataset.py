"""`winnow img2dataset`: resuming, permission, lists as strangers write them, arguments that mean
nothing, and hostile images.
"""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.images.decode import decode
from pipelines.images.isolated import Isolated
from pipelines.img2dataset import lists
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.decoders import EXIF_READS, exif_of, resized
from pipelines.img2dataset.jpegs import ordinary_jpeg
from pipelines.img2dataset.resize import Resizing
from pipelines.img2dataset.run import Done, img2dataset
from pipelines.img2dataset.shards import lane_of
from pipelines.lease import LeaseHeld, lease
from pipelines.store import Folder
from tests.pipelines.web import Page, Reply, Web, jpeg, served


def run(folder: Path, urls: list[str] | None = None, **more: Any) -> Done:
    """A run over addresses, or over the list that is there, into `out` of the folder."""
    if urls is not None:
        (folder / "list.txt").write_text("\n".join(urls))
    given = {
        "url_list": str(folder / "list.txt"),
        "output_folder": str(folder / "out"),
        "allow_private_addresses": True,
    }
    return img2dataset(Img2datasetConfig(**{**given, **more}))


def table(folder: Path, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of all shards in order."""
    tables = [pq.read_table(path) for path in sorted((folder / "out").glob("*.parquet"))]
    return [tuple(row[name] for name in columns) for one in tables for row in one.to_pylist()]


def photos(count: int) -> dict[str, Page]:
    return {
        f"/{number}.jpg": Reply(body=jpeg(40 + number, 30), type="image/jpeg")
        for number in range(count)
    }


# --- resuming


def test_a_second_run_asks_for_nothing(tmp_path: Path) -> None:
    with served(photos(5)) as web:
        urls = [f"{web.url}{path}" for path in web.pages]
        first = run(tmp_path, urls, number_sample_per_shard=2)
        asked = len(web.asked)
        again = run(tmp_path, number_sample_per_shard=2)
        assert len(web.asked) == asked
    assert (first.shards, first.count, first.successes) == (3, 5, 5)
    assert again == first
    assert sorted(path.name for path in (tmp_path / "out" / "_winnow").iterdir()) == [
        "settings.json"
    ]


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_what_failed_for_the_moment_is_asked_again_and_nothing_else(
    tmp_path: Path, output_format: str
) -> None:
    pages = {**photos(4), "/2.jpg": Reply(status=408), "/gone.jpg": Reply(status=404)}
    with served(pages) as web:
        urls = [f"{web.url}/{name}.jpg" for name in (0, 1, 2, 3, "gone")]
        first = run(tmp_path, urls, output_format=output_format)
        assert first.outcomes == {"success": 3, "fetch.http_408": 1, "fetch.http_404": 1}
        before = held(tmp_path, output_format)
        web.pages["/2.jpg"] = Reply(body=jpeg(99, 99))
        web.asked.clear()
        again = run(tmp_path, output_format=output_format)
        assert [path for path in web.asked if path.endswith(".jpg")] == ["/2.jpg"]
    assert again.outcomes == {"success": 4, "fetch.http_404": 1}
    assert table(tmp_path, "key", "error_message") == [
        ("000000000", None),
        ("000000001", None),
        ("000000002", None),
        ("000000003", None),
        ("000000004", "fetch.http_404"),
    ]
    after = held(tmp_path, output_format)
    assert after.pop("000000002.jpg")
    assert after == before


def held(folder: Path, output_format: str) -> dict[str, bytes]:
    """The images of the first shard by their names."""
    out = folder / "out"
    if output_format == "files":
        return {path.name: path.read_bytes() for path in (out / "00000").glob("*.jpg")}
    if output_format == "webdataset":
        with tarfile.open(out / "00000.tar") as tar:
            return {
                one.name: tar.extractfile(one).read() for one in tar if one.name.endswith(".jpg")
            }  # type: ignore[union-attr]
    rows = pq.read_table(out / "00000.parquet").to_pylist()
    return {f"{row['key']}.jpg": row["jpg"] for row in rows if row["jpg"] is not None}


def test_retries_ask_again_within_a_run(tmp_path: Path) -> None:
    answers = iter([Reply(status=408), Reply(status=408), Reply(body=jpeg())])
    with served({"/a.jpg": lambda: next(answers)}) as web:
        assert run(tmp_path, [f"{web.url}/a.jpg"], retries=2).outcomes == {"success": 1}


WHOLE: dict[str, Any] = {
    "number_sample_per_shard": 350,
    "output_format": "webdataset",
    "image_size": 64,
    "timeout": 60,
}
RUN = f"""
import sys
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.run import img2dataset
if __name__ == "__main__":
    places = {{"url_list": sys.argv[1], "output_folder": sys.argv[2], "processes_count": int(sys.argv[3])}}
    img2dataset(Img2datasetConfig(**places, **{WHOLE}, allow_private_addresses=True))
"""  # noqa: E501


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, processes: int
) -> None:
    count = 700
    pages: dict[str, Page] = {
        f"/{number}.jpg": Reply(body=jpeg(40 + number % 50, 30), pause=0.03)
        for number in range(count)
    }
    killed = threading.Event()

    def late() -> Reply:
        killed.wait(60)
        return Reply(body=jpeg(50, 30))

    pages["/699.jpg"] = late  # the second shard waits for it
    with served(pages) as web:
        (tmp_path / "list.txt").write_text(
            "\n".join(f"{web.url}/{number}.jpg" for number in range(count))
        )
        command = [
            sys.executable,
            "-c",
            RUN,
            str(tmp_path / "list.txt"),
            str(tmp_path / "out"),
            str(processes),
        ]
        child = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while child.poll() is None and not has_some_of_the_second_shard(tmp_path / "out"):
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        killed.set()
        assert not (tmp_path / "out" / "00001_stats.json").exists()
        before = len(web.asked)
        subprocess.run(command, check=True)
        asked = {path for path in web.asked[before:] if path.endswith(".jpg")}
        done = run(tmp_path, **WHOLE, output_folder=str(tmp_path / "whole"))
    assert done.successes == count
    assert 0 < len(asked) < 350, (
        "neither the first shard nor what the journal has of the second is asked for again"
    )
    for name in ("00000", "00001"):
        own, whole = (
            pq.read_table(tmp_path / folder / f"{name}.parquet") for folder in ("out", "whole")
        )
        assert own.equals(whole)
        assert names_in(tmp_path / "out" / f"{name}.tar") == names_in(
            tmp_path / "whole" / f"{name}.tar"
        )
    assert sorted(path.name for path in (tmp_path / "out" / "_winnow").iterdir()) == [
        "settings.json"
    ]


def has_some_of_the_second_shard(out: Path) -> bool:
    """Whether the first shard stands, and the journal of the second has a chunk beside the file
    that it begins with.
    """
    journal = list((out / "_winnow" / "journal").glob("00001.*"))
    return (out / "00000_stats.json").exists() and len(journal) > 1


def names_in(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_a_half_done_shard_asks_only_for_what_the_journal_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.img2dataset import shards

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with served(photos(6)) as web, monkeypatch.context() as patch:
        patch.setattr(shards, "write_shard", full)
        with pytest.raises(OSError, match="No space left on device"):
            run(tmp_path, [f"{web.url}{path}" for path in web.pages])
        patch.undo()
        asked = len(web.asked)
        assert run(tmp_path).successes == 6
        assert len(web.asked) == asked


def test_a_shard_that_cannot_be_written_is_named_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.img2dataset import shards

    plain = shards.write_shard

    def refusing(shard: Any, *args: Any) -> None:
        if shard.number == 1:
            raise RuntimeError("no")
        plain(shard, *args)

    with served(photos(6)) as web:
        monkeypatch.setattr(shards, "write_shard", refusing)
        done = run(tmp_path, [f"{web.url}{path}" for path in web.pages], number_sample_per_shard=2)
        assert (done.shards, done.successes, list(done.failed)) == (2, 4, ["00001"])
        assert "no" in done.failed["00001"]
        monkeypatch.undo()
        asked = len(web.asked)
        assert run(tmp_path, number_sample_per_shard=2).successes == 6
        assert len(web.asked) == asked


def test_a_slow_address_does_not_keep_the_next_shards_waiting(tmp_path: Path) -> None:
    stood: list[bool] = []

    def late() -> Reply:
        while not (tmp_path / "out" / "00001_stats.json").exists() and len(stood) < 1000:
            stood.append(False)
            time.sleep(0.01)
        stood.append((tmp_path / "out" / "00001_stats.json").exists())
        return Reply(body=jpeg())

    with served({**photos(4), "/0.jpg": late}) as web:
        done = run(
            tmp_path, [f"{web.url}/{number}.jpg" for number in range(4)], number_sample_per_shard=2
        )
    assert done.successes == 4
    assert stood[-1]


def test_one_lane_does_not_write_while_another_asks_again(tmp_path: Path) -> None:
    """Of two processes one has all of its addresses, and the other has one that comes at the third
    time.
    """
    answers = {"/0.jpg": iter([Reply(status=408)] * 2 + [Reply(body=jpeg(), pause=0.3)])}
    pages: dict[str, Page] = {f"/{number}.jpg": Reply(body=jpeg(40, 30)) for number in range(1, 9)}
    pages["/0.jpg"] = lambda: next(answers["/0.jpg"])
    with served(pages) as web:
        done = run(
            tmp_path,
            [f"{web.url}/{number}.jpg" for number in range(9)],
            retries=2,
            processes_count=2,
        )
    assert done.outcomes == {"success": 9}
    assert sorted(path.name for path in (tmp_path / "out" / "_winnow").iterdir()) == [
        "settings.json"
    ]


def test_two_commands_do_not_write_one_dataset(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("http://a.example/a.jpg")
    with (
        lease(Folder(str(tmp_path / "out" / "_winnow"))),
        pytest.raises(LeaseHeld, match="is being written by process"),
    ):
        run(tmp_path)


# --- what is there already


def test_a_folder_of_other_arguments_is_refused(tmp_path: Path) -> None:
    with served(photos(2)) as web:
        run(tmp_path, [f"{web.url}/0.jpg"])
        with pytest.raises(ValueError, match="--image_size was 256 and is 64"):
            run(tmp_path, image_size=64)
        with pytest.raises(ValueError, match=r"00000\.parquet holds other addresses than"):
            run(tmp_path, [f"{web.url}/1.jpg"])


def test_overwrite_removes_the_dataset_and_nothing_else(tmp_path: Path) -> None:
    with served(photos(3)) as web:
        run(tmp_path, [f"{web.url}/{number}.jpg" for number in range(3)], number_sample_per_shard=1)
        (tmp_path / "out" / "thesis.docx").write_text("mine")
        run(tmp_path, [f"{web.url}/0.jpg"], incremental_mode="overwrite", image_size=32)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["00000", "00000.parquet", "00000_stats.json", "_winnow", "thesis.docx"]


def test_extend_adds_shards_behind_and_a_later_extend_more(tmp_path: Path) -> None:
    with served(photos(3)) as web:
        for number in range(3):
            mode = {} if number == 0 else {"incremental_mode": "extend"}
            run(tmp_path, [f"{web.url}/{number}.jpg"], **mode)
    assert table(tmp_path, "key", "original_width") == [
        ("000000000", 40),
        ("000010000", 41),
        ("000020000", 42),
    ]


def test_shards_of_the_peer_are_left_as_they_are(tmp_path: Path) -> None:
    with served(photos(4)) as web:
        urls = [f"{web.url}/{number}.jpg" for number in range(4)]
        rows = {
            "url": urls[1::-1],
            "key": ["000001", "000000"],
            "error_message": ["<urlopen error timed out>", None],
        }
        (tmp_path / "out").mkdir()
        # in the order in which answers came
        pq.write_table(pa.table(rows), tmp_path / "out" / "00000.parquet")
        stats = {
            "count": 2,
            "successes": 1,
            "failed_to_download": 1,
            "failed_to_resize": 0,
            "status_dict": {"success": 1, "timed out": 1},
        }
        (tmp_path / "out" / "00000_stats.json").write_text(json.dumps(stats))
        done = run(tmp_path, urls, number_sample_per_shard=2, output_format="parquet")
        assert [path for path in web.asked if path.endswith(".jpg")] == ["/2.jpg", "/3.jpg"]
    assert (done.count, done.successes, done.failed_to_download) == (4, 3, 1)


# --- as a guest


def test_what_a_host_forbids_is_counted_and_not_asked(tmp_path: Path) -> None:
    pages = {**photos(2), "/robots.txt": "User-agent: *\nDisallow: /1"}
    with served(pages) as web:
        done = run(tmp_path, [f"{web.url}/0.jpg", f"{web.url}/1.jpg"])
        assert "/1.jpg" not in web.asked
        assert all(agent.startswith("winnow/") for agent in web.agents)
    assert done.outcomes == {"success": 1, "permission.robots_image": 1}
    assert table(tmp_path, "status", "error_message") == [
        ("success", None),
        ("failed_to_download", "permission.robots_image"),
    ]


def test_private_addresses_and_odd_ones_are_outcomes(tmp_path: Path) -> None:
    with served(photos(1)) as web:
        urls = [
            f"{web.url}/0.jpg",
            "file:///etc/passwd",
            "http://[::1",
            "not an address",
            "javascript:alert(1)",
        ]
        assert run(tmp_path, urls, allow_private_addresses=False).outcomes["address.private"] == 1
        assert web.asked == []
    assert {status for (status,) in table(tmp_path, "status")} == {"failed_to_download"}


def test_an_address_that_is_listed_twice_is_asked_once(tmp_path: Path) -> None:
    with served(photos(1)) as web:
        done = run(tmp_path, [f"{web.url}/0.jpg", f" {web.url}/0.jpg "] * 3)
        assert web.asked.count("/0.jpg") == 1
    assert done.successes == 6


def test_a_host_has_one_process_and_private_addresses_are_dealt_out() -> None:
    public = {lane_of(f"https://a.example/{number}.jpg", 7) for number in range(50)}
    private = {lane_of(f"http://127.0.0.1/{number}.jpg", 7) for number in range(50)}
    assert len(public) == 1
    assert private == set(range(7))
    assert lane_of("http://[::1", 7) in range(7)


# --- lists


def rows_of_list(folder: Path, name: str, data: bytes, web: Web, **more: Any) -> Done:
    (folder / name).write_bytes(data.replace(b"WEB", web.url.encode()))
    return run(folder, url_list=str(folder / name), output_format="parquet", **more)


def test_lists_of_every_format_give_the_same(tmp_path: Path) -> None:
    rows = [{"u": "WEB/0.jpg", "c": 'a "b", c', "n": 1}, {"u": "WEB/1.jpg", "c": "é", "n": 2}]
    tsv = "u\tc\tn\n" + "".join(f"{row['u']}\t{row['c']}\t{row['n']}\n" for row in rows)
    csv = 'u,c,n\nWEB/0.jpg,"a ""b"", c",1\nWEB/1.jpg,é,2\n'
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    columns = json.dumps(
        {name: {str(at): row[name] for at, row in enumerate(rows)} for name in ("u", "c", "n")}
    )
    texts = {"csv": csv, "tsv": tsv, "jsonl": lines, "json": json.dumps(rows)}
    found = {}
    with served(photos(2)) as web:
        kept = {"url_col": "u", "caption_col": "c", "save_additional_columns": ("n",)}
        for name, text in {**texts, "columns.json": columns}.items():
            folder = tmp_path / name
            folder.mkdir()
            kind = name.rpartition(".")[2]
            rows_of_list(folder, f"list.{name}", text.encode(), web, input_format=kind, **kept)
            found[name] = table(folder, "url", "caption", "n", "key")
            packed = folder / "packed"
            packed.mkdir()
            data = gzip.compress(text.replace("WEB", web.url).encode())
            (packed / f"list.{name}.gz").write_bytes(data)
            run(
                packed,
                url_list=str(packed),
                input_format=f"{kind}.gz",
                output_format="parquet",
                **kept,
            )
            assert table(packed, "url", "caption", "n", "key") == found[name]
        assert found["csv"] == [
            (f"{web.url}/0.jpg", 'a "b", c', 1, "000000000"),
            (f"{web.url}/1.jpg", "é", 2, "000000001"),
        ]
    assert {name: rows == found["csv"] for name, rows in found.items()} == dict.fromkeys(
        found, True
    )


@pytest.mark.parametrize(
    ("name", "data", "left_out"),
    [
        (
            "list.csv",
            b"url,text\nWEB/0.jpg,a\nWEB/1.jpg,b,c,d\n\nlone\nWEB/1.jpg,\xff\n",
            {"list.bad_row": 2},
        ),
        (
            "list.jsonl",
            b'{"url": "WEB/0.jpg", "text": "a"}\n{"url": 7}\n[]\nnothing\n{"url": "WEB/1.jpg"}\n',
            {"list.bad_row": 3},
        ),
        (
            "list.json",
            b'[{"url": "WEB/0.jpg", "text": "a"}, 3, {"url": "WEB/1.jpg", "text": ["b"]}]',
            {"list.bad_row": 1},
        ),
    ],
)
def test_a_broken_row_is_left_out_and_counted(
    tmp_path: Path, name: str, data: bytes, left_out: dict[str, int]
) -> None:
    with served(photos(2)) as web:
        done = rows_of_list(
            tmp_path, name, data, web, input_format=name.rpartition(".")[2], caption_col="text"
        )
        assert [url.rpartition("/")[2] for (url,) in table(tmp_path, "url")] == ["0.jpg", "1.jpg"]
    assert {name: count for name, count in done.left_out.items() if count} == left_out


def test_a_list_that_is_cut_gives_what_came_before(tmp_path: Path) -> None:
    with served(photos(1)) as web:
        lines = b"".join(
            b"%s/0.jpg?%s\n" % (web.url.encode(), os.urandom(500).hex().encode()) for _ in range(3)
        )
        (tmp_path / "list.txt.gz").write_bytes(gzip.compress(lines)[:-100])
        done = run(tmp_path, url_list=str(tmp_path / "list.txt.gz"), input_format="txt.gz")
    assert done.count == 2
    assert done.left_out == {"list.bad_row": 1, "list.truncated": 1}


def test_columns_that_json_cannot_say_are_text_beside_files(tmp_path: Path) -> None:
    import datetime as dt
    import decimal

    with served(photos(1)) as web:
        day, price = dt.date(2026, 11, 30), decimal.Decimal("1.50")
        columns = {
            "url": [f"{web.url}/0.jpg"],
            "day": [day],
            "price": [price],
            "blob": [b"x\xff"],
            "tags": [["a", None]],
        }
        pq.write_table(pa.table(columns), tmp_path / "list.parquet")
        kept = ("day", "price", "blob", "tags")
        given = {
            "url_list": str(tmp_path / "list.parquet"),
            "input_format": "parquet",
            "save_additional_columns": kept,
        }
        run(tmp_path, **given)
        assert table(tmp_path, *kept) == [("2026-11-30", "1.50", "x�", ["a", None])]
        run(tmp_path, **given, output_format="parquet", incremental_mode="overwrite")
        assert table(tmp_path, *kept) == [(day, price, b"x\xff", ["a", None])]


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        (b"address\nx\n", {"input_format": "csv"}, "has the columns address, and not url"),
        (b"", {"input_format": "csv"}, "has the columns none, and not url"),
        (b"\n\n", {"input_format": "txt"}, "holds no addresses"),
        (b"PAR1", {"input_format": "parquet"}, "is no Parquet file"),
        (b'{"url": 3}', {"input_format": "json"}, "neither a list of objects nor columns"),
    ],
)
def test_a_list_that_is_none_is_said_to_be(
    tmp_path: Path, data: bytes, more: dict[str, str], message: str
) -> None:
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **more)


def test_columns_of_json_that_are_too_long_to_be_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "JSON_BYTES", 100)
    (tmp_path / "list.txt").write_bytes(gzip.compress(b'{"url": ["' + b"u" * 200 + b'"]}'))
    with pytest.raises(
        ValueError,
        match=(
            r"list\.txt has more than 100 bytes, which are not held at once: write an object on"
            r" each line"
        ),
    ):
        run(tmp_path, input_format="json.gz")


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no list at"):
        run(tmp_path, url_list=str(tmp_path / "nothing.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no file in .* ends in \.parquet"):
        run(tmp_path, url_list=str(tmp_path / "empty"), input_format="parquet")


# --- images


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def shown(data: bytes, **more: Any) -> Image.Image:
    given: dict[str, Any] = {
        "mode": "keep_ratio",
        "size": 20,
        "format": "png",
        "quality": 9,
        **more,
    }
    found = resized(data, resizing=Resizing(**given), exif=False, hash=None)
    return Image.open(io.BytesIO(found.image))  # type: ignore[union-attr]


def test_a_picture_that_lies_on_its_side_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert shown(encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_ordinary_jpegs_are_what_pillow_makes_of_them(mode: str, orientation: int) -> None:
    """In OpenCV alone, decoded at a half, and turned: the same but for how libraries round."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    rough = Image.frombytes("RGB", (4, 3), bytes(range(0, 252, 7))).resize(
        (400, 300), Image.Resampling.BICUBIC
    )
    data = encoded(rough.convert(mode), "JPEG", exif=exif, quality=95)
    resizing = Resizing(mode="border", size=100, format="png", quality=9)
    found, slow = ordinary_jpeg(data, resizing), decode(data, encoding=resizing)
    assert found is not None
    assert (found.width, found.height, found.original_width) == (slow.width, slow.height, 400)  # type: ignore[union-attr]
    one, other = (
        np.asarray(Image.open(io.BytesIO(image))).astype(int) for image in (found.image, slow.image)
    )  # type: ignore[union-attr]
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 2


def test_grey_of_16_bits_keeps_its_shades() -> None:
    ramp = Image.new("I;16", (20, 20), 0x8000)
    assert shown(encoded(ramp, "PNG")).convert("L").getpixel((0, 0)) == 128


def test_a_picture_that_would_grow_without_end_is_refused() -> None:
    thin = encoded(Image.new("RGB", (1, 3000), "red"), "PNG")
    found = resized(
        thin,
        resizing=Resizing(mode="keep_ratio", size=9000, format="jpg", quality=95),
        exif=False,
        hash=None,
    )
    assert found.outcome == "decode.too_many_pixels"  # type: ignore[union-attr]


def test_webp_holds_so_much_and_no_more() -> None:
    long = encoded(Image.new("L", (17_000, 2), 9), "PNG")
    found = resized(
        long, resizing=Resizing(mode="no", size=1, format="webp", quality=95), exif=False, hash=None
    )
    assert found.outcome == "decode.too_many_pixels"  # type: ignore[union-attr]


def test_exif_made_to_explode_costs_only_itself() -> None:
    """Directories of thousands of entries, each of which is the directory of the next."""
    count = 5000
    entry = b"\x00\x01\x00\x04\x00\x00\x00\x01\x00\x00\x00\x08"
    tiff = b"MM\0*\0\0\0\x08" + count.to_bytes(2, "big") + entry * count
    data = (
        b"\xff\xd8\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff + b"\xff\xd9"
    )
    assert 3 * count * 5 > EXIF_READS
    assert exif_of(data) is None
    assert exif_of(b"\xff\xd8\xff\xd9") == "{}"
    exif = Image.Exif()
    exif[0x010F] = "Winnow"
    assert json.loads(exif_of(encoded(Image.new("L", (9, 9)), "JPEG", exif=exif)) or "") == {
        "Image Make": "Winnow"
    }


def test_boxes_are_blurred(tmp_path: Path) -> None:
    half = Image.new("RGB", (200, 100), "white")
    half.paste((0, 0, 0), (100, 0, 200, 100))
    with served({"/a.png": Reply(body=encoded(half, "PNG"))}) as web:
        boxes = ["[[0.4, 0.2, 0.6, 0.8]]", "[]", None, '[["a"]]']
        pq.write_table(
            pa.table({"url": [f"{web.url}/a.png"] * 4, "faces": boxes}), tmp_path / "list.parquet"
        )
        given = {
            "url_list": str(tmp_path / "list.parquet"),
            "input_format": "parquet",
            "bbox_col": "faces",
            "output_format": "parquet",
        }
        done = run(tmp_path, **given, encode_format="png", encode_quality=3, resize_mode="no")
    assert done.outcomes == {"success": 3, "image.bad_boxes": 1}
    images = [
        Image.open(io.BytesIO(data)) for (data,) in table(tmp_path, "png") if data is not None
    ]
    middle = [image.convert("L").getpixel((100, 50)) for image in images]
    assert 60 < middle[0] < 200  # type: ignore[operator]
    assert middle[1:] == [0, 0]


def test_bytes_as_they_came_are_looked_at_by_nobody(tmp_path: Path) -> None:
    with served({"/a": b"no image"}) as web:
        run(tmp_path, [f"{web.url}/a"], disable_all_reencoding=True)
    assert (tmp_path / "out" / "00000" / "000000000.jpg").read_bytes() == b"no image"
    assert table(tmp_path, "status", "width") == [("success", None)]


def test_an_image_that_kills_its_decoder_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.img2dataset import shards

    def deadly(*args: object) -> Any:
        return Isolated(aborting)

    monkeypatch.setattr(shards, "decoder_of", deadly)
    with served({"/a.jpg": jpeg(), "/b.jpg": jpeg(77, 30)}) as web:
        done = run(tmp_path, [f"{web.url}/a.jpg", f"{web.url}/b.jpg"])
    assert done.outcomes == {"success": 1, "decode.crashed": 1}
    assert table(tmp_path, "status", "error_message") == [
        ("success", None),
        ("failed_to_resize", "decode.crashed"),
    ]


def aborting(data: bytes) -> Any:
    """A decoder that one picture makes abort."""
    if data == jpeg(77, 30):
        os.abort()
    return resized(
        data,
        resizing=Resizing(mode="no", size=1, format="jpg", quality=95),
        exif=True,
        hash="sha256",
    )


# --- arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"enable_wandb": True}, "nothing is sent to Weights & Biases"),
        ({"wandb_project": "x"}, "nothing is sent to Weights & Biases"),
        ({"distributor": "pyspark"}, "pyspark is not run here"),
        ({"subjob_size": 1000}, "other distributors alone"),
        ({"user_agent_token": "x"}, "goes by its own name"),
        (
            {"disallowed_header_directives": ()},
            "obeys noai, noimageai, noindex, noimageindex in any case",
        ),
        (
            {"disallowed_header_directives": ("noai", "noimageai", "noindex", "noimageindex", "x")},
            "x cannot be obeyed",
        ),
        ({"output_format": "tfrecord"}, "tfrecord needs TensorFlow"),
        ({"output_format": "arrow"}, "'files', 'webdataset', 'parquet' or 'dummy'"),
        ({"resize_mode": "stretch"}, "'no', 'border'"),
        ({"image_size": 0}, "greater than or equal to 1"),
        ({"encode_format": "png"}, "encode_quality is 95: for png it must be 0 to 9"),
        ({"caption_col": "text"}, "txt, which holds addresses alone"),
        (
            {"save_additional_columns": ("sha256",), "input_format": "csv"},
            "columns called sha256 are written in any case",
        ),
        (
            {"verify_hash": ("h", "md5"), "input_format": "csv"},
            "verify_hash is of md5 and compute_hash sha256",
        ),
        (
            {"bbox_col": "b", "input_format": "csv", "disable_all_reencoding": True},
            "leave out one of them",
        ),
    ],
)
def test_arguments_that_mean_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Img2datasetConfig(url_list="list.txt", **given)


def test_all_arguments_of_the_peer_are_known() -> None:
    import ast
    import importlib.util

    package = importlib.util.find_spec("img2dataset")
    assert package is not None
    source = Path(package.submodule_search_locations[0], "main.py").read_text()  # type: ignore[index]
    function = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "download"
    )
    names = [argument.arg for argument in function.args.args]
    fields = Img2datasetConfig.model_fields
    assert names == list(fields)[: len(names)]
    defaults = dict(zip(names[-len(function.args.defaults) :], function.args.defaults, strict=True))
    said: dict[str, Callable[[], Any]] = {
        "max_image_area": lambda: float("inf"),
        "max_aspect_ratio": lambda: float("inf"),
    }
    for name, node in defaults.items():
        if name not in ("wandb_project", "subjob_size"):  # which are refused
            assert fields[name].default == (
                said[name]() if name in said else ast.literal_eval(node)
            ), name
