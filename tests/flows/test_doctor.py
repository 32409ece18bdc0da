"""`winnow doctor`: packages that do not go together, each with what breaks and the remedy."""

from pathlib import Path

import pytest
import torch

from flows import doctor
from flows.packages import CLASHES, Unmet, clashing, unmet
from pipelines.store import Folder
from training import precision

FIT = {"prefect": "3.8.8", "sqlalchemy": "2.0.58", "fastapi": "0.150.0", "fasttext": "0.9.3"}


def broken(**versions: str | None) -> list[str]:
    """The packages of the known pairs that clash, with these versions in place of those that
    fit.
    """
    there = {**FIT, **{name.replace("_", "-"): version for name, version in versions.items()}}
    return [clash.package for clash in CLASHES if clashing(clash, there.get)]


def test_versions_that_fit() -> None:
    assert broken() == []


@pytest.mark.parametrize(
    ("version", "clashes"),
    [("2.0.99", []), ("2.1.0", ["sqlalchemy"]), ("2.1.0b1", []), ("2.1.9", ["sqlalchemy"])],
)
def test_a_scheduler_that_makes_no_run(version: str, clashes: list[str]) -> None:
    assert broken(sqlalchemy=version) == clashes


def test_a_later_prefect_may_be_right_with_it() -> None:
    assert broken(sqlalchemy="2.1.9", prefect="3.9.0") == []
    assert broken(sqlalchemy="2.1.9", prefect=None) == []


def test_a_server_that_does_not_start() -> None:
    assert broken(fastapi="0.155.1") == ["fastapi"]
    assert broken(dataclasses="0.6") == ["dataclasses"]


def test_a_module_that_is_overwritten() -> None:
    assert broken(fasttext_predict="0.9.2.4") == ["fasttext-predict"]
    assert broken(fasttext_predict="0.9.2.4", fasttext=None) == []


REQUIRED = {
    "winnow": [
        "beam>=2,<3",
        "torch>=2",
        "vision",
        "pytest; extra == 'dev'",
        "old; python_version < '3'",
    ],
    "beam": ["proto-buf<5", "torch<9"],
    "vision": ["Torch==2.15.0"],
}


def amiss(**versions: str) -> list[Unmet]:
    there = {name.replace("_", "-"): version for name, version in versions.items()}
    return list(unmet("winnow", there.get, lambda name: REQUIRED.get(name, [])))


def test_requirements_that_are_met() -> None:
    assert amiss(beam="2.77", proto_buf="4.9", torch="2.15.0+cpu", vision="0.29") == []


def test_what_a_requirement_requires_counts_too() -> None:
    found = amiss(beam="2.77", proto_buf="5.1", torch="2.14.0", vision="0.29")
    assert found == [
        Unmet(package="proto-buf", installed="5.1", wanted="proto-buf<5", by="beam"),
        Unmet(package="torch", installed="2.14.0", wanted="torch==2.15.0", by="vision"),
    ]
    assert (
        str(found[0])
        == "5.1 is installed, and beam asks for proto-buf<5: pip install 'proto-buf<5'"
    )


def test_what_is_missing_is_named_once() -> None:
    found = amiss(beam="2.77", proto_buf="4.9", vision="0.29")
    assert found == [Unmet(package="torch", installed=None, wanted="torch>=2", by="winnow")]
    assert str(found[0]) == "is not installed, and winnow asks for torch>=2: pip install 'torch>=2'"


def test_a_finding_says_what_breaks_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {**FIT, "sqlalchemy": "2.1.9", "winnow": None}
    monkeypatch.setattr(doctor, "installed_version", there.get)
    monkeypatch.setattr(doctor, "clashing", lambda clash: clashing(clash, there.get))
    found = {one.subject: one for one in doctor.examine(Folder(str(tmp_path)))}
    assert found["fastapi with prefect"].ok
    assert not found["sqlalchemy with prefect"].ok
    assert (
        found["sqlalchemy with prefect"].words
        == "2.1.9 with 3.8.8: Prefect's scheduler raises \"Can't evaluate bulk DML statement\", "
        "and no schedule fires; pip install 'sqlalchemy[asyncio]<2.1'"
    )
    assert not found["packages"].ok


def disk(url: str) -> str:
    """What is said of a root that cannot be one."""
    found = {one.subject: one for one in doctor.examine(Folder(url))}["disk"]
    assert not found.ok
    return found.words


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    said = f"{tmp_path}/data is a file: --root names the folder where all data lies"
    assert disk(f"{tmp_path}/data") == disk(f"{tmp_path}/data/below") == said


def test_a_root_behind_a_protocol_that_nobody_knows() -> None:
    assert disk("nowhere://bucket/data") == "nowhere://bucket/data: Protocol not known: nowhere"


def test_the_environment_of_this_suite_is_fit(tmp_path: Path) -> None:
    found = doctor.examine(Folder(str(tmp_path)))
    assert [one for one in found if not one.ok and one.subject not in ("disk", "memory")] == []


@pytest.mark.parametrize(
    ("rate", "takes"), [(4e9, "bfloat16"), (1e9, "float32: bfloat16 is not fast here")]
)
def test_what_the_hardware_multiplies_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, takes: str
) -> None:
    monkeypatch.setattr(
        precision, "matmul_rate", lambda device, kind: rate if kind == torch.bfloat16 else 2e9
    )
    (found,) = [one for one in doctor.examine(Folder(str(tmp_path))) if one.subject == "arithmetic"]
    assert found.ok
    assert (
        found.words
        == f"products of matrices in float32 2 GFLOP/s, in bfloat16 {rate / 1e9:.0f} GFLOP/s;"
        f" precision auto takes {takes}"
    )
