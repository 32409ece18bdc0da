"""What is there already: finished runs, models that are gone or damaged, stages that begin with one."""

import json
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.worlds import release, shapes_plan
from training.export import load_model, load_scorer
from training.train import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("releases")
    return {"web": release(folder / "web", 60), "clean": release(folder / "clean", 40, seed=1)}


def _weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def test_a_finished_run_whose_model_is_gone_exports_it_again(tmp_path: Path, releases: dict[str, Path]) -> None:
    first = train(shapes_plan(), releases=releases, out=tmp_path / "run", workers=0)
    before = _weights(first.model)
    (first.model / "config.json").unlink()
    again = train(shapes_plan(), releases=releases, out=tmp_path / "run", workers=0)
    assert again.ran
    after = _weights(again.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_model(again.model)


def test_the_same_plan_on_other_releases_wants_another_folder(tmp_path: Path, releases: dict[str, Path]) -> None:
    train(shapes_plan(steps=1), releases=releases, out=tmp_path / "run", workers=0)
    swapped = {"web": releases["clean"], "clean": releases["web"]}
    with pytest.raises(ValueError, match="holds a run of the same plan on other releases"):
        train(shapes_plan(steps=1), releases=swapped, out=tmp_path / "run", workers=0)


def test_a_stage_begins_with_a_model_and_leaves_what_is_frozen(tmp_path: Path, releases: dict[str, Path]) -> None:
    first = train(shapes_plan(steps=2), releases=releases, out=tmp_path / "first", workers=0)
    plan = shapes_plan(steps=2)
    frozen = (r"^stacks\.text\.", r"^embeds\.words\.")
    stage = replace(plan.stages[0], data={"web": 1.0, "clean": 1.0}, freeze=frozen, init=str(first.model))
    second = train(replace(plan, stages=(stage,)), releases=releases, out=tmp_path / "second", workers=0)
    before, after = _weights(first.model), _weights(second.model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if not name.startswith(("stacks.text.", "embeds.words."))}


def test_freezing_everything_is_refused(tmp_path: Path, releases: dict[str, Path]) -> None:
    plan = shapes_plan()
    still = replace(plan.stages[0], freeze=(".",))
    with pytest.raises(ValueError, match="nothing"):
        train(replace(plan, stages=(still,)), releases=releases, out=tmp_path / "run", workers=0)


def test_a_run_outside_the_main_thread_leaves_signals_alone(tmp_path: Path, releases: dict[str, Path]) -> None:
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


def test_a_vocabulary_that_was_cut_does_not_fit_its_model(tmp_path: Path, releases: dict[str, Path]) -> None:
    model = train(shapes_plan(steps=1), releases=releases, out=tmp_path / "run", workers=0).model
    path = model / "prepare/words/tokenizer.json"
    table = json.loads(path.read_text())
    words = table["model"]["vocab"]
    table["model"]["vocab"] = {word: words[word] for word in list(words)[:20]}
    path.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"tokenizer\.json has \d+ pieces, and the model was exported with \d+"):
        load_scorer(model)


def test_a_full_disk_is_said_with_the_folder(tmp_path: Path, releases: dict[str, Path]) -> None:
    """Files may not grow beyond 150 kB, which is less than a checkpoint takes."""
    code = f"""
import resource, sys
from pathlib import Path
from tests.training.worlds import shapes_plan
from training.train import train
releases = {{name: Path({str(releases["web"].parent)!r}) / name for name in ("web", "clean")}}
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, {resource.RLIM_INFINITY}))
try:
    train(shapes_plan(), releases=releases, out=Path({str(tmp_path / "run")!r}), workers=0)
except OSError as error:
    print(type(error).__name__, error)
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert f"{tmp_path}/run/checkpoints: a checkpoint could not be written" in found.stdout
    assert "File too large" in found.stdout
    assert not list((tmp_path / "run").rglob("*.part"))
    assert train(shapes_plan(), releases=releases, out=tmp_path / "run", workers=0).ran
