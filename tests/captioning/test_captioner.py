"""Captions of images in a file: one for each line, none and the reason where there can be none."""

import json
from pathlib import Path

import pytest

from captioning.captioner import caption, read_images
from flows.cli.commands import application
from tests.training.worlds import captions_plan, picture, release
from training.evaluate.captioning import Captioner
from training.evaluate.lines import CaptionsFile, Line
from training.export import load_scorer
from training.generate import Decoding
from training.train import train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioner")
    releases = {"web": release(folder / "web", 20), "clean": release(folder / "clean", 20)}
    return train(captions_plan(2), releases=releases, out=folder / "run", workers=0).model


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images, of which one is cut off and one is missing."""
    (tmp_path / "red.png").write_bytes(picture("red", "circle", 1))
    (tmp_path / "cut.png").write_bytes(picture("red", "circle", 1)[:50])
    file = tmp_path / "images.jsonl"
    names = ("red.png", "cut.png", "gone.png")
    file.write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    return file


def test_each_line_has_a_caption_or_a_reason(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(image=images.parent / "red.png", captions=(), where="")
    (written,) = Captioner(scorer=load_scorer(model)).write(CaptionsFile([line]))
    found = [one.to_json() for one in caption(model, images, decoding=Decoding())]
    expected = [
        {"image": "red.png", "captions": [written.text]},
        {"image": "cut.png", "captions": [], "error": "image file is truncated"},
        {"image": "gone.png", "captions": [], "error": "no such file"},
    ]
    assert found == expected

    application()(
        ["caption", "--images", str(images), "--captioner", str(model), "--json"],
        result_action="return_value",
    )
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ('{"image": "a.png"}\n{"path": "b.png"}', 'line 2: needs "image"'),
        ("[1", "line 1: not JSON"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "images.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_images(file)
