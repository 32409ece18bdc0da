"""Training runs drawn: what they are, their curves together, what data they saw, and what they can
do beside chance and the blind.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.report.data import Curve, TrainingRun
from flows.report.funnel import NOTHING, count
from flows.report.heatmaps import look_figures
from flows.report.plots import curve_plot, number
from flows.report.retrieval import retrieval_table
from flows.report.training import View, together
from flows.report.tree import Node, node, plain_table, shorten

SAID = {
    "loss": "loss",
    "heldout_loss": "loss on held-out samples",
    "rate": "learning rate",
    "samples_per_s": "samples a second",
    "waited": "share of the time that waited for data",
    "peak_share": "share of the measured peak",
    "gradient": "length of the gradient",
}
WAYS = (("text_to_image", "text to image"), ("image_to_text", "image to text"))


def run_sections(
    runs: Sequence[TrainingRun], damaged: Sequence[View] = ()
) -> list[tuple[str, list[Node]]]:
    """Titles and what stands below them; those of which there is nothing are left out."""
    sections = [
        ("Runs", [runs_table(runs)] if runs else []),
        ("Curves", list(curves(runs))),
        ("Retrieval", list(retrieval(runs))),
        ("Matching", list(matching(runs))),
        ("Captions", list(captions(runs))),
        ("Questions and sentences", list(answers(runs))),
        ("What they look at", list(pictures(runs))),
        ("What data they saw", [data_table(runs)] if runs else []),
        (
            "Cannot be read",
            (
                [
                    plain_table(
                        ("run", "why"),
                        [(one["run"], shorten(one["cause"], 400)) for one in damaged],
                    )
                ]
                if damaged
                else []
            ),
        ),
    ]
    return [(title, parts) for title, parts in sections if parts]


def runs_table(runs: Sequence[TrainingRun]) -> Node:
    """A line for each run: how far it is, and what it came to."""
    rows = []
    for run in runs:
        last = {one.name: one.points[-1][1] for one in run.series if one.points}
        state = "finished" if run.finished else "under way, or stopped"
        best = (
            f"{number(run.best['loss'])} at step {run.best['step']:,.0f}"
            if {"loss", "step"} <= set(run.best)
            else NOTHING
        )
        loss, speed = last.get("loss"), last.get("samples_per_s")
        cells = [
            f"{count(run.done)} of {count(run.steps)}",
            NOTHING if loss is None else number(loss),
            best,
        ]
        rows.append(
            [
                run.name,
                run.plan,
                state,
                *cells,
                count(run.samples),
                NOTHING if speed is None else number(speed),
                count(run.bad),
            ]
        )
    heads = (
        "run",
        "plan",
        "state",
        "steps",
        "last loss",
        "best held-out loss",
        "samples",
        "samples/s",
        "unusable",
    )
    return plain_table(heads, rows, frozenset(range(3, 9)))


def curves(runs: Sequence[TrainingRun]) -> Iterator[Node]:
    """Each number of each stage, the runs as lines of one picture."""
    stage, multiples = "", node("div", class_="multiples")
    for of, name, curve in together(runs):
        if of != stage:
            if len(multiples):
                yield multiples
            stage, multiples = of, node("div", class_="multiples")
            yield node("h3", "stage ", node("code", stage))
        multiples.append(_figure(name, curve))
    if len(multiples):
        yield multiples


def _figure(name: str, curve: Curve) -> Node:
    return node("div", node("h3", said(name)), curve_plot(curve), class_="multiple runs")


def said(name: str) -> str:
    """A number of the log in words; a loss and a share keep their names."""
    if name in SAID:
        return SAID[name]
    heldout, name = name.startswith("heldout_"), name.removeprefix("heldout_")
    words = (
        f"{name.removesuffix('_right')}, share of right answers"
        if name.endswith("_right")
        else name
    )
    return f"{words}, on held-out samples" if heldout else words


def _asked(
    runs: Sequence[TrainingRun], task: str
) -> Iterator[tuple[TrainingRun, Mapping[str, Any]]]:
    for run in runs:
        found = run.evaluation.get(task)
        if isinstance(found, Mapping):
            yield run, found


def recall_rows(found: Mapping[str, Any]) -> dict[str, float]:
    """Recalls as fractions, by the words of a table."""
    return {
        f"{said_} R@{cut}": found[way][f"r{cut}"] / 100
        for way, said_ in WAYS
        if way in found
        for cut in (1, 5, 10)
    }


def retrieval(runs: Sequence[TrainingRun]) -> Iterator[Node]:
    """Recalls of the runs beside chance and the blind baselines of the last one; which images were
    nearly trained on.
    """
    asked = list(_asked(runs, "retrieval"))
    if not asked:
        return
    columns = {run.name: recall_rows(found) for run, found in asked}
    _, last = asked[-1]
    columns["chance"] = recall_rows(last["chance"])
    for name, words in (("shuffled_images", "shuffled images"), ("texts_alone", "texts alone")):
        if name in last.get("blind", {}):
            columns[words] = recall_rows(last["blind"][name])
    yield node("div", retrieval_table(columns), class_="wide")
    yield from (node("p", words, class_="note") for words in map(_candidates, asked))


def _candidates(one: tuple[TrainingRun, Mapping[str, Any]]) -> str:
    run, found = one
    words = (
        f"{run.name}: {count(found['candidates'])} images and {count(found['captions'])} captions"
        f" of {found.get('asked', 'a file')}"
    )
    words += f", {count(found['pairs_judged'])} pairs judged" if found.get("pairs_judged") else ""
    words += (
        f" (the best {found['shortlist']} of each)"
        if found.get("shortlist") and found.get("pairs_judged")
        else ""
    )
    words += f", {count(found['unreadable'])} images unreadable" if found.get("unreadable") else ""
    near = found.get("near_duplicates")
    if isinstance(near, Mapping) and "images" in near:
        words += (
            f". Near duplicates in the training release: {count(near['images'])} images"
            f" ({near['share']} %)"
        )
    return words + "."


def matching(runs: Sequence[TrainingRun]) -> Iterator[Node]:
    """Areas under the curve and accuracy, against random and against the hardest captions."""
    rows = []
    for run, found in _asked(runs, "matching"):
        for kind in ("random", "hardest"):
            if kind in found:
                one = found[kind]
                blind = [one["blind"][name]["auc"] for name in ("shuffled_images", "texts_alone")]
                accuracy = NOTHING if one["accuracy"] is None else f"{one['accuracy']:.1f}"
                rows.append(
                    [
                        run.name,
                        f"{kind} captions",
                        f"{one['auc']:.3f}",
                        *(f"{value:.3f}" for value in blind),
                        accuracy,
                    ]
                )
    if rows:
        heads = ("run", "told from", "AUC", "shuffled images", "texts alone", "accuracy (%)")
        yield plain_table(heads, rows, frozenset({2, 3, 4, 5}))


def captions(runs: Sequence[TrainingRun]) -> Iterator[Node]:
    """Scores of what the runs write, and some of it."""
    scores = [
        [
            run.name,
            *(
                NOTHING if found.get(name) is None else f"{found[name]:.1f}"
                for name in ("cider", "bleu4", "rouge_l")
            ),
            _blind(found),
        ]
        for run, found in _asked(runs, "captioning")
    ]
    if scores:
        yield plain_table(
            ("run", "CIDEr-D", "BLEU-4", "ROUGE-L", "CIDEr-D, shuffled images"),
            scores,
            frozenset({1, 2, 3, 4}),
        )
    for run, found in _asked(runs, "captioning"):
        cards = [_caption(one) for one in found.get("examples", []) if isinstance(one, Mapping)]
        if cards:
            yield node("h3", run.name)
            yield node("div", *cards, class_="cards")


ANSWERS = {"vqa": "questions about images", "nlvr2": "sentences about two images"}


def answers(runs: Sequence[TrainingRun]) -> Iterator[Node]:
    """How many answers are right, beside those that come without the right image, or with none."""
    rows = []
    for task, words in ANSWERS.items():
        for run, found in _asked(runs, task):
            blind = [
                found["blind"][name]["accuracy"] for name in ("shuffled_images", "texts_alone")
            ]
            shares = [f"{value:.1f}" for value in (found["accuracy"], *blind)]
            rows.append(
                [run.name, words, count(found.get("questions", found.get("pairs", 0))), *shares]
            )
    if rows:
        heads = ("run", "asked", "how many", "accuracy (%)", "shuffled images", "texts alone")
        yield plain_table(heads, rows, frozenset({2, 3, 4, 5}))


def _blind(found: Mapping[str, Any]) -> str:
    value = found.get("blind", {}).get("shuffled_images", {}).get("cider")
    return NOTHING if value is None else f"{value:.1f}"


def _caption(one: Mapping[str, Any]) -> Node:
    lines = node("figcaption", node("p", shorten(str(one.get("caption", "")), 240), class_="text"))
    references = [str(text) for text in one.get("references", [])][:1]
    lines.append(
        node("p", *(f"people: {shorten(text, 160)}" for text in references), class_="note")
    )
    return node("figure", node("div", thumbnail(one), class_="frame"), lines)


def thumbnail(one: Mapping[str, Any]) -> Node:
    """A picture that an evaluation kept: a data URI that it drew itself."""
    source = str(one.get("image", ""))
    if not source.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")):
        return node("div", "no picture", class_="absent")
    return node("img", src=source, alt="")


def pictures(runs: Sequence[TrainingRun]) -> Iterator[Node]:
    """Word-patch alignment and attention of some pairs."""
    for run, found in _asked(runs, "pictures"):
        yield node("h3", run.name)
        yield from look_figures(found)


def data_table(runs: Sequence[TrainingRun]) -> Node:
    """Which releases each stage read, by name and digest, and how many samples of each."""
    rows = [
        [
            run.name,
            one["stage"],
            one["release"],
            one["digest"][:12],
            f"{100 * one['share']:.1f} %",
            count(one["samples"]),
        ]
        for run in runs
        for one in run.data
    ]
    return plain_table(
        ("run", "stage", "release", "digest", "share", "samples seen"), rows, frozenset({4, 5})
    )
