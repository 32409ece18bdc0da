"""Features of frozen towers: kept by digest, gone on with after a kill, the same as the tower
says.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.training.releases import release
from training.data import features
from training.data.features import (
    Computing,
    Features,
    FeatureSpec,
    compute_features,
    features_of,
)
from training.data.images import ImageSpec
from training.data.loader import DataSpec, Loader
from training.data.order import Slot
from training.data.reduction import Reduction
from training.data.tokenizer import TextSpec
from training.data.towers import TowerSpec, text_prepared_as
from training.inputs import FeatureInput


def _image_spec(tower: TowerSpec, reduce: int = 4) -> FeatureSpec:
    return FeatureSpec(tower=tower, prepare=ImageSpec(size=64), reduce=reduce, flip=True)


def test_features_of_two_views_as_the_tower_says(image_folder: TowerSpec, tmp_path: Path) -> None:
    spec = _image_spec(image_folder)
    releases = {
        "a": release(tmp_path, "a", 6, images={2: b"no picture"}),
        "b": release(tmp_path, "b", 4),
    }
    kept = features_of(spec, releases, lambda _: tmp_path / "features")
    assert kept.bad("a") == {2}
    assert kept.bad("b") == frozenset()

    slots = [Slot("a", 0, 5, 5), Slot("b", 0, 3, 3)]
    given = kept.read(slots, [0, 0], [False, True])
    assert given.features.shape == (2, 4, 4)  # a grid of 2 x 2 at 64 pixels
    assert given.valid is None
    prepare = spec.prepare
    assert isinstance(prepare, ImageSpec)
    image = torch.from_numpy(prepare.pixels(releases["a"][5].image).copy())
    flipped = torch.from_numpy(prepare.pixels(releases["b"][3].image, flip=True).copy())
    (plain,), (other,) = kept.tower().of_images([image, flipped])
    torch.testing.assert_close(
        given.features.float(), torch.stack([plain, other]), atol=0.02, rtol=0.02
    )


def test_a_loader_of_features_alone_leaves_out_what_is_bad(
    image_folder: TowerSpec, tmp_path: Path
) -> None:
    releases = {"a": release(tmp_path, "a", 6, images={2: b"no picture"})}
    kept = features_of(
        _image_spec(image_folder, reduce=0), releases, lambda _: tmp_path / "features"
    )
    data = DataSpec(shares={"a": 1.0}, batch=6)
    with Loader(releases, data, {"grid": kept}, seed=1) as batches:
        (batch,) = islice(batches, 1)
    assert list(batch.bad) == ["a/i2"]
    assert "a/i2" not in batch.ids
    given = batch.to("cpu").inputs["grid"]
    assert isinstance(given, FeatureInput)
    assert given.features.dtype == torch.float32
    assert given.features.isfinite().all()


def test_texts_have_features_of_their_own_length(text_folder: TowerSpec, tmp_path: Path) -> None:
    prepare = TextSpec(vocabulary=f"{text_folder.folder}/vocab.txt", length=8)
    captions = {0: ["number 1", "number 1 2 3"], 1: []}
    releases = {"a": release(tmp_path, "a", 3, captions=captions)}
    spec = FeatureSpec(tower=text_folder, prepare=prepare)
    kept = features_of(spec, releases, lambda _: tmp_path / "features")
    slots = [Slot("a", 0, 0, 0), Slot("a", 0, 1, 1), Slot("a", 0, 0, 0)]
    given = kept.read(slots, [1, 0, 0], [False] * 3)
    assert given.valid is not None
    assert given.valid.sum(1).tolist() == [6, 2, 4]
    (expected,) = kept.tower().of_texts(["number 1 2 3"])
    torch.testing.assert_close(given.features[0].float(), expected, atol=5e-3, rtol=5e-3)


def test_a_killed_computation_goes_on(
    image_folder: TowerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PART", 2)
    spec = _image_spec(image_folder, reduce=0)
    found = release(tmp_path, "a", 6)
    done: list[int] = []

    def killed(count: int, total: int) -> None:
        done.append(count)
        if count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_features(spec, found, tmp_path / "features", computing=Computing(progress=killed))
    assert done == [2, 4]
    (folder,) = (tmp_path / "features").iterdir()
    with pytest.raises(ValueError, match="holds no whole features"):
        Features(spec, {"a": folder})

    done.clear()
    going_on = Computing(progress=lambda count, total: done.append(count))
    assert compute_features(spec, found, tmp_path / "features", computing=going_on) == folder
    assert done == [6]
    assert Features(spec, {"a": folder}).bad("a") == frozenset()


@pytest.mark.parametrize("damage", ["cut", "gone", "of fewer rows"])
def test_a_damaged_part_is_made_again(
    damage: str, image_folder: TowerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PART", 2)
    spec = _image_spec(image_folder)
    found = release(tmp_path, "a", 6)
    folder = compute_features(spec, found, tmp_path / "features")
    parts = sorted(folder.glob("part-*"))
    before = [path.read_bytes() for path in parts]
    match damage:
        case "cut":
            parts[1].write_bytes(before[1][:-30])
            with pytest.raises(ValueError, match=r"part-0000000002.arrow is damaged .* made anew"):
                Features(spec, {"a": folder}).read([Slot("a", 0, 3, 3)], [0], [False])
        case "gone":
            parts[1].unlink()
        case _:
            features._write_part(parts[1], [[]])

    done: list[int] = []
    computing = Computing(progress=lambda count, total: done.append(count))
    compute_features(spec, found, tmp_path / "features", computing=computing)
    assert done == [6]
    assert [path.read_bytes() for path in parts] == before


def test_a_full_disk_says_where_and_leaves_no_half_part(
    image_folder: TowerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        path.open("wb").write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    spec = _image_spec(image_folder, reduce=0)
    found = release(tmp_path, "a", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"part-0000000000.arrow cannot be written: No space"):
            compute_features(spec, found, tmp_path / "features")
    (folder,) = (tmp_path / "features").iterdir()
    assert [path.name for path in folder.iterdir()] == [".lock"]
    compute_features(spec, found, tmp_path / "features")


def test_what_a_run_computes_another_waits_for(
    image_folder: TowerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PART", 2)
    spec = _image_spec(image_folder)
    found = release(tmp_path, "a", 4)
    begun, waited = threading.Event(), threading.Event()
    first: list[int] = []
    second: list[int] = []

    def hold(done: int, total: int) -> None:
        first.append(done)
        begun.set()
        assert waited.wait(60), "the other run does not wait"

    def compute() -> None:
        compute_features(spec, found, tmp_path / "features", computing=Computing(progress=hold))

    one = threading.Thread(target=compute)
    one.start()
    assert begun.wait(60)
    other = Computing(
        progress=lambda done, total: second.append(done), waiting=lambda folder: waited.set()
    )
    folder = compute_features(spec, found, tmp_path / "features", computing=other)
    one.join(60)
    assert (first, second) == ([2, 4], [])
    assert Features(spec, {"a": folder}).bad("a") == frozenset()


def test_what_a_killed_run_left_another_takes_over(
    image_folder: TowerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PART", 2)
    spec = _image_spec(image_folder)
    found = release(tmp_path, "a", 6)
    folder = compute_features(spec, found, tmp_path / "features")
    whole = sorted(path.name for path in folder.iterdir())
    (folder / "features.json").unlink()
    (folder / "part-0000000002.arrow").unlink()
    (folder / ".part-0000000002.arrow.77.part").write_bytes(b"half of it")

    code = (
        "import fcntl, sys, time\n"
        "lock = open(sys.argv[1], 'a')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / ".lock")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    done: list[int] = []
    waiting = Computing(
        progress=lambda count, total: done.append(count),
        waiting=lambda folder: os.kill(holder.pid, signal.SIGKILL),
    )
    assert compute_features(spec, found, tmp_path / "features", computing=waiting) == folder
    assert holder.wait(60) == -signal.SIGKILL
    holder.stdout.close()
    assert done == [6]
    assert sorted(path.name for path in folder.iterdir()) == whole


def test_a_model_trained_further_finds_the_features_of_its_release(
    image_folder: TowerSpec, tmp_path: Path
) -> None:
    spec = _image_spec(image_folder)
    found = {"a": release(tmp_path, "a", 4)}
    own = features_of(spec, found, lambda _: tmp_path / "features")
    done: list[int] = []
    counting = Computing(progress=lambda count, total: done.append(count))
    further = features_of(
        spec, found, lambda _: tmp_path / "features", reduction=own.reduction, computing=counting
    )
    assert done == []
    assert len(list((tmp_path / "features").iterdir())) == 1

    # on another release they are cut to the model's components, in a folder that says so
    other = {"b": release(tmp_path, "b", 5)}
    third = features_of(
        spec, other, lambda _: tmp_path / "features", reduction=own.reduction, computing=counting
    )
    assert done == [5]
    assert own.reduction is not None
    assert third.reduction is not None
    assert further.reduction is not None
    assert further.reduction.digest() == third.reduction.digest() == own.reduction.digest()
    names = [path.name for path in (tmp_path / "features").iterdir()]
    assert sum(name.endswith(own.reduction.digest()) for name in names) == 1


def test_another_reduction_is_another_folder(image_folder: TowerSpec, tmp_path: Path) -> None:
    spec = _image_spec(image_folder)
    found = {"a": release(tmp_path, "a", 4)}
    own = features_of(spec, found, lambda _: tmp_path / "features")
    assert own.reduction is not None
    turned = Reduction(mean=own.reduction.mean, components=-own.reduction.components)
    other = features_of(spec, found, lambda _: tmp_path / "features", reduction=turned)
    slots = [Slot("a", 0, 1, 1)]
    mine = own.read(slots, [0], [False]).features
    assert torch.allclose(other.read(slots, [0], [False]).features, -mine, atol=0.01)
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_other_weights_are_other_features(image_folder: TowerSpec, tmp_path: Path) -> None:
    spec = _image_spec(image_folder)
    weights = Path(image_folder.folder) / "model.safetensors"
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(weights.read_bytes()[:-1] + b"\0")
    moved = TowerSpec(folder=str(other), library="timm")
    assert _image_spec(moved).digest() != spec.digest()


def test_the_same_tower_elsewhere_has_the_same_features(
    text_folder: TowerSpec, tmp_path: Path
) -> None:
    shutil.copytree(text_folder.folder, tmp_path / "copy")
    moved = replace(text_folder, folder=str(tmp_path / "copy"))
    first, second = (
        FeatureSpec(tower=one, prepare=text_prepared_as(one, 8)) for one in (text_folder, moved)
    )
    assert first.digest() == second.digest()
    (tmp_path / "copy" / "vocab.txt").write_text("[PAD]")
    assert first.digest() != second.digest()
