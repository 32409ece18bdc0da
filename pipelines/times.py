"""Moments as tables and archives write them: ISO 8601, UTC, to the second."""

from datetime import UTC, datetime


def written(moment: datetime) -> str:
    """`2026-01-02T03:04:05Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now() -> str:
    """This moment."""
    return written(datetime.now(UTC))
