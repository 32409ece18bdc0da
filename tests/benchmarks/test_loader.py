"""The loader: 224-pixel photos in random order as bytes, beside bare decoding and webdataset.

Reported: images a second. All ways decode with the same function, with as many processes; the bare
rate is what they reach when they do nothing but decode what they hold in memory.
"""

import json
import multiprocessing
import os
import time
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from tests.benchmarks.ratios import compare
from training.data.images import ImageSpec
from training.data.loader import DataSpec, Loader
from training.data.shards import Release

PHOTOS = Path(__file__).resolve().parents[2].parent / "shared/data/captions/flickr8k-train/images"
COUNT = 2048
BATCH = 64
EPOCHS = 2  # in a round, beside which the batches that were made ahead count little
SPEC = ImageSpec(size=224)


def _bare(
    photos: list[bytes], asked: "multiprocessing.Queue[int]", done: "multiprocessing.Queue[int]"
) -> None:
    while asked.get():
        for _ in range(EPOCHS):
            for photo in photos:
                SPEC.pixels(photo)
        done.put(1)


def _write(path: Path, photos: list[bytes], captions: list[str]) -> None:
    table = pa.table(
        {
            "image": pa.array(photos, pa.binary()),
            "caption": pa.array([[one] for one in captions], pa.list_(pa.string())),
            "image_id": captions,
            "split": ["train"] * len(photos),
            "text_source": pa.array([["alt"]] * len(photos), pa.list_(pa.string())),
        }
    )
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=256)


def test_the_loader_beside_bare_decoding_and_webdataset(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    from torch.utils.data import DataLoader

    if not PHOTOS.exists():
        pytest.skip("the shared test data are not here")
    photos = [path.read_bytes() for path in sorted(PHOTOS.glob("*.jpg"))[:COUNT]]
    captions = [f"caption {number} of a photo" for number in range(COUNT)]
    cores = len(os.sched_getaffinity(0))

    for number in range(COUNT // 256):
        part = slice(number * 256, (number + 1) * 256)
        _write(tmp_path / f"train-{number:05d}.arrow", photos[part], captions[part])
    with wds.ShardWriter(str(tmp_path / "%05d.tar"), maxcount=256, verbose=0) as sink:
        for number, (photo, caption) in enumerate(zip(photos, captions, strict=True)):
            sink.write({"__key__": f"{number:08d}", "jpg": photo, "txt": caption})

    context = multiprocessing.get_context("fork")
    done = context.Queue()
    asked = [context.Queue() for _ in range(cores)]  # each does its own share
    shares = [photos[number::cores] for number in range(cores)]
    decoders = [
        context.Process(target=_bare, args=(one, queue, done))
        for one, queue in zip(shares, asked, strict=True)
    ]
    for decoder in decoders:
        decoder.start()

    def bare() -> None:
        for queue in asked:
            queue.put(1)
        for _ in decoders:
            done.get()

    release = Release.open("photos", tmp_path)
    data = DataSpec(shares={"photos": 1.0}, batch=BATCH)
    loader = Loader({"photos": release}, data, {"image": SPEC}, seed=0, workers=cores, ahead=1)

    def ours() -> None:
        steps = EPOCHS * COUNT // BATCH
        assert sum(len(batch) for batch in islice(loader, steps)) == EPOCHS * COUNT
        while not loader._ready.full():  # as it was when the round began
            time.sleep(0.001)

    tars = sorted(str(path) for path in tmp_path.glob("*.tar"))
    stream = wds.WebDataset(
        tars, shardshuffle=100, nodesplitter=None, workersplitter=wds.split_by_worker
    )
    stream = stream.shuffle(1000).to_tuple("jpg", "txt").map_tuple(SPEC.pixels, bytes.decode)
    theirs = DataLoader(
        stream, batch_size=BATCH, num_workers=cores, prefetch_factor=4, persistent_workers=True
    )

    def webdataset() -> None:
        for _ in range(EPOCHS):
            assert sum(len(texts) for _, texts in theirs) == COUNT

    found = compare({"bare": bare, "loader": ours, "webdataset": webdataset}, rounds=7)
    loader.close()
    for queue in asked:
        queue.put(0)
    for decoder in decoders:
        decoder.join()
    rates = {name: EPOCHS * COUNT / one.wall for name, one in found.items()}
    print({name: round(rate) for name, rate in rates.items()})
    shares = {name: round(rate / rates["bare"], 2) for name, rate in rates.items()}
    cpu = found["bare"].cpu / found["loader"].cpu
    print(f"shares of the bare rate {shares}; of its CPU time {cpu:.2f}")
    assert rates["loader"] > 1.2 * rates["webdataset"]


def test_a_thousand_shards(tmp_path: Path) -> None:
    """The first batch of ten million samples is there within a second or two, and so are the
    others.
    """
    shards, rows = 1000, 400
    table_of = [f"caption {number}" for number in range(rows)]
    _write(tmp_path / "one.arrow", [b"no picture"] * rows, table_of)
    names = [f"train-{number:05d}-of-{shards:05d}.arrow" for number in range(shards)]
    for name in names:
        os.link(tmp_path / "one.arrow", tmp_path / name)
    files = [{"name": name, "rows": rows} for name in names]
    (tmp_path / "manifest.json").write_text(json.dumps({"digest": "abc", "files": files}))

    began = time.perf_counter()
    release = Release.open("many", tmp_path)
    opened = time.perf_counter() - began
    data = DataSpec(shares={"many": 1.0}, batch=BATCH)
    with Loader({"many": release}, data, {}, seed=0, workers=2) as loader:
        next(loader)
        first = time.perf_counter() - began
        began = time.perf_counter()
        steps = 400
        for _ in islice(loader, steps):
            pass
        rate = steps * BATCH / (time.perf_counter() - began)
    print(f"opened in {opened:.3f} s, first batch after {first:.2f} s, then {rate:.0f} samples/s")
    assert opened < 1
