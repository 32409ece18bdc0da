"""One run of `winnow img2dataset`: which shards are pending, the work on them, and what came of it."""

import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.img2dataset.lists import lists_at, read_list
from pipelines.img2dataset.output import NO_DOWNLOAD, NO_RESIZE, Shard
from pipelines.img2dataset.reopen import holds_these, reopen
from pipelines.img2dataset.shards import DownloadShards, Journal
from pipelines.stage import RECEIPTS, Progress, run_lane, silent
from pipelines.store import Folder, lease, write_batches
from pipelines.workers import run_lanes

WORK = "_winnow"  # of the output folder: img2dataset takes any JSON file beside its shards for a stats file, and looks into no folder
SETTINGS = "settings.json"
OF_A_DATASET = re.compile(r"\d+(_stats\.json|\.parquet|\.tar|\.tfrecord)?|_tmp")
WATCH_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a dataset holds after a run: shards, rows by status and by outcome, and the shards that could not be written."""

    output_folder: str
    shards: int
    count: int
    successes: int
    failed_to_download: int
    failed_to_resize: int
    outcomes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)  # rows of the lists that could not be read
    failed: dict[str, str] = field(default_factory=dict)  # shard: error

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def img2dataset(arguments: Img2datasetConfig, progress: Callable[[Progress], None] = silent) -> Done:
    """Bring a dataset to its end: what stands is left as it is, except that what failed for the moment is asked again.

    ValueError for lists or folders that do not fit; LeaseHeld if another command writes this dataset.
    """
    dataset = Folder(arguments.output_folder)
    work = dataset / WORK
    lists = lists_at(arguments)
    with lease(work):
        first = _first_shard(arguments, dataset, work)
        counts: Counter[str] = Counter()
        shards = _shards(lists, first, arguments, work, counts)
        pending = [shard for shard in shards if _is_pending(shard, arguments, work)]
        failed = _download(pending, arguments, work, progress)
        if not failed:
            _settings(work, arguments, first, complete=True)
            for name in ("lists", "journal", "leases", "writing", RECEIPTS):
                (work / name).remove()
    return _done(arguments, shards, counts, failed)


def _first_shard(arguments: Img2datasetConfig, dataset: Folder, work: Folder) -> int:
    """The number of the first shard of these lists; what stands of other arguments is refused, or removed where that was asked for."""
    if arguments.incremental_mode == "overwrite":
        for name in dataset.names():
            if OF_A_DATASET.fullmatch(name):
                dataset.remove(name)
        for name in work.names():
            if name != "lease.json":
                (work / name).remove()

    before = work.read_json(SETTINGS) if work.exists(SETTINGS) else None
    same = before is not None and before["arguments"] == json.loads(json.dumps(arguments.shaping()))
    first = 0
    if arguments.incremental_mode == "extend":
        unfinished = before is not None and same and before["extends"] and not before["complete"]
        first = before["first_shard"] if unfinished else _last_shard(dataset) + 1
    elif before is not None and not same:
        raise ValueError(_other(arguments, before["arguments"]))
    _settings(work, arguments, first, complete=False)
    return first


def _other(arguments: Img2datasetConfig, before: dict[str, Any]) -> str:
    now = json.loads(json.dumps(arguments.shaping()))
    differing = [f"--{name} was {before.get(name)} and is {value}" for name, value in now.items() if before.get(name) != value]
    return (
        f"{arguments.output_folder} holds shards of other arguments ({'; '.join(differing)}): give those, another --output_folder, "
        f"--incremental_mode extend to add shards behind them, or overwrite to remove them"
    )


def _settings(work: Folder, arguments: Img2datasetConfig, first: int, *, complete: bool) -> None:
    extends = arguments.incremental_mode == "extend"
    work.write_json(SETTINGS, {"arguments": arguments.shaping(), "first_shard": first, "extends": extends, "complete": complete})


def _last_shard(dataset: Folder) -> int:
    numbers = [int(name.split("_")[0]) for name in dataset.names() if re.fullmatch(r"\d+_stats\.json", name)]
    return max(numbers, default=-1)


def _shards(lists: Sequence[str], first: int, arguments: Img2datasetConfig, work: Folder, counts: Counter[str]) -> list[Shard]:
    """The shards of all lists, each beginning with a shard of its own, their rows as Arrow in the folder of work."""
    found: list[Shard] = []
    (work / "lists").remove()
    for index, path in enumerate(lists):
        table = read_list(path, arguments, counts).combine_chunks()
        batches = table.to_batches(max_chunksize=arguments.number_sample_per_shard)
        name = f"{index:06d}.arrow"
        write_batches(work / "lists", name, table.schema, batches)
        start = first + len(found)
        found += [Shard.of(start + batch, name, batch, arguments) for batch in range(len(batches))]
    if not found:
        raise ValueError(f"--url_list: {arguments.url_list} holds no addresses" + (f" ({_spelled(counts)})" if counts else ""))
    return found


def _is_pending(shard: Shard, arguments: Img2datasetConfig, work: Folder) -> bool:
    """Whether a shard is to be written: it does not stand, or some of its addresses may give their images by now."""
    if not shard.stands(arguments):
        return True
    journal = Journal(work / "journal", shard.name)
    if arguments.output_format == "dummy":
        return False
    if not holds_these(shard, shard.rows(work), arguments):
        raise ValueError(
            f"{arguments.output_folder}/{shard.name}.parquet holds other addresses than {arguments.url_list} at the same place: give "
            f"the list that it was made of, another --output_folder, or --incremental_mode extend to add shards behind it"
        )
    return reopen(shard, journal, arguments)


def _download(pending: Sequence[Shard], arguments: Img2datasetConfig, work: Folder, progress: Callable[[Progress], None]) -> dict[str, str]:
    """Work on shards, some times on those that fail; those that do to the end, with their errors."""
    for _ in range(1 + arguments.max_shard_retry):
        if not pending:
            break
        (work / RECEIPTS).remove()
        stage = DownloadShards(out=work, arguments=arguments, pending=tuple(pending))
        with _watched(stage, progress):
            _run(stage)
        pending = [shard for shard in pending if not shard.stands(arguments)]
    errors = {name: (work / RECEIPTS).read_json(name) for name in (work / RECEIPTS).names() if name.endswith(".failed")}
    return {shard.name: next((error for name, error in errors.items() if name.startswith(f"{shard.name}.")), "") for shard in pending}


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
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(WATCH_SECONDS):
            with contextlib.suppress(OSError, ValueError):
                done = sum(shard.stands(stage.arguments) for shard in stage.pending)
                progress(Progress(stage=stage.name, done=done, parts=len(stage.pending)))

    thread = threading.Thread(target=look, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def _done(arguments: Img2datasetConfig, shards: Sequence[Shard], counts: Counter[str], failed: dict[str, str]) -> Done:
    dataset = Folder(arguments.output_folder)
    totals: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for shard in shards:
        if shard.name not in failed:
            stats = dataset.read_json(shard.stats)
            totals.update({name: stats[name] for name in ("count", "successes", NO_DOWNLOAD, NO_RESIZE)})
            outcomes.update(stats["status_dict"])
    return Done(
        output_folder=arguments.output_folder,
        shards=len(shards) - len(failed),
        count=totals["count"],
        successes=totals["successes"],
        failed_to_download=totals[NO_DOWNLOAD],
        failed_to_resize=totals[NO_RESIZE],
        outcomes=dict(outcomes.most_common()),
        left_out=dict(counts),
        failed=failed,
    )


def _spelled(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
