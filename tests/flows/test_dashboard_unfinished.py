"""The dashboard over roots that are not as they should be: decisions that failed, files half
written, thresholds without end.
"""

import functools
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from filters.recipe.recipe import Recipe, parse
from filters.text.char_ratios import SignsFilter
from flows.cli.look import _view
from flows.cli.options import print_json
from flows.dashboard import charts, rule_views, views
from flows.dashboard.candidate_history import story_view
from flows.dashboard.decision_store import decisions, find, unfinished
from flows.dashboard.redecide import moved
from flows.dashboard.save import recipe_file
from pipelines.decide import apply_rules as deciding
from pipelines.decide.decision import decide
from pipelines.engine.stage import StageFailed
from pipelines.store import Folder
from tests.pipelines.made import make, png

PICTURES = {f"http://h.example/{number}.png": png(40 + number, 40) for number in range(3)}
ROWS = [
    [("a red boat", url, None) for url in PICTURES],
    [("two cats", url, None) for url in PICTURES],
]
WITHOUT_END = [
    {
        "measure": "text.words",
        "op": "<=",
        "value": math.inf,
        "reason": "text.long",
        "source": "old",
    },
    {
        "measure": "text.words",
        "op": ">=",
        "value": -math.inf,
        "reason": "text.short",
        "source": "old",
    },
    {
        "measure": "text.letters",
        "op": "!=",
        "value": math.nan,
        "reason": "text.odd",
        "source": "old",
    },
    {
        "group": "best_of",
        "key": "image_id",
        "count": 10**23,
        "order": ["text.words"],
        "reason": "group.many",
        "source": "old",
    },
    {"group": "sample", "fraction": 1e-12, "seed": 3, "reason": "group.sample", "source": "old"},
]
PAGES = ("funnel", "measurements", "rules", "moved", "compare", "groups", "outcomes")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = Folder(str(tmp_path_factory.mktemp("unfinished") / "root"))
    make(root, "a", ROWS, PICTURES)
    decide(root, "everything", ["a"])
    return root


@pytest.fixture
def root(made: Folder, tmp_path: Path) -> Folder:
    shutil.copytree(made.path(), tmp_path / "root")
    return Folder(str(tmp_path / "root"))


def stored(*rules: dict[str, Any]) -> Recipe:
    """A recipe as an earlier version, which judged less, has left it in a root."""
    return Recipe.stored({"name": "old", "description": "d", "rule": list(rules)})


def as_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def every_view(root: Folder, recipe: str) -> None:
    """Each page's data, as valid JSON."""
    for page in PAGES:
        as_json(_view(root, page, (recipe,), (), {}))
    for by in ("host", "language", "source"):
        as_json(_view(root, "groups", (recipe,), (), {"by": by, "of": "h.example"}))


