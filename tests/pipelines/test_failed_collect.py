"""A collect that fails before it collected anything leaves nothing behind, and the correction that
it advises works.
"""

from pathlib import Path
from typing import Any

import pytest

from pipelines.collect.run import CollectConfig, collect
from pipelines.engine.shares import Share
from pipelines.engine.stage import Engine, StageFailed
from pipelines.store import Folder
from tests.pipelines.web import Reply, jpeg, served

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"pairs": "gone.csv"}, r"there is no list of pairs at .*gone\.csv"),
    ({"pairs": "columns.csv"}, r"--url-column and --text-column name others"),
    ({"pairs": "empty.csv"}, r"has the columns none"),
    ({"pairs": "header.csv"}, r"the source holds no image-text candidates"),
    ({"pairs": "notes.txt"}, r"its name must end in"),
    ({"imports": "gone"}, r"there is nothing at"),
    ({"imports": "folder"}, r"is no data set that can be imported"),
    ({"imports": "columns.csv"}, r"a list of addresses is taken by --pairs"),
    ({"imports": "coco.json"}, r"name their folder with --import-images FOLDER"),
    ({"warc": ("gone.warc.gz",)}, r"there is no archive at"),
    ({"warc": ("notes.txt.warc",)}, r"is no WARC file"),
    ({"wat": ("gone.wat.gz",)}, r"there is no archive at"),
    ({"html": "gone"}, r"gone"),
    ({"index": ("notes.cdx",)}, r"is no index"),
    ({"seeds": ("http://127.0.0.1:1/",)}, r"add --allow-private-addresses to crawl it"),
    ({"seeds": ("https://example.org/",)}, r"give a contact, an e-mail or web address"),
    (
        {"seeds": ("http://127.0.0.1:1/",), "allow_private_addresses": True},
        r"no page could be read from",
    ),
    ({"retry": ("fetch.timeout",), "earlier": ("never",)}, r"never"),
    ({"pairs": "good.csv", "before_fetch": "winow"}, r"winow"),
]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "columns.csv").write_text("link,words\nhttp://127.0.0.1:1/a.jpg,w\n")
    (tmp_path / "good.csv").write_text("url,text\nhttp://127.0.0.1:1/a.jpg,w\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("url,text\n")
    for name in ("notes.txt", "notes.txt.warc", "notes.cdx"):
        (tmp_path / name).write_text("hello world\n")
    coco = (
        '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption":'
        ' "c"}]}'
    )
    (tmp_path / "coco.json").write_text(coco)
    return tmp_path


def config_of(here: Path, options: dict[str, Any]) -> CollectConfig:
    """Options whose files are in a folder."""

    def there(name: str, value: Any) -> Any:
        if name in ("pairs", "imports", "html", "import_images"):
            return str(here / value)
        return (
            tuple(str(here / one) for one in value) if name in ("warc", "wat", "index") else value
        )

    return CollectConfig(
        **{name: there(name, value) for name, value in options.items()}, contact=""
    )


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_nothing_is_left(here: Path, options: dict[str, Any], message: str) -> None:
    root = Folder(str(here / "root"))
    with pytest.raises((ValueError, RuntimeError), match=message):
        collect(root, config_of(here, options), id="same")
    assert (root / "collections").names() == []


def test_a_runner_that_there_is_not_leaves_nothing(here: Path) -> None:
    root = Folder(str(here / "root"))
    with pytest.raises((StageFailed, ValueError), match="Nonsense"):
        collect(
            root,
            config_of(here, {"pairs": "good.csv"}),
            id="same",
            engine=Engine(runner="Nonsense"),
        )
    assert (root / "collections").names() == []


def test_the_corrections_that_errors_advise(here: Path) -> None:
    root = Folder(str(here / "root"))
    wrong: dict[str, Any] = {"pairs": "columns.csv", "fetch": False}
    with pytest.raises(ValueError, match="--url-column and --text-column"):
        collect(root, config_of(here, wrong), id="same")
    made = collect(
        root, config_of(here, {**wrong, "url_column": "link", "text_column": "words"}), id="same"
    )
    assert made.counts["candidates"] == 1

    (here / "pictures").mkdir()
    (here / "pictures/a.jpg").write_bytes(jpeg())
    with pytest.raises(ValueError, match="--import-images FOLDER"):
        collect(root, config_of(here, {"imports": "coco.json"}), id="captions")
    made = collect(
        root, config_of(here, {"imports": "coco.json", "import_images": "pictures"}), id="captions"
    )
    assert made.counts["images"] == 1

    page = '<img src="/a.jpg" alt="a red square">'
    with served({"/": page, "/a.jpg": Reply(body=jpeg(), type="image/jpeg")}) as web:
        with pytest.raises(ValueError, match="add --allow-private-addresses"):
            collect(root, config_of(here, {"seeds": (web.url,)}), id="pages")
        made = collect(
            root,
            config_of(here, {"seeds": (web.url,), "allow_private_addresses": True}),
            id="pages",
        )
    assert made.counts["images"] == 1


def test_what_was_collected_stays(here: Path) -> None:
    """A crawl that read pages keeps them, though they hold no image."""
    root = Folder(str(here / "root"))
    with (
        served({"/": "<p>no image"}) as web,
        pytest.raises(ValueError, match="holds no image-text candidates"),
    ):
        collect(
            root,
            config_of(here, {"seeds": (web.url,), "allow_private_addresses": True}),
            id="pages",
        )
    assert (root / "collections").names() == ["pages"]
    assert (root / "collections/pages/pages").exists("crawl.json")


def test_a_share_leaves_what_others_may_be_writing(here: Path) -> None:
    root = Folder(str(here / "root"))
    with pytest.raises(ValueError, match="there is no list of pairs"):
        collect(
            root,
            config_of(here, {"pairs": "gone.csv"}),
            id="same",
            engine=Engine(share=Share.parse("1/2")),
        )
    assert (root / "collections").names() == ["same"]
