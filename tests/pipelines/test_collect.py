"""Collections after collections: what is held is not fetched again, what failed is tried again,
what a recipe drops is not asked for.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from filters.recipe.recipe import load
from pipelines.collect import run as collecting
from pipelines.collect.collection import Collection
from pipelines.collect.run import CollectConfig, collect
from pipelines.curate import curate
from pipelines.decide.decision import decide
from pipelines.permission.takedown_list import TakedownList
from pipelines.releases.publish import CurateConfig
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.web import Page, Reply, Web, jpeg, served

COLORS = ("red", "green", "blue", "black")
PHOTOS = {f"/{color}.jpg": Reply(body=jpeg(200, 150, color), type="image/jpeg") for color in COLORS}


def listed(folder: Path, web: Web, texts: Mapping[str, str], name: str = "list.jsonl") -> str:
    path = folder / name
    path.write_text(
        "\n".join(
            json.dumps({"url": f"{web.url}{place}", "text": text}) for place, text in texts.items()
        )
    )
    return str(path)


@contextmanager
def photos(pages: Mapping[str, Page] = PHOTOS) -> Iterator[Web]:
    with served(pages) as web:
        yield web


def taken(root: Folder, pairs: str, id: str, **options: object) -> Collection:
    return collect(root, CollectConfig(pairs=pairs, allow_private_addresses=True, **options), id=id)  # type: ignore[arg-type]


def fetches(collection: Collection) -> dict[str, tuple[str, str | None]]:
    """Outcome and holder of each address, by its path."""
    folder = collection.folder / "fetches"
    rows = [
        row
        for name in folder.names()
        if name.endswith(".parquet")
        for row in read_table(folder, name).to_pylist()
    ]
    return {
        "/" + row["image_url"].rsplit("/", 1)[1]: (row["outcome"], row["held_in"]) for row in rows
    }


def test_what_an_earlier_collection_holds_is_not_fetched_again(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    with photos() as web:
        taken(
            root,
            listed(tmp_path, web, {"/red.jpg": "a red sign", "/green.jpg": "a green door"}),
            "first",
        )
        again = listed(
            tmp_path,
            web,
            {"/red.jpg": "the red sign again", "/blue.jpg": "a blue boat", "/gone.jpg": "gone"},
            "again.jsonl",
        )
        web.asked.clear()
        second = taken(root, again, "second")
        assert sorted(path for path in web.asked if path.endswith(".jpg")) == [
            "/blue.jpg",
            "/gone.jpg",
        ]
    assert fetches(second) == {
        "/red.jpg": ("fetched", "first"),
        "/blue.jpg": ("fetched", None),
        "/gone.jpg": ("fetch.http_404", None),
    }
    assert second.refers_to == ("first",)
    assert second.counts["held"] == 1
    release = curate(root, CurateConfig(recipe="everything", collections=("second",), release="r"))
    assert release.funnel.outcomes == {"fetch.http_404": 1, "kept": 2}
    shard = read_table(release.folder, "train-00000-of-00001.arrow")
    bodies = {tuple(row["caption"]): row["image"] for row in shard.to_pylist()}
    assert bodies == {
        ("the red sign again",): PHOTOS["/red.jpg"].body,
        ("a blue boat",): PHOTOS["/blue.jpg"].body,
    }


def test_measurements_of_held_images_decide(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    pages = {
        "/small.jpg": Reply(body=jpeg(40, 30), type="image/jpeg"),
        "/large.jpg": PHOTOS["/red.jpg"],
    }
    with photos(pages) as web:
        source = listed(
            tmp_path, web, {"/small.jpg": "a small red sign", "/large.jpg": "a large red sign"}
        )
        taken(root, source, "first")
        taken(root, source, "second", fetch=False)
    recipe = tmp_path / "sides.toml"
    recipe.write_text(
        'name = "sides"\ndescription = "Sides."\n[[rule]]\nmeasure = "image.short_side"\nop ='
        ' ">="\nvalue = 100\nreason = "image.too_small"\nsource = "test"\n'
    )
    assert decide(root, str(recipe), ("second",)).funnel.outcomes == {
        "image.too_small": 1,
        "kept": 1,
    }


def test_what_is_no_longer_fresh_is_fetched_again(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    with photos() as web:
        source = listed(tmp_path, web, {"/red.jpg": "a red sign"})
        taken(root, source, "first")
        web.asked.clear()
        second = taken(root, source, "second", fresh_days=0)
        assert "/red.jpg" in web.asked
    assert fetches(second) == {"/red.jpg": ("fetched", None)}
    assert second.refers_to == ()


def test_failures_are_tried_again_into_a_new_collection(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    with photos(
        {
            "/red.jpg": PHOTOS["/red.jpg"],
            "/sick.jpg": Reply(status=500),
            "/gone.jpg": Reply(status=404),
        }
    ) as web:
        texts = {"/red.jpg": "a red sign", "/sick.jpg": "a green door", "/gone.jpg": "nothing"}
        first = taken(root, listed(tmp_path, web, texts), "first")
        assert Counter(outcome for outcome, _ in fetches(first).values()) == {
            "fetched": 1,
            "fetch.http_5xx": 1,
            "fetch.http_404": 1,
        }
        web.pages["/sick.jpg"] = PHOTOS["/green.jpg"]
        web.asked.clear()
        config = CollectConfig(
            retry=("fetch.timeout,fetch.http_5xx",),
            earlier=("first",),
            allow_private_addresses=True,
        )
        assert config.retry == ("fetch.timeout", "fetch.http_5xx")
        second = collect(root, config, id="second")
        assert [path for path in web.asked if path.endswith(".jpg")] == ["/sick.jpg"]
    assert fetches(second) == {"/sick.jpg": ("fetched", None)}
    both = decide(root, "everything", ("first", "second")).funnel.outcomes
    assert both == {"fetch.http_404": 1, "fetch.http_5xx": 1, "kept": 2}


def test_nothing_to_try_again(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    with photos() as web:
        taken(root, listed(tmp_path, web, {"/red.jpg": "a red sign"}), "first")
        taken(root, listed(tmp_path, web, {"/gone.jpg": "gone"}, "gone.jsonl"), "gone")
    with pytest.raises(
        ValueError,
        match=r"^no image ended so: what there is to try again is nothing, all was fetched$",
    ):
        collect(root, CollectConfig(retry=("fetch",), earlier=("first",)), id="second")
    with pytest.raises(
        ValueError, match=r"^no image ended so: what there is to try again is fetch.http_404$"
    ):
        collect(
            root, CollectConfig(retry=("fetch.http_500",), earlier=("first", "gone")), id="third"
        )


PAGE = '<title>x</title><a href="/two.html">two</a><img src="/red.jpg" alt="a red sign">'
OTHER = '<img src="/green.jpg" alt="a green door"><img src="/blue.jpg" alt="a blue boat">'


def crawled(root: Folder, web: Web, id: str, previous: str | None = None) -> Collection:
    return collect(
        root,
        CollectConfig(seeds=(f"{web.url}/",), allow_private_addresses=True, fresh_days=0),
        id=id,
        previous=previous,
    )


def texts(collection: Collection) -> list[str]:
    folder = collection.folder / "candidates"
    names = [name for name in folder.names() if name.startswith("part-")]
    return sorted(
        text for name in names for text in read_table(folder, name, ["text"])["text"].to_pylist()
    )


def test_a_recrawl_keeps_the_candidates_of_pages_that_did_not_change(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    same = Reply(body=PAGE.encode(), headers=(("ETag", '"1"'),))
    with photos({**PHOTOS, "/": same, "/two.html": OTHER}) as web:
        first = crawled(root, web, "first")
        web.pages["/two.html"] = OTHER.replace("boat", "ship")
        second = crawled(root, web, "second", "first")
        third = crawled(root, web, "third", "second")
    assert texts(first) == ["a blue boat", "a green door", "a red sign"]
    assert texts(second) == texts(third) == ["a blue ship", "a green door", "a red sign"]
    assert second.counts["pages.not_modified"] == third.counts["pages.not_modified"] == 1
    assert decide(root, "everything", ("third",)).funnel.outcomes == {"kept": 3}


def test_what_was_taken_down_is_not_collected_again(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    with photos({**PHOTOS, "/": PAGE, "/two.html": OTHER}) as web:
        crawled(root, web, "first")
        TakedownList.of(urls=[f"{web.url}/two.html", f"{web.url}/red.jpg"]).remember(root)
        web.asked.clear()
        second = crawled(root, web, "second")
        assert [path for path in web.asked if path.endswith((".html", ".jpg"))] == []
        listed_again = taken(
            root,
            listed(tmp_path, web, {"/red.jpg": "a red sign", "/blue.jpg": "a boat"}),
            "third",
            fresh_days=0,
        )
    assert texts(second) == [""]
    assert texts(listed_again) == ["", "a boat"]
    assert decide(root, "everything", ("second", "third")).funnel.outcomes == {
        "permission.forgotten": 2,
        "kept": 1,
    }


def test_rules_on_candidates_spare_the_fetch(tmp_path: Path) -> None:
    root = Folder(str(tmp_path / "data"))
    faulty = {"/red.jpg": "IMG_0001.JPG", "/blue.jpg": ""}
    texts = {
        **faulty,
        "/green.jpg": "an old man sits on a bench",
        "/black.jpg": "a black cat on a chair",
    }
    with photos() as web:
        source = listed(tmp_path, web, texts)
        whole = taken(root, source, "whole")
        web.asked.clear()
        spared = taken(root, source, "spared", before_fetch="winnow", fresh_days=0)
        asked = [path for path in web.asked if path.endswith(".jpg")]
    assert load("winnow").candidate_rules
    assert sorted(asked) == ["/black.jpg", "/green.jpg"]
    assert (
        decide(root, "winnow", (whole.id,)).funnel.outcomes
        == decide(root, "winnow", (spared.id,)).funnel.outcomes
    )
    assert decide(root, "everything", (spared.id,)).funnel.outcomes == {
        "fetch.not_asked": 2,
        "kept": 2,
    }


@pytest.mark.parametrize("id", ["../up", "", "a/b", ".hidden", "-dash", "a b"])
def test_names_of_collections_lead_nowhere_else(tmp_path: Path, id: str) -> None:
    with pytest.raises(
        ValueError,
        match="is no name of a collection: use letters, digits, dots, dashes and underscores",
    ):
        collect(Folder(str(tmp_path / "root")), CollectConfig(pairs="none.csv"), id=id)
    assert not (tmp_path / "root").exists()


def test_collections_begun_in_the_same_second_have_names_of_their_own(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    names = []
    for _ in range(3):
        names.append(collecting._new_name(root))
        (root / "collections" / names[-1]).write_json(collecting.CONFIGURATION, {})
    assert len(set(names)) == 3


def test_only_a_crawl_is_done_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--recrawl goes with --seed"):
        collect(Folder(str(tmp_path)), CollectConfig(pairs="a.csv"), previous="earlier")


def test_an_index_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.cdx").write_text("hello world\n")
    with pytest.raises(ValueError, match=r"bad\.cdx is no index: it begins with 'hello world"):
        collect(Folder(str(tmp_path / "root")), CollectConfig(index=(str(tmp_path / "bad.cdx"),)))


def test_a_mistyped_source_leaves_no_unfinished_collection(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    with pytest.raises(ValueError, match="nowhere"):
        collect(root, CollectConfig(warc=(str(tmp_path / "nowhere.warc.gz"),)), id="typo")
    assert not (root / "collections" / "typo").exists()
