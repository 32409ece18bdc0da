"""What is there already: finished runs, models that are gone or damaged, stages that begin with
one.
"""

import json
import re
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.worlds import Killed, release, shapes_plan, trained
from training.export import export_model, load_model, load_scorer
from training.folder import Metrics
from training.model import Model
from training.train import train


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("releases")
    return {"web": release(folder / "web", 60), "clean": release(folder / "clean", 40, seed=1)}


def _weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def test_a_finished_run_whose_model_is_gone_exports_it_again(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    first = train(shapes_plan(), releases=releases, out=tmp_path / "run", workers=0)
    before = _weights(first.model)
    (first.model / "config.json").unlink()
    again = train(shapes_plan(), releases=releases, out=tmp_path / "run", workers=0)
    assert again.ran
    after = _weights(again.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_model(again.model)


def test_the_same_plan_on_other_releases_wants_another_folder(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    train(shapes_plan(steps=1), releases=releases, out=tmp_path / "run", workers=0)
    swapped = {"web": releases["clean"], "clean": releases["web"]}
    with pytest.raises(ValueError, match="holds a run of the same plan on other releases"):
        train(shapes_plan(steps=1), releases=swapped, out=tmp_path / "run", workers=0)


def test_a_stage_begins_with_a_model_and_leaves_what_is_frozen(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    first = train(shapes_plan(steps=2), releases=releases, out=tmp_path / "first", workers=0)
    plan = shapes_plan(steps=2)
    frozen = (r"^stacks\.text\.", r"^embeds\.words\.")
    stage = replace(
        plan.stages[0], data={"web": 1.0, "clean": 1.0}, freeze=frozen, init=str(first.model)
    )
    second = train(
        replace(plan, stages=(stage,)), releases=releases, out=tmp_path / "second", workers=0
    )
    before, after = _weights(first.model), _weights(second.model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name for name in before if not name.startswith(("stacks.text.", "embeds.words."))
    }


def test_freezing_everything_is_refused(tmp_path: Path, releases: dict[str, Path]) -> None:
    plan = shapes_plan()
    still = replace(plan.stages[0], freeze=(".",))
    with pytest.raises(ValueError, match="nothing"):
        train(replace(plan, stages=(still,)), releases=releases, out=tmp_path / "run", workers=0)


def test_a_run_outside_the_main_thread_leaves_signals_alone(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    settings = {"releases": releases, "out": tmp_path / "run", "workers": 0}
    worker = threading.Thread(target=train, args=(shapes_plan(steps=1),), kwargs=settings)
    worker.start()
    worker.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", b"", "model.safetensors is damaged"),
        ("model.safetensors", 4000, "model.safetensors is damaged"),
        ("config.json", b"{", "config.json is damaged"),
        ("config.json", b'{"model_type": "vilt"}', "another kind of model: 'vilt'"),
        ("prepare/words/tokenizer.json", 300, "tokenizer.json is no tokenizer"),
        ("prepare/words/tokenizer.json", None, "tokenizer.json is missing"),
        ("config.json", None, "is not a trained model: it lacks config.json"),
    ],
)
def test_damaged_files_of_a_model_are_named(
    tmp_path: Path, releases: dict[str, Path], name: str, damage: bytes | int | None, message: str
) -> None:
    model = train(shapes_plan(steps=1), releases=releases, out=tmp_path / "run", workers=0).model
    path = model / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:damage] if isinstance(damage, int) else damage)
    with pytest.raises(ValueError, match=message):
        load_scorer(model)


def test_a_vocabulary_that_was_cut_does_not_fit_its_model(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    model = train(shapes_plan(steps=1), releases=releases, out=tmp_path / "run", workers=0).model
    path = model / "prepare/words/tokenizer.json"
    table = json.loads(path.read_text())
    words = table["model"]["vocab"]
    table["model"]["vocab"] = {word: words[word] for word in list(words)[:20]}
    path.write_text(json.dumps(table))
    with pytest.raises(
        ValueError, match=r"tokenizer\.json has \d+ pieces, and the model was exported with \d+"
    ):
        load_scorer(model)


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk were full: files may not grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_with_the_folder(tmp_path: Path, releases: dict[str, Path]) -> None:
    """Files may not grow beyond 150 kB, which is less than a checkpoint takes."""
    out = tmp_path / "run"
    said = rf"{re.escape(str(out))}/checkpoints: a checkpoint could not be written.*File too large"
    with _files_of_at_most(150_000), pytest.raises(OSError, match=said):
        train(shapes_plan(), releases=releases, out=out, workers=0)
    assert not list(out.rglob("*.part"))
    assert train(shapes_plan(), releases=releases, out=out, workers=0).ran


def test_a_model_for_which_there_is_no_room_is_said_with_its_path(tmp_path: Path) -> None:
    model = Model(shapes_plan().model)
    said = r"model\.safetensors cannot be written: .*File too large"
    with _files_of_at_most(10_000), pytest.raises(OSError, match=said):
        export_model(tmp_path / "model", model, {})
    assert not list((tmp_path / "model").iterdir())


def test_metrics_for_which_there_is_no_room_are_said_with_their_path(tmp_path: Path) -> None:
    before = "".join(f'{{"step": 1, "loss": {number}}}\n' for number in range(500))
    (tmp_path / "metrics.jsonl").write_text(before)
    metrics = Metrics(tmp_path, 1)
    full = _files_of_at_most(len(before) + 10)
    with full, pytest.raises(OSError, match=r"metrics\.jsonl cannot be written: File too large"):
        metrics.write(2, "web", {"loss": 1.0})
    metrics.close()

    again = Metrics(tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    again.write(2, "web", {"loss": 1.0})
    again.close()
    line = '{"step": 2, "stage": "web", "loss": 1.0}\n'
    assert (tmp_path / "metrics.jsonl").read_text() == before + line


def test_tensorboard_reads_what_a_run_writes(tmp_path: Path, releases: dict[str, Path]) -> None:
    """Steps that a kill made be taken again stand there once."""
    with pytest.raises(Killed):
        trained(shapes_plan(steps=4), releases["web"].parent, str(tmp_path / "run"), kill=3)
    train(shapes_plan(steps=4), releases=releases, out=tmp_path / "run", workers=0)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    for name in ("loss", "itc", "rate", "samples_per_s"):
        found = [(one.step, one.value) for one in events.Scalars(name)]
        assert [step for step, _ in found] == list(range(1, 9))
        assert [value for _, value in found] == pytest.approx(
            [line[name] for line in lines], rel=1e-6
        )
