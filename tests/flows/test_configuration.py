"""winnow.toml: what it may say, and what it answers to a mistake."""

from pathlib import Path

import pytest

from flows.deployments.naming import named, stamped
from flows.deployments.project_file import CollectTable, read_configuration
from flows.deployments.schedule import FORM
from pipelines.collect.run import CollectConfig
from pipelines.engine.stage import Engine
from pipelines.releases.publish import CurateConfig

PLAN = """\
root = "data"

[engine]
workers = 2
options = ["--save_main_session"]

[[collect]]
name = "web"
seeds = ["https://example.org/"]
max_pages = 100
schedule = "30 2 * * *"

[[collect]]
name = "clean"
pairs = "lists/clean.jsonl"

[[curate]]
release = "web-1"
recipe = "everything"
collections = ["web", "clean"]

[[pretrain]]
name = "small"
recipe = "vilt"
releases = { train = "web-1" }
seed = 7
smoke = true
"""


@pytest.fixture(autouse=True)
def _nobody_to_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WINNOW_CONTACT", raising=False)


def written(folder: Path, text: str) -> Path:
    path = folder / "winnow.toml"
    path.write_text(text)
    return path


def refusal(folder: Path, old: str, new: str) -> str:
    """What reading says of the plan above with one line changed."""
    assert old in PLAN
    path = written(folder, PLAN.replace(old, new, 1))
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is what each test compares
        read_configuration(path)
    return str(caught.value).removeprefix(str(path))


def test_a_plan_that_lacks_a_model_or_does_without_what_is_not_read_is_refused(
    tmp_path: Path,
) -> None:
    said = (
        ", line 19: text.entries needs --entries, text.entry_count needs --entries; add them, or"
        " --without text.entries text.entry_count"
    )
    found = refusal(tmp_path, 'recipe = "everything"', 'recipe = "metaclip"')
    assert found.replace("models or lists were not given: ", "") == said
    typo = 'recipe = "laion-400m"\nwithout = ["alignment.scor"]'
    start = (
        ", line 20: recipe laion-400m does not read 'alignment.scor'; did you mean"
        " 'alignment.score'?"
    )
    assert refusal(tmp_path, 'recipe = "everything"', typo) == start
    path = written(
        tmp_path,
        PLAN.replace(
            'recipe = "everything"', 'recipe = "laion-400m"\nwithout = ["alignment.score"]'
        ),
    )
    assert read_configuration(path).curate[0].without == ("alignment.score",)


def test_a_plan_says_what_the_functions_take(tmp_path: Path) -> None:
    plan = read_configuration(written(tmp_path, PLAN))
    assert plan.root == str(tmp_path / "data")
    assert plan.engine.engine() == Engine(workers=2, options=("--save_main_session",))
    web, clean = plan.collect
    assert (web.name, web.schedule) == ("web", "30 2 * * *")
    assert web.config() == CollectConfig(seeds=("https://example.org/",), max_pages=100)
    assert clean.config() == CollectConfig(pairs=str(tmp_path / "lists/clean.jsonl"))
    assert plan.curate[0].config() == CurateConfig(
        recipe="everything", collections=("web", "clean"), release="web-1"
    )
    small = plan.pretrain[0]
    assert small.model_dump() == {
        "name": "small",
        "recipe": "vilt",
        "releases": {"train": "web-1"},
        "out": str(tmp_path / "data/models/small"),
        "size": None,
        "init": {},
        "set": (),
        "seed": 7,
        "smoke": True,
    }


def test_a_training_says_size_weights_and_changes(tmp_path: Path) -> None:
    (tmp_path / "towers/vit").mkdir(parents=True)
    more = 'size = "tiny"\ninit = { image = "towers/vit", text = "bert-base-uncased" }\n'
    for changes in (
        'set = ["stages.0.batch=16", "threads=1"]',
        'set = { "stages.0.batch" = 16, threads = 1 }',
        "set.stages.0.batch = 16\nset.threads = 1",
    ):
        plan = read_configuration(written(tmp_path, PLAN + more + changes + "\n"))
        small = plan.pretrain[0]
        assert small.init == {"image": str(tmp_path / "towers/vit"), "text": "bert-base-uncased"}
        assert small.settings() == {
            "size": "tiny",
            "init": small.init,
            "changes": ("stages.0.batch=16", "threads=1"),
            "seed": 7,
            "smoke": True,
        }


