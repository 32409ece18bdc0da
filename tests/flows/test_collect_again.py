"""What `winnow collect` says to somebody who asks for nothing, or for the same once more."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.cli.commands import application
from pipelines.collect.config import CollectConfig


def run(*words: str) -> object:
    """What a command gives back; its errors are raised."""
    return application()(
        words, exit_on_error=False, print_error=False, result_action="return_value"
    )


def test_without_a_source_the_options_that_name_one_are_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one kind of source") as error:
        run("collect", "--root", str(tmp_path))

    assert (
        str(error.value)
        == "give one kind of source: --seed, --warc, --wat, --index, --html, --pairs, "
        "--import, --retry; `winnow collect --help` shows them"
    )


def test_a_complete_collection_is_said_to_be_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("url,text\nhttp://a.example/1.jpg,a dog on grass\n")
    words = ["collect", "--root", str(tmp_path), "--id", "one", "--pairs", str(pairs), "--no-fetch"]

    assert run(*words) == 0
    assert "was complete before" not in capfd.readouterr().err

    assert run(*words) == 0
    assert "collection one was complete before" in capfd.readouterr().err


@pytest.mark.parametrize("contact", ["you@example.org\r\nX-Other: 1", "ö@example.org", "a\0b"])
def test_a_contact_is_one_line_of_a_header(contact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="is no e-mail or web address"):
        CollectConfig(pairs="list.csv", contact=contact)

    monkeypatch.setenv("WINNOW_CONTACT", contact.replace("\0", "\n"))
    with pytest.raises(ValidationError, match="is no e-mail or web address"):
        CollectConfig(pairs="list.csv")
