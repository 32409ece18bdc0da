"""Decisions over several parts and collections against an oracle in plain Python; conservation,
reuse, releases, poison.
"""

import hashlib
import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines import measure as measuring
from pipelines.collect.join_fetches import DistinctUrls, PartitionByHost
from pipelines.curate import curate
from pipelines.decide.decision import decide
from pipelines.engine.runner import run_stage
from pipelines.engine.stage import Output, Part, Stage
from pipelines.releases.publish import CurateConfig
from pipelines.schema import CANDIDATES, FETCHES, IMAGES, identify
from pipelines.store import Folder, digest
from pipelines.tables import read_table, write_arrow, write_parquet

RECIPE = """
name = "small"
description = "Two row rules and two group rules."
[[rule]]
measure = "text.words"
op = ">="
value = 2
reason = "text.too_short"
source = "test"
[[rule]]
measure = "image.short_side"
op = ">="
value = 20
reason = "image.too_small"
source = "test"
[[rule]]
group = "at_most"
key = "text"
count = 2
reason = "group.shared_text"
source = "test"
[[rule]]
group = "one_per"
key = "image_id"
order = ["text.characters"]
reason = "group.duplicate"
source = "test"
"""
TEXTS = ("", "dog", "a dog", "a  Dog", "two cats", "three green birds", "a red boat at sea")
SIDES = (10, 30, 40, 50)  # a picture of each; the last address is never fetched


def png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
    ).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {
    f"http://h{number}.example/{number}.png": png(side) for number, side in enumerate(SIDES)
}
URLS = (
    *PICTURES,
    "http://h9.example/copy-of-1.png",
    "http://h9.example/gone.png",
    "data:image/gif;base64,R0",
)
Row = tuple[int, int, bool]  # text, address, refused by its page


@dataclass(frozen=True, kw_only=True)
class Found(Stage):
    """Candidates as a test lists them, a part for each list."""

    name: ClassVar[str] = "found"
    version: ClassVar[int] = 1
    rows: tuple[tuple[Row, ...], ...]

    def inputs(self) -> dict[str, str]:
        return {"rows": digest(self.rows)}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"part-{number:05d}", inputs=(str(number),))
            for number in range(len(self.rows))
        ]

    def process(self, part: Part) -> Output:
        number = int(part.inputs[0])
        empty = dict.fromkeys(CANDIDATES.names)
        rows = [
            {
                **empty,
                "candidate_id": identify(self.out.url, number, place),
                "page_url": f"http://p.example/{number}",
                "image_url": URLS[url],
                "text": TEXTS[text],
                "text_source": "alt",
                "permission": "permission.noai" if refused else None,
            }
            for place, (text, url, refused) in enumerate(self.rows[number])
        ]
        table = pa.Table.from_pylist(rows, schema=CANDIDATES)
        return Output(
            files=(write_parquet(self.out, f"{part.name}.parquet", table),),
            counts={"candidates": len(rows)},
        )


@dataclass(frozen=True, kw_only=True)
class Fetched(Stage):
    """Fetches as they would have ended, a part for each bucket of hosts."""

    name: ClassVar[str] = "fetched"
    version: ClassVar[int] = 1
    urls: DistinctUrls

    def inputs(self) -> dict[str, str]:
        return {"urls": self.urls.identity()}

    def parts(self) -> list[Part]:
        return [
            Part(name=f"part-{part.inputs[0].zfill(5)}-00000", inputs=(f"{part.name}.parquet",))
            for part in self.urls.parts()
        ]

    def process(self, part: Part) -> Output:
        fetches: list[dict[str, Any]] = []
        images: dict[str, dict[str, Any]] = {}
        for url in read_table(self.urls.out, part.inputs[0])["image_url"].to_pylist():
            data = PICTURES.get(url.replace("h9.example/copy-of-1", "h1.example/1"))
            identity = hashlib.sha256(data).hexdigest() if data else None
            outcome = "fetched" if data else "fetch.http_404"
            fetches.append(
                {
                    **dict.fromkeys(FETCHES.names),
                    "image_url": url,
                    "image_id": identity,
                    "outcome": outcome,
                }
            )
            if data and identity:
                side = Image.open(io.BytesIO(data)).width
                sizes = {
                    "width": side,
                    "height": side,
                    "original_width": side,
                    "original_height": side,
                    "original_bytes": len(data),
                }
                images[identity] = {
                    **dict.fromkeys(IMAGES.names),
                    "image_id": identity,
                    "image": data,
                    "image_url": url,
                    **sizes,
                }
        folder = Folder(self.out.url.replace("/fetches", "/images"))
        files = (
            write_arrow(
                folder,
                f"{part.name}.arrow",
                pa.Table.from_pylist(list(images.values()), schema=IMAGES),
            ),
            write_parquet(
                self.out, f"{part.name}.parquet", pa.Table.from_pylist(fetches, schema=FETCHES)
            ),
        )
        return Output(files=files, counts=dict(Counter(row["outcome"] for row in fetches)))


