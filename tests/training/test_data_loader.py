"""Batches: alike for any number of workers and ranks, from any place; what dies costs one image."""

import os
import pickle
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.training.releases import picture, release
from training.data.augment import RandAugment
from training.data.batch import Batch
from training.data.buckets import Buckets
from training.data.images import ImageSpec
from training.data.loader import DataSpec, Loader, Prepared
from training.data.order import Slot, StreamState
from training.data.pool import WorkerPool, cut
from training.data.shards import Release
from training.data.tokenizer import TextSpec, make_tokenizer
from training.distributed import Ranks
from training.inputs import ImageInput, TextInput

CROP = ImageSpec(size=8, how="crop", flip=True, augment=RandAugment(operations="vilt"))
SHAPED = ImageSpec(size=8, how="shorter", patch=4)
HUFFMAN = b"\xff\xc4"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    folder = tmp_path_factory.mktemp("loader")
    return {"web": release(folder, "web", 13, shards=3), "clean": release(folder, "clean", 5)}


DATA = DataSpec(shares={"web": 0.75, "clean": 0.25}, batch=8)


def prepared() -> dict[str, Prepared]:
    words = make_tokenizer(TextSpec(size=60, length=6), captions=["number 1", "number 23456789"])
    return {"words": words, "crop": CROP, "shaped": SHAPED}


def loader(releases: dict[str, Release], **options: object) -> Loader:
    given = {"data": DATA, "prepare": prepared(), "seed": 5, "stage": "one", **options}
    return Loader(releases, **given)  # type: ignore[arg-type]


def take(releases: dict[str, Release], steps: int, **options: object) -> list[Batch]:
    with loader(releases, **options) as batches:
        return list(islice(batches, steps))


def ids(batches: Sequence[Batch]) -> list[str]:
    return [one for batch in batches for one in batch.ids]


def pixels(batch: Batch, name: str) -> torch.Tensor:
    given = batch.inputs[name]
    assert isinstance(given, ImageInput)
    return given.pixels


def test_a_batch_says_all_about_its_rows(releases: dict[str, Release]) -> None:
    (batch,) = take(releases, 1)
    assert len(batch) == 8
    assert sum(one.startswith("clean/") for one in batch.ids) == 2
    assert batch.state.taken == {"web": 6, "clean": 2}
    assert batch.texts == [f"number {one.partition('/i')[2]}" for one in batch.ids]
    assert batch.bad == {}

    words = batch.inputs["words"]
    assert isinstance(words, TextInput)
    assert words.ids[:, 0].tolist() == [2] * 8
    assert pixels(batch, "crop").shape == (8, 3, 8, 8)
    assert pixels(batch, "shaped").shape == (8, 3, 8, 12)  # 24 x 16 keeps its aspect
    ready = batch.to("cpu")
    assert pixels(ready, "crop").dtype == torch.float32
    expected = pixels(batch, "crop").float() / 127.5 - 1
    torch.testing.assert_close(pixels(ready, "crop"), expected)

    by_image: dict[str, int] = {}
    for one, key in zip(batch.ids, batch.keys.image.tolist(), strict=True):
        assert by_image.setdefault(one.partition("/")[2], key) == key
    assert len(set(batch.keys.source.tolist())) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(releases: dict[str, Release], workers: int) -> None:
    alone = take(releases, 5)
    together = take(releases, 5, workers=workers, ahead=3)
    for one, other in zip(alone, together, strict=True):
        assert one.ids == other.ids
        assert one.texts == other.texts
        assert one.state == other.state
        assert torch.equal(pixels(one, "crop"), pixels(other, "crop"))
        assert torch.equal(pixels(one, "shaped"), pixels(other, "shaped"))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_divide_the_same_batch(releases: dict[str, Release], world: int) -> None:
    whole = take(releases, 4)
    parts = [take(releases, 4, ranks=Ranks(rank=rank, world=world)) for rank in range(world)]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert ids(shares) == batch.ids
        assert torch.equal(
            torch.cat([pixels(one, "crop") for one in shares]), pixels(batch, "crop")
        )
        assert all(one.state == batch.state for one in shares)


