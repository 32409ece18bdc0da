"""What a report shows, as plain data: every part may be left out, so that a collection alone makes
a report too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEPT = "kept"


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How one measurement is distributed among what was kept and what was dropped.

    Numbers have one edge more than counts; values that are names have `labels` instead of edges,
    one per count.
    """

    measure: str
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    sentence: str = ""
    # what the recipe asks for, such as (">=", 200.0)
    thresholds: tuple[tuple[str, float], ...] = ()
    unmeasured: int = 0
    whole: bool = False  # the values are whole numbers: a bin from 4 to 5 holds the fours

    def __post_init__(self) -> None:
        bins = len(self.labels) if self.labels else len(self.edges) - 1
        if not len(self.kept) == len(self.dropped) == bins:
            found = f"{len(self.kept)} and {len(self.dropped)} counts for {bins} bins"
            raise ValueError(
                f"histogram of {self.measure}: {found}: give as many labels as counts, or one edge"
                " more than counts"
            )


@dataclass(frozen=True, kw_only=True)
class Group:
    """Candidates of one host, language or source: how many there are, how many were kept, and what
    stopped most of the others.
    """

    name: str
    candidates: int
    kept: int
    stopped: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One candidate to look at: why it ended as it did, its text, its picture (encoded in any
    format) and its page.
    """

    outcome: str
    text: str
    image: bytes | None = None
    page_url: str | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The losses of one stage of training: for each name one value per step, None where it was not
    computed.
    """

    stage: str
    steps: tuple[int, ...]
    losses: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One number of one stage along its steps."""

    stage: str
    name: str
    points: tuple[tuple[float, float], ...]  # step, value


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A training run as its folder tells it."""

    name: str
    folder: str
    plan: str
    digest: str
    steps: int  # that the plan asks for
    done: int
    finished: bool
    samples: int  # that its steps have seen, repetitions counted
    bad: int
    best: Mapping[str, float] = field(default_factory=dict)
    # of each stage and release: stage, steps, of, batch, release, digest, share, samples
    data: tuple[Mapping[str, Any], ...] = ()
    series: tuple[Series, ...] = ()
    evaluation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything a report shows.

    `funnel` lists (outcome, count) in the order of the rules, with kept anywhere; `reasons`
    explains outcomes in a sentence; `groups` maps host, language and source to theirs, the largest
    first; `runs` are training runs with all that is known of them; `retrieval` maps a run (curated,
    raw_only, chance) to its metrics as fractions from 0 to 1; `facts` maps a name to a value or a
    place on disk.
    """

    title: str
    happened: tuple[str, ...] = ()
    funnel: tuple[tuple[str, int], ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    histograms: tuple[Histogram, ...] = ()
    groups: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    curves: tuple[Curve, ...] = ()
    retrieval: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[TrainingRun, ...] = ()
