"""One run of `winnow img2dataset`: which shards are pending, the work, and what came of it."""

import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.background import meanwhile
from pipelines.engine.lane import run_lane
from pipelines.engine.local import run_lanes
from pipelines.engine.stage import RECEIPTS, Progress, silent
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.lists import lists_at, read_list
from pipelines.img2dataset.output import NO_DOWNLOAD, NO_RESIZE, Shard
from pipelines.img2dataset.reopen import holds_these, reopen
from pipelines.img2dataset.shards import DownloadShards, Journal
from pipelines.lease import lease
from pipelines.store import Folder
from pipelines.tables import write_batches
from pipelines.web.budget import spent_file, spent_nothing
from pipelines.web.proxies import check_proxies

# img2dataset takes any JSON file beside its shards for a stats file, and looks into no folder
WORK = "_winnow"
SETTINGS = "settings.json"
OF_A_DATASET = re.compile(r"\d+(_stats\.json|\.parquet|\.tar|\.tfrecord)?|_tmp")
WATCH_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a dataset holds after a run: rows by status and by outcome, and shards that failed."""

    output_folder: str
    shards: int
    count: int
    successes: int
    failed_to_download: int
    failed_to_resize: int
    outcomes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(
        default_factory=dict
    )  # rows of the lists that could not be read
    failed: dict[str, str] = field(default_factory=dict)  # shard: error

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def img2dataset(
    arguments: Img2datasetConfig, progress: Callable[[Progress], None] = silent
) -> Done:
    """Bring a dataset to its end: of what stands, only passing failures are asked for again.

    ValueError for lists or folders that do not fit; LeaseHeld if another command writes here.
    """
    dataset = Folder(arguments.output_folder)
    work = dataset / WORK
    lists = lists_at(arguments)
    check_proxies(allow_private=arguments.allow_private_proxy or arguments.allow_private_addresses)
    spent = spent_file(dataset.path())
    with _nothing_left(dataset, work), lease(work):
        if not work.exists(SETTINGS):
            spent_nothing(spent)
        counts: Counter[str] = Counter()
        batches = _read_lists(lists, arguments, work, counts)
        first = _first_shard(arguments, dataset, work)
        shards = [
            Shard.of(number, name, batch, arguments)
            for number, (name, batch) in enumerate(batches, start=first)
        ]
        pending = [shard for shard in shards if _is_pending(shard, arguments, work)]
        failed = _download(pending, arguments, work, progress)
        spent_nothing(spent)  # of a run that is stopped, what it has spent stands
        if not failed:
            _settings(work, arguments, first, complete=True)
            for name in ("lists", "journal", "leases", "writing", RECEIPTS):
                (work / name).remove()
    return _done(arguments, shards, counts, failed)


@contextlib.contextmanager
def _nothing_left(dataset: Folder, work: Folder) -> Iterator[None]:
    """A command that fails before it has begun leaves no folder behind."""
    new, began = not dataset.exists(), work.exists(SETTINGS)
    try:
        yield
    except ValueError:
        if not began and not work.exists(SETTINGS):
            (dataset if new else work).remove()
        raise


def _read_lists(
    lists: Sequence[str], arguments: Img2datasetConfig, work: Folder, counts: Counter[str]
) -> list[tuple[str, int]]:
    """The lists as Arrow in the folder of work; the file and the record batch of each shard."""
    found: list[tuple[str, int]] = []
    (work / "lists").remove()
    for index, path in enumerate(lists):
        table = read_list(path, arguments, counts).combine_chunks()
        batches = table.to_batches(max_chunksize=arguments.number_sample_per_shard)
        name = f"{index:06d}.arrow"
        write_batches(work / "lists", name, table.schema, batches)
        found += [(name, batch) for batch in range(len(batches))]
    if not found:
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        raise ValueError(
            f"--url_list: {arguments.url_list} holds no addresses" + (f" ({said})" if said else "")
        )
    return found


def _first_shard(arguments: Img2datasetConfig, dataset: Folder, work: Folder) -> int:
    """The number of the first shard; shards of other arguments are refused, or removed if asked."""
    if arguments.incremental_mode == "overwrite":
        _remove(dataset, work)

    before = work.read_json(SETTINGS) if work.exists(SETTINGS) else {}
    now = json.loads(json.dumps(arguments.shaping()))
    same = bool(before) and before["arguments"] == now
    last = _last_shard(dataset)
    first = 0
    if arguments.incremental_mode == "extend":
        unfinished = same and before["extends"] and not before["complete"]
        first = before["first_shard"] if unfinished else last + 1
    elif before and not same and last >= 0:
        raise ValueError(_other(arguments, before["arguments"], now))
    if not same:
        (work / "journal").remove()  # of images that are encoded otherwise
    _settings(work, arguments, first, complete=False)
    return first


def _remove(dataset: Folder, work: Folder) -> None:
    """What a dataset consists of, and nothing that may lie beside."""
    for name in dataset.names():
        if OF_A_DATASET.fullmatch(name):
            dataset.remove(name)
    for name in (SETTINGS, "journal", "leases", "writing", RECEIPTS):
        work.remove(name)


def _other(arguments: Img2datasetConfig, before: dict[str, Any], now: dict[str, Any]) -> str:
    differing = [
        f"--{name} was {before.get(name)} and is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    return (
        f"{arguments.output_folder} holds shards of other arguments ({'; '.join(differing)}): "
        "give those, another --output_folder, --incremental_mode extend to add shards behind "
        "them, or overwrite to remove them"
    )


def _settings(work: Folder, arguments: Img2datasetConfig, first: int, *, complete: bool) -> None:
    said = {
        "arguments": arguments.shaping(),
        "first_shard": first,
        "extends": arguments.incremental_mode == "extend",
        "complete": complete,
    }
    work.write_json(SETTINGS, said)


def _last_shard(dataset: Folder) -> int:
    """The largest number of a shard that stands; -1 if none does."""
    stats = [name for name in dataset.names() if re.fullmatch(r"\d+_stats\.json", name)]
    return max((int(name.split("_")[0]) for name in stats), default=-1)


def _is_pending(shard: Shard, arguments: Img2datasetConfig, work: Folder) -> bool:
    """Whether a shard does not stand, or some of its addresses may give their images by now."""
    if not shard.stands(arguments):
        return True
    journal = Journal(work / "journal", shard.name)
    if arguments.output_format == "dummy":
        return False
    if not holds_these(shard, shard.rows(work), arguments):
        raise ValueError(
            f"{arguments.output_folder}/{shard.name}.parquet holds other addresses than "
            f"{arguments.url_list} at the same place: give the list that it was made of, "
            "another --output_folder, or --incremental_mode extend to add shards behind it"
        )
    return reopen(shard, journal, arguments)


def _download(
    pending: Sequence[Shard],
    arguments: Img2datasetConfig,
    work: Folder,
    progress: Callable[[Progress], None],
) -> dict[str, str]:
    """Work on shards, some times on those that fail; what fails to the end, with its error."""
    for _ in range(1 + arguments.max_shard_retry):
        if not pending:
            break
        (work / RECEIPTS).remove()
        stage = DownloadShards(out=work, arguments=arguments, pending=tuple(pending))
        with _watched(stage, progress):
            _run(stage)
        pending = [shard for shard in pending if not shard.stands(arguments)]
    errors = {
        name: (work / RECEIPTS).read_json(name)
        for name in (work / RECEIPTS).names()
        if name.endswith(".failed")
    }
    return {
        shard.name: next(
            (
                error
                for name, error in errors.items()
                if name.startswith((f"{shard.name}.", "lane-"))
            ),
            "",
        )
        for shard in pending
    }


def _run(stage: DownloadShards) -> None:
    lanes: dict[str, list[Any]] = {}
    for part in stage.parts():
        lanes.setdefault(part.lane, []).append(part)
    if len(lanes) == 1:
        run_lane(stage, *lanes.values())
    else:
        run_lanes(stage, list(lanes.values()), len(lanes))


@contextlib.contextmanager
def _watched(stage: DownloadShards, progress: Callable[[Progress], None]) -> Iterator[None]:
    """Say now and then how many shards stand, and how many addresses have been settled."""

    def look(stop: threading.Event) -> None:
        while not stop.wait(WATCH_SECONDS):
            with contextlib.suppress(OSError, ValueError):
                done = sum(shard.stands(stage.arguments) for shard in stage.pending)
                progress(Progress(stage=stage.name, done=done, parts=len(stage.pending)))

    with meanwhile(look, "progress"):
        yield


def _done(
    arguments: Img2datasetConfig,
    shards: Sequence[Shard],
    counts: Counter[str],
    failed: dict[str, str],
) -> Done:
    dataset = Folder(arguments.output_folder)
    totals: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for shard in shards:
        if shard.name not in failed:
            stats = dataset.read_json(shard.stats)
            totals.update(
                {name: stats[name] for name in ("count", "successes", NO_DOWNLOAD, NO_RESIZE)}
            )
            outcomes.update(stats["status_dict"])
    return Done(
        output_folder=arguments.output_folder,
        shards=len(shards) - len(failed),
        count=totals["count"],
        successes=totals["successes"],
        failed_to_download=totals[NO_DOWNLOAD],
        failed_to_resize=totals[NO_RESIZE],
        outcomes=dict(outcomes.most_common()),
        left_out={name: count for name, count in counts.items() if count},
        failed=failed,
    )