@pytest.mark.parametrize("buckets", [None, Buckets(budget=60, window=24, multiple=4)])
def test_a_run_goes_on_from_any_batch_at_another_world_size(
    releases: dict[str, Release], buckets: Buckets | None
) -> None:
    data = DataSpec(shares=DATA.shares, batch=8, buckets=buckets)
    whole = take(releases, 9, data=data)
    for stop in (1, 4, 6):
        state = StreamState.from_json(whole[stop - 1].state.to_json())
        parts = [
            take(releases, 9 - stop, data=data, state=state, ranks=Ranks(rank=rank, world=2))
            for rank in (0, 1)
        ]
        rest = [first for pair in zip(*parts, strict=True) for batch in pair for first in batch.ids]
        assert ids(whole[:stop]) + rest == ids(whole)


def test_a_window_gives_each_sample_once_within_the_budget(releases: dict[str, Release]) -> None:
    buckets = Buckets(budget=60, window=24, multiple=4)
    data = DataSpec(shares={"web": 1}, batch=8, buckets=buckets)
    met: list[str] = []
    sizes = []
    batches = iter(take(releases, 12, data=data))
    while len(met) < 24:
        batch = next(batches)
        met += batch.ids
        sizes.append(len(batch))
        words = batch.inputs["words"]
        shaped = pixels(batch, "shaped")
        assert isinstance(words, TextInput)
        tokens = words.ids.shape[1] + shaped.shape[2] * shaped.shape[3] // 16
        assert len(batch) * tokens <= 60 or len(batch) == 4
    expected = ids(take(releases, 3, data=DataSpec(shares={"web": 1}, batch=8)))
    assert sorted(met) == sorted(expected)
    assert set(sizes) <= {4, 8}


def test_a_world_that_does_not_divide_the_batch_is_refused(releases: dict[str, Release]) -> None:
    with pytest.raises(ValueError, match="a batch of 8 cannot be divided among 3 ranks"):
        loader(releases, ranks=Ranks(rank=0, world=3))


