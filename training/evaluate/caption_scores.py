"""How close captions come to those of people: BLEU-4, ROUGE-L and CIDEr-D, as COCO computes them.

Its own code needs Java to cut sentences into words; the few rules here cut captions alike. METEOR
and SPICE are Java programs, which pycocoevalcap brings along: they are asked where both are there.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Ngram = tuple[str, ...]
Ngrams = Counter[Ngram]

LONGEST = 4  # words of an n-gram (Papineni et al. 2002; Vedantam et al. 2015)
BETA = 1.2  # how much more recall counts than precision in ROUGE-L: COCO's choice
SIGMA = 6.0  # words of difference in length that CIDEr-D forgives (Vedantam et al. 2015)
JAVA = ("meteor", "spice")
TOKEN = re.compile(r"n't\b|'(?:s|m|d|re|ve|ll)\b|\.\.\.|\d+(?:[.,]\d+)+|\w+?(?=n't\b)|[\w-]*\w|\S")
SIGNS = frozenset(["'", '"', "`", *".?!,:;-(){}", "--", "..."])  # what COCO leaves out


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation, the ends of "isn't" and "dog's" cut off."""
    return [word for word in TOKEN.findall(text.lower()) if word not in SIGNS]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One caption and what people said of the same image, as words."""

    caption: Sequence[str]
    references: Sequence[Sequence[str]]


def caption_scores(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """`cider`, `bleu4` and `rouge_l`, in percent, of a caption for each image.

    CIDEr-D weighs words by how rare they are in the references given, as COCO does: of one image
    alone it is 0, because there nothing is rare.
    """
    scored = [
        Scored(caption=words_of(caption), references=[words_of(one) for one in given])
        for caption, given in zip(captions, references, strict=True)
    ]
    return {
        "cider": round(100 * cider_d(scored), 2),
        "bleu4": round(100 * bleu4(scored), 2),
        "rouge_l": round(100 * rouge_l(scored), 2),
    }


def ngrams(words: Sequence[str], length: int) -> Ngrams:
    """The n-grams of one length, with how often each comes."""
    return Counter(tuple(words[at : at + length]) for at in range(len(words) - length + 1))


def bleu4(scored: Sequence[Scored]) -> float:
    """Of all captions together; the reference closest in length settles the brevity penalty."""
    written = sum(len(one.caption) for one in scored)
    wanted = sum(_closest_length(one) for one in scored)

    log_precision = 0.0
    for length in range(1, LONGEST + 1):
        right = said = 0
        for one in scored:
            mine = ngrams(one.caption, length)
            most: Ngrams = Counter()
            for reference in one.references:
                most |= ngrams(reference, length)
            right += (mine & most).total()
            said += mine.total()
        if not right:
            return 0.0
        log_precision += math.log(right / said) / LONGEST

    brevity = min(0.0, 1 - wanted / written)
    return math.exp(log_precision + brevity)


def _closest_length(one: Scored) -> int:
    lengths = [len(reference) for reference in one.references]
    return min(lengths, key=lambda length: (abs(length - len(one.caption)), length))


def rouge_l(scored: Sequence[Scored]) -> float:
    """The mean over captions: the longest common subsequence as precision and recall."""
    return sum(map(_rouge_of, scored)) / len(scored)


def _rouge_of(one: Scored) -> float:
    common = [_common(one.caption, reference) for reference in one.references]
    precision = max(common) / max(1, len(one.caption))
    recall = max(
        shared / max(1, len(reference))
        for shared, reference in zip(common, one.references, strict=True)
    )
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Words of the longest common subsequence."""
    best = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, also in enumerate(other, start=1):
            above = best[place]
            best[place] = before + 1 if word == also else max(above, best[place - 1])
            before = above
    return best[-1]


def cider_d(scored: Sequence[Scored]) -> float:
    """The mean over captions, 10 times the mean cosine of n-grams weighed by their rarity."""
    held: Ngrams = Counter()  # in the references of how many images an n-gram stands
    for one in scored:
        held.update({gram for words in one.references for gram in _all_ngrams(words)})
    images = math.log(len(scored))

    total = 0.0
    for one in scored:
        mine = _weighed(one.caption, held, images)
        found = [
            _likeness(mine, _weighed(words, held, images), _bigrams(one.caption) - _bigrams(words))
            for words in one.references
        ]
        total += 10 * sum(found) / len(found)
    return total / len(scored)


def _all_ngrams(words: Sequence[str]) -> Ngrams:
    return sum((ngrams(words, length) for length in range(1, LONGEST + 1)), Counter())


def _bigrams(words: Sequence[str]) -> int:
    return max(0, len(words) - 1)


def _weighed(words: Sequence[str], held: Ngrams, images: float) -> list[dict[Ngram, float]]:
    """For each length the n-grams, times the logarithm of how rare they are."""
    weighed = []
    for length in range(1, LONGEST + 1):
        counts = ngrams(words, length)
        rare = {gram: images - math.log(max(1, held[gram])) for gram in counts}
        weighed.append({gram: count * rare[gram] for gram, count in counts.items()})
    return weighed


def _likeness(
    mine: Sequence[Mapping[Ngram, float]], other: Sequence[Mapping[Ngram, float]], longer: int
) -> float:
    """The mean over lengths of clipped cosines, less where the texts differ in length."""
    total = 0.0
    for one, two in zip(mine, other, strict=True):
        norm = _norm(one) * _norm(two)
        if norm:
            shared = one.keys() & two.keys()
            total += sum(min(one[gram], two[gram]) * two[gram] for gram in shared) / norm
    return total / LONGEST * math.exp(-(longer**2) / (2 * SIGMA**2))


def _norm(weighed: Mapping[Ngram, float]) -> float:
    return math.sqrt(sum(weight**2 for weight in weighed.values()))


def java_scores(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, wanted: bool = True
) -> tuple[dict[str, float], dict[str, str]]:
    """`meteor` and `spice` in percent, as far as they can be had; and why the others cannot."""
    skipped = java_missing() if wanted else dict.fromkeys(JAVA, "not asked for")
    given = {row: [" ".join(words_of(one)) for one in all_] for row, all_ in enumerate(references)}
    made = {row: [" ".join(words_of(one))] for row, one in enumerate(captions)}
    scores = {}
    for name in JAVA:
        if name not in skipped:
            module = importlib.import_module(f"pycocoevalcap.{name}.{name}")
            scorer = getattr(module, name.capitalize())()
            score, _ = scorer.compute_score(given, made)
            scores[name] = round(100 * float(score), 2)
    return scores, skipped


def java_missing() -> dict[str, str]:
    """What METEOR and SPICE lack here, by name."""
    if shutil.which("java") is None:
        return dict.fromkeys(JAVA, "needs Java, which is not installed")
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None:
        return dict.fromkeys(JAVA, "needs the package pycocoevalcap")
    (folder,) = found.submodule_search_locations or [""]
    if not (Path(folder) / "spice" / "lib" / "stanford-corenlp-3.6.0.jar").is_file():
        fetch = "python -m pycocoevalcap.spice.get_stanford_models"
        return {"spice": f"needs the models of Stanford CoreNLP 3.6.0: {fetch}"}
    return {}
