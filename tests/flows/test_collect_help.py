"""`winnow collect --help` shows every option of a collection under one heading."""

from collections import Counter

from flows.cli.collect_groups import GROUPS
from pipelines.collect.config import CollectConfig


def test_every_option_stands_under_one_heading() -> None:
    named = Counter(name for names in GROUPS.values() for name in names)
    assert named == dict.fromkeys(CollectConfig.model_fields, 1)


def test_the_help_has_the_headings() -> None:
    import io

    from rich.console import Console

    import flows.cli.data  # noqa: F401 - which gives the command to the application
    from flows.cli.commands import application

    out = io.StringIO()
    application().help_print("collect", console=Console(file=out, width=100))
    places = [out.getvalue().index(f"─ {title} ─") for title in GROUPS]
    assert places == sorted(places)
    assert out.getvalue().index("--max-bytes") > places[list(GROUPS).index("Budgets")]
