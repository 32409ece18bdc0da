"""Take-down: what is forgotten is put on the root's list for ever, erased wherever the root holds
it, and releases are written again.

The order is what makes a killed take-down complete when it is run again: the list first; then what
is found only through the candidates (releases, images, measurements, pages); then addresses and
fetches; the candidates themselves; and at last the new releases.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.decide.decision_run import DECISION
from pipelines.engine.stage import MANIFEST, RECEIPTS, Engine, Progress, silent
from pipelines.lease import lease
from pipelines.permission.takedown_list import FOLDER, TakedownList
from pipelines.releases import SUPERSEDED
from pipelines.store import Folder
from pipelines.takedown.affected import Survey, survey
from pipelines.takedown.redact_files import Affected, Place, dirty_rows, erase_table, rows_of, scrub
from pipelines.takedown.redact_records import doomed_records, erase_records
from pipelines.takedown.redact_shards import dirty_samples, erase_samples
from pipelines.takedown.reissue import next_name, reissue_all

REBUILT = ("outcomes", "aggregates")  # what is made again from the rest when it is asked for
FEATURES = "features"  # in a release: training keeps there what frozen towers say of its samples
# erased last, in this order: the rest is found through them
LATE = ("urls/by-host", "urls", "fetches", "candidates")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a take-down did, or would do: counts by collection and release, and what it could not
    reach.
    """

    dry_run: bool
    root: str
    listed: int  # addresses, domains and hashes on the list now
    # candidates, and rows or records by folder
    collections: dict[str, dict[str, int]] = field(default_factory=dict)
    releases: dict[str, int] = field(default_factory=dict)  # samples that were erased
    # old name -> new name, None where nothing could be written again
    reissued: dict[str, str | None] = field(default_factory=dict)
    # why nothing could be written again, where it was tried
    causes: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()  # trained on a release that held it
    outside: tuple[str, ...] = ()  # archives that were given, not ours to write

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def lines(self) -> str:
        """The report in words."""
        dry = self.dry_run
        erased = "would erase" if dry else "erased"
        said = [
            f"{self.listed:,} addresses, domains and images {'would be' if dry else 'are'} taken"
            " down for ever"
        ]
        for name, counts in self.collections.items():
            said.append(
                f"  collection {name}: {erased} "
                + ", ".join(f"{count:,} in {what}" for what, count in counts.items())
            )
        said += [
            f"  release {name}: {erased} {count:,} samples" for name, count in self.releases.items()
        ]
        said += [
            f"  release {old}: {_written(new, dry, self.causes.get(old))}"
            for old, new in self.reissued.items()
        ]
        again = "would have to be trained again" if dry else "train it again"
        said += [f"  model {name} has seen a release that held it: {again}" for name in self.models]
        yours = "it would be yours to change" if dry else "it is yours to change"
        said += [
            f"  archive {url} was given and still holds pages of it: {yours}"
            for url in self.outside
        ]
        return "\n".join(said if len(said) > 1 else [*said, f"  nothing of it is in {self.root}"])


def _written(new: str | None, dry_run: bool, cause: str | None) -> str:
    if new:
        return f"{new} {'would stand' if dry_run else 'stands'} for it"
    return (
        "could not be written again"
        + (f" ({cause})" if cause else "")
        + f": {'you would have to ' if dry_run else ''}curate a new one"
    )


