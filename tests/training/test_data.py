"""The order of samples, the place that batches carry, the vocabulary, and shards that are not shards."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.small import pairs, picture, write_shard
from training.data import Mixture, Release, decode, scale
from training.tokenizer import Tokenizer, build_vocabulary


def _release(folder: Path, name: str, count: int) -> Release:
    rows = [(picture("red", "blue"), [f"{name} {number}"]) for number in range(count)]
    return Release(name, [write_shard(folder / name / "train-00000-of-00001.arrow", rows)])


def _take(mixture: Mixture, steps: int, step: int = 0, place: dict[str, int] | None = None) -> list[list[str]]:
    stream = mixture.batches(step, place or {})
    return [next(stream).captions for _ in range(steps)]


def _flat(batches: list[list[str]]) -> list[str]:
    return [caption for batch in batches for caption in batch]


def test_an_epoch_gives_each_sample_once_and_the_next_in_another_order(tmp_path: Path) -> None:
    mixture = Mixture({"web": _release(tmp_path, "web", 12)}, {"web": 1.0}, batch=4, side=8, seed=1)
    batches = _take(mixture, 6)
    first, second = _flat(batches[:3]), _flat(batches[3:])
    assert sorted(first) == sorted(second) == sorted(f"web {number}" for number in range(12))
    assert first != second


def test_a_batch_carries_the_place_to_go_on_from(tmp_path: Path) -> None:
    releases = {"web": _release(tmp_path, "web", 7), "clean": _release(tmp_path, "clean", 5)}
    shares = {"web": 3.0, "clean": 1.0}
    stream = Mixture(releases, shares, batch=4, side=8, seed=1).batches(0, {})
    seen = [next(stream) for _ in range(8)]
    assert sum(seen[4].place.values()) == 20
    again = _take(Mixture(releases, shares, batch=4, side=8, seed=1), 3, step=5, place=seen[4].place)
    assert again == [batch.captions for batch in seen[5:]]


def test_shares_hold_over_time(tmp_path: Path) -> None:
    releases = {"web": _release(tmp_path, "web", 7), "clean": _release(tmp_path, "clean", 5)}
    taken = _flat(_take(Mixture(releases, {"web": 3.0, "clean": 1.0}, batch=8, side=8, seed=0), 200))
    assert sum(caption.startswith("web") for caption in taken) / 1600 == pytest.approx(0.75, abs=0.03)


def test_another_seed_gives_another_order(tmp_path: Path) -> None:
    release = {"web": _release(tmp_path, "web", 12)}
    one, two = (_take(Mixture(release, {"web": 1.0}, batch=12, side=8, seed=seed), 1) for seed in (1, 2))
    assert one != two


def test_pixels_are_scaled_to_minus_one_and_one() -> None:
    pixels = scale(decode(picture("red", "blue"), 32)[None])
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels[0, :, 0, 0].tolist() == pytest.approx([220 / 127.5 - 1, 30 / 127.5 - 1, 30 / 127.5 - 1])


def test_a_release_is_identified_by_its_manifest_or_its_bytes(tmp_path: Path) -> None:
    release = _release(tmp_path, "web", 3)
    assert len(release.digest()) == 32
    (tmp_path / "web" / "manifest.json").write_text('{"digest": "abc"}')
    assert release.digest() == "abc"


def test_what_is_not_a_shard_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "train-00000-of-00001.arrow"
    broken.write_bytes(b"not arrow at all")
    with pytest.raises(ValueError, match=r"release web: .*train-00000-of-00001.arrow is not a shard"):
        Release("web", [broken])
    shard = write_shard(tmp_path / "web" / "train-00000-of-00001.arrow", [(b"no picture", ["red"])])
    with pytest.raises(ValueError, match="release web: the picture of sample 0 cannot be decoded"):
        next(Mixture({"web": Release("web", [shard])}, {"web": 1.0}, batch=2, side=8, seed=0).batches(0, {}))
    with pytest.raises(ValueError, match="release web has no shards"):
        Release("web", [])


@pytest.mark.parametrize("wrong", [RuntimeError("frame 0"), NotImplementedError("of AVIF"), Image.DecompressionBombError("large")])
def test_whatever_a_decoder_raises_is_a_broken_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Exception) -> None:
    def convert(*_: object) -> None:
        raise wrong

    shard = write_shard(tmp_path / "web" / "train-00000-of-00001.arrow", [(picture("red", "blue"), ["red"])])
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(OSError, match=f"^{type(wrong).__name__}: "):
        decode(picture("red", "blue"), 8)
    with pytest.raises(ValueError, match="release web: the picture of sample 0 cannot be decoded"):
        next(Mixture({"web": Release("web", [shard])}, {"web": 1.0}, batch=2, side=8, seed=0).batches(0, {}))


@pytest.mark.parametrize("at", range(40, 400, 12))
def test_damaged_avif(at: int) -> None:
    whole = io.BytesIO()
    Image.effect_noise((40, 40), 90).save(whole, "AVIF")
    damaged = bytearray(whole.getvalue())
    damaged[at : at + 4] = bytes(255 - one for one in damaged[at : at + 4])
    for data in (bytes(damaged), whole.getvalue()[:at]):
        with contextlib.suppress(OSError):
            assert decode(data, 8).shape == (8, 8, 3)


def test_the_vocabulary_ranks_words_by_frequency_and_spells_the_others() -> None:
    built = build_vocabulary(["a cat", "a cab", "the cat sat", "the cat"], 40)
    assert built[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert built[5:-2] == [piece for letter in "abcehst" for piece in (letter, f"##{letter}")]
    assert built[-2:] == ["cat", "the"]


def test_the_order_of_captions_does_not_change_the_vocabulary() -> None:
    captions = [text for _, [text] in pairs()]
    shuffled = [captions[int(row)] for row in np.random.default_rng(0).permutation(len(captions))]
    assert build_vocabulary(captions, 30) == build_vocabulary(shuffled, 30)


def test_texts_become_padded_ids_of_whole_words_and_letters() -> None:
    tokenizer = Tokenizer(build_vocabulary(["a cat", "a cab", "the cat sat", "the cat"], 40), length=6)
    number = {piece: place for place, piece in enumerate(tokenizer.vocabulary)}
    ids = tokenizer.ids(["The cat", "cab é", ""])
    assert ids.tolist() == [
        [2, number["the"], number["cat"], 3, 0, 0],
        [2, number["c"], number["##a"], number["##b"], number["e"], 3],
        [2, 3, 0, 0, 0, 0],
    ]
    assert torch.equal(tokenizer.continues[ids[1]], torch.tensor([False, False, True, True, False, False]))


def test_a_vocabulary_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks"):
        Tokenizer(["[PAD]", "cat"], 8)
    with pytest.raises(ValueError, match="no such vocabulary"):
        Tokenizer.read(tmp_path / "vocab.txt", 8)
