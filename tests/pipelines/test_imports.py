"""Data sets that people have, written with the tools that people use, through Import, Scatter,
Distinct and Fetch without a web.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.collect.join_fetches import DistinctUrls, PartitionByHost
from pipelines.engine.runner import run_stage
from pipelines.schema import CANDIDATES
from pipelines.sources.datasets.detect_format import recognise
from pipelines.sources.datasets.imports import Import
from pipelines.store import Folder
from pipelines.tables import read_table
from pipelines.web.fetch import Fetch
from tests.pipelines.counted import told
from tests.pipelines.web import Reply, jpeg, served

RED, GREEN, BLUE = (jpeg(20, 10, color) for color in ("red", "green", "blue"))
WEB = "http://h.example"


class Imported:
    """A data set, and what became of it: candidates and fetches in the order of their parts, images
    by address.
    """

    def __init__(self, path: Path | str, out: Path, **options: Any) -> None:
        folder = Folder(str(out))
        stage = Import(out=folder / "candidates", path=str(path), **options)
        manifest = run_stage(stage)
        assert manifest.failed == {}
        self.counts = told(stage, manifest.counts)
        self.index = [
            name for name in manifest.names(".parquet") if name.startswith("archive-images-")
        ]
        tables = [
            read_table(folder / "candidates", name) for name in manifest.names(".parquet", "part-")
        ]
        assert all(table.schema.equals(CANDIDATES) for table in tables)
        self.rows = pa.concat_tables(tables).to_pylist()
        assert (
            len({row["candidate_id"] for row in self.rows})
            == len(self.rows)
            == self.counts["candidates"]
        )
        for stage in (PartitionByHost.of(folder), DistinctUrls.of(folder)):
            run_stage(stage)
        parts = {name: folder / name for name in ("images", "urls")}
        fetch = Fetch(
            out=folder / "fetches",
            **parts,
            held=folder / "candidates",
            web=False,
            image_bytes=100_000,
        )
        fetched = run_stage(fetch)
        assert fetched.failed == {}
        rows = [
            row
            for name in fetched.names(".parquet")
            for row in read_table(fetch.out, name).to_pylist()
        ]
        self.outcomes = {row["image_url"]: row["outcome"] for row in rows}
        self.images = {row["image_url"]: row["image_id"] for row in rows if row["image_id"]}
        kept = [
            row
            for name in fetched.names(".arrow")
            for row in read_table(fetch.images, name).to_pylist()
        ]
        assert {row["image_id"] for row in kept} == set(self.images.values())
        assert all(hashlib.sha256(row["image"]).hexdigest() == row["image_id"] for row in kept)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(row["image_url"], row["text"]) for row in self.rows]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tar(path: Path, members: Sequence[tuple[str, bytes | str]]) -> Path:
    """A tar file; a text is the target of a symbolic link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                file.addfile(member)
            else:
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return path


def test_webdataset_tars(tmp_path: Path) -> None:
    own = {"url": f"{WEB}/b.jpg", "caption": "not taken", "width": 20}
    tar(
        tmp_path / "set/00000.tar",
        [
            ("a/0001.jpg", RED),
            ("a/0001.txt", "\ufeffeins \n".encode()),
            ("b.JPEG", GREEN),
            ("b.txt", b"two"),
            ("b.json", json.dumps(own).encode()),
            ("c.png", BLUE[:100]),
            ("c.json", b'{"caption": ["three", "drei"]}'),
            ("d.left.webp", RED),
            ("d.right.webp", BLUE),
            ("d.caption", b"both"),
            ("silent.jpg", b""),
            ("gone.txt", b"no image"),
            ("gone.cls", b"7"),
            ("only.npy", b"x"),
        ],
    )
    found = Imported(tmp_path / "set", tmp_path / "out")
    at = "given://set/00000"
    assert found.pairs == [
        (f"{at}/a/0001.jpg", "eins"),
        (f"{WEB}/b.jpg", "two"),
        (f"{at}/c.png", "three"),
        (f"{at}/c.png", "drei"),
        (f"{at}/d.left.webp", "both"),
        (f"{at}/d.right.webp", "both"),
        (f"{at}/silent.jpg", ""),
        (f"{at}/gone", "no image"),
    ]
    assert found.outcomes == {
        f"{at}/a/0001.jpg": "fetched",
        f"{WEB}/b.jpg": "fetched",
        f"{at}/c.png": "decode.corrupt",
        f"{at}/d.left.webp": "fetched",
        f"{at}/d.right.webp": "fetched",
        f"{at}/silent.jpg": "decode.not_an_image",
        f"{at}/gone": "fetch.missing",
    }
    images = {
        f"{at}/a/0001.jpg": RED,
        f"{WEB}/b.jpg": GREEN,
        f"{at}/d.left.webp": RED,
        f"{at}/d.right.webp": BLUE,
    }
    assert found.images == {url: sha(data) for url, data in images.items()}
    assert found.counts == {
        "candidates": 8,
        "archive_images": 6,
        "import.missing": 1,
        "import.no_text": 1,
        "import.other": 1,
    }


