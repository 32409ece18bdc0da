"""Every measurement is explained, and nothing else is."""

from filters.recipe.catalogue import catalogue
from filters.recipe.rules import CLUSTERED
from filters.registry import MEASUREMENTS


def test_every_measurement_is_explained_once() -> None:
    assert set(catalogue()) == set(MEASUREMENTS) | set(CLUSTERED)


def test_each_has_a_sentence_a_unit_and_a_source() -> None:
    assert [
        name
        for name, about in catalogue().items()
        if not (about.says and about.unit and about.source)
    ] == []
    assert catalogue()["image.aspect"].unit == "ratio"
