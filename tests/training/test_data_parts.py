"""Shards, captions, pixels, vocabularies and features, each by itself."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.releases import picture, release, write_shard
from training.data.augment import names_a_side
from training.data.cache import ShardCache
from training.data.draws import generator
from training.data.images import ImageSpec
from training.data.order import Slot
from training.data.reduction import Reduction
from training.data.sample import Bad, Made, SampleMaker, choose_caption
from training.data.shards import Release
from training.data.tokenizer import TextSpec, build_vocabulary, make_tokenizer


def test_a_manifest_spares_opening_shards(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    names = [f"train-{number:05d}-of-01000.arrow" for number in range(1000)]
    files = [{"name": name, "rows": 7} for name in names]
    (folder / "manifest.json").write_text(json.dumps({"digest": "abc", "files": files}))
    found = Release.open("web", folder)
    assert len(found) == 7000
    assert found.digest() == "abc"
    with pytest.raises(ValueError, match=r"train-00142-of-01000.arrow is missing"):
        found[1000]


def test_splits_by_name_and_by_column(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.arrow", [0, 1])
    write_shard(tmp_path / "heldout-0.arrow", [2])
    write_shard(tmp_path / "both.arrow", [3, 4, 5, 6, 7, 8], splits={4: "heldout", 8: "heldout"})
    for split, numbers in (
        ("train", [3, 5, 6, 7, 0, 1]),
        ("heldout", [4, 8, 2]),
        ("all", [3, 4, 5, 6, 7, 8, 2, 0, 1]),
    ):
        found = Release.open("web", tmp_path, split=split)
        assert [found[row].image_id for row in range(len(found))] == [f"i{n}" for n in numbers]


@pytest.mark.parametrize(
    ("samples", "numbers"),
    [(0, range(7)), (9, range(7)), (7, range(7)), (6, range(6)), (3, range(3)), (1, range(1))],
)
def test_the_first_samples_of_a_release(tmp_path: Path, samples: int, numbers: range) -> None:
    found = release(tmp_path, "web", 7, shards=3).first(samples)
    assert [found[row].image_id for row in range(len(found))] == [f"i{n}" for n in numbers]
    assert list(found.all_captions()) == [f"number {n}" for n in numbers]
    with pytest.raises(IndexError):
        found[len(numbers)]


def test_a_remote_release_through_a_small_cache(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    release(tmp_path, "web", 12, shards=4)
    system = fsspec.filesystem("memory")
    for path in (tmp_path / "web").glob("*.arrow"):
        system.put_file(str(path), f"/releases/{path.name}")
    size = max(path.stat().st_size for path in (tmp_path / "web").glob("*.arrow"))
    cache = ShardCache(folder=str(tmp_path / "cache"), bytes=2 * size)
    found = Release.open("web", "memory://releases", cache=cache)
    for row in [*range(12), *range(11, -1, -1)]:
        assert found[row].captions == [f"number {row}"]
        held = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.shard"))
        assert held <= 2 * size


def test_a_caption_is_chosen_by_the_weight_of_its_source() -> None:
    sources = ["alt", "synthetic", "synthetic", "given"]
    weights = {"web": 0.0, "synthetic": 1.0, "human": 3.0}
    chosen = [choose_caption(sources, weights, (0, number)) for number in range(2000)]
    assert 0 not in chosen
    assert chosen.count(3) / 2000 == pytest.approx(0.75, abs=0.04)
    assert chosen.count(1) / 2000 == pytest.approx(0.125, abs=0.03)
    assert choose_caption(sources, weights, (0, 1)) == chosen[1]


def test_no_flip_where_a_caption_names_a_side(tmp_path: Path) -> None:
    assert names_a_side("a dog on the LEFT.")
    assert not names_a_side("a bright dog")
    captions = {0: ["a dog on the left"], 1: ["a dog"]}
    web = release(tmp_path, "web", 2, shards=1, captions=captions)
    spec = ImageSpec(size=8, flip=True)
    maker = SampleMaker(releases={"web": web}, images={"image": spec})
    flipped: dict[int, set[bool]] = {0: set(), 1: set()}
    for epoch in range(20):
        for row in (0, 1):
            slot = Slot("web", epoch, row, row)
            made = maker.make(slot, maker.read(slot), [np.zeros(192, dtype=np.uint8)])
            assert isinstance(made, Made)
            flipped[row].add(made.flipped)
    assert flipped == {0: {False}, 1: {False, True}}


def test_vilt_sizes_and_large_photos_are_reduced_while_decoding() -> None:
    spec = ImageSpec(size=384, how="shorter", patch=32)
    assert spec.fitted(640, 480) == (512, 384)
    assert spec.fitted(640, 384) == (608, 352)
    assert spec.fitted(2000, 300) == (608, 96)
    large = picture(1, (1600, 1200), "JPEG")
    found = ImageSpec(size=64).pixels(large).astype(int)
    image = Image.open(io.BytesIO(large)).convert("RGB")
    whole = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(found - whole).mean() < 3
    crop = ImageSpec(size=32, how="crop")
    assert crop.pixels(large, generator(1)).shape == crop.pixels(large).shape == (32, 32, 3)


def test_every_word_and_frequent_letter_can_be_spelt() -> None:
    captions = ["안녕 세상", "안녕 café", "un café", "[MASK] me", "un"]
    built = build_vocabulary(captions, 200)
    assert {"안녕", "café", "un"} <= set(built)
    words = make_tokenizer(TextSpec(size=200, length=12, extra=("[ENC]",)), captions=captions)
    unknown = built.index("[UNK]")
    given = words(captions)
    assert unknown not in given.ids
    assert given.pieces.mask not in given.ids
    assert words.text_of(given.ids[1].tolist()) == "안녕 café"
    assert given.firsts["[ENC]"] == words.size - 1
    assert build_vocabulary(reversed(captions), 200) == built


def test_blip_cleans_and_cuts() -> None:
    spec = TextSpec(clean="blip", words=3)
    assert spec.cleaned('A "Dog": runs.  Far away!') == "a dog runs"


def test_a_saved_tokenizer_gives_the_same_ids(tmp_path: Path) -> None:
    spec = TextSpec(size=80, length=9)
    words = make_tokenizer(spec, captions=["a cat", "a cab", "the cat", "the cat [SEP]"])
    words.save(tmp_path)
    again = make_tokenizer(spec, folder=tmp_path)
    texts = ["the cab [SEP]", "", "a cat " * 9]
    assert torch.equal(words(texts).ids, again(texts).ids)
    with pytest.raises(ValueError, match=r"tokenizer.json is missing"):
        make_tokenizer(spec, folder=tmp_path / "none")


def test_principal_components_keep_what_lies_in_them(tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(200, 3, generator=draws) @ torch.randn(3, 10, generator=draws) + 4
    fitted = Reduction.fit(features, 3)
    back = fitted(features) @ fitted.components.T + fitted.mean
    torch.testing.assert_close(back, features, atol=1e-4, rtol=1e-4)
    fitted.save(tmp_path / "reduction.npz")
    assert Reduction.load(tmp_path / "reduction.npz").digest() == fitted.digest()
    with pytest.raises(ValueError, match="cannot give 11 components"):
        Reduction.fit(features, 11)


def _mixing(found: Release, share: float, **more: object) -> SampleMaker:
    spec = ImageSpec(size=16)
    return SampleMaker(releases={"web": found}, images={"x": spec}, mixgen=share, **more)  # type: ignore[arg-type]


def _made(maker: SampleMaker, slot: Slot) -> tuple[Made, np.ndarray]:
    row = np.zeros(16 * 16 * 3, dtype=np.uint8)
    made = maker.make(slot, maker.read(slot), [row])
    assert isinstance(made, Made)
    return made, row


def test_mixgen_is_the_mean_of_two_images_and_both_texts(tmp_path: Path) -> None:
    found = release(tmp_path, "web", 40)
    alone, mixing = _mixing(found, 0.0), _mixing(found, 0.25)
    mixed = 0
    for number in range(40):
        slot = Slot("web", 3, number, number)
        made, pixels = _made(mixing, slot)
        assert made.text == mixing.caption(slot)  # what lengths are counted of
        partner = mixing.partner(slot)
        if partner is None:
            assert made.text == f"number {number}"
            assert np.array_equal(pixels, _made(alone, slot)[1])
            continue
        mixed += 1
        assert partner.row != number
        assert made.text == f"number {number} number {partner.row}"
        assert made.image_id == f"i{number}+i{partner.row}"
        first, second = _made(alone, slot)[1], _made(alone, partner)[1]
        mean = (first.astype(float) + second) / 2
        assert np.abs(pixels - mean).max() <= 0.5
    assert 4 <= mixed <= 17  # a quarter of forty, give or take three deviations


def test_a_partner_depends_on_seed_epoch_and_sample_alone(tmp_path: Path) -> None:
    found = release(tmp_path, "web", 40)
    slots = [Slot("web", 0, number, number) for number in range(40)]
    wanted = [_mixing(found, 0.5).partner(slot) for slot in slots]
    moved = [_mixing(found, 0.5).partner(slot._replace(position=0)) for slot in slots]
    rows = [None if one is None else one.row for one in wanted]
    assert [None if one is None else one.row for one in moved] == rows
    for other in (_mixing(found, 0.5, seed=1), _mixing(found, 0.5, stage="second")):
        assert [other.partner(slot) for slot in slots] != wanted
    later = [_mixing(found, 0.5).partner(slot._replace(epoch=1)) for slot in slots]
    assert [None if one is None else one.row for one in later] != rows
    assert not any(_mixing(found, 1.0, training=False).partner(slot) for slot in slots)


def test_a_partner_that_cannot_be_decoded_costs_the_sample(tmp_path: Path) -> None:
    broken = {1: b"no picture"}
    write_shard(tmp_path / "web" / "train-0.arrow", [0, 1], images=broken)
    maker = _mixing(Release.open("web", tmp_path / "web"), 1.0)
    slot = Slot("web", 0, 0, 0)
    made = maker.make(slot, maker.read(slot), [np.zeros(16 * 16 * 3, dtype=np.uint8)])
    assert isinstance(made, Bad)
    assert made.image_id == "i0"
    assert made.reason.startswith("its partner i1: ")
