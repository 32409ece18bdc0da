"""What goes on in a thread while a block runs: a lease is renewed, progress is watched, a sign of
life is given.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def meanwhile(
    work: Callable[[threading.Event], None], name: str, seconds: float = 5.0
) -> Iterator[None]:
    """Call `work` in a thread; its event is set when the block ends, and then it has so long."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=seconds)
