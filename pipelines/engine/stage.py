"""A stage maps parts to parts; whoever runs it (`pipelines.engine.runner`) writes its manifest
last.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.accounts import Account
from pipelines.engine.shares import WAIT_SECONDS, Share
from pipelines.permission.takedown_list import NOTHING, TakedownList
from pipelines.store import Folder, Written, digest

IDENTITY = "stage.json"  # among its receipts: which run of which stage they are of
RECEIPTS = "receipts"  # the folder of what each part came to, until the manifest stands
MANIFEST = "manifest.json"
LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A unit of work: what goes in, and the lane (parts of one lane run one after another in one
    worker).
    """

    name: str
    inputs: tuple[str, ...] = ()
    lane: str = ""


Lane = tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a part became: its files, and counts that add up over parts."""

    files: tuple[Written, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What makes a folder complete. `digest` names the result: identity of the stage and what
    failed.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    failed: Mapping[str, str]
    digest: str

    @classmethod
    def read(cls, folder: Folder, name: str = MANIFEST) -> "Manifest | None":
        return cls(**folder.read_json(name)) if folder.exists(name) else None

    def names(self, suffix: str = "", prefix: str = "") -> list[str]:
        """Names of its files, in order of parts."""
        return [
            name
            for name in (str(file["name"]) for file in self.files)
            if name.startswith(prefix) and name.endswith(suffix)
        ]


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A function of its inputs. Subclasses are frozen and picklable; they see parts, never Beam."""

    name: ClassVar[str]
    version: ClassVar[int]
    manifest: ClassVar[str] = MANIFEST
    # which of its counts add up to which, or to one of an earlier stage
    accounts: ClassVar[tuple[Account, ...]] = ()
    out: Folder
    # what was taken down by now; not of its identity, since a take-down erases what is written
    # already
    forgotten: TakedownList = NOTHING

    @property
    def doing(self) -> str:
        """What it does, in words for those who watch; of its identity is `name`."""
        return self.name

    def config(self) -> dict[str, Any]:
        """What the digest covers beside the inputs; plain JSON values."""
        return {}

    def folders(self) -> tuple[Folder, ...]:
        """Where its files go."""
        return (self.out,)

    @abstractmethod
    def inputs(self) -> dict[str, str]:
        """Digest of each input's manifest (or of the file itself)."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """All parts, whether done or not, in a stable order with unique names."""

    @abstractmethod
    def process(self, part: Part) -> Output:
        """Turn one part into files of `out`; may be called again for the same part, and by two
        workers at once.
        """

    def identity(self) -> str:
        """The digest of name, version, configuration and inputs."""
        return digest(
            {
                "stage": self.name,
                "version": self.version,
                "config": self.config(),
                "inputs": self.inputs(),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What maps the parts: `local`, processes of this machine (this one, or so many `workers`); or
    a runner of Beam by its name, with its `options`.

    With a `share`, this command does its share of each stage's parts and waits for the others
    before the next stage: as long as they work, and `wait_seconds` more. A job of another runner is
    given up when nothing was heard of its workers for as long.
    """

    runner: str = LOCAL
    options: tuple[str, ...] = ()
    workers: int = 1
    share: Share | None = None
    wait_seconds: float = WAIT_SECONDS

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(
                f"{self.workers} workers do no work: give one at least, or leave the option out"
            )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a stage is: parts done of all, and counts so far, or what else there is to say in
    words.
    """

    stage: str
    done: int
    parts: int
    counts: Mapping[str, int] = field(default_factory=dict)
    words: str = ""


def silent(progress: Progress) -> None:
    """The progress that nobody watches."""


class StageFailed(RuntimeError):
    """The engine failed again and again, or storage refused a write; what was committed stands."""
