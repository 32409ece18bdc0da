"""The command line of `winnow img2dataset`, spelled as img2dataset's own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.img2dataset import arguments
from pipelines.collect.config import CollectConfig
from pipelines.collect.run import collect
from pipelines.store import Folder
from tests.pipelines.web import Reply, jpeg, served


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (["--url_list", "a.txt", "--image_size=64"], {"url_list": "a.txt", "image_size": "64"}),
        (["--url-list=a.txt", "--output-folder", "b"], {"url_list": "a.txt", "output_folder": "b"}),
        (["a.txt", "--skip_reencode"], {"url_list": "a.txt", "skip_reencode": True}),
        (
            ["--enable_wandb", "False", "--extract_exif", "True"],
            {"enable_wandb": False, "extract_exif": True},
        ),
        (["--noextract_exif", "--url_list", "a"], {"extract_exif": False, "url_list": "a"}),
        (["--compute_hash", "None"], {"compute_hash": None}),
        (
            ["--save_additional_columns", '["NSFW","similarity"]'],
            {"save_additional_columns": ["NSFW", "similarity"]},
        ),
        (
            ["--save_additional_columns", "[NSFW,similarity]"],
            {"save_additional_columns": ["NSFW", "similarity"]},
        ),
        (["--verify_hash", '["md5","md5"]'], {"verify_hash": ["md5", "md5"]}),
        (["--url_list=a=b.txt"], {"url_list": "a=b.txt"}),
    ],
)
def test_arguments_are_spelled_as_there(line: list[str], found: dict[str, object]) -> None:
    assert dict(arguments(line)) == found


def test_a_misspelled_argument_is_told_before_anything_is_done() -> None:
    with pytest.raises(ValueError, match="no argument --image_sise: did you mean --image_size"):
        dict(arguments(["--url_list", "a.txt", "--image_sise", "64"]))


def winnow(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "img2dataset", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("form", ["webdataset", "files", "parquet"])
def test_the_command_writes_a_dataset_that_collect_imports(tmp_path: Path, form: str) -> None:
    pages = {"/a.jpg": Reply(body=jpeg(300, 200)), "/b.jpg": Reply(body=jpeg(20, 20))}
    with served(pages) as web:
        lines = [
            {"url": f"{web.url}/{name}.jpg", "caption": f"the {name}"}
            for name in ("a", "b", "gone")
        ]
        (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        said = winnow(
            "--url_list",
            str(tmp_path / "list.jsonl"),
            "--input_format",
            "jsonl",
            "--caption_col=caption",
            "--image_size",
            "100",
            "--output_folder",
            str(tmp_path / "out"),
            "--output_format",
            form,
            "--allow_private_addresses",
            "True",
            "--json",
        )
        asked = len(web.asked)
        assert said.returncode == 0, said.stderr
        done = json.loads(said.stdout)
        assert (done["successes"], done["outcomes"]) == (2, {"success": 2, "fetch.http_404": 1})
        config = CollectConfig.model_validate({"import": str(tmp_path / "out"), "fetch": False})
        found = collect(Folder(str(tmp_path / "root")), config)
        assert len(web.asked) == asked
    assert found.counts["candidates"] == 3
    assert found.counts["archive_images"] == 2


def test_errors_are_said_in_a_line(tmp_path: Path) -> None:
    said = winnow(
        "--url_list",
        str(tmp_path / "none.txt"),
        "--output_folder",
        str(tmp_path / "out"),
        "--distributor",
        "ray",
    )
    assert said.returncode == 1
    assert (
        said.stderr
        == "winnow: --distributor: ray is not run here: leave it out; `winnow collect --pairs`"
        " scales out (docs/scale-out.md)\n"
    )
    assert not (tmp_path / "out").exists()
