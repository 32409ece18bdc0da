"""Batches of a step: one batch of all releases mixed, or one of each release with its weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from training.data.batch import Batch
from training.data.images import ImageSpec
from training.data.loader import DataSpec, Loader, Prepared
from training.data.order import StreamState
from training.data.shards import Release
from training.distributed import Ranks
from training.plan import TrainingPlan, TrainingStage

MIXED = "mixed"  # the one stream of a stage that does not accumulate


class Weighted(NamedTuple):
    """A batch of a stream, and its share of the step's gradient."""

    stream: str
    share: float
    batch: Batch


class Feed:
    """Streams of batches, from each of which every step takes one; their shares add up to 1."""

    def __init__(self, open_loader: Callable[[str], Loader], shares: Mapping[str, float]) -> None:
        total = sum(shares.values())
        self._shares = {name: share / total for name, share in sorted(shares.items())}
        self._open = ExitStack()
        self._loaders: dict[str, Loader] = {}
        with ExitStack() as opening:
            for name in self._shares:
                self._loaders[name] = opening.enter_context(open_loader(name))
            self._open = opening.pop_all()

    def __iter__(self) -> Iterator[list[Weighted]]:
        return self

    def __next__(self) -> list[Weighted]:
        """A batch of each stream."""
        batches = []
        for name, share in self._shares.items():
            batches.append(Weighted(name, share, next(self._loaders[name])))
        return batches

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()


def states_of(batches: list[Weighted]) -> dict[str, StreamState]:
    """The state of each stream after a step."""
    return {weighted.stream: weighted.batch.state for weighted in batches}


@dataclass(frozen=True, kw_only=True)
class Data:
    """Opens the feeds of a plan's stages."""

    plan: TrainingPlan
    prepared: Mapping[str, Prepared]
    ranks: Ranks
    workers: int

    def training(
        self,
        stage: TrainingStage,
        releases: Mapping[str, Release],
        states: Mapping[str, StreamState],
    ) -> Feed:
        """Endless, from these states on."""
        streams = streams_of(stage)
        prepared = self._prepared(stage)

        def open_loader(stream: str) -> Loader:
            data = DataSpec(
                shares=streams[stream],
                batch=stage.batch,
                sources=stage.sources,
                near=stage.near,
                buckets=stage.buckets,
                mixgen=stage.mixgen,
            )
            return Loader(
                releases,
                data,
                prepared,
                seed=self.plan.seed,
                stage=stage.name,
                ranks=self.ranks,
                state=states.get(stream),
                workers=self._workers(streams),
            )

        return Feed(open_loader, shares_of(streams))

    def validation(
        self, stage: TrainingStage, heldout: Mapping[str, Release]
    ) -> tuple[Feed, int] | None:
        """The same first samples each time, none twice, and how many batches they are.

        None where the stage's releases hold out fewer than two samples for each rank.
        """
        releases = {}
        shares = {}
        for name, share in stage.data.items():
            if name in heldout:
                release = heldout[name]
                releases[release.name] = release
                shares[release.name] = share

        world = self.ranks.world
        size = min(map(len, releases.values()), default=0)
        rows = min(stage.batch, size // world * world)
        if rows < 2 * world:
            return None
        streams = streams_of(stage, shares)
        prepared = self._prepared(stage)

        def open_loader(stream: str) -> Loader:
            return Loader(
                releases,
                DataSpec(shares=streams[stream], batch=rows, sources=stage.sources),
                prepared,
                seed=self.plan.seed,
                stage="validation",
                ranks=self.ranks,
                workers=self._workers(streams),
                training=False,
            )

        count = min(self.plan.validate_batches, size // rows)
        return Feed(open_loader, shares_of(streams)), count

    def _prepared(self, stage: TrainingStage) -> dict[str, Prepared]:
        """Images in the stage's resolution."""
        specs = self.plan.model.at_resolution(stage.resolution).prepare
        prepared = dict(self.prepared)
        for name in prepared:
            spec = specs.get(name)
            if isinstance(spec, ImageSpec):
                prepared[name] = spec
        return prepared

    def _workers(self, streams: Mapping[str, object]) -> int:
        """For each stream at least one, if there are any."""
        share = max(1, self.workers // len(streams))
        return min(self.workers, share)


def streams_of(
    stage: TrainingStage, shares: Mapping[str, float] | None = None
) -> dict[str, Mapping[str, float]]:
    """What a step takes a batch of: all releases mixed, or each for itself."""
    shares = shares or stage.data
    if stage.mixing != "accumulate":
        return {MIXED: shares}
    return {name: {name: share} for name, share in shares.items()}


def shares_of(streams: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The share of each stream in a step's gradient."""
    return {name: sum(shares.values()) for name, shares in streams.items()}
