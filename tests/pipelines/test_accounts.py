"""Accounts: what goes into a stage adds up to what it became, and a stage that loses something is set aside."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from flows.progress import accounts_table
from pipelines.accounts import Account, Miscounted, check
from pipelines.stage import Output, Part, Stage, run_stage
from pipelines.store import Folder

RECORDS = Account(of="records", into=("pages", "skipped."), also=("skipped.note",))


def test_what_adds_up() -> None:
    counts = {"records": 6, "pages": 1, "skipped.status": 3, "skipped.kind": 2, "skipped.note": 9, "pages.cut": 1, "empty": 0}
    assert RECORDS.check(6, counts, "here") == {"skipped.status": 3, "skipped.kind": 2, "pages": 1}
    check([RECORDS, Account(of="others", into=())], counts, "here")


@pytest.mark.parametrize("pages", [0, 2])
def test_what_does_not(pages: int) -> None:
    with pytest.raises(Miscounted, match=r"here: 6 records became"):
        RECORDS.check(6, {"pages": pages, "skipped.status": 5}, "here")


@dataclass(frozen=True, kw_only=True)
class Lossy(Stage):
    name: ClassVar[str] = "lossy"
    version: ClassVar[int] = 1
    accounts: ClassVar[tuple[Account, ...]] = (RECORDS,)

    def inputs(self) -> dict[str, str]:
        return {}

    def parts(self) -> list[Part]:
        return [Part(name="0", inputs=("1",)), Part(name="1", inputs=("2",))]

    def process(self, part: Part) -> Output:
        return Output(files=(), counts={"records": 2, "pages": int(part.inputs[0])})


def test_a_part_that_loses_something_is_set_aside(tmp_path: object) -> None:
    manifest = run_stage(Lossy(out=Folder(str(tmp_path))))
    assert manifest.counts == {"records": 2, "pages": 2}
    assert list(manifest.failed) == ["0"]
    assert "stage lossy, part 0: 2 records became 1" in manifest.failed["0"]


def test_how_it_is_told() -> None:
    told = accounts_table([{"of": "records", "in": 1200, "went": {"pages": 1000, "skipped.status": 200}}])
    assert told.splitlines() == ["where everything went:", "         1,200 records      1,000 pages, 200 skipped.status"]