def make(root: Folder, name: str, rows: tuple[tuple[Row, ...], ...]) -> None:
    """A collection that holds these candidates."""
    folder = root / "collections" / name
    stages = [
        Found(out=folder / "candidates", rows=rows),
        PartitionByHost.of(folder),
        DistinctUrls.of(folder),
    ]
    stages.append(Fetched(out=folder / "fetches", urls=DistinctUrls.of(folder)))
    manifests = [run_stage(stage) for stage in stages]
    counts = {"candidates": manifests[0].counts["candidates"]}
    folder.write_json(
        "manifest.json",
        {"digest": digest([one.digest for one in manifests]), "counts": counts, "failed": 0},
    )


def oracle(rows: list[Row]) -> list[str]:
    """The outcome of each row, step by step over all rows at once."""
    outcomes: list[str | None] = ["permission.noai" if refused else None for _, _, refused in rows]
    text = [TEXTS[text] for text, _, _ in rows]
    image = [1 if URLS[url].endswith("copy-of-1.png") else url for _, url, _ in rows]

    def stop(reason: str, place: int, when: bool) -> None:
        outcomes[place] = reason if outcomes[place] is None and when else outcomes[place]

    for place, (_, url, _) in enumerate(rows):
        stop("text.too_short", place, len(text[place].split()) < 2)
        stop(
            "address.scheme" if not URLS[url].startswith("data:") else "address.placeholder",
            place,
            URLS[url].startswith("data:"),
        )
        stop("fetch.http_404", place, URLS[url].endswith("gone.png"))
        stop("image.too_small", place, image[place] == 0)
    images = defaultdict(set)
    for place, left in enumerate(outcomes):
        if left is None:
            images[" ".join(text[place].lower().split())].add(image[place])
    for place in range(len(rows)):
        stop("group.shared_text", place, len(images[" ".join(text[place].lower().split())]) > 2)
    best: dict[int, int] = {}
    for place in sorted(
        (p for p, left in enumerate(outcomes) if left is None),
        key=lambda p: (-len(text[p]), text[p]),
    ):
        stop("group.duplicate", place, best.setdefault(image[place], place) != place)
    return [left or "kept" for left in outcomes]


row = st.tuples(
    st.integers(0, len(TEXTS) - 1),
    st.integers(0, len(URLS) - 1),
    st.sampled_from([False, False, False, True]),
)
parts = st.lists(st.lists(row, min_size=1, max_size=8).map(tuple), min_size=1, max_size=3).map(
    tuple
)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=parts, second=parts)
def test_outcomes_are_those_of_the_oracle(
    tmp_path_factory: pytest.TempPathFactory,
    first: tuple[tuple[Row, ...], ...],
    second: tuple[tuple[Row, ...], ...],
) -> None:
    path = tmp_path_factory.mktemp("root")
    root, recipe = Folder(str(path)), path / "small.toml"
    recipe.write_text(RECIPE)
    make(root, "a", first)
    make(root, "b", second)
    decision = decide(root, str(recipe), ["a", "b"])
    everything = [one for part in (*first, *second) for one in part]
    expected = Counter(oracle(everything))
    assert (
        Counter({name: count for name, count in decision.funnel.outcomes.items() if count})
        == expected
    )
    assert sum(decision.funnel.outcomes.values()) == len(everything)


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    (tmp_path / "small.toml").write_text(RECIPE)
    root = Folder(str(tmp_path))
    make(
        root,
        "a",
        (((2, 1, False), (5, 2, False)), ((6, 3, False), (1, 2, False), (4, 4, False))),
    )
    return root


