"""When a table of the project file runs again: cron expressions, as Prefect reads them."""

import asyncio
import re

from pydantic import ValidationError

# Prefect's scheduler asks for at least so many coming runs; where it finds fewer, it makes none
COMING_RUNS = 3

FORM = (
    "five fields (minute, hour, day of month, month, day of week), "
    'e.g. "30 2 * * *" for every night at half past two (UTC); a sixth is that of seconds'
)


def check_schedule(cron: str) -> None:
    """Raise ValueError for what is no cron expression, and for one that Prefect cannot keep to."""
    fields = cron.split()

    if not _is_cron(fields):
        raise ValueError(f"{cron!r} is not a cron expression: {FORM}")

    _check_dates(cron)

    if fields[5:] == ["*"]:
        raise ValueError(
            f"{cron!r} runs every second: seconds are the sixth and last field; leave it out"
        )


def _is_cron(fields: list[str]) -> bool:
    """Whether the form is right: a name such as @daily, or fields that leave nothing to chance."""
    if len(fields) == 1:
        return fields[0].startswith("@")

    random = any(re.search(r"\b[rh]\b", field, re.IGNORECASE) for field in fields)
    return len(fields) in (5, 6) and not random


def _check_dates(cron: str) -> None:
    """Ask for the coming runs as Prefect's scheduler does, which has a reading of its own."""
    from prefect.server.schemas.schedules import CronSchedule  # seconds; most plans need it not

    try:
        schedule = CronSchedule(cron=cron)
    except ValidationError:
        raise ValueError(f"{cron!r} is not a cron expression: {FORM}") from None

    try:
        asyncio.run(schedule.get_dates(n=COMING_RUNS))
    except ValueError:
        raise ValueError(
            f"{cron!r} never comes: Prefect finds no date for it in the next fifty years; "
            "look at its day of month and its month"
        ) from None
