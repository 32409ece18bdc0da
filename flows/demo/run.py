"""The demo: a drawn web site becomes a trained, evaluated model along the ordinary road.

Special are its site, which it draws and serves, and its configuration; everything else is called as
any user calls it.
"""

import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from flows.decision_report import decided, report_data
from flows.demo.site import build_site, serve
from flows.demo.truth import score
from flows.deployments.orchestrate import collect_flow, curate_flow, pretrain_flow, ready, session
from flows.progress import Lines, funnel_table, recall_table
from flows.report import read_curves, write_report
from flows.report.runs import recall_rows
from pipelines.collect.run import CollectConfig
from pipelines.decide.decision import Decision, decide
from pipelines.engine.stage import Progress, silent
from pipelines.releases.publish import CurateConfig, Release
from pipelines.store import Folder
from pipelines.terminal import say
from training.evaluate.retrieval import evaluate


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the demo is; the smaller one is for the tests of its steps."""

    references: int = 3600
    clean: int = 200
    heldout: int = 240
    smoke: bool = False


SMALL = Size(references=160, clean=24, heldout=24, smoke=True)


@dataclass(kw_only=True)
class _Demo:
    """What the steps share."""

    out: Path
    seed: int
    size: Size
    lines: Lines = field(default_factory=Lines)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def root(self) -> Folder:
        return Folder(str(self.out / "data"))

    @property
    def site(self) -> Path:
        return self.out / "site"

    @contextmanager
    def step(self, name: str, words: str) -> Iterator[None]:
        self.lines.say(f"{name}: {words}")
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)


def run_demo(out: Path, *, seed: int = 0, size: Size | None = None) -> int:
    """Run the demo into a folder, going on where an earlier run stopped; returns the exit
    status.
    """
    demo = _Demo(out=out, seed=seed, size=size or Size())
    demo.lines.say(
        f"Winnow's demo goes into {out}; Ctrl-C stops it, and the same command goes on from there."
    )
    with session(out / "data" / ".prefect"):  # it starts while the site is drawn
        with demo.step(
            "draw",
            f"a web site of {demo.size.references:,} image references, about half of them faulty",
        ):
            build_site(
                demo.site,
                references=demo.size.references,
                clean=demo.size.clean,
                heldout=demo.size.heldout,
                seed=seed,
            )
        with demo.step(
            "prefect",
            "wait for the temporary server of the flows (PREFECT_API_URL names one of your own)",
        ):
            ready()
        with serve(demo.site) as url:
            _collect(demo, url)
            releases = _curate(demo)
        models = _pretrain(demo)
    retrieval = _evaluate(demo, models)
    summary = _summarise(demo, url, releases, retrieval)
    _conclude(demo, summary, releases)
    return 0


def _collect(demo: _Demo, url: str) -> None:
    with demo.step("collect web", f"crawl {url}, extract candidates, fetch their images"):
        collect_flow(
            demo.root,
            CollectConfig(seeds=(f"{url}/",), allow_private_addresses=True),
            id="web",
            progress=demo.lines,
        )
    with demo.step("collect clean", f"fetch a list of {demo.size.clean} sound pairs (--pairs)"):
        rows = [
            json.loads(line)
            for line in (demo.site / "clean.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        pairs = demo.out / "clean.jsonl"
        pairs.write_text(
            "".join(json.dumps({**row, "url": url + row["url"]}) + "\n" for row in rows),
            encoding="utf-8",
        )
        collect_flow(
            demo.root,
            CollectConfig(pairs=str(pairs), allow_private_addresses=True),
            id="clean",
            progress=demo.lines,
        )


def _curate(demo: _Demo) -> dict[str, Release]:
    wanted = {
        "web": ("demo", "web"),
        "raw": ("everything", "web"),
        "clean": ("everything", "clean"),
    }
    found = {}
    for name, (recipe, collection) in wanted.items():
        with demo.step(f"curate {name}", f"recipe {recipe} on collection {collection}"):
            config = CurateConfig(recipe=recipe, collections=(collection,), release=name)
            found[name] = curate_flow(demo.root, config, progress=demo.lines)
            demo.lines.say(
                f"  release {name}: {found[name].samples:,} images, digest"
                f" {found[name].digest[:16]}"
            )
    demo.lines.say(funnel_table(found["web"].funnel))
    return found


def _pretrain(demo: _Demo) -> dict[str, Path]:
    """The model of the curated release, and beside it in another process the control, which differs
    in its first release alone.
    """
    words = (
        "two models side by side: curated (releases web, then clean) and raw_only (releases raw,"
        " then clean)"
    )
    with (
        demo.step("pretrain", words),
        ProcessPoolExecutor(1, get_context("spawn"), _end_with, (os.getpid(),)) as beside,
    ):
        control = beside.submit(
            _pretrain_one, demo.out, "raw_only", "raw", demo.seed, demo.size, silent
        )
        curated = _pretrain_one(demo.out, "curated", "web", demo.seed, demo.size, demo.lines)
        return {"curated": curated, "raw_only": control.result()}


def _pretrain_one(
    out: Path, name: str, first: str, seed: int, size: Size, progress: Callable[[Progress], None]
) -> Path:
    """One model: stage one on the release `first`, stage two on the clean one."""
    releases = {"web": first, "clean": "clean"}
    return pretrain_flow(
        Folder(str(out / "data")),
        recipe="demo",
        releases=releases,
        out=out / "models" / name,
        seed=seed,
        smoke=size.smoke,
        progress=progress,
    )


def _end_with(parent: int) -> None:
    """End this process soon after its parent, however that ends: a rerun must find nobody
    writing.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    threading.Thread(target=watch, daemon=True).start()