def test_a_decision_that_failed_is_unfinished_and_says_why(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> pa.Array:
        raise ArithmeticError("one part cannot be decided")

    monkeypatch.setattr(deciding, "decide_row", broken)
    with pytest.raises(StageFailed, match="one part cannot be decided"):
        decide(root, "datacomp-basic", ["a"])
    (failed,) = unfinished(root)
    assert [one.recipe.name for one in decisions(root)] == ["everything"]
    assert (failed.recipe, failed.collections) == ("datacomp-basic", ("a",))
    assert (
        failed.cause
        == "2 parts of stage decide failed, first part-00000: ArithmeticError: one part cannot be"
        " decided"
    )
    with pytest.raises(
        ValueError,
        match=(
            rf"no such decision .* unfinished {failed.id} \(datacomp-basic\): 2 parts of stage"
            r" decide failed"
        ),
    ):
        _view(root, "measurements", ("datacomp-basic",), (), {})
    shelf = views.shelf_view(root)
    assert [one["cause"] for one in shelf["unfinished"]] == [failed.cause]
    as_json(shelf)
    shown = "".join(charts.shelf_picture(shelf).itertext())
    assert "Unfinished" in shown
    assert failed.cause in shown
    every_view(root, "everything")
    monkeypatch.undo()
    decide(root, "datacomp-basic", ["a"])
    assert unfinished(root) == []


def test_a_decision_that_failed_on_the_way_says_why(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> pa.Array:
        raise ArithmeticError("no bucket can be judged")

    monkeypatch.setattr("pipelines.decide.group_rules.decide_group", broken)
    with pytest.raises(StageFailed, match="no bucket can be judged"):
        decide(root, stored(WITHOUT_END[3]), ["a"])
    (failed,) = unfinished(root)
    assert re.fullmatch(
        r"1 parts of stage judge failed, first bucket-00000: ArithmeticError: no bucket can be"
        r" judged",
        failed.cause,
    )


def test_thresholds_without_end_have_sliders_with_ends(root: Folder) -> None:
    decide(root, stored(*WITHOUT_END), ["a"])
    decided = find(root, "old")
    knobs = rule_views.knobs(decided)
    as_json(knobs)
    # `!=` has nothing to move
    assert [knob["least"] is None for knob in knobs] == [False, False, True, False, False]
    for knob in knobs:
        if knob["least"] is not None:
            assert knob["least"] <= knob["value"] <= knob["most"] <= 2**53 - 1, knob
            assert knob["least"] < knob["most"]
            assert knob["step"] > 0
    assert [knobs[place]["value"] for place in (0, 1, 3)] == [
        knobs[0]["most"],
        knobs[1]["least"],
        2**53 - 1,
    ]
    every_view(root, "old")
    endless = {
        place
        for place, rule in enumerate(decided.recipe.rule)
        if not math.isfinite(getattr(rule, "value", 0))
    }
    with pytest.raises(
        ValueError,
        match=(
            r"^text\.long, text\.short, text\.odd: the threshold is no finite number, .*; move the"
            r" slider"
        ),
    ):
        recipe_file(decided.recipe, "mine")
    without = dict.fromkeys(endless)
    with pytest.raises(
        ValueError,
        match=r"^mine\.toml, line 7: count .*: write a whole number from 1 to 9223372036854775807$",
    ):
        recipe_file(moved(decided.recipe, without), "mine")
    left = moved(decided.recipe, {**without, 3: None})
    assert parse(recipe_file(left, "mine")).digest == left.digest


def test_values_without_end_are_shown(root: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SignsFilter.measure

    def hostile(self: SignsFilter, batch: pa.RecordBatch) -> pa.RecordBatch:
        found = real(self, batch)
        odd = {
            "text.letters": [math.nan, math.inf, -math.inf],
            "text.capitals": [None] * 3,
            "text.digits": [0.0] * 3,
        }
        columns = [
            pa.array(odd.get(name, found[name]), found.schema.field(name).type)
            for name in found.schema.names
        ]
        return pa.RecordBatch.from_arrays(columns, schema=found.schema)

    monkeypatch.setattr(SignsFilter, "measure", hostile)
    rules = [
        {
            "measure": "text.letters",
            "op": ">=",
            "value": 0.5,
            "reason": "text.letters",
            "source": "x",
        },
        {"measure": "text.digits", "op": "<=", "value": 0, "reason": "text.digits", "source": "x"},
        {
            "measure": "text.capitals",
            "op": "<=",
            "value": 0.5,
            "reason": "text.capitals",
            "source": "x",
        },
    ]
    counts = decide(root, stored(*rules), ["a"]).funnel.outcomes
    assert counts == {
        "text.letters.unmeasured": 2,
        "text.letters": 2,
        "text.capitals.unmeasured": 2,
    }
    every_view(root, "old")
    for knob in rule_views.knobs(find(root, "old")):
        assert knob["least"] < knob["most"]


def test_files_that_are_half_written_or_gone_are_said_in_words(root: Folder) -> None:
    (there,) = decisions(root)
    outcomes = Path(root.path("outcomes"))
    for name, files in {
        "0cut": {"decision.json": '{"recipe": "every'},
        "1begun": {"decision.json": '{"recipe": "everything", "collections": ["a"]}'},
        "2cut": {
            "decision.json": '{"recipe": "everything", "collections": ["a"]}',
            "manifest.json": "{",
        },
        "3other": {
            "decision.json": '{"recipe": "everything", "collections": ["a"]}',
            "manifest.json": '{"new": 1}',
        },
        "4none": {"decision.json": "[]"},
        "5empty": {},
    }.items():
        (outcomes / name).mkdir()
        for file, text in files.items():
            (outcomes / name / file).write_text(text)
    causes = {one.id: one.cause for one in unfinished(root)}
    assert list(causes) == ["0cut", "2cut", "3other", "4none", "1begun"]
    assert "decision.json is damaged" in causes["0cut"]
    assert "manifest.json is damaged" in causes["2cut"]
    assert causes["1begun"] == "it is being made, or was stopped: the same command goes on with it"
    as_json(views.shelf_view(root))
    every_view(root, "everything")
    for part in outcomes.glob(f"{there.id}/part-*.parquet"):
        part.unlink()
    for page in ("compare", "outcomes", "moved"):
        with pytest.raises(ValueError, match=r"the outcomes in .* are gone: decide again"):
            # a root that nothing was read of before
            _view(Folder(root.path() + "/."), page, ("everything",), (), {})


def test_an_empty_root_shows_that_nothing_is_decided(tmp_path: Path) -> None:
    for root in (Folder(str(tmp_path)), Folder(str(tmp_path / "not there"))):
        assert views.shelf_view(root) | {"root": ""} == {
            "view": "decisions",
            "root": "",
            "decisions": [],
            "unfinished": [],
        }
        assert _view(root, "story", (), (), {"query": "x"})["candidates"] == []
        assert _view(root, "time", (), (), {})["collections"] == []
        with pytest.raises(ValueError, match=r"there is no such decision .*\(there are: none\)"):
            _view(root, "funnel", (), (), {})


def test_a_decision_outlives_its_collection(root: Folder) -> None:
    (there,) = decisions(root)
    shutil.copytree(root.path("collections/a"), root.path("collections/b"))
    shutil.rmtree(root.path("collections/a"))
    every_view(root, "everything")
    story = story_view(root, "http://h.example/1.png")
    assert len(story["candidates"]) == 2
    assert there.collections == ("a",)


def test_rules_that_there_are_not_and_values_that_are_none_are_named(root: Folder) -> None:
    for of, said in {
        "7=3": "recipe old has no rule 7: its 2 rules are counted from 0",
        "x=3": "write the place of a rule .* as in --of 4=3 2=off",
        "0=many": "write the place of a rule",
        "0=nan": "nan is no bound",
        "1=0.5": "should be a valid integer",
    }.items():
        decide(root, stored(WITHOUT_END[0], WITHOUT_END[3]), ["a"])
        place, _, value = of.partition("=")
        with pytest.raises(ValueError, match=said):
            _view(root, "moved", ("old",), (), {place: value})


def test_what_is_printed_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, (1, math.inf)], "b": {"c": -math.inf, "d": 0.5}})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": [None, [1, None]],
        "b": {"c": None, "d": 0.5},
    }


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_server_ends_with_its_command(
    made: Folder, tmp_path: Path, how: signal.Signals
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "flows.cli",
        "dashboard",
        "--root",
        made.path(),
        "--port",
        str(port),
    ]
    with (tmp_path / "log").open("wb") as log:
        # nohup has it ignored
        heard = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
        child = subprocess.Popen(
            words, stdout=log, stderr=log, cwd=Path(__file__).parents[2], preexec_fn=heard
        )
    try:
        for _ in range(400):
            assert child.poll() is None, (tmp_path / "log").read_text()
            if _answers(port):
                break
            time.sleep(0.3)
        assert _answers(port)
        children = [
            Path(path).read_text() for path in Path(f"/proc/{child.pid}/task").glob("*/children")
        ]
        # no process stands between the command and its server
        assert "".join(children).split() == []
        os.kill(child.pid, how)
        child.wait(60)
        assert not _answers(port)
        assert b"Traceback" not in (tmp_path / "log").read_bytes()
    finally:
        child.kill()
        child.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2):
            return True
    except OSError:
        return False