def test_a_training_recipe_of_ones_own_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('recipe = "clip"\n')
    plan = read_configuration(
        written(tmp_path, PLAN.replace('recipe = "vilt"', 'recipe = "mine.toml"'))
    )
    assert plan.pretrain[0].recipe == str(tmp_path / "mine.toml")
    said = refusal(tmp_path, 'recipe = "vilt"', 'recipe = "yours.toml"')
    assert said == f", line 24: there is no file {tmp_path}/yours.toml"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^there is no plan .*/winnow\.toml: give the path of a TOML file$"
    ):
        read_configuration(tmp_path / "winnow.toml")


def test_not_toml(tmp_path: Path) -> None:
    assert refusal(tmp_path, 'root = "data"', 'root = "data').startswith(" is not TOML: ")
    assert "(at line 1, column 13)" in refusal(tmp_path, 'root = "data"', 'root = "data')


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "max_pages = 100",
            "max_page = 100",
            ", line 10: there is no key 'max_page'; did you mean 'max_pages'?",
        ),
        (
            "workers = 2",
            "worker = 2",
            ", line 4: there is no key 'worker'; did you mean 'workers'?",
        ),
        (
            "[[curate]]",
            "[[curates]]",
            ", line 17: there is no key 'curates'; did you mean 'curate'?",
        ),
        ('root = "data"', 'rot = "data"', ", line 1: there is no key 'rot'; did you mean 'root'?"),
        (
            "smoke = true",
            "zz = 1",
            (
                ", line 27: there is no key 'zz'; there are: init, name, out, recipe, releases,"
                " seed, set, size, smoke"
            ),
        ),
        ('name = "clean"\n', "", ", line 13: 'name' is missing"),
        (
            "workers = 2",
            "workers = 0",
            ", line 4: workers: Input should be greater than or equal to 1",
        ),
        ("seed = 7", 'seed = "x"', ", line 26: seed: Input should be a valid integer"),
        (
            'schedule = "30 2 * * *"',
            'schedule = "nightly"',
            f", line 11: 'nightly' is not a cron expression: {FORM}",
        ),
        (
            'name = "clean"',
            'name = "web"',
            ", line 14: name 'web' is taken by an earlier [[collect]]: names must differ",
        ),
        (
            'name = "clean"',
            'name = "../clean"',
            ", line 14: name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'",
        ),
        (
            'recipe = "vilt"',
            'recipe = "vitl"',
            ", line 24: there is no training recipe 'vitl'; did you mean 'vilt'?",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_remedy(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert refusal(tmp_path, old, new) == said


@pytest.mark.parametrize(
    "cron",
    [
        "60 * * * *",
        "* 24 * * *",
        "0 0 32 * *",
        "0 0 1 13 *",
        "0 0 * * 8",
        "0 0 1 Foo *",
        "30 2 * *",
        "0 0 1 1 * 0 2027",  # a seventh would be the year
        "0 30 2 * * *",  # seconds first, as others want them
        "CRON_TZ=UTC 0 2 * * *",
        "R(0-30) 2 * * *",  # drawn anew at each look
        "H 2 * * *",
        "@reboot",
        "",
    ],
)
def test_a_schedule_that_is_no_cron_expression(tmp_path: Path, cron: str) -> None:
    said = refusal(tmp_path, '"30 2 * * *"', f'"{cron}"')
    assert said == f", line 11: {cron!r} is not a cron expression: {FORM}"


@pytest.mark.parametrize(
    "cron", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "15 3 30-31 FEB *", "0 0 31 6 * 30", "0 0 31 2 MON"]
)
def test_a_schedule_that_never_comes(tmp_path: Path, cron: str) -> None:
    """The last one would come on Mondays elsewhere: Prefect finds none."""
    said = refusal(tmp_path, '"30 2 * * *"', f'"{cron}"')
    never = (
        "never comes: Prefect finds no date for it in the next fifty years; look at its day of"
        " month and its month"
    )
    assert said == f", line 11: {cron!r} {never}"


@pytest.mark.parametrize("cron", ["* * * * * *", "0 0 2 * * *"])
def test_a_schedule_of_every_second(tmp_path: Path, cron: str) -> None:
    """The second is written as where seconds come first."""
    said = refusal(tmp_path, '"30 2 * * *"', f'"{cron}"')
    assert (
        said
        == f", line 11: {cron!r} runs every second: seconds are the sixth and last field; leave"
        " it out"
    )


@pytest.mark.parametrize(
    "cron",
    [
        "0 0 29 2 *",
        "0 0 L 2 *",
        "0 6 * * MON-FRI",
        "0 6 * * 5#3",
        "@daily",
        "* * * * * */20",
        "0 0 29 2 MON",
    ],
)
def test_a_schedule_that_comes_however_seldom(tmp_path: Path, cron: str) -> None:
    plan = read_configuration(written(tmp_path, PLAN.replace("30 2 * * *", cron)))
    assert plan.collect[0].schedule == cron


@pytest.mark.parametrize(
    "out", ["data/models/small", "data/models/small/", "data/../data/models/small"]
)
def test_two_trainings_want_a_folder_each(tmp_path: Path, out: str) -> None:
    """The first one's is the default, models/<name> under the root."""
    second = (
        '[[pretrain]]\nname = "other"\nrecipe = "vilt"\nreleases = { train = "web-1" }\nout ='
        f' "{out}"\n'
    )
    said = refusal(tmp_path, "smoke = true\n", f"smoke = true\n\n{second}")
    assert said.startswith(f", line 33: out '{tmp_path}/data/")
    assert said.endswith(
        "is the folder of [[pretrain]] 'small' already: each training needs its own"
    )


def test_trainings_in_folders_of_their_own(tmp_path: Path) -> None:
    second = '\n[[pretrain]]\nname = "other"\nrecipe = "vilt"\nreleases = { train = "web-1" }\n'
    plan = read_configuration(written(tmp_path, PLAN + second))
    assert [entry.out for entry in plan.pretrain] == [
        f"{tmp_path}/data/models/{name}" for name in ("small", "other")
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("workers = 2", 'workers = "2"', ", line 4: workers: Input should be a valid integer"),
        (
            "max_pages = 100",
            "max_pages = true",
            ", line 10: max_pages: Input should be a valid integer",
        ),
        (
            "max_pages = 100",
            "max_pages = 2020-01-01",
            ", line 10: max_pages: Input should be a valid integer",
        ),
        (
            'seeds = ["https://example.org/"]',
            'seeds = "https://example.org/"',
            ', line 9: seeds: this is a list: seeds = ["…"]',
        ),
        (
            'schedule = "30 2 * * *"',
            "schedule = 5",
            ", line 11: schedule: Input should be a valid string",
        ),
        (
            '{ train = "web-1" }',
            '["web-1"]',
            ", line 25: releases: this is a table: releases = { … }",
        ),
        (
            "[[curate]]",
            "[curate]",
            ", line 17: curate is a list of tables: begin each with [[curate]]",
        ),
        ("[engine]", "[[engine]]", ", line 3: engine: this is a table: [engine]"),
        (
            "[[curate]]",
            (
                '[[curate]]\nrelease = "x"\nrecipe = "everything"\ncollections = ["web"]\ngiven = {'
                ' aligment = "x" }\n[[curate]]'
            ),
            ", line 17: there is no key 'aligment'; did you mean 'alignment'?",
        ),
    ],
)
def test_a_value_of_the_wrong_kind(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert refusal(tmp_path, old, new) == said


def test_a_list_of_tables_in_one_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'root = "data"\ncollect = [{ name = "web", seeds = ["https://example.org/"], max_page = 3'
        " }]\n",
    )
    with pytest.raises(
        ValueError,
        match=r"winnow\.toml, line 2: there is no key 'max_page'; did you mean 'max_pages'\?$",
    ):
        read_configuration(path)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", 'root = "data"\n[engine]\nworkers = 2\n', "collect = []\n"]
)
def test_nothing_to_do(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"winnow\.toml has no \[\[collect\]\], .* or \[\[pretrain\]\] table: there is nothing"
            r" to do$"
        ),
    ):
        read_configuration(written(tmp_path, text))


