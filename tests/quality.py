"""How well a recipe keeps and drops on a site with known faults: a table of faults and outcomes,
and a harder site than the shared one.

    python -m tests.quality site OUT --limit 2000      # make_site.py's, with texts, graphics and
    sizes of our own python -m tests.quality table OUT/truth.jsonl ROOT COLLECTION
"""

import argparse
import io
import json
import random
import runpy
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from filters.image.graphics import graphic
from flows.decision_report import decided
from pipelines.decide.decision import decide
from pipelines.store import Folder

SHARED = Path(__file__).parents[2] / "shared"
PHOTOS = SHARED / "data/captions/flickr8k-train/captions.jsonl"
WORDING = Path(__file__).parent / "filters/wording"
ODD = 0.1  # of the captions

# the reasons that name each fault
NAMED = {
    "filename": {"text.filename"},
    "boilerplate": {"text.boilerplate"},
    "foreign": {"text.language"},
    "too_small": {"image.too_small"},
    "graphic": {"image.graphic"},
    "shared_text": {"group.shared_text"},
    "empty": {"text.empty"},
    "broken_image": {"decode.truncated", "decode.corrupt", "decode.not_an_image"},
    # the worse text may say nothing at all
    "duplicate_worse_text": {"group.duplicate", "text.boilerplate"},
}
Row = dict[str, Any]


def references(truth: Path, root: Folder, collection: str, recipe: str = "winnow") -> list[Row]:
    """Each reference of a site's truth with its outcome, None where no candidate was found for
    it.
    """
    rows = (
        decided(decide(root, recipe, [collection]))
        .select(["page_url", "image_url", "text", "outcome"])
        .to_pylist()
    )
    outcomes = {
        (urlsplit(row["page_url"]).path, urlsplit(row["image_url"]).path, row["text"]): row[
            "outcome"
        ]
        for row in rows
    }
    lines = [json.loads(line) for line in truth.read_text(encoding="utf-8").splitlines()]
    return [
        {**row, "outcome": outcomes.get((row["page"], row["image"], " ".join(row["text"].split())))}
        for row in lines
    ]


def by_fault(rows: Iterable[Row]) -> dict[str, Counter[str]]:
    """How the references of each fault ended; `faithful` for those to keep."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found["faithful" if row["keep"] else row["fault"] or "graphic"][str(row["outcome"])] += 1
    return found


def table(rows: Sequence[Row]) -> str:
    """A line for each fault, in Markdown; below it precision and recall of keeping, with and
    without wrong captions.
    """
    lines = [
        "| fault | references | dropped | for the reason that names it | otherwise |",
        "|---|---|---|---|---|",
    ]
    for fault, outcomes in sorted(by_fault(rows).items()):
        total, dropped = outcomes.total(), outcomes.total() - outcomes["kept"]
        reasons = NAMED.get(fault, set())
        named = sum(outcomes[reason] for reason in reasons)
        others = ", ".join(
            f"{name} {count}" for name, count in outcomes.most_common() if name not in reasons
        )
        lines.append(
            f"| {fault} | {total} | {dropped / total:.1%} |"
            f" {f'{named / total:.1%}' if reasons else ''} | {others} |"
        )
    kept = [row for row in rows if row["outcome"] == "kept"]
    right = sum(row["keep"] for row in kept)
    seen = sum(row["keep"] or row["fault"] != "mismatched" for row in kept)
    recall = right / sum(row["keep"] for row in rows)
    precision = (
        f"precision {right / len(kept):.3f} ({right / seen:.3f} without mismatched captions)"
    )
    return "\n".join([*lines, "", f"{precision}, recall {recall:.3f}"])


def harder_site(out: Path, limit: int, seed: int) -> None:
    """The shared generator with other wordings, graphics and sizes of photographs, and odd texts
    for a tenth of the captions.
    """
    maker = runpy.run_path(str(SHARED / "tools/make_site.py"))
    rng = random.Random(seed)
    settings = maker["main"].__globals__
    settings["FILENAMES"] = [
        name.replace("{", "{{").replace("}", "}}") for name in _wording("filenames")
    ]
    settings["BOILERPLATE"] = _wording("boilerplate")
    settings["FOREIGN"] = [line.split("\t")[1] for line in _wording("foreign")]
    settings["graphic"] = lambda _: Image.open(io.BytesIO(graphic(rng)))
    captions = _captions(out, limit, rng)
    sys.argv = [
        "make_site",
        "--pairs",
        str(captions),
        "--out",
        str(out),
        "--limit",
        str(limit),
        "--seed",
        str(seed),
    ]
    maker["main"]()


def _captions(out: Path, limit: int, rng: random.Random) -> Path:
    """Photographs of other sizes with their captions, a tenth of them odd (each text for two
    photographs at most).
    """
    rows = [json.loads(line) for line in PHOTOS.read_text(encoding="utf-8").splitlines()]
    odd = 2 * _wording("odd")
    rng.shuffle(odd)
    (out / "photos").mkdir(parents=True)
    lines = []
    for number, row in enumerate(rng.sample(rows, limit)):
        side = rng.choice((170, 224, 224, 300, 448, 640))
        with Image.open(PHOTOS.parent / row["image"]) as picture:
            picture.resize((side, int(side * rng.uniform(0.95, 1.3)))).save(
                out / f"photos/{number}.jpg", quality=rng.choice((60, 80, 90))
            )
        captions = [odd.pop()] if odd and rng.random() < ODD else row["captions"]
        lines.append(json.dumps({"image": f"photos/{number}.jpg", "captions": captions}) + "\n")
    (out / "captions.jsonl").write_text("".join(lines), encoding="utf-8")
    return out / "captions.jsonl"


def _wording(name: str) -> list[str]:
    return [
        line for line in (WORDING / f"{name}.txt").read_text(encoding="utf-8").splitlines() if line
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, dest="command")
    made = commands.add_parser("site")
    made.add_argument("out", type=Path)
    made.add_argument("--limit", type=int, default=2000)
    made.add_argument("--seed", type=int, default=0)
    shown = commands.add_parser("table")
    shown.add_argument("truth", type=Path)
    shown.add_argument("root")
    shown.add_argument("collection")
    shown.add_argument("--recipe", default="winnow")
    given = parser.parse_args()
    if given.command == "site":
        harder_site(given.out, given.limit, given.seed)
    else:
        print(table(references(given.truth, Folder(given.root), given.collection, given.recipe)))


if __name__ == "__main__":
    main()
