"""What only asks how things are called, or what there is, answers without what does the work."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from filters.given_models import Given
from filters.recipe.catalogue import catalogue, curation_recipes
from filters.recipe.recipe import load
from filters.registry import MEASUREMENTS, check_given
from flows.cli.commands import COMMANDS, application
from training.recipes import names, sentences

HEAVY = {"numpy", "pyarrow", "torch", "apache_beam", "streamlit", "prefect", "PIL", "transformers"}


def winnow(*words: str) -> tuple[str, set[str]]:
    """What a command prints, on both streams, and the packages that it loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "flows.cli", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = set(re.findall(r"^import time:.*\|\s+(\w+)", done.stderr, re.MULTILINE))
    said = re.sub(r"^import time:.*\n", "", done.stderr, flags=re.MULTILINE)
    assert "cyclopts" in loaded
    return done.stdout + said, loaded


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--help"], "collect"),
        (["--version"], version("winnow")),
        (["colect"], "colect"),
        (["recipes"], "laion-400m"),
        (["collect", "--help"], "--max-pages"),
        (["train", "--help"], "--init"),
        (["curate", "--recipe"], "--recipe"),
        (["status", "--wrong"], "--wrong"),
    ],
)
def test_it_answers_at_once(words: list[str], said: str) -> None:
    printed, loaded = winnow(*words)
    assert said in printed
    assert not loaded & HEAVY


def test_status_reads_manifests_alone(tmp_path: Path) -> None:
    manifest = {"counts": {"candidates": 3}, "failed": {}, "digest": "d"}
    (tmp_path / "collections" / "web").mkdir(parents=True)
    (tmp_path / "collections" / "web" / "manifest.json").write_text(json.dumps(manifest))
    printed, loaded = winnow("status", "--root", str(tmp_path))
    assert "collection web: 3 candidates" in printed
    assert not loaded & HEAVY


def test_every_command_is_there_and_says_what_it_does() -> None:
    app = application()
    for command in COMMANDS:
        assert app[command.name].default_command.__name__ == command.name
        assert len(f"{command.name} {command.sentence}") < 90


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_what_a_measurement_needs_is_what_is_asked_for(measurement: str) -> None:
    needs = catalogue()[measurement].needs
    if not needs:
        check_given([measurement], Given())
        return
    with pytest.raises(ValueError, match="not given") as refused:
        check_given([measurement], Given())
    asked = set(re.findall(r"--(?!without)([a-z-]+)", str(refused.value)))
    assert asked == set(needs)


def test_recipes_are_listed_with_what_they_need() -> None:
    listed = curation_recipes()
    assert listed["winnow"]["needs"] == []
    assert listed["datacomp-image"]["needs"] == ["alignment", "targets"]
    for name, about in listed.items():
        recipe = load(name)
        assert recipe.description == about["says"]
        needs = {option for read in recipe.needs for option in catalogue()[read].needs}
        assert sorted(needs) == about["needs"]


def test_recipes_of_training_have_a_sentence_each() -> None:
    assert list(sentences()) == names()
    assert sentences()["clip"].startswith("CLIP (Radford et al. 2021): ")
