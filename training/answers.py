"""Answers to questions on images: how they are compared and scored (VQA; Antol et al. 2015)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

ENOUGH = 3  # people who say the same make an answer wholly right
ARTICLES = frozenset(("a", "an", "the"))
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(NUMBERS)} | {"none": "0"}
APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
THOUSANDS = re.compile(r"(?<=\d),(?=\d)")
WORD = re.compile(r"\d+(?:\.\d+)+|\w+")


def normal(answer: str) -> str:
    """An answer as it is compared: small letters, no signs, no articles, numbers as digits.

    The official evaluation does so by longer tables. It also writes the apostrophes of contractions
    where they were left out; here all are left out.
    """
    text = APOSTROPHE.sub("", answer.casefold())
    text = THOUSANDS.sub("", text)
    words = []
    for word in WORD.findall(text):
        word = DIGITS.get(word, word)
        if word not in ARTICLES:
            words.append(word)
    return " ".join(words)


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """The soft target of each answer: a third for everybody who gave it, 1 at most.

    Of fewer than three answers each is worth its share.
    """
    counts = Counter(map(normal, answers))
    enough = min(ENOUGH, len(answers))
    return {answer: min(1.0, count / enough) for answer, count in counts.items()}


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    """0..1 as in the official evaluation: the mean over all people of the score by the others.

    Of ten people one in agreement gives .3, two .6, three .9, four 1. A single answer is compared
    as it is; of two or three people the others must all agree.
    """
    agreeing = list(map(normal, answers)).count(normal(prediction))
    people = len(answers)
    if people == 1:
        return float(agreeing)
    if not agreeing:
        return 0.0

    enough = min(ENOUGH, people - 1)
    with_one_left_out = min(1.0, (agreeing - 1) / enough)
    with_all = min(1.0, agreeing / enough)
    return (agreeing * with_one_left_out + (people - agreeing) * with_all) / people
