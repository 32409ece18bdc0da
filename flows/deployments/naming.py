"""Names of what a schedule brings again and again: the name of its table and the time of the
run.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

_STAMP = r"-\d{8}T\d{6}Z"


def stamped(name: str, at: datetime) -> str:
    """`web` at noon: web-20260102T120000Z; names sort by time."""
    return f"{name}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def named(name: str, among: Iterable[str]) -> list[str]:
    """What bears a name, with or without a time, oldest first; a release that was written again
    after a take-down bears it too.
    """
    return sorted(
        one for one in among if re.fullmatch(re.escape(name) + f"({_STAMP})?" + r"(\.r\d+)?", one)
    )
