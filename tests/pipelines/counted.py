"""What a stage counted, its accounts seen to add up."""

from collections.abc import Mapping

from pipelines.accounts import check
from pipelines.engine.stage import Stage

TOTALS = {"lines", "files", "entries", "samples", "pairs.taken", "pairs.list", "import.elsewhere"}


def told(stage: Stage, counts: Mapping[str, int]) -> dict[str, int]:
    """The counts without what goes in and what is taken as it should be, which the accounts say."""
    check(stage.accounts, counts, stage.name)
    return {name: count for name, count in counts.items() if name not in TOTALS}
