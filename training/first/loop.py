"""The one training loop: stages in order, checkpoints that a killed run goes on from exactly."""

import json
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.first.data import Batch, Mixture, Place, Release
from training.first.files import export_model, load_model, load_state, save_state
from training.first.fusion import FusionModel
from training.first.objectives.base import Views
from training.first.plan import Plan, Stage, Weighted
from training.first.tokenizer import Tokenizer, build_vocabulary
from training.folder import write_json, write_whole
from training.threads import threads

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is; `numbers` are means of the last step (losses, shares of right answers)."""

    step: int  # steps done, over all stages
    steps: int
    stage: str
    lr: float
    samples_per_s: float
    numbers: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run."""

    model: Path  # the exported folder
    digest: str  # of plan and releases
    steps: int
    numbers: Mapping[str, float]  # of the last step
    ran: bool  # false: it was finished before and nothing was done


@dataclass(kw_only=True)
class _Run:
    """What changes while a plan runs, and what a checkpoint holds."""

    plan: Plan
    out: Path
    releases: Mapping[str, Release]
    tokenizer: Tokenizer
    model: FusionModel
    device: torch.device
    on_progress: Callable[[Progress], None]
    optimiser: torch.optim.Optimizer | None = None
    stage: int = 0
    step: int = 0  # inside the stage
    place: Place = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def done(self) -> int:
        return sum(stage.steps for stage in self.plan.stages[: self.stage]) + self.step


def train(
    plan: Plan,
    *,
    releases: Mapping[str, Sequence[Path]],
    out: Path,
    resume: bool = True,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> TrainResult:
    """Run a plan on releases (name -> paths of its training shards) and export the model to `out`/model.

    A finished run is not run again; an interrupted one goes on from its last checkpoint unless `resume` is false. Raises ValueError when
    `out` holds another run, a release is missing or a loss is not a number; KeyboardInterrupt after Ctrl-C, with a checkpoint written.
    """
    read = _open_releases(plan, releases)
    digests = {name: release.digest() for name, release in read.items()}
    identity = {"name": plan.name, "digest": plan.digest, "releases": digests, "plan": plan.to_json()}
    _claim(out, identity)
    finished = out / "result.json"
    if resume and finished.is_file():
        known = json.loads(finished.read_text(encoding="utf-8"))
        return TrainResult(model=out / "model", digest=plan.digest, steps=known["steps"], numbers=known["numbers"], ran=False)
    finished.unlink(missing_ok=True)
    run = _prepare(plan, read, out, resume, on_progress)
    with _patient_interrupt() as stop, threads(plan.threads):
        while run.stage < len(plan.stages):
            _run_stage(run, stop)
    export_model(out / "model", run.model, run.tokenizer)
    write_json(finished, {"steps": plan.steps, "numbers": run.numbers})
    (out / CHECKPOINT).unlink(missing_ok=True)
    return TrainResult(model=out / "model", digest=plan.digest, steps=plan.steps, numbers=run.numbers, ran=True)


def _open_releases(plan: Plan, releases: Mapping[str, Sequence[Path]]) -> dict[str, Release]:
    missing = [name for name in plan.releases if name not in releases]
    if missing:
        raise ValueError(f"the plan {plan.name} reads the releases {', '.join(plan.releases)}; missing: {', '.join(missing)}")
    return {name: Release(name, [Path(shard) for shard in releases[name]]) for name in plan.releases}


def _claim(out: Path, identity: Mapping[str, Any]) -> None:
    """Write plan.json, or see that the one there is this one."""
    path = out / "plan.json"
    if not path.is_file():
        write_json(path, identity)
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    for key in ("digest", "releases"):
        if there.get(key) != identity[key]:
            what = "another plan" if key == "digest" else "the same plan on other releases"
            raise ValueError(f"{out} holds a run of {what} ({there.get('name')}): choose another folder, or delete this one to train again")


def _prepare(plan: Plan, releases: Mapping[str, Release], out: Path, resume: bool, on_progress: Callable[[Progress], None]) -> _Run:
    tokenizer = _tokenizer(plan, releases)
    model = FusionModel(plan.model, len(tokenizer.vocabulary))
    model.initialise(torch.Generator().manual_seed(plan.seed))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = _Run(
        plan=plan, out=out, releases=releases, tokenizer=tokenizer, model=model.to(device), device=device, on_progress=on_progress
    )
    if resume and (out / CHECKPOINT).is_file():
        _restore(run)
    else:
        (out / CHECKPOINT).unlink(missing_ok=True)
        _begin_stage(run)
    _cut_metrics(out / "metrics.jsonl", run.done)
    return run


def _tokenizer(plan: Plan, releases: Mapping[str, Release]) -> Tokenizer:
    if plan.vocab:
        return Tokenizer.read(Path(plan.vocab), plan.model.text_length)
    captions = (caption for release in releases.values() for captions in release.captions for caption in captions)
    return Tokenizer(build_vocabulary(captions, plan.vocab_size), plan.model.text_length)


def _begin_stage(run: _Run) -> None:
    stage = run.plan.stages[run.stage]
    if stage.init:
        _initialise_from(run, Path(stage.init))
    run.optimiser, run.step, run.place = _optimiser(run.model, stage), 0, {}


def _initialise_from(run: _Run, folder: Path) -> None:
    other, tokenizer = load_model(folder)
    if other.spec != run.plan.model or tokenizer.vocabulary != run.tokenizer.vocabulary:
        raise ValueError(f"{folder} has another shape or vocabulary than the plan: give it the same model and vocab={folder}/vocab.txt")
    run.model.load_state_dict(other.state_dict())


def _optimiser(model: FusionModel, stage: Stage) -> torch.optim.Optimizer:
    """AdamW; no decay on biases, norms and other vectors (BERT, ViLT). Frozen parameters are left out."""
    frozen = re.compile(stage.freeze) if stage.freeze else None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (frozen and frozen.search(name)))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError(f"stage {stage.name}: freeze {stage.freeze!r} matches every parameter; nothing is left to train")
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": stage.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=stage.lr, betas=stage.betas, fused=True)


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up over the first share of the steps, then linear to zero; `step` counts from 0."""
    warm = max(1, round(stage.warmup * stage.steps))
    if step < warm:
        return stage.lr * (step + 1) / warm
    return stage.lr * (stage.steps - step) / max(1, stage.steps - warm)


def _run_stage(run: _Run, stop: threading.Event) -> None:
    stage = run.plan.stages[run.stage]
    seed = run.plan.seed * 1000 + run.stage
    mixture = Mixture(run.releases, stage.data, batch=stage.batch, side=run.plan.model.image_size, seed=seed)
    run.model.train()
    with (run.out / "metrics.jsonl").open("a", encoding="utf-8", buffering=1) as metrics:
        for batch in mixture.batches(run.step, run.place):
            if run.step == stage.steps:
                break
            metrics.write(json.dumps(_one_step(run, stage, batch)) + "\n")
            if stop.is_set() or run.done % run.plan.checkpoint_every == 0:
                _save(run)
            if stop.is_set():
                raise KeyboardInterrupt(f"stopped after step {run.done} of {run.plan.steps}; the same command goes on from there")
    run.stage += 1
    if run.stage < len(run.plan.stages):
        _begin_stage(run)
    else:
        run.step = 0
    _save(run)


def _one_step(run: _Run, stage: Stage, batch: Batch) -> dict[str, Any]:
    started = time.perf_counter()
    lr = learning_rate(stage, run.step)
    numbers = _update(run, stage, batch, lr)
    run.step, run.place, run.numbers = run.step + 1, batch.place, numbers
    speed = stage.batch / (time.perf_counter() - started)
    run.on_progress(Progress(step=run.done, steps=run.plan.steps, stage=stage.name, lr=lr, samples_per_s=speed, numbers=numbers))
    return {"step": run.done, "stage": stage.name, "lr": lr, "samples_per_s": round(speed, 1), **numbers}


def _update(run: _Run, stage: Stage, batch: Batch, lr: float) -> dict[str, float]:
    """One optimiser step; the means of every number."""
    assert run.optimiser is not None
    # Every draw and every dropout mask is settled by seed and step alone, so no generator's state has to be kept
    seed = (run.plan.seed << 32) + run.done
    torch.manual_seed(seed)
    with _precision(run):
        loss, numbers = total_loss(run.plan.objectives, _views(run, batch), torch.Generator().manual_seed(seed))
    if not math.isfinite(numbers["loss"]):
        raise ValueError(f"the loss of step {run.done + 1} (stage {stage.name}) is {numbers['loss']}: lower lr ({stage.lr}) or set clip")
    for group in run.optimiser.param_groups:
        group["lr"] = lr
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if stage.clip:
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), stage.clip)
    run.optimiser.step()
    return numbers


def total_loss(objectives: Sequence[Weighted], views: Views, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum of the objectives' means, and all means as plain numbers."""
    total = torch.zeros((), device=views.pixels.device)
    numbers: dict[str, float] = {}
    for item in objectives:
        sums = item.objective(views, generator)
        means = {name: value / max(1, count) for name, (value, count) in sums.items()}
        total = total + item.weight * means[item.objective.name]
        numbers.update({name: round(float(mean.detach()), 5) for name, mean in means.items()})
    return total, {"loss": float(total.detach()), **numbers}


