"""Answers to questions on images: how they are compared and scored (VQA; Antol et al. 2015)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

ENOUGH = 3  # people who say the same make an answer wholly right
ARTICLES = frozenset(("a", "an", "the"))
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(WORDS)}}
APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
THOUSANDS = re.compile(r"(?<=\d),(?=\d)")
WORD = re.compile(r"\d+(?:\.\d+)+|\w+")


def normal(answer: str) -> str:
    """An answer as it is compared: small letters, no signs, no articles, numbers as digits.

    The official evaluation does so by longer tables. It also writes the apostrophes of contractions
    where they were left out; here all are left out.
    """
    text = THOUSANDS.sub("", APOSTROPHE.sub("", answer.casefold()))
    words = [DIGITS.get(word, word) for word in WORD.findall(text)]
    return " ".join(word for word in words if word not in ARTICLES)


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """What each answer is worth as a target: a third for everybody who gave it, 1 at most.

    Of fewer than three answers each is worth its share.
    """
    counts = Counter(map(normal, answers))
    enough = min(ENOUGH, len(answers))
    return {answer: min(1.0, count / enough) for answer, count in counts.items()}


def accuracy(said: str, answers: Sequence[str]) -> float:
    """0..1 as the official evaluation has it: the mean over all people of what the others make it.

    Of ten people one in agreement gives .3, two .6, three .9, four 1. A single answer is compared
    as it is; of two or three people the others must all agree.
    """
    given = list(map(normal, answers))
    if len(given) == 1:
        return float(normal(said) == given[0])
    agreed = given.count(normal(said))
    enough = min(ENOUGH, len(given) - 1)
    left_out = min(1.0, (agreed - 1) / enough) if agreed else 0.0
    kept = min(1.0, agreed / enough)
    return (agreed * left_out + (len(given) - agreed) * kept) / len(given)
