"""Training runs as data and as pages: what their folders say, whole or damaged, and nothing that a
stranger wrote runs.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.report import read_curves, write_report
from flows.report.data import Series
from flows.report.heatmaps import look_figures
from flows.report.runs import run_sections
from flows.report.training import read_run, read_runs, report_of_runs, together, training_view
from flows.report.tree import document, node
from pipelines.store import Folder

DIGEST = "ab" * 16


def run_folder(
    folder: Path, *, steps: int = 4, finished: bool = True, evaluation: dict[str, Any] | None = None
) -> Path:
    folder.mkdir(parents=True)
    stages = [
        {"name": "web", "steps": 2, "batch": 8, "data": {"web": 3.0, "clean": 1.0}},
        {"name": "clean", "steps": 4, "batch": 16, "data": {"clean": 1.0}},
    ]
    plan = {
        "name": "made",
        "digest": "cd" * 16,
        "releases": {"web": DIGEST, "clean": "ef" * 16},
        "plan": {"stages": stages},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    lines = []
    for step in range(1, steps + 1):
        row = {
            "step": step,
            "stage": "web" if step < 3 else "clean",
            "loss": 4.0 - step / 2,
            "itc": 3.0 - step / 2,
            "itm": 1.0,
        }
        lines.append({**row, "rate": 0.1, "samples_per_s": 50.0, "itc_right": 0.5, "gradient": 1.0})
    lines[-1]["heldout_loss"] = 2.5
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 99, "st'
    )
    if finished:
        result = {"steps": 6, "numbers": {}, "bad": 2, "best": {"step": 4, "loss": 2.5}}
        (folder / "result.json").write_text(json.dumps(result))
    if evaluation is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def release_folder(root: Path) -> None:
    folder = root / "releases" / "web-3"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"digest": DIGEST}))


def recalls(value: float) -> dict[str, Any]:
    one = {"r1": value, "r5": value, "r10": value}
    return {"text_to_image": one, "image_to_text": one}


EVALUATION: dict[str, Any] = {
    "retrieval": {
        **recalls(40.0),
        "candidates": 10,
        "captions": 50,
        "pairs_judged": 0,
        "shortlist": 32,
        "chance": recalls(10.0),
        "blind": {
            "shuffled_images": recalls(9.0),
            "texts_alone": {"image_to_text": recalls(10.0)["image_to_text"]},
        },
        "near_duplicates": {"images": 3, "share": 30.0},
        "asked": "<b>held</b>.jsonl",
    },
    "matching": {
        "random": {
            "auc": 0.97,
            "accuracy": 91.0,
            "blind": {"shuffled_images": {"auc": 0.5}, "texts_alone": {"auc": 0.51}},
        },
    },
    "vqa": {
        "accuracy": 61.5,
        "questions": 34,
        "blind": {"shuffled_images": {"accuracy": 40.0}, "texts_alone": {"accuracy": 38.25}},
    },
    "nlvr2": {
        "accuracy": 70.0,
        "pairs": 12,
        "blind": {"shuffled_images": {"accuracy": 50.0}, "texts_alone": {"accuracy": 49.0}},
    },
    "captioning": {
        "cider": 44.0,
        "blind": {"shuffled_images": {"cider": 7.0}},
        "examples": [
            {
                "image": "javascript:alert(1)",
                "caption": "<script>hacked = 1</script>",
                "references": ["a dog"],
            },
        ],
    },
    "pictures": {
        "pairs": [
            {
                "text": "a <i>dog</i>",
                "words": ["a", "dog"],
                "grid": [1, 2],
                "image": "https://example.org/spy.png",
                "probability": 0.9,
                "distance": 0.2,
                "alignment": [[[0.25, 0.75]], [[1.0, 0.0]]],
                "patterns": [
                    [
                        {
                            "vertical": 0.5,
                            "diagonal": 0.1,
                            "block": 0.6,
                            "reversed_block": 0.4,
                            "pattern": "vertical",
                            "even": {
                                "vertical": 0.1,
                                "diagonal": 0.2,
                                "block": 0.5,
                                "reversed_block": 0.5,
                            },
                        }
                    ]
                ],
            }
        ]
    },
}


def test_a_run_is_what_its_folder_says(tmp_path: Path) -> None:
    release_folder(tmp_path)
    run = read_run(run_folder(tmp_path / "models" / "one"), Folder(str(tmp_path)))
    assert (run.name, run.plan, run.done, run.steps, run.finished, run.bad) == (
        "one",
        "made",
        4,
        6,
        True,
        2,
    )
    assert [(one["stage"], one["release"], one["share"], one["samples"]) for one in run.data] == [
        ("web", "web-3", 0.75, 12),
        ("web", "clean", 0.25, 4),
        ("clean", "clean", 1.0, 32),
    ]
    assert run.samples == 48
    assert Series(stage="web", name="loss", points=((1.0, 3.5), (2.0, 3.0))) in run.series
    assert Series(stage="clean", name="heldout_loss", points=((4.0, 2.5),)) in run.series


def test_runs_of_a_root_are_found_and_damaged_ones_named(tmp_path: Path) -> None:
    run_folder(tmp_path / "models" / "one")
    run_folder(tmp_path / "models" / "flow" / "web-2", steps=1, finished=False)
    (tmp_path / "models" / "torn").mkdir()
    (tmp_path / "models" / "torn" / "plan.json").write_text('{"name": ')
    runs, damaged = read_runs(Folder(str(tmp_path)))
    assert [(run.name, run.finished) for run in runs] == [("flow/web-2", False), ("one", True)]
    assert [one["run"] for one in damaged] == ["torn"]
    assert "is damaged" in damaged[0]["cause"]
    json.dumps(training_view(Folder(str(tmp_path))), allow_nan=False)
    assert read_runs(Folder(str(tmp_path / "nothing"))) == ([], [])


def test_curves_of_several_runs_share_a_picture(tmp_path: Path) -> None:
    runs = [
        read_run(run_folder(tmp_path / name, steps=steps)) for name, steps in (("a", 4), ("b", 3))
    ]
    found = [(stage, name) for stage, name, _ in together(runs)]
    assert found[:3] == [("web", "loss"), ("web", "itc"), ("web", "itm")]
    assert found[found.index(("clean", "loss")) + 1] == ("clean", "heldout_loss")
    curve = next(
        curve for stage, name, curve in together(runs) if (stage, name) == ("clean", "loss")
    )
    assert curve.steps == (3, 4)
    assert curve.losses == {"a": (2.5, 2.0), "b": (2.5, None)}


def test_long_logs_are_thinned(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "long")
    lines = [
        json.dumps({"step": step, "stage": "web", "loss": float(step)}) + "\n"
        for step in range(1, 1001)
    ]
    (folder / "metrics.jsonl").write_text("".join(lines))
    (series,) = read_run(folder).series
    assert len(series.points) == 250
    assert series.points[0] == (2.5, 2.5)


def test_curves_of_the_core_have_their_losses_beside_the_sum(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", steps=2)
    (folder / "metrics.jsonl").write_text(
        (folder / "metrics.jsonl").read_text().splitlines()[0] + "\n"
    )
    (curve,) = read_curves(folder / "metrics.jsonl")
    assert curve.losses == {"loss": (3.5,), "itc": (2.5,), "itm": (1.0,)}


def test_the_report_shows_everything_and_runs_nothing(tmp_path: Path) -> None:
    runs = [read_run(run_folder(tmp_path / "one", evaluation=EVALUATION))]
    titles = [title for title, _ in run_sections(runs)]
    assert titles == [
        "Runs",
        "Curves",
        "Retrieval",
        "Matching",
        "Captions",
        "Questions and sentences",
        "What they look at",
        "What data they saw",
    ]
    path = write_report(tmp_path / "report.html", report_of_runs(runs))
    page = path.read_text()
    assert "3 images (30.0 %)" in page
    assert "shuffled images" in page
    assert "0.970" in page
    assert "61.5" in page
    assert page.count("h6") == 1  # the one look at held-out samples
    assert "sentences about two images" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "javascript:" not in page
    assert "spy.png" not in page
    twin = json.loads(path.with_suffix(".json").read_text())
    assert twin["runs"][0]["evaluation"]["matching"]["random"]["auc"] == 0.97


def test_heat_is_as_strong_as_its_share() -> None:
    page = document(node("div", *look_figures(EVALUATION["pictures"]))).decode()
    assert page.count('class="heat"') == 4
    assert 'fill-opacity="0.85"' in page
    assert 'fill-opacity="0"' in page
    assert "vertical 1" in page


@pytest.mark.parametrize("text", ["[]", '{"retrieval": 3}', "{"])
def test_a_damaged_evaluation_is_said_or_left_out(tmp_path: Path, text: str) -> None:
    folder = run_folder(tmp_path / "models" / "one")
    (folder / "evaluation.json").write_text(text)
    runs, damaged = read_runs(Folder(str(tmp_path)))
    assert len(runs) + len(damaged) == 1
    assert [title for title, _ in run_sections(runs, damaged)]


def thumbnail() -> str:
    written = io.BytesIO()
    Image.new("RGB", (48, 32), "teal").save(written, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 390)])
def test_runs_in_a_browser(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    shown = {
        **EVALUATION["captioning"]["examples"][0],
        "image": thumbnail(),
        "caption": "a teal wall",
    }
    captioning = {
        **EVALUATION["captioning"],
        "examples": [*EVALUATION["captioning"]["examples"], shown],
    }
    evaluation = {**EVALUATION, "captioning": captioning}
    folders = [
        run_folder(tmp_path / "one", steps=6, evaluation=evaluation),
        run_folder(tmp_path / "two", steps=4, finished=False),
    ]
    path = write_report(tmp_path / "report.html", report_of_runs(list(map(read_run, folders))))

    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: said.extend(
            [] if request.url.startswith((path.as_uri(), "data:")) else [request.url]
        ),
    )
    page.goto(path.as_uri())
    page.wait_for_timeout(300)

    assert said == []
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".multiple.runs svg").count() == len(together(list(map(read_run, folders))))
    assert page.locator("figure img").evaluate_all("all => all.map(one => one.naturalWidth)") == [
        48
    ]
    rows = page.locator("tr", has_text="questions about images").first
    assert rows.locator("td").all_inner_texts()[-4:] == ["34", "61.5", "40.0", "38.2"]
    page.close()