def _views(run: _Run, batch: Batch) -> Views:
    tokenizer = run.tokenizer
    return Views(
        model=run.model,
        ids=tokenizer.ids(batch.captions),
        pixels=batch.pixels.to(run.device),
        continues=tokenizer.continues,
        special=tokenizer.special,
        mask_id=tokenizer.mask_id,
    )


def _precision(run: _Run) -> AbstractContextManager[object]:
    return torch.autocast(run.device.type, torch.bfloat16) if run.plan.precision == "bfloat16" else nullcontext()


def _save(run: _Run) -> None:
    assert run.optimiser is not None
    state = {"stage": run.stage, "step": run.step, "place": run.place, "numbers": run.numbers}
    save_state(run.out / CHECKPOINT, {**state, "model": run.model.state_dict(), "optimiser": run.optimiser.state_dict()})


def _restore(run: _Run) -> None:
    state = load_state(run.out / CHECKPOINT)
    run.model.load_state_dict(state["model"])
    run.stage = state["stage"]
    if run.stage < len(run.plan.stages):
        run.optimiser = _optimiser(run.model, run.plan.stages[run.stage])
        run.optimiser.load_state_dict(state["optimiser"])
    run.step, run.place, run.numbers = state["step"], state["place"], state["numbers"]


def _cut_metrics(path: Path, done: int) -> None:
    """Drop the lines of steps after the checkpoint, which will be taken again, and a line that a kill left unfinished."""
    if path.is_file():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
        kept = "".join(line for line in lines if json.loads(line)["step"] <= done)
        write_whole(path, lambda temporary: temporary.write_text(kept, encoding="utf-8"))


@contextmanager
def _patient_interrupt() -> Iterator[threading.Event]:
    """Let Ctrl-C wait for the end of the step, so that no half step is saved; outside the main thread, leave signals alone."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: object) -> None:
        if stop.is_set():  # the second time, do not wait
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
