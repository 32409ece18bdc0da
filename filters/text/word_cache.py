"""What is known of words: computed once for each word, and remembered from batch to batch, for
words recur.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

INTEGERS = NDArray[np.int64]
FLOATS = NDArray[np.float64]
CAPACITY = 1 << 17  # words; each function of them takes a MB
MOST_CHARACTERS = 1 << 24  # of all words together


@dataclass(kw_only=True)
class Facts:
    """Words with places, and for each function that was asked for a table of its values, of which
    the first are computed.
    """

    capacity: int
    most_characters: int
    characters: int = 0
    places: dict[str, int] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    _tables: dict[Callable[[str], float], tuple[FLOATS, int]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def place(self, words: Sequence[str]) -> INTEGERS | None:
        """Where each of some distinct words stands; the new ones are added. None if there is no
        room for them.
        """
        with self._lock:
            found = np.fromiter(map(self.places.get, words, repeat(-1)), np.int64, len(words))
            new = np.flatnonzero(found < 0)
            added = [words[place] for place in new.tolist()]
            characters = self.characters + sum(map(len, added))
            if len(self.words) + len(new) > self.capacity or characters > self.most_characters:
                return None
            found[new] = np.arange(len(self.words), len(self.words) + len(new))
            self.characters = characters
            self.places.update(zip(added, found[new].tolist(), strict=True))
            self.words.extend(added)
            return found

    def of(self, value: Callable[[str], float]) -> FLOATS:
        """The value of each word by its place."""
        with self._lock:
            table, computed = self._tables.get(value) or (np.empty(self.capacity), 0)
            new = self.words[computed:]
            table[computed : len(self.words)] = np.fromiter(map(value, new), np.float64, len(new))
            self._tables[value] = table, len(self.words)
            return table


_latest = [Facts(capacity=CAPACITY, most_characters=MOST_CHARACTERS)]


def facts(words: Sequence[str]) -> tuple[Facts, INTEGERS]:
    """The facts that are remembered, and where each of some distinct words stands; all is forgotten
    when there is no room for more.
    """
    held = _latest[0]
    places = held.place(words)
    if places is None:
        held = _latest[0] = Facts(
            capacity=max(CAPACITY, 2 * len(words)),
            most_characters=max(MOST_CHARACTERS, 2 * sum(map(len, words))),
        )
        places = held.place(words)
    assert places is not None
    return held, places
