"""A candidate's whole story: where it was found, what became of its image, what was measured, and
what each recipe made of it.
"""

import re
from typing import Any

import pyarrow as pa

from filters.recipe.recipe import GroupRule, Recipe, RowRule, decide_row
from filters.registry import MEASUREMENTS
from flows.dashboard.decision_store import Decided, ask, decisions
from flows.dashboard.views import View, asked
from pipelines.collect.collection import collections, stage_manifest
from pipelines.engine.stage import MANIFEST
from pipelines.schema import FETCHED, KEPT
from pipelines.store import Folder
from pipelines.tables import read_table

MOST = 20  # candidates that one address brings up


def story_view(root: Folder, query: str) -> View:
    """The candidates with an id, an image_id, or the address of a page or an image (at most
    `MOST`); the story, if it is one.
    """
    found = [one for name in collections(root) for one in _candidates(root, name, query.strip())][
        :MOST
    ]
    brief = [
        {
            name: row[name]
            for name in (
                "candidate_id",
                "collection",
                "text",
                "text_source",
                "page_url",
                "image_url",
            )
        }
        for row in found
    ]
    story = _story(root, found[0], decisions(root)) if len(found) == 1 else None
    return {"view": "story", "query": query, "candidates": brief, "story": story}


def _candidates(root: Folder, collection: str, query: str) -> list[View]:
    """The rows of a collection that answer to the query, with the name of the part that each is
    in.
    """
    folder = root / "collections" / collection
    names = stage_manifest(folder, "candidates").names(".parquet", "part-")
    values: list[Any]
    test, values = "(page_url = ? or image_url = ?)", [query, query]
    if re.fullmatch(r"[0-9a-f]{64}", query):
        urls = [row["image_url"] for row in _fetches(folder, "image_id = ?", query)]
        test, values = "image_url in (select unnest(?))", [urls]
    elif re.fullmatch(r"[0-9a-f]{32}", query):
        test, values = "candidate_id = ?", [query]
    found = ask(
        folder / "candidates",
        names,
        f"select * from parts where {test} order by candidate_id limit {MOST}",
        values,
    )
    parts = [row.pop("filename").rsplit("/", 1)[-1] for row in found]
    return [
        {**row, "collection": collection, "part": part}
        for row, part in zip(found, parts, strict=True)
    ]


def _fetches(collection: Folder, test: str, value: Any) -> list[View]:
    names = stage_manifest(collection, "fetches").names(".parquet", "part-")
    return ask(
        collection / "fetches",
        names,
        f"select * exclude filename from parts where {test} limit {MOST}",
        [value],
    )


def _story(root: Folder, row: View, there: list[Decided]) -> View:
    collection = root / "collections" / row["collection"]
    fetch = next(iter(_fetches(collection, "image_url = ?", row["image_url"])), None)
    decided = [found for one in there if (found := _under(one, row)) is not None]
    held: View = next((found["row"] for found in decided if found["row"].get("image_part")), {})
    measured = _measured(collection, row["part"], "candidate_id", row["candidate_id"])
    if fetch and fetch["image_id"]:
        home = collection.beside(
            held.get("image_collection") or fetch["held_in"] or row["collection"]
        )
        measured |= _measured(
            home,
            str(held.get("image_part", "")).replace(".arrow", ".parquet"),
            "image_id",
            fetch["image_id"],
        )
    for found in decided:
        measured |= {
            name: found["row"][name]
            for name in found["row"]
            if name in MEASUREMENTS and found["row"][name] is not None
        }
    return {
        "candidate": {name: value for name, value in row.items() if name != "part"},
        "permission": row["permission"],
        "fetch": fetch,
        "image": (
            {name: held.get(name) for name in ("image_collection", "image_part", "image_row")}
            if held
            else None
        ),
        "measurements": {name: _short(value) for name, value in sorted(measured.items())},
        "decisions": [
            {name: value for name, value in found.items() if name != "row"} for found in decided
        ],
    }


