"""What `winnow validate` says of files that were lost, cut or changed, and of releases that are not
what they say.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.curate import curate
from pipelines.releases.publish import CurateConfig
from pipelines.store import Folder
from pipelines.tables import read_table, write_arrow
from pipelines.takedown.redact_files import sha256_of
from pipelines.validate import kind_of, validate
from tests.pipelines.test_decide import make
from tests.pipelines.test_release import ROWS

SHARD = "train-00000-of-00001"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = Folder(str(tmp_path_factory.mktemp("validate") / "root"))
    make(root, "a", ROWS)
    curate(
        root, CurateConfig(recipe="everything", collections=("a",), release="arrow", heldout=0.5)
    )
    curate(
        root,
        CurateConfig(recipe="everything", collections=("a",), release="tars", format="webdataset"),
    )
    return root


@pytest.fixture
def root(made: Folder, tmp_path: Path) -> Folder:
    shutil.copytree(made.path(), tmp_path / "root")
    return Folder(str(tmp_path / "root"))


def test_a_whole_root_has_no_problem(made: Folder) -> None:
    assert validate(made) == []


@pytest.mark.parametrize(
    ("release", "name"), [("arrow", f"{SHARD}.arrow"), ("tars", f"{SHARD}.tar")]
)
def test_a_lost_cut_or_changed_shard_is_named(root: Folder, release: str, name: str) -> None:
    path = Path((root / "releases" / release).path(name))
    data = path.read_bytes()
    path.write_bytes(data[:-700])
    assert validate(root) == [f"{path} is cut: it has {len(data) - 700:,} of {len(data):,} bytes"]
    path.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
    assert validate(root) == [f"{path} is not as it was written"]
    path.unlink()
    assert validate(root) == [f"{path} is missing"]


def rewritten(root: Folder, change: Callable[[pa.Table], pa.Table]) -> tuple[Folder, list[str]]:
    """The release in Arrow with its two shards' rows changed, each as if it had been written so;
    and what is found.
    """
    folder = root / "releases" / "arrow"
    manifest, shards = folder.read_json("manifest.json"), folder.read_json("shards.json")
    for file in manifest["files"]:
        written = write_arrow(folder, file["name"], change(read_table(folder, file["name"])))
        file |= {"sha256": written.sha256, "bytes": written.bytes}
    croissant = folder.read_json("croissant.json")
    for told, file in zip(croissant["distribution"], manifest["files"], strict=False):
        told |= {"sha256": file["sha256"], "contentSize": f"{file['bytes']} B"}
    for name, value in (
        ("manifest.json", manifest),
        ("shards.json", {**shards, "files": manifest["files"]}),
        ("croissant.json", croissant),
    ):
        folder.write_json(name, value)
    return folder, validate(root)


def column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(
        place, table.schema.field(place), pa.array(values, table.schema.field(place).type)
    )


def test_what_samples_hold_is_looked_at(root: Folder) -> None:
    def changed(table: pa.Table) -> pa.Table:
        if not table.num_rows or table["split"][0].as_py() != "train":
            return table
        cut = [table["image"][0].as_py()[:80], *table["image"].to_pylist()[1:]]
        return column(
            column(table, "image", cut), "caption", [[], *table["caption"].to_pylist()[1:]]
        )

    folder, found = rewritten(root, changed)
    path = folder.path(f"{SHARD}.arrow")
    assert found[0].startswith(f"{path}: 1 pictures cannot be decoded, first that of sample 0 (")
    assert found[1] == f"{path}: 1 samples have no caption"
    assert "captions, its manifest tells of 5" in found[2]
    assert found[3:] == [f"{folder.path()} holds other samples than its digest is of"]


def test_a_picture_or_a_cluster_in_two_splits_is_found(root: Folder) -> None:
    same = "ab" * 32
    folder, found = rewritten(
        root, lambda table: column(table, "image_id", [same] * table.num_rows)
    )
    assert (
        f"{folder.path()}: 1 pictures are in more than one sample or split, first {same[:16]}…"
        in found
    )
    folder, found = rewritten(
        root, lambda table: column(table, "image.cluster", [same] * table.num_rows)
    )
    assert (
        f"{folder.path()}: 1 clusters of near duplicates are in more than one split, first"
        f" {same[:16]}…" in found
    )


def test_card_funnel_and_croissant_must_agree_with_the_manifest(root: Folder) -> None:
    folder = root / "releases" / "tars"
    funnel, croissant = folder.read_json("funnel.json"), folder.read_json("croissant.json")
    folder.write_json("funnel.json", {**funnel, "candidates": 8})
    croissant["distribution"][0]["sha256"] = "0" * 64
    folder.write_json("croissant.json", croissant)
    folder.write_bytes("README.md", b"# tars\n")
    assert validate(root) == [
        (
            f"{folder.path('funnel.json')} is no funnel: the funnel's outcomes add up to 7, not to"
            " its 8 candidates; decide again"
        ),
        f"{folder.path('README.md')} is not the card of this release",
        f"{folder.path('croissant.json')} lists other files, sizes or digests than the manifest",
    ]
    for name in ("funnel.json", "croissant.json"):
        folder.remove(name)
    assert validate(root) == [
        f"{folder.path('funnel.json')} is missing",
        f"{folder.path('README.md')} is not the card of this release",
        f"{folder.path('croissant.json')} is missing",
    ]


def test_a_damaged_manifest_is_named_and_the_rest_is_checked(root: Folder) -> None:
    folder = root / "releases" / "arrow"
    Path(folder.path("manifest.json")).write_text('{"name": ')
    tar = Path((root / "releases" / "tars").path(f"{SHARD}.tar"))
    tar.unlink()
    first, second = validate(root)
    assert first.startswith(
        f"{folder.path()} cannot be checked: {folder.path('manifest.json')} is damaged"
    )
    assert second == f"{tar} is missing"


def test_a_tar_that_says_other_than_its_digest_is_found(root: Folder) -> None:
    folder = root / "releases" / "tars"
    path = Path(folder.path(f"{SHARD}.tar"))
    path.write_bytes(path.read_bytes().replace(b'"a red boat at sea"', b'"a red boat at tea"'))
    manifest, shards, croissant = (
        folder.read_json(name) for name in ("manifest.json", "shards.json", "croissant.json")
    )
    manifest["files"][0]["sha256"] = croissant["distribution"][0]["sha256"] = sha256_of(
        folder, path.name
    )
    for name, value in (
        ("manifest.json", manifest),
        ("shards.json", {**shards, "files": manifest["files"]}),
        ("croissant.json", croissant),
    ):
        folder.write_json(name, value)
    assert validate(root) == [f"{folder.path()} holds other samples than its digest is of"]


OTHER = "cannot be checked: a manifest of it is damaged, or of another version of Winnow"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "candidates/manifest.json",
            "{",
            r"cannot be checked: .*candidates/manifest\.json is damaged \(.*\): remove it",
        ),
        ("candidates/manifest.json", "[]", OTHER),
        ("candidates/manifest.json", '{"files": []}', OTHER),
        ("manifest.json", "[1]", r"manifest\.json is no manifest$"),
        ("manifest.json", "\x00", r"manifest\.json is damaged"),
    ],
)
def test_a_damaged_manifest_is_said_in_words(root: Folder, name: str, text: str, said: str) -> None:
    Path(root.path(f"collections/a/{name}")).write_text(text)
    (found,) = validate(root)
    assert re.search(said, found)
    assert "Error" not in found


def test_a_release_whose_manifest_lacks_something_is_said_in_words(root: Folder) -> None:
    folder = root / "releases" / "arrow"
    manifest = folder.read_json("manifest.json")
    folder.write_json(
        "manifest.json", {name: value for name, value in manifest.items() if name != "samples"}
    )
    assert validate(root) == [
        f"{folder.path()} cannot be checked: a manifest of it does not tell 'samples': it is"
        " damaged, or of another version of Winnow"
    ]


def test_a_file_that_is_a_folder_is_said_and_the_others_are_still_looked_at(root: Folder) -> None:
    path = Path((root / "releases" / "arrow").path(f"{SHARD}.arrow"))
    path.unlink()
    path.mkdir()
    (root / "releases" / "arrow").remove(f"heldout-{SHARD.partition('-')[2]}.arrow")
    found = validate(root)
    assert found == [
        f"{path} cannot be read: Is a directory ({path})",
        f"{path.with_name(path.name.replace('train', 'heldout'))} is missing",
    ]


def test_types_are_read_as_they_are_written() -> None:
    kinds = [
        pa.string(),
        pa.binary(),
        pa.bool_(),
        pa.int32(),
        pa.int64(),
        pa.float16(),
        pa.float32(),
        pa.float64(),
    ]
    kinds += [pa.list_(kind) for kind in kinds] + [
        pa.list_(pa.list_(pa.string())),
        pa.list_(pa.list_(pa.float16())),
    ]
    assert [kind_of(str(kind)) for kind in kinds] == kinds