def test_pixels_belong_to_seed_epoch_and_sample(releases: dict[str, Release]) -> None:
    data = DataSpec(shares={"clean": 1.0}, batch=5)
    first, second = take(releases, 2, data=data)
    (other,) = take(releases, 1, data=data, seed=6)
    rows = {one: pixels(first, "crop")[row] for row, one in enumerate(first.ids)}
    for batch in (second, other):
        assert sorted(batch.ids) == sorted(first.ids)
        assert any(
            not torch.equal(rows[one], pixels(batch, "crop")[row])
            for row, one in enumerate(batch.ids)
        )
    plain = take(releases, 2, data=data, training=False)
    still = {one: pixels(plain[0], "crop")[row] for row, one in enumerate(plain[0].ids)}
    assert all(
        torch.equal(still[one], pixels(plain[1], "crop")[row])
        for row, one in enumerate(plain[1].ids)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_named_and_replaced_alike_everywhere(tmp_path: Path, workers: int) -> None:
    images = {3: b"no picture", 4: b"", 7: picture(7)[:90]}
    broken = {"web": release(tmp_path, "web", 12, images=images)}
    data = DataSpec(shares={"web": 1.0}, batch=4)
    whole = take(broken, 6, data=data, workers=workers)
    bad = {one: reason for batch in whole[:3] for one, reason in batch.bad.items()}
    assert sorted(bad) == ["web/i3", "web/i4", "web/i7"]
    assert all(bad.values())

    met = ids(whole[:3])
    assert len(met) == 12
    assert set(met) == {f"web/i{n}" for n in range(12)} - set(bad)
    parts = [
        take(broken, 4, data=data, state=whole[1].state, ranks=Ranks(rank=rank, world=2))
        for rank in (0, 1)
    ]
    rest = [one for pair in zip(*parts, strict=True) for batch in pair for one in batch.ids]
    assert rest == ids(whole[2:])


def test_a_release_without_a_usable_image_ends_the_run(tmp_path: Path) -> None:
    broken = {"web": release(tmp_path, "web", 4, images=dict.fromkeys(range(4), b"none"))}
    with pytest.raises(ValueError, match="release web: 64 samples cannot be used, the last"):
        take(broken, 1, data=DataSpec(shares={"web": 1.0}, batch=4))


def test_a_batch_that_is_held_is_not_written_over(releases: dict[str, Release]) -> None:
    """A batch of one size is lent, not copied: of many that are held, each keeps its pixels."""
    words = {"words": prepared()["words"], "crop": CROP}
    fresh = take(releases, 14, prepare=words)
    held, copies = [], []
    with loader(releases, prepare=words, workers=1, ahead=1) as batches:
        for batch in islice(batches, 14):
            held.append(batch)
            copies.append(pixels(batch, "crop").clone())
    for one, copy, other in zip(held, copies, fresh, strict=True):
        assert torch.equal(pixels(one, "crop"), copy)
        assert torch.equal(copy, pixels(other, "crop"))


def test_places_come_back_when_batches_are_let_go(releases: dict[str, Release]) -> None:
    with loader(releases, prepare={"crop": CROP}) as batches:
        places = {pixels(next(batches), "crop").data_ptr() for _ in range(12)}
    assert len(places) <= 2


def test_what_a_worker_is_told_holds_no_pixels(releases: dict[str, Release]) -> None:
    """One that takes the place of another is told as little as the first."""
    with loader(releases, workers=1) as batches:
        next(batches)
        assert len(pickle.dumps(_pool(batches)._setup)) < 4000


@pytest.mark.parametrize(
    ("rows", "workers", "size"), [(64, 2, 32), (64, 16, 4), (3, 8, 1), (9, 0, 9)]
)
def test_every_worker_has_a_share_of_a_batch(rows: int, workers: int, size: int) -> None:
    slots = [Slot("web", 0, row, row) for row in range(rows)]
    chunks = cut(7, slots, workers)
    assert {chunk.batch for chunk in chunks} == {7}
    assert len(chunks[0].rows) == size
    assert [row for chunk in chunks for row in chunk.rows] == list(range(rows))
    assert [slot for chunk in chunks for slot in chunk.slots] == slots


def _pool(batches: Loader) -> WorkerPool:
    pool = batches._pool
    assert isinstance(pool, WorkerPool)
    return pool


def test_whoever_kills_a_worker_costs_nothing(releases: dict[str, Release]) -> None:
    alone = take(releases, 12)
    found = []
    with loader(releases, workers=2, ahead=1) as batches:
        for step, batch in enumerate(islice(batches, 12)):
            found.append(batch)
            if step in (1, 5):
                os.kill(_pool(batches)._workers[0]._process.pid, signal.SIGKILL)
        assert batches.bad == {}
    assert ids(found) == ids(alone)


@pytest.mark.parametrize(
    ("what", "seconds", "reason"),
    [
        ("os.abort()", 60.0, "was killed by SIGABRT"),
        ("__import__('time').sleep(600)", 5.0, "took more than 5 s"),
    ],
)
def test_a_decoder_that_dies_costs_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, seconds: float, reason: str
) -> None:
    """Its workers run another `open_image`, which does so for one sample.

    The first image of a worker waits for imports: on a busy machine that takes seconds too.
    """
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'training.data.images':\n"
        "            sys.meta_path.remove(self)\n"
        "            import training.data.decode as d\n"
        "            real = d.open_image\n"
        "            def fake(encoded, shorter=0):\n"
        f"                if encoded == b'deadly': {what}\n"
        "                return real(encoded, shorter)\n"
        "            d.open_image = fake\n"
        "sys.meta_path.insert(0, Hook())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = {"web": release(tmp_path, "web", 8, images={5: b"deadly"})}
    data = DataSpec(shares={"web": 1.0}, batch=8)
    whole = take(broken, 1, data=data, workers=2, seconds=seconds)
    assert whole[0].bad == {"web/i5": f"its decoder {reason}"}
    assert set(whole[0].ids) == {f"web/i{n}" for n in range(8) if n != 5}


def test_a_damaged_shard_ends_the_run_with_its_name(tmp_path: Path) -> None:
    found = release(tmp_path, "web", 8, shards=1)
    path = Path(found.shards[0].address)
    path.write_bytes(path.read_bytes()[:200])
    data = DataSpec(shares={"web": 1.0}, batch=8)
    for workers in (0, 1):
        with pytest.raises(ValueError, match=r"train-00000-of-00001.arrow is not a shard"):
            take({"web": found}, 1, data=data, workers=workers)


def _gone(pids: Sequence[int]) -> Iterator[bool]:
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            yield True
        else:
            yield False


def test_workers_end_with_the_loader(releases: dict[str, Release]) -> None:
    with loader(releases, workers=2) as batches:
        next(batches)
        pids = [worker._process.pid for worker in _pool(batches)._workers]
        assert not any(_gone(pids))
    assert all(_gone(pids))


def test_workers_end_with_their_parent(tmp_path: Path, releases: dict[str, Release]) -> None:
    """The parent is killed while they wait."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        batches = loader(releases, workers=2)
        next(batches)
        pids = [worker._process.pid for worker in _pool(batches)._workers]
        os.write(tell, " ".join(map(str, pids)).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    pids = [int(pid) for pid in os.read(told, 100).split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 60
    while not all(_gone(pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(_gone(pids))
