"""What a plan says of its data reaches every batch of a run."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.training import releases as made
from tests.training.worlds import all_plan, release, shapes_plan, trained
from training.data.buckets import Buckets
from training.data.feed import Data, Feed, Weighted
from training.data.shards import Release
from training.data.tokenizer import TextSpec, make_tokenizer
from training.distributed import Ranks
from training.inputs import TextInput
from training.objectives.itc import Contrast
from training.plan import TrainingStage
from training.precision import matmul_rate, precision
from training.recipes import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    release(tmp_path / "web", 40, heldout=12)
    release(tmp_path / "clean", 30, seed=1, heldout=5)
    return tmp_path


def _stage(**changes: object) -> TrainingStage:
    return replace(shapes_plan().stages[0], **changes)  # type: ignore[arg-type]


def _data(**changes: object) -> Data:
    words = make_tokenizer(TextSpec(size=60, length=16), captions=["number 1", "number 23456789"])
    given = {"plan": shapes_plan(), "prepared": {"words": words}, "ranks": Ranks(), "workers": 0}
    return Data(**{**given, **changes})  # type: ignore[arg-type]


def _steps(feed: Feed, count: int) -> Iterator[list[Weighted]]:
    with feed:
        yield from islice(feed, count)


def test_a_batch_of_each_release_counts_by_its_share(folder: Path) -> None:
    """The loss of the first step is the mean of what each release gives alone."""
    plan = shapes_plan(steps=1, validate_steps=0)
    stage = replace(plan.stages[0], objectives=(Contrast(),), weights={})
    found = {}
    for name, data in (
        ("web", {"web": 1.0}),
        ("clean", {"clean": 1.0}),
        ("both", {"web": 3.0, "clean": 1.0}),
    ):
        mixing = "accumulate" if name == "both" else "sum"
        changed = replace(stage, data=data, mixing=mixing)  # type: ignore[arg-type]
        both = {"web": 1.0, "clean": 1.0}  # so that all have one vocabulary
        fixed = replace(plan.stages[1], data=both, objectives=(Contrast(),), weights={})
        trained(replace(plan, stages=(changed, fixed)), folder, f"run-{name}", ids=True)
        line = (folder / f"run-{name}" / "metrics.jsonl").read_text().splitlines()[0]
        found[name] = json.loads(line)["loss"]
    assert found["both"] == pytest.approx(0.75 * found["web"] + 0.25 * found["clean"], rel=1e-5)
    first = json.loads((folder / "run-both-0.json").read_text())[0]
    assert [one.partition("/")[0] for one in first] == ["clean"] * 8 + ["web"] * 8


def test_rows_of_like_length_within_a_budget(tmp_path: Path) -> None:
    texts = {n: ["number " + " ".join("1" * (n % 10))] for n in range(48)}
    web = made.release(tmp_path, "web", 48, captions=texts)
    stage = _stage(batch=8, buckets=Buckets(budget=64, window=24, multiple=2))
    sizes = set()
    for (one,) in _steps(_data().training(stage, {"web": web}, {}), 12):
        words = one.batch.inputs["words"]
        assert isinstance(words, TextInput)
        assert len(one.batch) * words.ids.shape[1] <= 64 or len(one.batch) == 2
        sizes.add(len(one.batch))
    assert len(sizes) > 1


def test_a_run_with_buckets_goes_on_where_it_stopped(folder: Path) -> None:
    plan = all_plan()
    stages = [
        replace(one, buckets=Buckets(budget=40, window=16, multiple=4)) for one in plan.stages
    ]
    plan = replace(plan, stages=tuple(stages))
    trained(plan, folder, "whole", ids=True)
    trained(plan, folder, "cut", stop=2)
    trained(plan, folder, "cut", ids=True)
    whole, rest = (json.loads((folder / f"{name}-0.json").read_text()) for name in ("whole", "cut"))
    assert len(whole) == 8
    assert rest == whole[2:]
    assert {len(step) for step in whole} == {4, 8}


def test_sources_of_captions_are_weighed(tmp_path: Path) -> None:
    numbers = range(6)
    web = made.release(
        tmp_path,
        "web",
        6,
        captions={n: [f"alt {n}", f"given {n}"] for n in numbers},
        sources={n: ["alt", "given"] for n in numbers},
    )
    stage = _stage(batch=6, sources={"human": 1.0, "web": 0.0})
    for (one,) in _steps(_data().training(stage, {"web": web}, {}), 3):
        assert all(text.startswith("given") for text in one.batch.texts)


def test_near_shuffles_some_shards_at_a_time(tmp_path: Path) -> None:
    web = made.release(tmp_path, "web", 24, shards=4)
    for (one,) in _steps(_data().training(_stage(batch=6, near=1), {"web": web}, {}), 4):
        numbers = [int(name.removeprefix("web/i")) for name in one.batch.ids]
        assert len({number // 6 for number in numbers}) == 1


def test_held_out_samples_come_once_and_in_the_same_order(folder: Path) -> None:
    heldout = {name: Release.heldout(name, folder / name) for name in ("web", "clean")}
    kept = {name: one for name, one in heldout.items() if one is not None}
    assert {name: len(one) for name, one in kept.items()} == {"web": 12, "clean": 5}

    both = _stage(data={"web": 1.0, "clean": 1.0}, batch=4)
    for ranks, rows in ((Ranks(), 4), (Ranks(rank=1, world=2), 2)):
        opened = _data(ranks=ranks).validation(both, kept)
        assert opened is not None
        feed, count = opened
        assert count == 1  # five of the smaller one are one batch of four
        ids = [name for (one,) in _steps(feed, count) for name in one.batch.ids]
        assert len(set(ids)) == len(ids) == rows
        assert {name.rpartition("/")[0] for name in ids} <= {"web/heldout", "clean/heldout"}
    assert _data().validation(_stage(), {}) is None


def test_fields_of_the_data_are_set_from_the_command_line() -> None:
    changes = [
        'stages.0.buckets={"budget": 800}',
        "stages.0.near=2",
        'stages.0.sources={"human": 2.0}',
        "shard=fsdp",
        "recompute=true",
    ]
    plan = load("vilt", size="tiny", changes=changes)
    assert plan.stages[0].buckets == Buckets(budget=800)
    assert (plan.stages[0].near, plan.stages[0].sources) == (2, {"human": 2.0})
    assert (plan.shard, plan.recompute) == ("fsdp", True)
    with pytest.raises(ValueError, match="near is -1"):
        load("vilt", size="tiny", changes=["stages.0.near=-1"])


def test_recomputing_changes_nothing(folder: Path) -> None:
    plan = shapes_plan(steps=2, validate_steps=0)
    trained(plan, folder, "kept")
    trained(replace(plan, recompute=True), folder, "again")
    lines = [
        [json.loads(line)["loss"] for line in (folder / name / "metrics.jsonl").open()]
        for name in ("kept", "again")
    ]
    assert lines[0] == lines[1]


def test_speed_and_the_time_left_are_told(folder: Path) -> None:
    trained(shapes_plan(steps=2, validate_steps=0), folder, "run")
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").open()]
    assert all(0 < line["peak_share"] < 1 for line in lines)
    assert all(0 <= line["waited"] <= 1 for line in lines)
    assert [line["seconds_left"] > 0 for line in lines] == [True, True, True, False]


def test_precision_is_what_the_plan_says_or_the_faster_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert matmul_rate(cpu, torch.float32) > 1e8
    with precision("bfloat16", cpu):
        assert torch.is_autocast_enabled("cpu")
    for bfloat, fast in ((4e9, True), (2.2e9, False), (1e8, False)):
        rates = {torch.float32: 2e9, torch.bfloat16: bfloat}
        monkeypatch.setattr("training.precision.matmul_rate", lambda device, kind, r=rates: r[kind])
        with precision("auto", cpu):
            assert torch.is_autocast_enabled("cpu") == fast
