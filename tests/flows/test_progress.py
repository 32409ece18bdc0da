"""What a command says of its stages where nothing can be rewritten."""

import io

from flows.progress import Lines
from pipelines.stage import Progress


def test_a_stage_says_once_how_it_ended() -> None:
    out = io.StringIO()
    lines = Lines(out)
    ended = Progress(stage="extract", done=2, parts=2, counts={"candidates": 1200})
    for progress in (Progress(stage="extract", done=1, parts=2), ended, ended, Progress(stage="fetch", done=1, parts=1), ended):
        lines(progress)
    expected = ["extract    1/2", "extract    2/2 1,200 candidates", "fetch      1/1", "extract    2/2 1,200 candidates"]
    assert out.getvalue().splitlines() == ["  " + line for line in expected]
