"""Filters: what is measured on candidates, images and pairs. Each measurement is written by one filter of `FILTERS`."""

from collections.abc import Iterable

import pyarrow as pa

from filters.aesthetics import AestheticsFilter
from filters.alignment import AlignmentFilter, EmbeddingFilter
from filters.base import Filter
from filters.clean import CleanFilter
from filters.entries import EntriesFilter
from filters.evaluation import EvaluationFilter, EvaluationSimilarityFilter
from filters.given import Given
from filters.image import ImageFilter
from filters.labels import LabelOverlapFilter, LabelsFilter
from filters.language import LanguageFilter
from filters.length import LengthFilter
from filters.natural import NaturalFilter
from filters.ngrams import NgramsFilter
from filters.persons import PersonsFilter
from filters.place import PlaceFilter
from filters.profanity import ProfanityFilter
from filters.published import PublishedTextFilter
from filters.repetition import CharacterRepetitionFilter, RepetitionFilter
from filters.safety import ImageSafetyFilter, TextSafetyFilter
from filters.scorer import ScorerFilter
from filters.signs import SignsFilter
from filters.tagger import TaggerFilter
from filters.targets import TargetsFilter
from filters.text import TextFilter
from filters.vocabulary import VocabularyFilter
from filters.words import WordsFilter

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
MEASUREMENTS: dict[str, pa.DataType] = {name: kind for filter_ in FILTERS for name, kind in filter_.writes.items()}
NOTHING_GIVEN = Given()


def writer(measurement: str) -> type[Filter]:
    """The filter that writes a measurement."""
    return next(filter_ for filter_ in FILTERS if measurement in filter_.writes)


def filters_for(measurements: Iterable[str], given: Given = NOTHING_GIVEN) -> tuple[Filter, ...]:
    """The filters that write these measurements, and those whose measurements they read, in the order of `FILTERS`.

    Raises ValueError, naming measurement and option, where one needs what was not given.
    """
    wanted = set(measurements)
    chosen: list[Filter] = []
    for filter_ in reversed(FILTERS):
        if found := wanted & set(filter_.writes):
            if filter_.needs is not None and not getattr(given, filter_.needs):
                option = filter_.needs.replace("_", "-")
                raise ValueError(f"{min(found)} needs a model or list that was not given: add --{option}, or --without {min(found)}")
            made = filter_.of(given)
            wanted |= set(made.reads) & set(MEASUREMENTS)
            chosen.append(made)
    return tuple(reversed(chosen))
