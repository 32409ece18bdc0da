"""Commands on models: train, evaluate, match, and the weak scorer that curation uses."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from filters.given_models import Given
from flows.cli.options import (
    ALONE,
    Collections,
    Json,
    Models,
    Root,
    Work,
    folder_of,
    print_json,
    print_row,
    progress_lines,
)
from pipelines.terminal import say
from training.recipes import Size

# Each is a module of training/evaluate whose `evaluate(model, captions, tell=…)` gives plain
# numbers
Task = Literal["retrieval", "matching", "captioning", "classification", "vqa", "nlvr2", "pictures"]


def train(
    recipe: Annotated[
        str,
        Parameter(
            help=(
                "A training recipe: its name, a TOML file that begins with one, a .py file with"
                " `plan`, or a model to go on with."
            )
        ),
    ],
    *,
    root: Root = "data",
    release: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            help="NAME or a .jsonl file of lines; DATA=NAME where the recipe reads several.",
        ),
    ],
    out: Annotated[Path, Parameter(help="Folder of the run.")],
    size: Annotated[
        Size | None,
        Parameter(
            help="tiny: minutes on two cores; small: a day on a GPU of 24 GB; base: the paper."
        ),
    ] = None,
    init: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            negative="",
            help="MODULE=NAME_OR_PATH: the weights that a tower (image, text, …) begins with.",
        ),
    ] = (),
    set: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            negative="",
            help="KEY=VALUE: whatever stands in the plan, such as stages.0.batch=512.",
        ),
    ] = (),
    cache: Annotated[
        Path | None,
        Parameter(help="Where features of frozen towers are kept, for all runs that read them."),
    ] = None,
    seed: Annotated[
        int | None,
        Parameter(help="Seed of weights, order and masks; 0 unless a file says otherwise."),
    ] = None,
    smoke: Annotated[
        bool, Parameter(negative="", help="The recipe shrunk to seconds, to see that all runs.")
    ] = False,
    amend: Annotated[
        bool,
        Parameter(
            negative="",
            help=(
                "Go on with the run in --out although rates, schedules or weights of losses are"
                " others now."
            ),
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        Parameter(
            negative="", help="Train nothing: say memory and hours here, from a few timed steps."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Pretrain a recipe's stages on releases, or a model further on captions of one's own; resumes
    exactly where it stopped.

    Example: winnow train vilt --size small --release web-1 --out data/models/vilt
    """
    from training.recipes import check

    check(recipe)  # a typo must not wait for torch
    from flows.progress import Lines
    from flows.training import fit, match_releases, pairs_of, speaks
    from training.recipes import load

    plan = load(
        recipe, size=size, init=pairs_of(init, "--init"), changes=set, smoke=smoke, seed=seed
    )
    lines = Lines()
    if dry_run:
        from flows.training import cost, cost_table

        lines.say("timing a few steps of each stage; nothing of them is kept")
        found = cost(folder_of(root), plan, match_releases(plan, release))
        print_json(found) if json else say(cost_table(found))
        return
    result = fit(
        folder_of(root),
        plan,
        match_releases(plan, release),
        out,
        lines,
        cache=cache,
        amend=amend,
        say=lines.say,
    )
    if not speaks():
        return
    if json:
        print_json({"model": str(result.model), "steps": result.steps, **result.numbers})
    else:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in result.numbers.items())
        say(f"model {result.model} after {result.steps:,} steps: {numbers}")
        say(f"next: winnow evaluate {result.model} --captions captions.jsonl")


def evaluate(
    model: Annotated[Path, Parameter(help="Exported model folder.")],
    *,
    root: Root = "data",
    captions: Annotated[
        Path | None,
        Parameter(
            help=(
                'Lines of {"image": path beside the file, "captions": [text, …]}; for'
                ' classification of {"image", "label"}, or a folder; '
                'for vqa of {"image", "question", "answers"}; for nlvr2 of {"images", "sentence",'
                ' "label"}.'
            )
        ),
    ] = None,
    release: Annotated[
        str | None, Parameter(help="A release of the root, instead of --captions.")
    ] = None,
    split: Annotated[
        Literal["heldout", "train", "all"], Parameter(help="Which of its samples.")
    ] = "heldout",
    task: Annotated[Task, Parameter(help="What the model is asked.")] = "retrieval",
    template: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            negative="",
            help="For classification: sentences with {} for the class; vectors are averaged.",
        ),
    ] = (),
    json: Json = False,
) -> None:
    """What a model can do on held-out captions: retrieval recall both ways, or another task; beside
    chance and what the blind reach.

    Example: winnow evaluate runs/vilt/model --captions captions.jsonl
    """
    from flows.evaluation_data import evaluate as run
    from flows.progress import Lines, score_table

    found = run(
        folder_of(root),
        model,
        task,
        captions=captions,
        release=release,
        split=split,
        templates=template,
        tell=Lines().tell,
    )
    found.pop("examples", None)  # they are for the report
    if json:
        print_json(found)
    elif task == "pictures":
        say(
            f"looked at {len(found['pairs'])} pairs; next: winnow report --run {model.parent} --out"
            " report.html"
        )
    else:
        say(score_table(found))


