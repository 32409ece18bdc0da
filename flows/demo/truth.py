"""How well a curation of the demo's site kept what is sound: for the evaluation alone, nothing that
decides may read the truth.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

Key = tuple[str, str, str]

SOUND = "none"  # the name under which references without a fault are counted
UNLISTED = "unlisted"  # what was kept although no page holds it: it counts as wrong


def score(truth_path: Path, outcomes: pa.Table, base_url: str) -> dict[str, Any]:
    """Precision and recall, from 0 to 1, of keeping the sound references of the pages.

    `outcomes` has the columns page_url, image_url, text, outcome; rows without a page (imported
    pairs) are left out, and a reference that is missing counts as not kept. `precision` leaves out
    swapped texts, which no rule can see; `precision_all` counts them as wrong. `by_fault` has for
    each fault how many `references` there are and how many of them were `kept`. Where nothing was
    kept the precision is 0, so that a floor under it fails.
    """
    truth = _read_truth(truth_path)
    kept = _kept(outcomes, base_url.rstrip("/"))
    references = Counter(truth.values())
    kept_by_fault = Counter(truth.get(key, UNLISTED) for key in kept)
    good, swapped = kept_by_fault[SOUND], kept_by_fault["swapped"]
    by_fault = {
        fault: {"references": references[fault], "kept": kept_by_fault[fault]}
        for fault in sorted(references.keys() | kept_by_fault.keys())
    }
    return {
        "precision": _ratio(good, len(kept) - swapped),
        "recall": _ratio(good, references[SOUND]),
        "precision_all": _ratio(good, len(kept)),
        "by_fault": by_fault,
    }


def _read_truth(path: Path) -> dict[Key, str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(row["page"], row["image"], row["text"]): row["fault"] or SOUND for row in rows}


def _kept(outcomes: pa.Table, base_url: str) -> set[Key]:
    """What was kept, in the truth's terms: paths without the server, images without a query, texts
    with single spaces.
    """
    rows = outcomes.select(["page_url", "image_url", "text", "outcome"]).to_pylist()
    return {
        (
            row["page_url"].removeprefix(base_url),
            row["image_url"].removeprefix(base_url).partition("?")[0],
            " ".join(row["text"].split()),
        )
        for row in rows
        if row["outcome"] == "kept" and row["page_url"]
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