@pytest.mark.parametrize(
    ("data", "line"), [('# one\nroot = "déjà"\n'.encode("latin-1"), 2), (PLAN.encode("utf-16"), 1)]
)
def test_another_encoding(tmp_path: Path, data: bytes, line: int) -> None:
    (tmp_path / "winnow.toml").write_bytes(data)
    with pytest.raises(
        ValueError,
        match=(
            rf", line {line}: TOML is UTF-8, and this is another encoding: save the file as UTF-8$"
        ),
    ):
        read_configuration(tmp_path / "winnow.toml")


def test_a_mark_of_utf_8_and_lines_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "winnow.toml"
    path.write_bytes(b"\xef\xbb\xbf" + PLAN.replace("\n", "\r\n").encode())
    assert read_configuration(path).collect[0].name == "web"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 5000, "is not TOML that can be read: it is nested too deeply"),
        ("a = " + "9" * 5000, "is not TOML: Exceeds the limit"),
    ],
)
def test_what_a_parser_gives_up_on(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"winnow\.toml {said}"):
        read_configuration(written(tmp_path, text))


def test_a_source_is_missing(tmp_path: Path) -> None:
    said = refusal(tmp_path, 'pairs = "lists/clean.jsonl"', "max_pages = 5")
    assert said.startswith(
        ", line 13: give one kind of source: seeds for live pages, warc for archives, "
    )


