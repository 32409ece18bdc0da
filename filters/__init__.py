"""Filters: what is measured on candidates and images. `ALL` is every filter there is; each measurement is written by one of them."""

from collections.abc import Iterable

from filters.base import Filter
from filters.image import ImageFilter
from filters.language import LanguageFilter
from filters.natural import NaturalFilter
from filters.signs import SignsFilter
from filters.text import TextFilter

ALL: tuple[Filter, ...] = (TextFilter(), SignsFilter(), LanguageFilter(), ImageFilter(), NaturalFilter())


def filters_for(measurements: Iterable[str]) -> tuple[Filter, ...]:
    """The filters that write any of these measurements, in the order of `ALL`."""
    wanted = set(measurements)
    return tuple(filter_ for filter_ in ALL if wanted & set(filter_.writes))
