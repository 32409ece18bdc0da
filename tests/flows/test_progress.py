"""What a command says of its stages where nothing can be rewritten."""

import io

from flows.progress import Lines
from flows.status import status_table
from pipelines.engine.stage import Progress


def test_a_stage_says_once_how_it_ended() -> None:
    out = io.StringIO()
    lines = Lines(out)
    ended = Progress(stage="extract", done=2, parts=2, counts={"candidates": 1200})
    for progress in (
        Progress(stage="extract", done=1, parts=2),
        ended,
        ended,
        Progress(stage="fetch", done=1, parts=1),
        ended,
    ):
        lines(progress)
    assert [line.split(maxsplit=1) for line in out.getvalue().splitlines()] == [
        ["extract", "1/2"],
        ["extract", "2/2 1,200 candidates"],
        ["fetch", "1/1"],
        ["extract", "2/2 1,200 candidates"],
    ]


def test_the_status_names_parts_that_were_set_aside() -> None:
    rows = {
        "a": {"counts": {"candidates": 3}, "failed": 0},
        "b": {"counts": {"candidates": 2}, "failed": 7},
    }
    found = {
        "root": "/data",
        "collections": rows,
        "releases": {},
        "models": [],
        "unfinished": [],
        "damaged": [],
        "forgotten": 0,
    }
    assert status_table(found).splitlines() == [
        "/data",
        "  collection a: 3 candidates",
        "  collection b: 2 candidates",
        "    7 parts of it were set aside: its `winnow collect --id b` tries them again",
    ]
