"""What strangers wrote, on a terminal."""

import ast
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from flows.cli.options import print_json
from flows.progress import Lines
from pipelines.engine.stage import Progress
from pipelines.terminal import OBEYED, guard_terminal, say, visible, visible_json

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "\x1b[31m\x1b]0;OWNED\x07\x9b31m\x7f\r\b\u202egpj.exe\u2066\u200f\u2028\ufeff\ud800\U000e0041"
)
SPELLED = (
    "\\x1b[31m\\x1b]0;"
    "OWNED\\x07\\x9b31m\\x7f\\r\\x08\\u202egpj.exe\\u2066\\u200f\\u2028\\ufeff\\ud800\\U000e0041"
)
# joiners are letters
READABLE = (
    "Größe, 日本語, \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645, 👩\u200d🚀,"
    " [red]x[/red]\nnext line"
)


def test_what_a_terminal_obeys_is_spelled_out() -> None:
    assert visible(HOSTILE) == SPELLED
    assert visible(READABLE) == READABLE
    for number in (
        *range(10),
        *range(11, 32),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0x61C,
    ):
        assert OBEYED.fullmatch(chr(number)), hex(number)


def test_json_stays_json_and_readable() -> None:
    value = {HOSTILE: [HOSTILE, READABLE]}
    for text in (visible_json(value), visible_json(value, indent=1)):
        assert json.loads(text) == value
        assert not OBEYED.search(text)
        assert "日本語" in text
        assert "\\u202e" in text


def test_lines_tables_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    print_json({"a": HOSTILE})
    lines = Lines(sys.stderr)
    lines(Progress(stage=f"fetch{HOSTILE}", done=1, parts=1, counts={HOSTILE: 1}))
    lines.say(HOSTILE)
    out, err = capsys.readouterr()
    assert not OBEYED.search(out + err)
    assert out.count("\\x1b") == 2
    assert err.count(SPELLED) == 3


DIES = """
import logging, sys, warnings, threading
from pipelines.terminal import guard_terminal
guard_terminal()
guard_terminal()
logging.basicConfig()
hostile = "\\x1b[31m\\u202e\\x9b"
logging.getLogger("winnow.pairs").warning("%s is bad", hostile)
try:
    raise ValueError(hostile)
except ValueError:
    logging.getLogger("winnow").exception("it failed")
warnings.warn(hostile)
thread = threading.Thread(target=lambda: int(hostile))
thread.start()
thread.join()
raise RuntimeError(hostile)
"""


def test_logs_warnings_and_tracebacks_of_a_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert not OBEYED.search(done.stderr)
    assert r"winnow: \x1b[31m\u202e\x9b is bad" in done.stderr.splitlines()
    for words in (
        r"ValueError: \x1b[31m\u202e\x9b",
        r"UserWarning: \x1b[31m",
        r"RuntimeError: \x1b[31m",
    ):
        assert words in done.stderr


def winnow(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "WINNOW_TRACEBACK"}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_a_command_names_a_strangers_columns_and_lines(tmp_path: Path) -> None:
    (tmp_path / "head.csv").write_text(f"a{HOSTILE[:-2]},b\nx,y\n")
    found = winnow(
        "collect", "--pairs", str(tmp_path / "head.csv"), "--root", str(tmp_path / "root")
    )
    assert found.returncode == 1
    assert not OBEYED.search(found.stdout + found.stderr)
    assert r"has the columns a\x1b[31m\x1b]0;OWNED\x07\x9b31m\x7f" in found.stderr
    assert not (tmp_path / "root/collections").exists() or not list(
        (tmp_path / "root/collections").iterdir()
    )


def test_workers_name_a_strangers_line(tmp_path: Path) -> None:
    for number in range(2):
        name = tmp_path / f"in/{number}\x1b[31m\u202e.jsonl"
        name.parent.mkdir(exist_ok=True)
        name.write_text('\x1b[31mgarbage\x1b[0m\n{"url": "given:x", "text": "t"}\n')
    arguments = [
        "--pairs",
        str(tmp_path / "in"),
        "--root",
        str(tmp_path / "root"),
        "--no-fetch",
        "--workers",
        "2",
    ]
    found = winnow("collect", *arguments)
    assert found.returncode == 0
    assert not OBEYED.search(found.stdout + found.stderr)
    assert r"\x1b[31m\u202e.jsonl, line 1 is left out" in found.stderr
    assert not [
        line for line in found.stderr.splitlines() if not line.startswith(("winnow: ", "  "))
    ]


def test_commands_print_by_say_alone() -> None:
    """Whoever prints in another way must have escaped what it prints; those that do are named
    here.
    """
    may = {"cli/options.py": 2}
    for path in (ROOT / "flows").rglob("*.py"):
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        prints = sum(isinstance(node.func, ast.Name) and node.func.id == "print" for node in calls)
        assert prints == may.get(str(path.relative_to(ROOT / "flows")), 0), path


def test_the_guard_is_put_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = logging.getLogRecordFactory()
    try:
        guard_terminal()
        guard_terminal()
        assert warnings.formatwarning(HOSTILE, UserWarning, "x.py", 1).startswith(
            "x.py:1: UserWarning: \\x1b"
        )
        ours = [
            one
            for one in logging.getLogger("winnow").handlers
            if type(one).__module__ == "pipelines.terminal"
        ]
        assert len(ours) == 1
    finally:
        logging.setLogRecordFactory(before)
        logging.getLogger("winnow").handlers.clear()
        logging.getLogger("winnow").propagate = True