def test_a_reference_to_nothing_names_the_nearest(tmp_path: Path) -> None:
    nowhere = f"neither in this plan nor in {tmp_path / 'data'}"
    assert (
        refusal(tmp_path, '["web", "clean"]', '["wbe"]')
        == f", line 20: there is no collection 'wbe', {nowhere}; did you mean 'web'?"
    )
    assert (
        refusal(tmp_path, '"web-1" }', '"web-2" }')
        == f", line 25: there is no release 'web-2', {nowhere}; did you mean 'web-1'?"
    )
    said = refusal(tmp_path, 'recipe = "everything"', 'recipe = "evrything"')
    assert said.startswith(", line 19: there is no recipe 'evrything'; there are ")


def test_what_the_root_holds_may_be_named(tmp_path: Path) -> None:
    for finished in ("collections/earlier", "releases/old"):
        (tmp_path / "data" / finished).mkdir(parents=True)
        (tmp_path / "data" / finished / "manifest.json").write_text("{}")
    text = PLAN.replace('["web", "clean"]', '["web", "earlier"]').replace(
        'train = "web-1"', 'train = "old"'
    )
    plan = read_configuration(written(tmp_path, text))
    assert plan.curate[0].collections == ("web", "earlier")
    assert plan.pretrain[0].releases == {"train": "old"}


def test_addresses_stay_and_paths_begin_at_the_file(tmp_path: Path) -> None:
    text = """\
root = "s3://bucket/winnow"
[[collect]]
name = "old"
warc = ["archives/*.warc.gz", "https://example.org/a.warc.gz", "/abs/b.warc"]
"""
    plan = read_configuration(written(tmp_path, text))
    assert plan.root == "s3://bucket/winnow"
    assert plan.collect[0].warc == (
        str(tmp_path / "archives/*.warc.gz"),
        "https://example.org/a.warc.gz",
        "/abs/b.warc",
    )


def test_the_home_of_nobody_is_a_folder_of_that_name(tmp_path: Path) -> None:
    plan = read_configuration(
        written(tmp_path, PLAN.replace('root = "data"', 'root = "~nobody-of-this-name/x"'))
    )
    assert plan.root == str(tmp_path / "~nobody-of-this-name/x")


def test_tables_are_frozen() -> None:
    table = CollectTable(name="web", seeds=("https://example.org/",))
    with pytest.raises(ValueError, match="frozen"):
        table.name = "other"  # type: ignore[misc]


def test_names_of_repeated_runs_sort_by_time_and_do_not_mix() -> None:
    from datetime import UTC, datetime, timedelta, timezone

    first = stamped("web", datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC))
    second = stamped("web", datetime(2026, 1, 3, 1, 0, 0, tzinfo=timezone(timedelta(hours=2))))
    assert (first, second) == ("web-20260102T120000Z", "web-20260102T230000Z")
    assert named(
        "web", ["web-clean", second, "web", first, "web-clean-20260102T120000Z", "webs"]
    ) == ["web", first, second]


def test_the_example_of_the_documentation_is_valid() -> None:
    plan = read_configuration(Path(__file__).parents[2] / "docs" / "winnow.toml")
    assert [entry.name for entry in (*plan.collect, *plan.pretrain)] == ["web", "vilt"]


def test_models_and_lists_are_found_beside_the_plan(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("bad\n")
    plan = tmp_path / "winnow.toml"
    plan.write_text(
        '[[collect]]\nname = "web"\nseeds = ["https://example.org/"]\n[[curate]]\nrelease ='
        ' "r"\nrecipe = "winnow"\ncollections = ["web"]\nwithout = ["image.natural"]\ngiven = {'
        ' profanity = ["words.txt"], alignment = "hf-hub:some/model" }\n'
    )
    curated = read_configuration(plan).curate[0].config()
    assert curated.given.profanity == (str(tmp_path / "words.txt"),)
    assert curated.given.alignment == "hf-hub:some/model"
    assert curated.without == ("image.natural",)
