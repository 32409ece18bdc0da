"""Scenes: settled by their generator, truly described, many captions, textured; charts: flat."""

import numpy as np
import pytest

from flows.demo.scenes import COLOURS, Layout, Thing, chart, layout, render, scene


def test_the_same_state_draws_the_same_scene() -> None:
    one, two = scene(np.random.default_rng(7)), scene(np.random.default_rng(7))
    assert one[1] == two[1]
    assert one[0].tobytes() == two[0].tobytes()
    assert one[0].size == (224, 224)


def test_captions_are_many_and_of_ordinary_length() -> None:
    rng = np.random.default_rng(0)
    captions = [layout(rng).caption(rng) for _ in range(4000)]
    assert len(set(captions)) > 3900
    lengths = {len(caption.split()) for caption in captions}
    assert (min(lengths), max(lengths)) == (7, 16)
    assert not [caption for caption in captions if " a orange" in caption.lower()]


def test_the_picture_shows_what_the_caption_says() -> None:
    first = Thing(shape="square", colour="red", fill="plain", size="large")
    second = Thing(shape="square", colour="blue", fill="plain", size="large")
    shown = Layout(first=first, second=second, relation="above", ground="snowy")
    pixels = np.asarray(render(shown, np.random.default_rng(3))).astype(int)
    rows = {name: _rows_near(pixels, COLOURS[name]) for name in ("red", "blue")}
    assert rows["red"].mean() + 60 < rows["blue"].mean()


def _rows_near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.nonzero(np.abs(pixels - np.array(colour)).max(axis=2) < 40)[0]


def test_a_scene_is_textured_and_a_chart_is_flat() -> None:
    rng = np.random.default_rng(1)
    painted = len(np.unique(np.asarray(scene(rng)[0]).reshape(-1, 3), axis=0))
    drawn, text = chart(rng)
    assert painted > 1500
    assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) < 1000
    assert " chart of " in text


def test_a_scene_wider_than_the_texture_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 512 pixels"):
        scene(np.random.default_rng(0), size=600)