def convert(
    source: Annotated[
        str,
        Parameter(
            help=(
                "Folder of a trained model; or of a ViLT, CLIP, open_clip or BLIP, or its name on"
                " the hub."
            )
        ),
    ],
    *,
    out: Annotated[Path, Parameter(help="Folder to write.")],
    to: Annotated[
        Literal["winnow", "clip", "open_clip", "vilt", "blip"],
        Parameter(
            help=(
                "winnow: theirs as a trained model of ours; else ours as transformers (clip, vilt,"
                " blip) or open_clip read it."
            )
        ),
    ] = "winnow",
    tokenizer: Annotated[
        str, Parameter(help="Folder or name of a tokenizer, where the source has none.")
    ] = "",
) -> None:
    """Take in a model of transformers or open_clip, or give one of ours to them; no logit changes.

    Example: winnow convert runs/vilt/model --to vilt --out vilt-for-transformers
    """
    from training.convert import export_to, import_model

    if to == "winnow":
        say(str(import_model(source, out, tokenizer=tokenizer)))
        say(f"next: winnow evaluate {out} --captions captions.jsonl")
        return
    unsaid = export_to(Path(source), out, to)
    if unsaid:
        say(
            "left to their own initial values, because the model has none of it:"
            f" {', '.join(unsaid)}"
        )
    say(
        f"{out} is read by"
        f" {'open_clip (local-dir:)' if to == 'open_clip' else 'transformers (from_pretrained)'}"
    )


def match(
    model: Annotated[Path, Parameter(help="Exported model folder.")],
    *,
    captions: Annotated[
        Path, Parameter(help='Lines of {"image": path beside the file, "captions": [text, …]}.')
    ],
    json: Json = False,
) -> None:
    """Score each given pair: the probability that text and image belong together; none where the
    image cannot be decoded.

    Example: winnow match runs/vilt/model --captions captions.jsonl
    """
    from captioning.matcher import match as run

    rows = run(model, captions)
    if json:
        print_json(list(rows))
        return
    for row in rows:
        score = row["error"] if row["score"] is None else f"{row['score']:.4f}"
        print_row(score, row["image"], row["caption"])


def caption(
    *,
    images: Annotated[Path, Parameter(help='Lines of {"image": path beside the file}.')],
    captioner: Annotated[Path, Parameter(help="Exported folder of a model that writes captions.")],
    how: Annotated[
        Literal["greedy", "beam", "nucleus"],
        Parameter(help="How words are chosen (CapFilt: nucleus)."),
    ] = "greedy",
    longest: Annotated[int, Parameter(help="Pieces of a caption at most.")] = 20,
    prompt: Annotated[
        str, Parameter(help="Words that every caption goes on from, and that are left out.")
    ] = "",
    seed: Annotated[int, Parameter(help="Of what is drawn from the nucleus.")] = 0,
    json: Json = False,
) -> None:
    """Write a caption for each image; one that cannot be decoded has none, and says why.

    Example: winnow caption --images images.jsonl --captioner runs/blip/model --json
    """
    from captioning.captioner import caption as run
    from training.generate import Decoding

    found = []
    for one in run(
        captioner, images, decoding=Decoding(how=how, longest=longest), prompt=prompt, seed=seed
    ):
        if json:
            found.append(one.to_json())
        else:
            print_row(one.image, " ".join(one.captions) or one.error)
    if json:
        print_json(found)


def scorer(
    *,
    root: Root = "data",
    collection: Collections,
    labels: Annotated[
        Path,
        Parameter(
            help=(
                "JSONL or Parquet: label (true, false) with candidate_id, or with image_id and"
                " text; pairs alone will do."
            )
        ),
    ],
    out: Annotated[Path, Parameter(help="The scorer, for --scorer.")] = Path("scorer.json"),
    seed: Annotated[
        int, Parameter(help="Of the parts, and of the non-pairs that are made where none is given.")
    ] = 0,
    models: Models = None,
    work: Work = ALONE,
    json: Json = False,
) -> None:
    """Train LAIT's weak image-text scorer on labelled pairs; its quality on those kept apart stands
    in the file.

    Example: winnow scorer --collection web --labels labels.jsonl --out scorer.json
    """
    from flows.report.reliability import reliability_page
    from pipelines.scoring import score

    found = score(
        folder_of(root),
        collection,
        labels,
        given=models or Given(),
        seed=seed,
        engine=work.engine(),
        progress=progress_lines(),
    )
    found.write(out)
    diagram = reliability_page(out.with_suffix(".html"), found.training["held_out"])
    if json:
        print_json({"scorer": str(out), "diagram": str(diagram), **found.training})
    else:
        held, pairs = found.training["held_out"], found.training["pairs"]["held_out"]
        figures = f"area under the ROC curve {held['auc']}, Brier score {held['brier']}"
        say(f"scorer {out}: on {sum(pairs.values()):,} pairs kept apart {figures}")
        say(f"reliability {diagram}")
        say(
            f"next: winnow funnel --root {root} --recipe lait --scorer {out} --collection"
            f" {' '.join(collection)}"
        )
