"""Filters: what is measured on candidates, images and pairs. Each measurement is written by one
filter of `FILTERS`.
"""

from collections.abc import Iterable

import pyarrow as pa

from filters.base import Filter
from filters.given_models import Given
from filters.image.image import ImageFilter
from filters.image.is_photo import NaturalFilter
from filters.models.aesthetics import AestheticsFilter
from filters.models.alignment import AlignmentFilter, EmbeddingFilter
from filters.models.evaluation import EvaluationFilter, EvaluationSimilarityFilter
from filters.models.labels import LabelOverlapFilter, LabelsFilter
from filters.models.persons import PersonsFilter
from filters.models.safety import ImageSafetyFilter, TextSafetyFilter
from filters.models.targets import TargetsFilter
from filters.pair.place import PlaceFilter
from filters.pair.scorer import ScorerFilter
from filters.text.char_ratios import SignsFilter
from filters.text.clean import CleanFilter
from filters.text.entries import EntriesFilter
from filters.text.language import LanguageFilter
from filters.text.length import LengthFilter
from filters.text.ngrams import NgramsFilter
from filters.text.profanity import ProfanityFilter
from filters.text.published import PublishedTextFilter
from filters.text.repetition import CharacterRepetitionFilter, RepetitionFilter
from filters.text.tagger import TaggerFilter
from filters.text.text import TextFilter
from filters.text.vocabulary import VocabularyFilter
from filters.text.words import WordsFilter

# A filter that reads another's measurements stands after it.
FILTERS: tuple[type[Filter], ...] = (
    CleanFilter,
    LengthFilter,
    PlaceFilter,
    SignsFilter,
    WordsFilter,
    RepetitionFilter,
    CharacterRepetitionFilter,
    TextFilter,
    LanguageFilter,
    PublishedTextFilter,
    VocabularyFilter,
    NgramsFilter,
    ProfanityFilter,
    EntriesFilter,
    TaggerFilter,
    PersonsFilter,
    ImageFilter,
    NaturalFilter,
    EmbeddingFilter,
    ImageSafetyFilter,
    TextSafetyFilter,
    LabelsFilter,
    AlignmentFilter,
    AestheticsFilter,
    TargetsFilter,
    EvaluationFilter,
    EvaluationSimilarityFilter,
    LabelOverlapFilter,
    ScorerFilter,
)
MEASUREMENTS: dict[str, pa.DataType] = {
    name: kind for filter_ in FILTERS for name, kind in filter_.writes.items()
}
NOTHING_GIVEN = Given()


def writer(measurement: str) -> type[Filter]:
    """The filter that writes a measurement."""
    return next(filter_ for filter_ in FILTERS if measurement in filter_.writes)


def filters_for(
    measurements: Iterable[str], given: Given = NOTHING_GIVEN, left_out: Iterable[str] = ()
) -> tuple[Filter, ...]:
    """The filters that write these measurements, and those whose measurements they read, in the
    order of `FILTERS`.

    Raises ValueError, naming measurements and options, where some need what was not given; what is
    `left_out` already stands in its advice, so that it can be followed as it is.
    """
    return tuple(reversed(_walk(measurements, given, left_out, open_them=True)))


def check_given(measurements: Iterable[str], given: Given, left_out: Iterable[str] = ()) -> None:
    """Raise as `filters_for` does, without opening any model."""
    _walk(measurements, given, left_out, open_them=False)


def _walk(
    measurements: Iterable[str], given: Given, left_out: Iterable[str], *, open_them: bool
) -> list[Filter]:
    """The filters that are needed, the last first."""
    # for each that is needed, those that were asked for
    asked_by = {name: {name} for name in measurements}
    lacking: dict[str, set[str]] = {}
    chosen: list[Filter] = []
    for filter_ in reversed(FILTERS):
        asking = set().union(*(asked_by.get(name, ()) for name in filter_.writes))
        if not asking:
            continue
        reads = filter_.reads
        if filter_.needs is not None and not getattr(given, filter_.needs):
            for name in asking:
                lacking.setdefault(name, set()).add(f"--{filter_.needs.replace('_', '-')}")
        elif open_them:
            chosen.append(filter_.of(given))
            reads = chosen[-1].reads
        for name in reads:
            asked_by[name] = asked_by.get(name, set()) | asking
    _refuse(lacking, left_out)
    return chosen


def _refuse(lacking: dict[str, set[str]], left_out: Iterable[str]) -> None:
    """Say what to add, or what to leave out, all at once."""
    if not lacking:
        return
    options = sorted(set().union(*lacking.values()))
    names = sorted(lacking)
    without = f"--without {' '.join([*left_out, *names])}"
    if len(names) == len(options) == 1:
        raise ValueError(
            f"{names[0]} needs a model or list that was not given: add {options[0]}, or {without}"
        )
    needed = ", ".join(f"{name} needs {' and '.join(sorted(lacking[name]))}" for name in names)
    raise ValueError(f"models or lists were not given: {needed}; add them, or {without}")
