"""Vectors of images and texts as Parquet."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.training.worlds import release
from training.data.shards import Release
from training.evaluate import embed as module
from training.evaluate.embed import embed
from training.evaluate.lines import opened, read_lines
from training.evaluate.scorer import Scorer


def test_a_row_for_each_image_and_for_each_caption(
    scorer: Scorer, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", 7)
    out = tmp_path / "vectors.parquet"
    found = embed(scorer, shapes, out, batch=5)
    assert found == {"images": 18, "captions": 18, "unreadable": 0, "dim": 16, "out": str(out)}

    table = pq.read_table(out)
    assert table.column_names == ["image", "caption", "vector"]
    lines = read_lines(shapes)
    assert table["image"].to_pylist() == [str(one.image) for one in lines for _ in range(2)]
    captions = [text for line in lines for text in (None, line.captions[0])]
    assert table["caption"].to_pylist() == captions

    vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    scorer.images([line.image.read_bytes() for line in lines])
    scorer.texts([line.captions[0] for line in lines])
    cosines = scorer.similarity() / scorer.scale()
    np.testing.assert_allclose(vectors[::2] @ vectors[1::2].T, cosines, atol=1e-5)


def test_a_release_is_embedded_whole(scorer: Scorer, tmp_path: Path) -> None:
    asked = Release.open("held", release(tmp_path / "held", 9, seed=4), split="all")
    found = embed(scorer, asked, tmp_path / "vectors.parquet")
    assert (found["images"], found["captions"]) == (9, 9)
    images = pq.read_table(tmp_path / "vectors.parquet")["image"].to_pylist()
    assert images[::2] == [f"held{row:05d}" for row in range(9)]


def test_an_unreadable_image_is_counted(scorer: Scorer, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "red-circle.png").write_bytes(b"no picture")
    out = tmp_path / "vectors.parquet"
    found = embed(scorer, shapes, out, batch=4)
    assert (found["images"], found["captions"], found["unreadable"]) == (17, 17, 1)
    assert pq.read_metadata(out).num_rows == 34


def test_numbers_that_are_none_leave_no_file(scorer: Scorer, shapes: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        scorer.model.get_parameter("heads.text_project.linear.weight").fill_(float("nan"))
    out = tmp_path / "vectors.parquet"
    with pytest.raises(ValueError, match="scores are not numbers"):
        embed(scorer, shapes, out)
    assert not list(tmp_path.glob("*vectors.parquet*"))
    scorer.contrast = None
    with pytest.raises(ValueError, match="compares nothing"):
        embed(scorer, shapes, out)


def test_half_a_surrogate_pair_is_replaced(scorer: Scorer, shapes: Path, tmp_path: Path) -> None:
    shapes.write_text('{"image": "red-circle.png", "captions": ["a \\ud800 circle"]}\n')
    assert opened(shapes).texts(0)[0] == ["a ? circle"]
    embed(scorer, shapes, tmp_path / "vectors.parquet")
    shapes.write_bytes(b'{"image": "red-circle.png", "captions": ["\xff"]}')
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_lines(shapes)