def small(root: Folder) -> str:
    return root.path("small.toml")


def test_a_release_holds_what_was_kept_and_is_not_written_twice(root: Folder) -> None:
    config = CurateConfig(recipe=small(root), collections=("a",), release="one", shard_samples=2)
    made = curate(root, config)
    assert dict(made.funnel.outcomes) == {"text.too_short": 1, "group.duplicate": 1, "kept": 3}
    tables = [
        read_table(made.folder, name) for name in made.folder.names() if name.endswith(".arrow")
    ]
    captions = sorted(
        caption for table in tables for row in table["caption"].to_pylist() for caption in row
    )
    assert captions == ["a red boat at sea", "three green birds", "two cats"]
    assert made.samples == 3
    assert made.shards == 2
    pictures = {image for table in tables for image in table["image"].to_pylist()}
    assert pictures == {PICTURES[URLS[number]] for number in (1, 2, 3)}
    before = {
        name: (Path(made.folder.path()) / name).stat().st_mtime_ns for name in made.folder.names()
    }
    assert curate(root, config).digest == made.digest
    assert {
        name: (Path(made.folder.path()) / name).stat().st_mtime_ns for name in made.folder.names()
    } == before


def test_a_release_does_not_change(root: Folder) -> None:
    curate(root, CurateConfig(recipe=small(root), collections=("a",), release="one"))
    with pytest.raises(ValueError, match="choose another name"):
        curate(root, CurateConfig(recipe="everything", collections=("a",), release="one"))


