"""LAIT's weak image-text scorer: the probability that a text is about its image, from many cheap
features (ImageBERT, section 3).

The file that `filters.fit.scorer` writes says which features it reads: with those of models the
filter needs these models too.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from filters.base import Filter, Level, measured
from filters.given_models import Given
from filters.logistic import Logistic
from filters.pair.features import FEATURES, OF_MODELS, read_by, values

WITHOUT_MODELS = tuple(name for name in read_by(FEATURES) if name not in OF_MODELS)


@dataclass(frozen=True, kw_only=True)
class ScorerFilter(Filter):
    """A calibrated probability from text, image, page and what they share; null where the image
    could not be measured.
    """

    name: ClassVar[str] = "scorer"
    version: ClassVar[int] = 1
    sentence: ClassVar[str] = (
        "Estimates from features of text, image and page how likely they belong together"
    )
    level: ClassVar[Level] = "pair"
    writes: ClassVar[Mapping[str, pa.DataType]] = {"pair.score": pa.float32()}
    costly: ClassVar[bool] = True
    needs: ClassVar[str | None] = "scorer"
    scorer: Logistic
    reads: tuple[str, ...] = WITHOUT_MODELS  # type: ignore[misc]  # of the class: what any file may ask; of a filter: what its file asks

    @classmethod
    def of(cls, given: Given) -> Self:
        assert given.scorer is not None
        scorer = read_scorer(Path(given.scorer))
        return cls(scorer=scorer, reads=read_by(scorer.features))

    @property
    def config(self) -> dict[str, Any]:
        said = {name: value for name, value in asdict(self.scorer).items() if name != "training"}
        return {"scorer": hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        told = values(self.scorer.features, batch)
        probability = self.scorer(np.nan_to_num(told))
        return measured(
            self.writes,
            {"pair.score": pa.array(probability, pa.float32(), mask=np.isnan(told).any(axis=1))},
        )


def read_scorer(path: Path) -> Logistic:
    """A scorer from its file; ValueError with a remedy where it is none."""
    try:
        scorer = Logistic.read(path)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"--scorer {path}: cannot be read as a scorer ({error}); write one with `winnow scorer`"
        ) from error
    if unknown := set(scorer.features) - set(FEATURES):
        raise ValueError(
            f"--scorer {path}: there is no feature {min(unknown)!r}; it is of another version,"
            " train it again"
        )
    return scorer
