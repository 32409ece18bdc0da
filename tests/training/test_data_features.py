"""Features of frozen towers: kept by digest, gone on with after a kill, the same as the tower says."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.training.releases import release
from training.data import features
from training.data.features import Features, FeatureSpec, compute_features, features_of
from training.data.images import ImageSpec
from training.data.loader import DataSpec, Loader
from training.data.order import Slot
from training.data.tokenizer import TextSpec
from training.data.towers import TowerSpec
from training.inputs import FeatureInput


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> TowerSpec:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet")
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_efficientnet", "num_classes": 1000}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {}}))
    return TowerSpec(folder=str(folder), library="timm")


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> TowerSpec:
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=40, num_hidden_layers=3, **shape)).save_pretrained(folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "number", *"0123456789"]
    (folder / "vocab.txt").write_text("\n".join([*pieces, *(f"##{one}" for one in "0123456789")]))
    return TowerSpec(folder=str(folder), library="transformers", layers=-1)


def _image_spec(tower: TowerSpec, reduce: int = 4) -> FeatureSpec:
    return FeatureSpec(tower=tower, prepare=ImageSpec(size=64), reduce=reduce, flip=True)


def test_features_of_two_views_as_the_tower_says(image_folder: TowerSpec, tmp_path: Path) -> None:
    spec = _image_spec(image_folder)
    releases = {
        "a": release(tmp_path, "a", 6, images={2: b"no picture"}),
        "b": release(tmp_path, "b", 4),
    }
    kept = features_of(spec, releases, tmp_path / "features")
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
    kept = features_of(_image_spec(image_folder, reduce=0), releases, tmp_path / "features")
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
    kept = features_of(
        FeatureSpec(tower=text_folder, prepare=prepare), releases, tmp_path / "features"
    )
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
    real = features._views
    computed: list[int] = []

    def views(tower: object, one: object, rows: range, computing: object) -> Iterator[object]:
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(rows.start)
        return real(tower, one, rows, computing)  # type: ignore[arg-type]

    monkeypatch.setattr(features, "_views", views)
    with pytest.raises(KeyboardInterrupt):
        compute_features(spec, found, tmp_path / "features")
    (folder,) = (tmp_path / "features").iterdir()
    with pytest.raises(ValueError, match="holds no whole features"):
        Features(spec, {"a": folder})

    computed.clear()
    assert compute_features(spec, found, tmp_path / "features") == folder
    assert computed == [4]
    assert Features(spec, {"a": folder}).bad("a") == frozenset()


def test_other_weights_are_other_features(image_folder: TowerSpec, tmp_path: Path) -> None:
    spec = _image_spec(image_folder)
    weights = Path(image_folder.folder) / "model.safetensors"
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(weights.read_bytes()[:-1] + b"\0")
    moved = TowerSpec(folder=str(other), library="timm")
    assert _image_spec(moved).digest() != spec.digest()