def _measured(collection: Folder, part: str, key: str, id: str) -> View:
    """What the measurements of a collection say of an id, from the part in which it is."""
    found: View = {}
    measurements = collection / "measurements"
    for name in measurements.names():
        folder = measurements / name
        if part and folder.exists(MANIFEST) and folder.exists(part):
            table = read_table(folder, part)
            if key in table.column_names:
                row = table.filter(pa.compute.equal(table[key], id)).slice(0, 1).to_pylist()
                found |= {
                    column: value
                    for column, value in (row[0] if row else {}).items()
                    if column in MEASUREMENTS
                }
    return found


def _short(value: Any) -> Any:
    """A value as it can be shown: of an embedding its length."""
    if isinstance(value, list) and len(value) > 32:
        return f"{len(value)} numbers"
    return value.hex() if isinstance(value, bytes) else value


def _under(decided: Decided, row: View) -> View | None:
    """What a decision made of a candidate, rule by rule; None if it was not about it."""
    if row["collection"] not in decided.collections:
        return None
    names = _part_of(decided, row["collection"], row["part"])
    rows = ask(
        decided.folder,
        names,
        "select * exclude filename from parts where candidate_id = ?",
        [row["candidate_id"]],
    )
    if not rows:
        return None
    return {
        "decision": decided.id,
        "recipe": decided.recipe.name,
        "outcome": rows[0]["outcome"],
        "rules": verdicts(decided.recipe, rows[0]),
        "row": rows[0],
    }


def _part_of(decided: Decided, collection: str, part: str) -> list[str]:
    """The part of outcomes that holds a part of candidates: those of all collections one after
    another.
    """
    root, before = decided.root / "collections", 0
    for name in decided.collections:
        # it was removed, and nobody knows how many parts it had
        if not (root / name).exists(MANIFEST):
            return [name for name in decided.folder.names() if name.startswith("part-")]
        parts = stage_manifest(root / name, "candidates").names(".parquet", "part-")
        if name == collection:
            place = f"part-{before + parts.index(part):05d}.parquet"
            return [place] if decided.folder.exists(place) else []
        before += len(parts)
    return []


def verdicts(recipe: Recipe, row: View) -> list[View]:
    """Each step in the order of outcomes with what it asked, the value that it saw, and its
    verdict.

    A step after the one that stopped the candidate was not reached; `would` says whether its value
    would have passed.
    """
    outcome, stopped = row["outcome"], False
    found = []
    for step in ("permission", *recipe.candidate_rules, "address and fetch", *recipe.other_rules):
        value, would = _seen(step, row)
        stops = _stops(step, outcome) and would is not True and not stopped
        verdict = "not reached" if stopped else "stopped" if stops else "passed"
        stopped = stopped or stops
        rule = None if isinstance(step, str) else step
        names = {
            "step": rule.reason if rule else step,
            "asked": asked(rule) if rule else "",
            "source": rule.source if rule else "",
        }
        found.append({**names, "value": value, "verdict": verdict, "would": would})
    assert stopped or outcome == KEPT, f"no step of recipe {recipe.name} gives {outcome}"
    return found


def _stops(step: RowRule | GroupRule | str, outcome: str) -> bool:
    if isinstance(step, str):
        starts = ("permission.",) if step == "permission" else ("address.", "fetch.", "decode.")
        return outcome.startswith(starts)
    return outcome == step.reason or (isinstance(step, RowRule) and outcome == step.unmeasured)


def _seen(step: RowRule | GroupRule | str, row: View) -> tuple[Any, bool | None]:
    """The value that a step looks at, and whether it would let it pass; None where that cannot be
    said of a candidate alone.
    """
    if isinstance(step, str):
        fetched = row.get("fetch_outcome") in (None, FETCHED)
        return (row.get("permission") if step == "permission" else row.get("fetch_outcome")), (
            fetched if step != "permission" else None
        )
    if isinstance(step, GroupRule):
        return {name: _short(row.get(name)) for name in step.order} or None, None
    value = row.get(step.measure)
    column = pa.table({step.measure: pa.array([value], MEASUREMENTS.get(step.measure))})
    return _short(value), decide_row(step, column)[0].as_py() is None