def test_a_changed_threshold_measures_and_opens_nothing_again(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(root, small(root), ["a"])
    Path(small(root)).write_text(RECIPE.replace("value = 20", "value = 35"))

    def measured(*_: object) -> Output:
        raise AssertionError("measured again")

    opened = []
    real = Folder.open

    def noted(self: Folder, name: str) -> pa.NativeFile:
        opened.append(self.path(name))
        return real(self, name)

    monkeypatch.setattr(measuring.Measure, "process", measured)
    monkeypatch.setattr(Folder, "open", noted)
    assert decide(root, small(root), ["a"]).funnel.outcomes["image.too_small"] == 2
    assert opened
    assert not [path for path in opened if "/images/" in path]


def test_a_measurement_that_fails_is_an_outcome_and_is_tried_again(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measuring.Measure.process

    def poisoned(stage: measuring.Measure, part: Part) -> Output:
        if stage.filter.level == "image":
            raise ValueError("poison")
        return real(stage, part)

    monkeypatch.setattr(measuring.Measure, "process", poisoned)
    broken = decide(root, small(root), ["a"])
    assert broken.failed == 1
    assert broken.funnel.outcomes == {"text.too_short": 1, "image.short_side.unmeasured": 4}
    monkeypatch.undo()
    whole = decide(root, small(root), ["a"])
    assert whole.failed == 0
    assert whole.funnel.outcomes["kept"] == 3


def test_a_recipe_that_keeps_nothing_says_so(root: Folder) -> None:
    Path(small(root)).write_text(RECIPE.replace("value = 20", "value = 2000"))
    with pytest.raises(ValueError, match="keeps none of 5 candidates"):
        curate(root, CurateConfig(recipe=small(root), collections=("a",), release="none"))


def test_unknown_names_are_named(root: Folder) -> None:
    with pytest.raises(ValueError, match=r"no collection b .*complete: a"):
        decide(root, "everything", ["b"])
    with pytest.raises(ValueError, match="winnow"):
        decide(root, "winow", ["a"])


def test_the_release_digest_depends_on_samples_not_on_shards(root: Folder) -> None:
    one = curate(
        root, CurateConfig(recipe=small(root), collections=("a",), release="one", shard_samples=1)
    )
    two = curate(
        root, CurateConfig(recipe=small(root), collections=("a",), release="two", shard_samples=100)
    )
    assert one.digest == two.digest
    assert json.loads(two.folder.read("funnel.json"))["candidates"] == 5


def test_a_collection_that_is_named_twice_counts_once(root: Folder) -> None:
    once, twice = (decide(root, small(root), names) for names in (["a"], ["a", "a"]))
    assert twice.funnel.candidates == 5
    assert (twice.digest, twice.funnel) == (once.digest, once.funnel)
    made = curate(root, CurateConfig(recipe="everything", collections=("a", "a"), release="one"))
    assert made.funnel.candidates == 5
    assert list(made.folder.read_json("manifest.json")["collections"]) == ["a"]


@pytest.mark.parametrize(
    "name", ["./a", "a/", "../collections/a", "a*", "", ".", "ä", "a\n", "a\0"]
)
def test_another_spelling_is_no_name_of_a_collection(root: Folder, name: str) -> None:
    with pytest.raises(
        ValueError,
        match="is no name of a collection: use letters, digits, dots, dashes and underscores",
    ):
        decide(root, "everything", ["a", name])


def test_a_collection_under_another_name_is_refused(root: Folder) -> None:
    Path(root.path("collections/b")).symlink_to(root.path("collections/a"))
    with pytest.raises(ValueError, match="collection b is a under another name: name one of them"):
        decide(root, "everything", ["a", "b"])


HEAD = 'name = "odd"\ndescription = "Thresholds that no value of the type is."\n'
ROW_RULE = '[[rule]]\nmeasure = "{}"\nop = "{}"\nvalue = {}\nreason = "text.a"\nsource = "test"\n'
ODD = {
    ROW_RULE.format("text.information", "<=", 16777217): {"kept": 5},  # no float32
    ROW_RULE.format("page.declared_area", ">", 2.5): {"page.declared_area.unmeasured": 5},
    ROW_RULE.format("text.urls", ">=", 0.5): {"text.a": 5},
    ROW_RULE.format("page.region", "!=", '"\\u0000"'): {"page.region.unmeasured": 5},
    '[[rule]]\ngroup = "one_per"\nkey = "image_id"\norder = ["text.filename"]\nreason = "group.a"\nsource = "test"\n': {  # noqa: E501
        "kept": 3
    },
    '[[rule]]\ngroup = "top_fraction"\nfraction = 1e-12\norder = ["text.characters"]\nreason = "group.a"\nsource = "test"\n': {  # noqa: E501
        "kept": 2
    },
    '[[rule]]\ngroup = "sample"\nfraction = 0.5\nseed = -9223372036854775807\nreason = "group.a"\nsource = "test"\n': {},  # noqa: E501
    '[[rule]]\ngroup = "best_of"\nkey = "image.cluster"\ncount = 9223372036854775807\norder = ["page.declared_area"]\nreason = "group.a"\nsource = "test"\n': {},  # noqa: E501
}


@pytest.mark.parametrize(("rules", "counts"), ODD.items(), ids=range(len(ODD)))
def test_what_is_accepted_runs_to_the_end(root: Folder, rules: str, counts: dict[str, int]) -> None:
    Path(small(root)).write_text(HEAD + rules)
    found = decide(root, small(root), ["a"]).funnel.outcomes
    assert sum(found.values()) == 5
    assert {name: found.get(name, 0) for name in counts} == counts


def test_without_its_rewriter_a_recipe_runs_and_funnel_and_card_say_so(root: Folder) -> None:
    Path(small(root)).write_text(RECIPE.replace("[[rule]]", 'text = "text.anonymous"\n[[rule]]', 1))
    with pytest.raises(
        ValueError, match=r"text\.anonymous needs .*add --persons, or --without text\.anonymous$"
    ):
        decide(root, small(root), ["a"])
    made = curate(
        root,
        CurateConfig(
            recipe=small(root), collections=("a",), release="one", without=("text.anonymous",)
        ),
    )
    assert made.funnel.to_json()["without"] == ["text.anonymous"]
    assert dict(made.funnel.outcomes) == {"text.too_short": 1, "group.duplicate": 1, "kept": 3}
    card = made.folder.read("README.md").decode()
    assert "applied without `text.anonymous`" in card
    assert "The texts are those that were found, not `text.anonymous`." in card