def test_a_hostile_tar(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(BLUE)
    path = tar(
        tmp_path / "in/bad.tar",
        [
            ("../../up.jpg", RED),
            ("/abs.jpg", RED),
            ("../../up.txt", b"<script>"),
            ("link.jpg", str(secret)),
            ("link.txt", b"a link"),
            ("link2.txt", "/etc/hostname"),
            ("huge.jpg", bytes(200_000)),
            ("a b\n%2e?#.jpg", GREEN),
            ("n" * 300 + ".jpg", RED),
            ("twice.jpg", RED),
            ("twice.txt", b"first"),
            ("twice.jpg", BLUE),
            ("twice.txt", b"second"),
            ("bad.jpg", RED),
            ("bad.json", b"[" * 100_000),
            ("bad.txt", b"\xff\x00words"),
        ],
    )
    found = Imported(path, tmp_path / "out")
    at = "given://bad"
    long, odd = f"{at}/{'n' * 300}.jpg", f"{at}/a%20b%0A%252e%3F%23.jpg"
    assert found.pairs == [
        (f"{at}/%2E%2E/%2E%2E/up.jpg", "<script>"),
        (f"{at}//abs.jpg", ""),
        (f"{at}/link.jpg", "a link"),
        (f"{at}/huge.jpg", ""),
        (odd, ""),
        (long, ""),
        (f"{at}/twice.jpg", "first"),
        (f"{at}/twice.jpg%232", "second"),
        (f"{at}/bad.jpg", "ÿwords"),
    ]
    assert {url: outcome for url, outcome in found.outcomes.items() if outcome != "fetched"} == {
        f"{at}/link.jpg": "fetch.missing",
        f"{at}/huge.jpg": "fetch.too_large",
    }
    assert (found.images[f"{at}/twice.jpg"], found.images[f"{at}/twice.jpg%232"]) == (
        sha(RED),
        sha(BLUE),
    )
    assert found.counts == {
        "candidates": 9,
        "archive_images": 8,
        "import.missing": 1,
        "import.link": 1,
        "import.bad_sidecar": 2,
        "import.other": 1,
        "import.no_text": 4,
        "import.not_utf8": 1,
    }


@pytest.mark.parametrize(
    ("cut", "outcome"), [(200, "fetch.cut"), (-300, "fetch.missing"), (0, "fetch.missing")]
)
def test_what_came_before_the_cut_of_a_tar_is_kept(tmp_path: Path, cut: int, outcome: str) -> None:
    path = tar(
        tmp_path / "cut.tar",
        [("a.jpg", RED), ("a.txt", b"one"), ("b.txt", b"two"), ("b.jpg", GREEN)],
    )
    with tarfile.open(path) as file:
        place = file.getmember("b.jpg").offset_data
    path.write_bytes(path.read_bytes()[: place + cut if cut else place - 512])
    found = Imported(path, tmp_path / "out")
    assert [text for _, text in found.pairs] == ["one", "two"]
    assert list(found.outcomes.values()) == (["fetched", outcome])
    assert found.counts["import.truncated"] == 1


def test_patterns_of_tars(tmp_path: Path) -> None:
    for number in range(3):
        tar(tmp_path / f"w/{number:05d}.tar", [("k.jpg", RED), ("k.txt", str(number).encode())])
    for pattern, count in (
        ("{00000..00002}.tar", 3),
        ("0000[01].tar", 2),
        ("{00001..00002}.tar", 2),
    ):
        found = Imported(tmp_path / "w" / pattern, tmp_path / f"out-{count}-{pattern[2:5]}")
        numbers = range(3)[-count:] if pattern.startswith("{") else range(count)
        assert found.pairs == [(f"given://w/{number:05d}/k.jpg", str(number)) for number in numbers]
        assert set(found.outcomes.values()) == {"fetched"}
        assert len(found.index) == count
    with pytest.raises(ValueError, match=r"there is nothing at .*00003\.tar"):
        recognise(str(tmp_path / "w/{00000..00003}.tar"))


def test_candidates_are_the_same_wherever_the_data_set_lies(tmp_path: Path) -> None:
    tar(tmp_path / "one/set/00000.tar", [("a.jpg", RED), ("a.txt", b"x"), ("b.jpg", RED)])
    shutil.copytree(tmp_path / "one", tmp_path / "two/deeper")
    first = Imported(tmp_path / "one/set", tmp_path / "out-1")
    second = Imported(tmp_path / "two/deeper/set", tmp_path / "out-2")
    assert first.rows == second.rows
    assert second.images == first.images
    named = Imported(tmp_path / "one/set", tmp_path / "out-3", title="other")
    assert [row["candidate_id"] for row in named.rows] == [
        row["candidate_id"] for row in first.rows
    ]
    assert named.pairs[0] == ("given://other/00000/a.jpg", "x")


def hugging_face() -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = {
        "image": [
            {"bytes": RED, "path": "a.jpg"},
            {"bytes": GREEN, "path": None},
            None,
            {"bytes": BLUE[:60], "path": None},
        ],
        "captions": [["one", "eins"], ["two"], ["three"], []],
        "id": ["w", "x", "y", "z"],
    }
    features = {
        "image": datasets.Image(),
        "captions": datasets.List(datasets.Value("string")),
        "id": datasets.Value("string"),
    }
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def expected(at: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Pairs and outcomes of that data set."""
    urls = [f"{at}/{row:09d}" for row in range(4)]
    pairs = [
        (urls[0], "one"),
        (urls[0], "eins"),
        (urls[1], "two"),
        (urls[2], "three"),
        (urls[3], ""),
    ]
    return pairs, dict(
        zip(urls, ("fetched", "fetched", "fetch.missing", "decode.corrupt"), strict=True)
    )


def test_hugging_face_on_disk(tmp_path: Path) -> None:
    hugging_face().save_to_disk(str(tmp_path / "hf"))
    found = Imported(tmp_path / "hf", tmp_path / "out")
    assert (found.pairs, found.outcomes) == expected("given://hf/data-00000-of-00001")
    assert list(found.images.values()) == [sha(RED), sha(GREEN)]
    assert found.counts == {
        "candidates": 5,
        "archive_images": 3,
        "import.missing": 1,
        "import.no_text": 1,
    }


def test_hugging_face_splits_and_shards(tmp_path: Path) -> None:
    import datasets

    whole = hugging_face()
    both = datasets.DatasetDict({"train": whole, "test": whole.select([1, 0])})
    both.save_to_disk(str(tmp_path / "both"), num_shards={"train": 2, "test": 1})
    found = Imported(tmp_path / "both", tmp_path / "out")
    assert [url.removeprefix("given://both/") for url, _ in found.pairs] == [
        "test/data-00000-of-00001/000000000",
        "test/data-00000-of-00001/000000001",
        "test/data-00000-of-00001/000000001",
        "train/data-00000-of-00002/000000000",
        "train/data-00000-of-00002/000000000",
        "train/data-00000-of-00002/000000001",
        "train/data-00001-of-00002/000000000",
        "train/data-00001-of-00002/000000001",
    ]
    assert sorted(found.outcomes.values()) == ["decode.corrupt", "fetch.missing", *["fetched"] * 4]


def test_hugging_face_parquet(tmp_path: Path) -> None:
    (tmp_path / "hub/data").mkdir(parents=True)
    hugging_face().to_parquet(str(tmp_path / "hub/data/train-00000-of-00001.parquet"), batch_size=2)
    found = Imported(tmp_path / "hub", tmp_path / "out")
    assert (found.pairs, found.outcomes) == expected("given://hub/data/train-00000-of-00001")
    assert list(found.images.values()) == [sha(RED), sha(GREEN)]


def test_our_own_shards(tmp_path: Path) -> None:
    from pipelines.releases.shards import SAMPLE
    from pipelines.tables import write_arrow

    rows = [
        {
            "image": RED,
            "caption": ["one", "eins"],
            "image_url": [f"{WEB}/r", f"{WEB}/s"],
            "page_url": [f"{WEB}/p", None],
        },
        {"image": GREEN, "caption": ["two"], "image_url": ["given://x/y"], "page_url": [None]},
    ]
    write_arrow(
        Folder(str(tmp_path / "web-1")),
        "train-00000-of-00001.arrow",
        pa.Table.from_pylist(rows, SAMPLE),
        rows_per_batch=1,
    )
    found = Imported(tmp_path / "web-1", tmp_path / "out")
    other = "given://web-1/train-00000-of-00001/000000001"
    assert found.pairs == [(f"{WEB}/r", "one"), (f"{WEB}/r", "eins"), (other, "two")]
    assert [row["page_url"] for row in found.rows] == [f"{WEB}/p", f"{WEB}/p", None]
    assert found.images == {f"{WEB}/r": sha(RED), other: sha(GREEN)}


def test_a_cut_stream_of_arrow_keeps_its_batches(tmp_path: Path) -> None:
    table = pa.table({"image": [RED, GREEN, BLUE], "text": ["one", "two", "three"]})
    path = tmp_path / "in.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    path.write_bytes(path.read_bytes()[:-300])
    found = Imported(path, tmp_path / "out")
    assert [text for _, text in found.pairs] == ["one", "two"]
    assert found.counts == {"candidates": 2, "archive_images": 2, "import.truncated": 1}
    assert list(found.images.values()) == [sha(RED), sha(GREEN)]


def test_parquet_of_plain_bytes_with_addresses(tmp_path: Path) -> None:
    urls = [f"{WEB}/0", f"{WEB}/blank.gif", "no address", None, f"{WEB}/4", "ftp://h.example/5"]
    images = [RED, GREEN, BLUE, RED, None, None]
    table = pa.table(
        {"URL": urls, "TEXT": list("abcdef"), "jpg": pa.array(images, pa.large_binary())}
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    found = Imported(tmp_path / "t.parquet", tmp_path / "out")
    assert found.pairs == [
        (f"{WEB}/0", "a"),
        (f"{WEB}/blank.gif", "b"),
        ("given://t/000000002", "c"),
        ("given://t/000000003", "d"),
        (f"{WEB}/4", "e"),
        ("given://t/000000005", "f"),
    ]
    assert found.outcomes == {
        f"{WEB}/0": "fetched",
        f"{WEB}/4": "fetch.not_asked",
        "given://t/000000002": "fetched",
        "given://t/000000003": "fetched",
        "given://t/000000005": "fetch.missing",
    }


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What img2dataset itself writes of a small web in its three formats.

    Its imports take 10 s of CPU, so its processes are forked here, not spawned.
    """
    folder = tmp_path_factory.mktemp("img2dataset")
    pages = {
        f"/{color}.jpg": Reply(body=data, type="image/jpeg")
        for color, data in (("red", RED), ("green", GREEN), ("blue", BLUE))
    }
    script = """
import multiprocessing, multiprocessing.context, sys
multiprocessing.context.SpawnProcess = multiprocessing.context.ForkProcess
multiprocessing.context._concrete_contexts["spawn"] = multiprocessing.get_context("fork")
from img2dataset import download
folder = sys.argv[1]
for kind in ("files", "webdataset", "parquet"):
    download(url_list=folder + "/list.parquet", input_format="parquet", url_col="url", caption_col="caption", output_format=kind,
             output_folder=folder + "/" + kind, processes_count=1, thread_count=2, number_sample_per_shard=2, disable_all_reencoding=True,
             enable_wandb=False)
"""  # noqa: E501
    (folder / "run.py").write_text(script)
    with served(pages) as web:
        names = ("red", "gone", "green", "blue")
        table = pa.table(
            {
                "url": [f"{web.url}/{name}.jpg" for name in names],
                "caption": ["one", "two", None, "four"],
            }
        )
        pq.write_table(table, folder / "list.parquet")
        quiet = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
        subprocess.run(
            [sys.executable, str(folder / "run.py"), str(folder)],
            check=True,
            timeout=180,
            capture_output=True,
            env=quiet,
        )
        return web.url, folder


@pytest.mark.parametrize("kind", ["files", "webdataset", "parquet"])
def test_what_img2dataset_wrote(tmp_path: Path, downloaded: tuple[str, Path], kind: str) -> None:
    web, folder = downloaded
    found = Imported(folder / kind, tmp_path)
    assert dict(found.pairs) == {
        f"{web}/red.jpg": "one",
        f"{web}/gone.jpg": "two",
        f"{web}/green.jpg": "",
        f"{web}/blue.jpg": "four",
    }
    assert len(found.pairs) == 4  # in the order in which img2dataset's threads came to an end
    assert found.outcomes == {
        f"{web}/red.jpg": "fetched",
        f"{web}/gone.jpg": "fetch.not_asked",
        f"{web}/green.jpg": "fetched",
        f"{web}/blue.jpg": "fetched",
    }
    assert found.images == {
        f"{web}/red.jpg": sha(RED),
        f"{web}/green.jpg": sha(GREEN),
        f"{web}/blue.jpg": sha(BLUE),
    }
    assert len(found.index) == 2


def test_a_cut_tar_of_img2dataset(tmp_path: Path) -> None:
    """A row that says success has its image in the tar, or it is missing; a row that failed can be
    fetched again.
    """
    keys = ["000000000", "000000001", "000000002"]
    states = ["success", "failed_to_download", "success"]
    table = {
        "key": keys,
        "status": states,
        "url": [f"{WEB}/{key}" for key in keys],
        "caption": list("abc"),
    }
    path = tar(
        tmp_path / "out/00000.tar",
        [(f"{keys[0]}.jpg", RED), (f"{keys[0]}.txt", b"a"), (f"{keys[2]}.jpg", GREEN)],
    )
    path.write_bytes(path.read_bytes()[:2048])
    pq.write_table(pa.table(table), tmp_path / "out/00000.parquet")
    write(tmp_path / "out", {"00000_stats.json": {"count": 3}})
    found = Imported(tmp_path / "out", tmp_path / "collection")
    assert found.pairs == [(f"{WEB}/{key}", text) for key, text in zip(keys, "abc", strict=True)]
    assert list(found.outcomes.values()) == ["fetched", "fetch.not_asked", "fetch.missing"]
    assert found.counts == {
        "candidates": 3,
        "archive_images": 1,
        "import.missing": 1,
        "import.bad_sidecar": 1,
        "import.truncated": 1,
    }


def write(folder: Path, files: dict[str, bytes | str | dict[str, Any]]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            data
            if isinstance(data, bytes)
            else (data if isinstance(data, str) else json.dumps(data)).encode()
        )
    return folder


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "photos",
        {
            "README.txt": "about",
            "a/1.jpg": RED,
            "a/1.txt": "one\n",
            "a/2.x.PNG": GREEN,
            "a/2.x.json": {"caption": "two", "url": f"{WEB}/2.png"},
            "a/3.jpg": b"",
            "a/4.txt": "gone",
            "a/license.txt": "MIT",
            "a/.hidden.jpg": RED,
            "b/c/5 ü.webp": BLUE,
            "b/c/5 ü.caption": "five",
            "notes/x.txt": "not a text of an image",
        },
    )
    (tmp_path / "secret.jpg").write_bytes(BLUE)
    (folder / "a/link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "a/inner.jpg").symlink_to(folder / "a/1.jpg")
    (folder / "a/linked.txt").symlink_to(tmp_path / "secret.jpg")
    (folder / "a/linked.jpg").write_bytes(GREEN)
    (folder / "dir").symlink_to(tmp_path)
    found = Imported(folder, tmp_path / "out")
    at = "given://photos"
    assert found.pairs == [
        (f"{at}/a/1.jpg", "one"),
        (f"{WEB}/2.png", "two"),
        (f"{at}/a/3.jpg", ""),
        (f"{at}/a/4", "gone"),
        (f"{at}/a/inner.jpg", ""),
        (f"{at}/a/link.jpg", ""),
        (f"{at}/a/linked.jpg", ""),
        (f"{at}/b/c/5%20%C3%BC.webp", "five"),
    ]
    assert {url: outcome for url, outcome in found.outcomes.items() if outcome != "fetched"} == {
        f"{at}/a/3.jpg": "decode.not_an_image",
        f"{at}/a/4": "fetch.missing",
        f"{at}/a/link.jpg": "fetch.outside",
    }
    assert found.images[f"{at}/b/c/5%20%C3%BC.webp"] == sha(BLUE)
    assert found.counts["import.bad_sidecar"] == 1


def test_lines_of_captions(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(BLUE)
    names = [
        "images/1.jpg",
        "images/gone.jpg",
        "../secret.jpg",
        str(secret),
        f"{WEB}/5.jpg",
        "images/1.jpg",
    ]
    lines = [
        json.dumps({"image": name, "captions": [f"{number}", "same"]})
        for number, name in enumerate(names)
    ]
    write(
        tmp_path / "set",
        {
            "images/1.jpg": RED,
            "captions.jsonl": "\n".join([*lines, "{broken", '{"captions": ["no image"]}', ""]),
        },
    )
    for path in (tmp_path / "set", tmp_path / "set/captions.jsonl"):
        found = Imported(path, tmp_path / f"out-{path.name}")
        urls = [
            "images/1.jpg",
            "images/gone.jpg",
            "%2E%2E/secret.jpg",
            secret.as_posix(),
            "",
            "images/1.jpg",
        ]
        given = [f"given://set/{url}" if url else f"{WEB}/5.jpg" for url in urls]
        assert found.pairs == [
            (url, text) for number, url in enumerate(given) for text in (str(number), "same")
        ]
        assert found.outcomes == {
            given[0]: "fetched",
            given[1]: "fetch.missing",
            given[2]: "fetch.outside",
            given[3]: "fetch.outside",
            given[4]: "fetch.not_asked",
        }
        assert found.counts["import.bad_line"] == 2


def test_lines_whose_images_lie_in_a_folder_of_that_name(tmp_path: Path) -> None:
    lines = '{"path": "gone.jpg", "alt": "gone"}\n{"path": "a/1.jpg", "alt": "red"}'
    write(tmp_path / "set", {"images/a/1.jpg": RED, "pairs.jsonl": lines})
    found = Imported(tmp_path / "set", tmp_path / "out")
    assert found.pairs == [("given://set/gone.jpg", "gone"), ("given://set/a/1.jpg", "red")]
    assert found.outcomes == {
        "given://set/gone.jpg": "fetch.missing",
        "given://set/a/1.jpg": "fetched",
    }


def test_images_beside_a_tar(tmp_path: Path) -> None:
    """One preview beside a tar is none of the data; a folder of images in which a tar lies is read
    whole.
    """
    packed = [("p.jpg", BLUE), ("p.txt", b"packed")]
    tar(tmp_path / "few/0.tar", packed)
    write(tmp_path / "few", {"preview.jpg": RED})
    tar(tmp_path / "many/0.tar", packed)
    write(tmp_path / "many", {"a.jpg": RED, "a.txt": b"a", "b.jpg": GREEN})
    assert Imported(tmp_path / "few", tmp_path / "out-few").pairs == [
        ("given://few/0/p.jpg", "packed")
    ]
    assert Imported(tmp_path / "many", tmp_path / "out-many").pairs == [
        ("given://many/0/p.jpg", "packed"),
        ("given://many/a.jpg", "a"),
        ("given://many/b.jpg", ""),
    ]


def coco() -> dict[str, Any]:
    images = [{"id": number, "file_name": f"{number:06d}.jpg"} for number in (7, 8, 9)]
    images[0]["coco_url"] = f"{WEB}/000007.jpg"
    captions = ((8, "eight"), (7, "seven"), (7, "sieben"), (1, "?"))
    notes = [{"image_id": number, "caption": caption} for number, caption in captions]
    return {"info": {}, "images": images, "annotations": notes}


def test_coco_captions(tmp_path: Path) -> None:
    root = write(
        tmp_path / "coco",
        {
            "annotations/captions_val2017.json": coco(),
            "val2017/000007.jpg": RED,
            "val2017/000008.jpg": GREEN,
        },
    )
    path = root / "annotations/captions_val2017.json"
    ways: list[tuple[str, dict[str, Any]]] = [
        (str(path), {}),
        (f"{path},{root / 'val2017'}", {}),
        (str(path), {"images": str(root / "val2017")}),
        (str(root), {}),
    ]
    for number, (given, options) in enumerate(ways):
        found = Imported(given, tmp_path / f"out-{number}", **options)
        at = "given://captions_val2017" if number < 3 else "given://coco/val2017"
        assert found.pairs == [
            (f"{WEB}/000007.jpg", "seven"),
            (f"{WEB}/000007.jpg", "sieben"),
            (f"{at}/000008.jpg", "eight"),
            (f"{at}/000009.jpg", ""),
            (f"{at}/000000003", "?"),
        ]
        assert found.outcomes == {
            f"{WEB}/000007.jpg": "fetched",
            f"{at}/000008.jpg": "fetched",
            f"{at}/000009.jpg": "fetch.missing",
            f"{at}/000000003": "fetch.missing",
        }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"PK", r"a\.zip is not imported: unpack it"),
        ("a.tar.gz", b"\x1f\x8b", r"a\.tar\.gz is not imported: .* decompress it with gunzip"),
        ("a.tar", b"\x1f\x8bxxxx", r"a\.tar is no plain tar file .*decompress a compressed one"),
        ("a.csv", b"url,text\n", r"a list of addresses is taken by --pairs"),
        ("a.parquet", b"PAR1", r"a\.parquet is no Parquet file, or it is cut"),
        (
            "a.arrow",
            b"ARROW1",
            r"a\.arrow is neither an Arrow file nor an Arrow stream, or it is cut",
        ),
        ("a.json", b"{", r"a\.json is no JSON"),
        (
            "a.json",
            b'{"images": [], "annotations": [{"image_id": 1, "bbox": []}]}',
            r"has no captions: take COCO's captions_\*\.json",
        ),
        (
            "a.json",
            json.dumps(coco()).encode(),
            r"not beside it: name their folder with --import-images",
        ),
        (
            "a.jsonl",
            b'{"url": "u", "text": "t"}\n',
            r"no data set that can be imported: it holds 1 files of the kinds jsonl",
        ),
        ("a.jpg", RED, r"no data set that can be imported"),
        ("empty/x", b"", r"it holds 1 files of the kinds none"),
    ],
)
def test_what_is_no_data_set(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write(tmp_path, {name: content})
    stage = Import(out=Folder(str(tmp_path / "out")), path=str(tmp_path / name.split("/")[0]))
    with pytest.raises(ValueError, match=message):
        [stage.process(part) for part in stage.parts()]


def test_tables_that_cannot_be(tmp_path: Path) -> None:
    def parts(**columns: Any) -> Any:
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        return Import(
            out=Folder(str(tmp_path / "out")), path=str(tmp_path / "t.parquet"), text_column=text
        ).parts()

    text = ""
    with pytest.raises(
        ValueError,
        match=(
            r"has the columns url, text; none holds image bytes. A list of addresses is taken by"
            r" --pairs"
        ),
    ):
        parts(url=["u"], text=["t"])
    with pytest.raises(ValueError, match=r"name the one to take with --text-column: words, other"):
        parts(image=[RED], words=["t"], other=["o"])
    text = "absent"
    with pytest.raises(ValueError, match=r"has no column absent; it has image, words"):
        parts(image=[RED], words=["t"])
    text = "words"
    assert len(parts(image=[RED], words=["t"])) == 1
    with pytest.raises(ValueError, match="there is nothing at"):
        recognise(str(tmp_path / "gone"))


def test_many_files_are_cut_into_parts(tmp_path: Path) -> None:
    from pipelines.sources.datasets.files import STEMS, grouped

    names = [
        f"{number // 1000}/{number:06d}.{ending}"
        for number in range(STEMS + 10)
        for ending in ("jpg", "txt")
    ]
    cuts = grouped(list(reversed(names)))
    assert [len(cut) for cut in cuts] == [2 * STEMS, 20]
    assert sorted(name for cut in cuts for name in cut) == sorted(names)