def forget(
    root: Folder,
    *,
    urls: Iterable[str] = (),
    domains: Iterable[str] = (),
    sha256: Iterable[str] = (),
    note: str = "",
    dry_run: bool = False,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Report:
    """Take down addresses (of pages or images), domains with their subdomains, and images; with
    nothing given, complete what was begun.

    Raises ValueError for what is no address, domain or hash, LeaseHeld while another process writes
    what is to be erased.
    """
    asked = TakedownList.of(urls=urls, domains=domains, sha256=sha256)
    if not asked and not TakedownList.read(root):
        raise ValueError(
            "say what is to be taken down (--url, --domain or --sha256): nothing was begun in"
            f" {root.path()}"
        )
    if dry_run:
        return _Takedown(
            root=root, found=survey(root, TakedownList.read(root) | asked), progress=silent
        ).look()
    asked.remember(root, note)
    with lease(root / FOLDER):
        work = _Takedown(root=root, found=survey(root, TakedownList.read(root)), progress=progress)
        work.erase()
        reissued, causes = reissue_all(root, engine, progress)
        return work.report(dry_run=False, reissued=reissued, causes=causes)


@dataclass(kw_only=True)
class _Takedown:
    """One pass over a root."""

    root: Folder
    found: Survey
    progress: Callable[[Progress], None]
    collections: dict[str, Counter[str]] = field(default_factory=dict)
    releases: dict[str, int] = field(default_factory=dict)

    def erase(self) -> None:
        for name in (self.root / "releases").names():
            self._erase_release(self.root / "releases" / name)
        self._drop_rebuilt()
        affected = [doomed for doomed in self.found.collections.items() if doomed[1]]
        for late in (False, True):
            for name, doomed in affected:
                self._erase_collection(self.root / "collections" / name, doomed, late=late)
                self._erase_memory(self.root / "memory" / name, doomed)

    def look(self) -> Report:
        """What `erase` would do."""
        for name in (self.root / "releases").names():
            home = self.root / "releases" / name
            if count := sum(dirty_samples(place, self.found.samples) for place in _shards(home)):
                self.releases[name] = count
        for name, doomed in self.found.collections.items():
            counts = self.collections.setdefault(name, Counter())
            for place in _places(self.root / "collections" / name, None) if doomed else ():
                archive = place.name.endswith(".warc.gz")
                counts[place.inside] += (
                    doomed_records(place, doomed)
                    if archive
                    else dirty_rows(place, rows_of(doomed), doomed)
                )
        new = {
            name: next_name(self.root, name)
            for name in self.releases
            if (self.root / "releases" / name).exists(MANIFEST)
        }
        return self.report(dry_run=True, reissued=dict(new))

    def report(
        self,
        *,
        dry_run: bool,
        reissued: dict[str, str | None],
        causes: dict[str, str] | None = None,
    ) -> Report:
        counts = {name: dict(+count) for name, count in self.collections.items() if +count}
        return Report(
            dry_run=dry_run,
            root=self.root.path(),
            listed=len(self.found.forgotten),
            collections=counts,
            releases=self.releases,
            reissued=reissued,
            causes=causes or {},
            models=_models(self.root, self.releases),
            outside=self.found.outside,
        )

    def _erase_release(self, home: Folder) -> None:
        """Erase samples from the shards of a release; it is marked before, so that nobody takes it
        for whole.
        """
        dirty = [place for place in _shards(home) if dirty_samples(place, self.found.samples)]
        if not dirty:
            return
        with lease(home, "writer.json"):
            if not home.exists(MANIFEST):  # its curate was stopped, and writes all shards again
                for name in (*[place.name for place in dirty], RECEIPTS):
                    home.remove(name)
                return
            if not home.exists(SUPERSEDED):
                home.write_json(SUPERSEDED, {"by": None, "pending": True})
            # what frozen towers said of its images; training makes it again
            (home / FEATURES).remove()
            for place in dirty:
                home.sweep()
                self.releases[home.name] = self.releases.get(home.name, 0) + erase_samples(
                    place, self.found.samples, self.found.forgotten
                )
                self._tell(home.name, self.releases[home.name])

    def _erase_collection(self, home: Folder, doomed: Affected, *, late: bool) -> None:
        with lease(home):
            for folder in [
                home / inside
                for inside in ("", "pages", RECEIPTS, *(f"{inside}/{RECEIPTS}" for inside in LATE))
            ]:
                scrub(folder, doomed)
            swept = set()
            for place in _places(home, late):
                if place.inside not in swept:
                    place.folder.sweep()
                    swept.add(place.inside)
                archive = place.name.endswith(".warc.gz")
                count = (
                    erase_records(place, doomed)
                    if archive
                    else erase_table(place, rows_of(doomed), doomed.forgotten, doomed)
                )
                self.collections.setdefault(home.name, Counter())[place.inside] += count
                if count:
                    self._tell(home.name, self.collections[home.name].total())

    def _erase_memory(self, home: Folder, doomed: Affected) -> None:
        places = [
            Place(home=home, inside="", name=name)
            for name in home.names()
            if name.endswith(".parquet")
        ]
        with lease(home) if places else contextlib.nullcontext():
            for place in places:
                erase_table(place, rows_of(doomed), doomed.forgotten, doomed)

    def _drop_rebuilt(self) -> None:
        """Remove what was derived before something went onto the list; it is made again, without
        it, when it is asked for.
        """
        for kind in REBUILT:
            for name in (self.root / kind).names():
                folder = self.root / kind / name
                made = folder.read_json(DECISION) if folder.exists(DECISION) else {}
                if made.get("forgotten") != self.found.forgotten.digest:
                    with lease(folder):
                        folder.sweep()
                    folder.remove()

    def _tell(self, name: str, rows: int) -> None:
        self.progress(Progress(stage=f"forget {name}", done=rows, parts=0, counts={"erased": rows}))


def remains(root: Folder) -> list[str]:
    """What was taken down and is still there, because its take-down was stopped or the collection
    came from elsewhere; in words.
    """
    forgotten = TakedownList.read(root)
    if not forgotten:
        return []
    found = _Takedown(root=root, found=survey(root, forgotten), progress=silent).look()
    after = "that were taken down: run `winnow forget`"
    held = [
        (f"collection {name}", f"{max(counts.values()):,} rows or records")
        for name, counts in found.collections.items()
    ]
    held += [(f"release {name}", f"{count:,} samples") for name, count in found.releases.items()]
    return [f"{what} still holds {count} {after}" for what, count in held]


def _shards(home: Folder) -> list[Place]:
    return [
        Place(home=home, inside="", name=name)
        for name in home.names()
        if name.endswith((".arrow", ".tar"))
    ]


def _places(home: Folder, late: bool | None) -> Iterator[Place]:
    """The files of a collection that may hold what was taken down, those first or last that must
    be; None: all.
    """
    early = [
        *_below(home, "images"),
        *_below(home, "measurements"),
        *_below(home, "captions"),
        *_below(home, "pages"),
    ]
    insides = (
        [*dict.fromkeys(early), *LATE]
        if late is None
        else LATE
        if late
        else list(dict.fromkeys(early))
    )
    for inside in insides:
        for name in (home / inside).names():
            if name.endswith((".parquet", ".arrow", ".warc.gz")):
                yield Place(home=home, inside=inside, name=name)


def _below(home: Folder, inside: str) -> Iterator[str]:
    """A folder of a collection and those in it."""
    yield inside
    for name in (home / inside).names():
        if "." not in name:
            yield f"{inside}/{name}"


def _models(root: Folder, releases: Iterable[str]) -> tuple[str, ...]:
    """The runs under the root whose plan names the digest of one of these releases, or of one that
    was superseded before.
    """
    homes = [root / "releases" / name for name in (root / "releases").names()]
    held = [
        home
        for home in homes
        if home.exists(MANIFEST) and (home.name in releases or home.exists(SUPERSEDED))
    ]
    digests = {home.read_json(MANIFEST)["digest"] for home in held}
    runs = [(name, root / "models" / name) for name in (root / "models").names()]
    runs += [
        (f"{name}/{inner}", folder / inner)
        for name, folder in runs
        for inner in folder.names()
        if "." not in inner
    ]
    read = (
        (name, folder.read_json("plan.json")) for name, folder in runs if folder.exists("plan.json")
    )
    return tuple(
        sorted(name for name, plan in read if digests & set(plan.get("releases", {}).values()))
    )
