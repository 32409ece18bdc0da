"""Words with weights: what speaks for web interfaces and against a description, and which words
name nothing.
"""

from functools import lru_cache
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
LONGEST_RUN = 3  # words


@lru_cache(maxsize=1)
def interface_words() -> dict[str, float]:
    """Weight (0 to 1) of each single word of interfaces, commerce, law, credits and
    placeholders.
    """
    return {word: weight for word, weight in _weighed().items() if "_" not in word}


@lru_cache(maxsize=1)
def interface_runs() -> dict[str, float]:
    """Weight of each run of two or three words, joined by single spaces."""
    return {
        word.replace("_", " "): weight
        for word, weight in _weighed().items()
        if "_" in word and word.count("_") < LONGEST_RUN
    }


@lru_cache(maxsize=1)
def function_words() -> frozenset[str]:
    """English words that hold a sentence together and name nothing."""
    return frozenset(_lines("function_words.txt"))


@lru_cache(maxsize=1)
def calls() -> frozenset[str]:
    """Verbs that open a call to action; captions open with them only before "of", "from" and the
    like.
    """
    return frozenset(_lines("calls.txt"))


@lru_cache(maxsize=1)
def file_words() -> frozenset[str]:
    """What only cameras and programs write into names of files."""
    return frozenset(_lines("file_words.txt"))


@lru_cache(maxsize=1)
def file_words_also() -> frozenset[str]:
    """Words that stand in names of files and in captions alike."""
    return frozenset(_lines("file_words_also.txt"))


@lru_cache(maxsize=1)
def prose_words() -> frozenset[str]:
    """Words of interfaces and shops that may name something within a sentence: company, newsletter,
    archive.
    """
    return frozenset(
        word
        for kind, word, weight in _entries()
        if kind in ("interface", "commerce") and weight <= 0.6
    )


def _weighed() -> dict[str, float]:
    """The largest weight of each entry."""
    weights: dict[str, float] = {}
    for _, word, weight in _entries():
        weights[word] = max(weight, weights.get(word, 0.0))
    return weights


@lru_cache(maxsize=1)
def _entries() -> list[tuple[str, str, float]]:
    """Kind, word or run of words, and weight of each entry."""
    entries = []
    kind, weight = "", 0.0
    for line in _text("interface_words.txt"):
        if line.startswith("["):
            kind, weight = line.strip("[]").split()[0], float(line.strip("[]").split()[1])
            continue
        entries += [(kind, word, weight) for word in line.split()]
    return entries


def _lines(name: str) -> list[str]:
    return [word for line in _text(name) for word in line.split()]


def _text(name: str) -> list[str]:
    """The lines of a data file without its header."""
    return [
        line.strip()
        for line in (DATA / name).read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
