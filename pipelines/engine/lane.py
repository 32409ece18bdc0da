"""A lane: parts that run one after another, each to its receipt."""

import dataclasses
import logging
import threading
import traceback
from collections.abc import Sequence

from pipelines.accounts import check
from pipelines.engine.stage import RECEIPTS, Part, Stage
from pipelines.store import FULL, Folder

ATTEMPTS = 2  # of one part before it is set aside
stopping = threading.Event()  # set on Ctrl-C: no further part begins in this process

log = logging.getLogger("winnow.stage")


def run_lane(stage: Stage, lane: Sequence[Part]) -> None:
    """Run the parts of a lane in order, each to its receipt; what an engine calls, perhaps
    twice.
    """
    receipts = stage.out / RECEIPTS
    for part in lane:
        if stopping.is_set():
            return
        if not receipts.exists(f"{part.name}.json"):
            _settle(stage, part, receipts)


def _settle(stage: Stage, part: Part, receipts: Folder) -> None:
    """Process a part to its receipt, or set it aside with its error after some attempts."""
    for attempt in range(ATTEMPTS):
        try:
            output = stage.process(part)
            check(stage.accounts, output.counts, f"stage {stage.name}, part {part.name}")
        except KeyboardInterrupt as stop:
            # without a word, Beam takes it for an error of its own
            raise KeyboardInterrupt("stopped") from stop
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if attempt == ATTEMPTS - 1:
                log.error("stage %s: part %s is set aside: %s", stage.name, part.name, error)
                receipts.write_json(
                    f"{part.name}.failed", "".join(traceback.format_exception(error))
                )
        else:
            files = [dataclasses.asdict(file) for file in output.files]
            receipts.write_json(
                f"{part.name}.json", {"files": files, "counts": dict(output.counts)}
            )
            return
