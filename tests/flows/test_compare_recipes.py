"""Recipes side by side on one collection, by the command line: nothing is fetched again, and no
image is opened twice.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.pipelines.made import png
from tests.pipelines.web import served

TEXTS = (
    "A dog runs along the beach",
    "Two dogs",
    "Ein alter Mann sitzt auf einer Bank",
    "A very wide view of the old town",
    "The same dog",
)
SIDES = ((240, 220), (220, 220), (300, 250), (900, 210), (150, 150))


def winnow(*words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"winnow {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-4000:]}"
    )
    return json.loads(done.stdout)


def counts(funnels: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    return {
        one["recipe"]: {name: count for name, count in one["outcomes"].items() if count}
        for one in funnels
    }


def test_recipes_are_compared_without_fetching_or_opening_anything_again(tmp_path: Path) -> None:
    root, pairs, stricter = (
        str(tmp_path / "root"),
        tmp_path / "pairs.jsonl",
        tmp_path / "stricter.toml",
    )
    with served({f"/{number}.png": png(*sides) for number, sides in enumerate(SIDES)}) as web:
        pairs.write_text(
            "".join(
                json.dumps({"url": f"{web.url}/{number}.png", "text": text}) + "\n"
                for number, text in enumerate(TEXTS)
            )
        )
        winnow(
            "collect",
            "--root",
            root,
            "--id",
            "one",
            "--pairs",
            str(pairs),
            "--allow-private-addresses",
        )
    basic = {
        "text.language": 1,
        "text.too_short": 1,
        "image.too_small": 1,
        "image.aspect": 1,
        "kept": 1,
    }
    first = counts(
        winnow(
            "funnel",
            "--root",
            root,
            "--collection",
            "one",
            "--recipe",
            "datacomp-basic",
            "--recipe",
            "everything",
        )
    )
    assert first == {"datacomp-basic": basic, "everything": {"kept": 5}}

    images = tmp_path / "root/collections/one/images"
    images.rename(tmp_path / "away")
    shipped = (Path(__file__).parents[2] / "filters/recipes/datacomp-basic.toml").read_text(
        encoding="utf-8"
    )
    stricter.write_text(
        shipped.replace('name = "datacomp-basic"', 'name = "stricter"').replace(
            "value = 200", "value = 230"
        ),
        encoding="utf-8",
    )
    again = counts(
        winnow(
            "funnel",
            "--root",
            root,
            "--collection",
            "one",
            "--recipe",
            str(stricter),
            "--recipe",
            "datacomp-basic",
        )
    )
    assert again == {
        "stricter": {"text.language": 1, "text.too_short": 1, "image.too_small": 3},
        "datacomp-basic": basic,
    }


def failed(*words: str) -> str:
    """What a command that fails says."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.strip()


def test_the_advice_of_an_error_works_when_it_is_pasted(tmp_path: Path) -> None:
    root, pairs = str(tmp_path / "root"), tmp_path / "pairs.jsonl"
    rows = [
        {"url": f"http://127.0.0.1:9/{number}.png", "text": text}
        for number, text in enumerate(TEXTS)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    winnow("collect", "--root", root, "--id", "one", "--pairs", str(pairs), "--no-fetch")
    asked = (
        "funnel",
        "--root",
        root,
        "--collection",
        "one",
        "--collection",
        "one",
        "--recipe",
        "cc12m",
        "--recipe",
        "laion-400m",
    )
    said = failed(*asked, "--without", "text.anonymous")
    without = said.rpartition("or --without ")[2].split()
    assert without == [
        "text.anonymous",
        "alignment.score",
        "image.unsafe",
        "pair.label_overlap",
        "text.profanities",
    ]
    found = winnow(*asked, "--without", *without)
    assert [one["without"] for one in found] == [
        ["text.anonymous", *without[2:]],
        ["alignment.score"],
    ]
    assert [one["candidates"] for one in found] == [5, 5]
    assert failed(*asked, "--without", "alignment.scor").startswith(
        "winnow: recipe cc12m does not read 'alignment.scor'; "
    )
