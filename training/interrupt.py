"""Ctrl-C, SIGTERM and SIGHUP, which wait for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def patient_stop() -> Iterator[threading.Event]:
    """Whoever asks to stop waits for the end of the step; a second Ctrl-C does not.

    A second SIGTERM does: torchrun and service managers send it to a process and to its parent,
    which hands it on, and they kill whoever takes too long. A hang-up that is ignored (nohup) stays
    so. Outside the main thread signals are left alone.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: object) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in _heard()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heard() -> list[signal.Signals]:
    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.append(signal.SIGHUP)  # a terminal that closes
    return heard