def _evaluate(demo: _Demo, models: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, model in models.items():
        with demo.step(f"evaluate {name}", f"retrieval among {demo.size.heldout} held-out scenes"):
            found[name] = evaluate(model, demo.site / "heldout" / "captions.jsonl")
    demo.lines.say(recall_table({**found, "chance": found["curated"]["chance"]}))
    return found


def _summarise(
    demo: _Demo, url: str, releases: Mapping[str, Release], retrieval: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    with demo.step(
        "report", "the funnel, distributions, samples, losses and retrieval on one page"
    ):
        decision = decide(demo.root, "demo", ["web"])
        quality = score(demo.site / "truth.jsonl", decided(decision), url)
        _report(demo, decision, quality, retrieval)
    web, funnel = releases["web"], releases["web"].funnel
    return {
        "candidates": funnel.candidates,
        "outcomes": dict(funnel.outcomes),
        "kept": funnel.kept,
        **{key: round(quality[key], 4) for key in ("precision", "recall", "precision_all")},
        "by_fault": quality["by_fault"],
        "release": {
            "name": web.name,
            "digest": web.digest,
            "samples": web.samples,
            "shards": web.shards,
        },
        "stages": _stages(demo.out / "models" / "curated" / "metrics.jsonl"),
        "retrieval": {**retrieval["curated"], "raw_only": retrieval["raw_only"]},
        "seconds": demo.seconds,
    }


def _stages(metrics: Path) -> list[dict[str, Any]]:
    """Steps, first and last loss of each stage; the losses are means of up to ten steps, since
    single steps are noisy.
    """
    losses: dict[str, list[float]] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        losses.setdefault(row["stage"], []).append(row["loss"])

    def mean(values: list[float]) -> float:
        return round(sum(values) / len(values), 4)

    return [
        {
            "name": name,
            "steps": len(values),
            "first_loss": mean(values[:10]),
            "last_loss": mean(values[-10:]),
        }
        for name, values in losses.items()
    ]


def _report(
    demo: _Demo,
    decision: Decision,
    quality: Mapping[str, Any],
    retrieval: Mapping[str, Mapping[str, Any]],
) -> None:
    happened = (
        (
            f"A site of {demo.size.references:,} image references was drawn, crawled and curated: "
            f"{decision.funnel.kept:,} of {decision.funnel.candidates:,} candidates were kept."
        ),
        (
            f"Of what the rules could see, {quality['precision']:.1%} of the kept pairs are sound"
            f" and {quality['recall']:.1%} of the sound pairs are kept; counting swapped texts,"
            f" which no rule can see, {quality['precision_all']:.1%} of the kept are sound."
        ),
        (
            "A small fusion model was pretrained on the curated release and then on a clean one; "
            "the control saw the uncurated release in its first stage instead."
        ),
    )
    models = demo.out / "models"
    data = report_data(
        demo.root,
        decision,
        title="Winnow: from a drawn web site to a trained model",
        happened=happened,
        curves=[
            curve
            for name in retrieval
            for curve in read_curves(models / name / "metrics.jsonl", f"{name}: ")
        ],
        retrieval={
            run: recall_rows(found)
            for run, found in {**retrieval, "chance": retrieval["curated"]["chance"]}.items()
        },
        facts={
            "models": str(models),
            "summary": str(demo.out / "summary.json"),
            "release": (demo.root / "releases" / "web").path(),
        },
    )
    write_report(demo.out / "report.html", data)


def _conclude(demo: _Demo, summary: Mapping[str, Any], releases: Mapping[str, Release]) -> None:
    Folder(str(demo.out)).write_bytes(
        "summary.json", json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n"
    )
    found = summary["retrieval"]
    recall, control = (run["text_to_image"]["r1"] for run in (found, found["raw_only"]))
    say(f"""
Done in {sum(demo.seconds.values()):.0f} s. {summary["kept"]:,} of {summary["candidates"]:,} candidates were kept: \
precision {summary["precision"]:.3f}, recall {summary["recall"]:.3f}.
The model finds the right picture for {recall:.1f} % of {found["candidates"]} texts, the control without curation for {control:.1f} %; \
chance is {100 / found["candidates"]:.1f} %.

  report    {demo.out / "report.html"}
  summary   {demo.out / "summary.json"}
  release   {releases["web"].folder.path()}
  model     {demo.out / "models/curated/model"}
  look      winnow dashboard --root {demo.out / "data"}
{_where()}
Next, on pages of your own:
  winnow collect --seed https://example.org/ --contact you@example.org --id first
  winnow funnel --recipe winnow --collection first""")  # noqa: E501


def _where() -> str:
    """How the shell finds `winnow`, if it does not."""
    if shutil.which("winnow"):
        return ""
    return f"""
So that the shell finds winnow:
  export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH
"""
