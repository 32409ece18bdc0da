"""Runs img2dataset's own `download` on several jobs in this one process: what it starts processes
for is done in turn here.

`python img2dataset_peer.py JOBS.json`, a list of its arguments. It must be a process of its own:
`download` sets a signal handler, and the package takes seconds to import.
"""

import json
import sys
from pathlib import Path
from typing import Any

from img2dataset.main import download

peer: Any = sys.modules[download.__module__]  # the package calls a function by this module's name


class NoLogger:
    """In place of the process that sums up the stats files."""

    def __init__(self, *args: Any) -> None:
        self.done_shards: set[int] = set()

    def start(self) -> None:
        pass

    def join(self) -> None:
        pass


def in_turn(
    processes: int, downloader: Any, reader: Any, subjob_size: int, max_shard_retry: int
) -> None:
    for shard in reader:
        assert downloader(shard)[0]


if __name__ == "__main__":
    peer.LoggerProcess = NoLogger
    peer.multiprocessing_distributor = in_turn
    for job in json.loads(Path(sys.argv[1]).read_text()):
        download(thread_count=4, **job)
