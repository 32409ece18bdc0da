"""How close captions come to those of people: BLEU-4, ROUGE-L and CIDEr-D, as COCO computes them.

Its own tokenizer needs Java; the few rules here tokenize captions alike. METEOR and SPICE are Java
programs that pycocoevalcap brings along: they are run where both are there.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Words = Sequence[str]
Ngram = tuple[str, ...]
Ngrams = Counter[Ngram]
Weights = dict[Ngram, float]

LONGEST = 4  # words of an n-gram (Papineni et al. 2002; Vedantam et al. 2015)
LENGTHS = range(1, LONGEST + 1)
BETA = 1.2  # how much more recall counts than precision in ROUGE-L: COCO's choice
SIGMA = 6.0  # words of difference in length that CIDEr-D forgives (Vedantam et al. 2015)
JAVA = ("meteor", "spice")
STANFORD = "stanford-corenlp-3.6.0.jar"
TOKEN = re.compile(r"n't\b|'(?:s|m|d|re|ve|ll)\b|\.\.\.|\d+(?:[.,]\d+)+|\w+?(?=n't\b)|[\w-]*\w|\S")
PUNCTUATION = frozenset(["'", '"', "`", *".?!,:;-(){}", "--", "..."])  # what COCO leaves out


def words_of(text: str) -> Words:
    """Lower-case words without punctuation, the ends of "isn't" and "dog's" cut off."""
    words = TOKEN.findall(text.lower())
    return [word for word in words if word not in PUNCTUATION]


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One generated caption and the reference captions of its image, as words."""

    words: Words
    references: Sequence[Words]


def caption_scores(captions: Sequence[str], references: Sequence[Words]) -> dict[str, float]:
    """`cider`, `bleu4` and `rouge_l`, in percent, of a caption for each image.

    CIDEr-D weighs words by how rare they are in these references, as COCO does: of one image alone
    it is 0, because there nothing is rare.
    """
    tokenized = []
    for text, texts in zip(captions, references, strict=True):
        caption = Caption(words=words_of(text), references=list(map(words_of, texts)))
        tokenized.append(caption)

    return {
        "cider": _percent(cider_d(tokenized)),
        "bleu4": _percent(bleu4(tokenized)),
        "rouge_l": _percent(rouge_l(tokenized)),
    }


def _percent(score: float) -> float:
    return round(100 * score, 2)


def ngrams(words: Words, length: int) -> Ngrams:
    """The n-grams of one length, with how often each occurs."""
    counts: Ngrams = Counter()
    for start in range(len(words) - length + 1):
        ngram = tuple(words[start : start + length])
        counts[ngram] += 1
    return counts


def bleu4(captions: Sequence[Caption]) -> float:
    """Over all captions; the reference closest in length settles the brevity penalty."""
    log_precision = 0.0
    for length in LENGTHS:
        matches, total = _clipped_matches(captions, length)
        if not matches:
            return 0.0
        log_precision += math.log(matches / total) / LONGEST

    words = sum(len(caption.words) for caption in captions)
    reference_words = sum(map(_closest_length, captions))
    brevity = min(0.0, 1 - reference_words / words)
    return math.exp(log_precision + brevity)


def _clipped_matches(captions: Sequence[Caption], length: int) -> tuple[int, int]:
    """How many n-grams of the captions a reference has, as often as it has them; of how many."""
    matches = 0
    total = 0
    for caption in captions:
        counts = ngrams(caption.words, length)
        total += counts.total()

        clip: Ngrams = Counter()
        for reference in caption.references:
            clip |= ngrams(reference, length)
        matches += (counts & clip).total()
    return matches, total


def _closest_length(caption: Caption) -> int:
    """Length of the reference that is closest in length; of two, that of the shorter one."""
    length = len(caption.words)
    lengths = sorted(map(len, caption.references))
    return min(lengths, key=lambda other: abs(other - length))


def rouge_l(captions: Sequence[Caption]) -> float:
    """The mean over captions: the longest common subsequence as precision and recall."""
    scores = list(map(_rouge_l, captions))
    return sum(scores) / len(scores)


def _rouge_l(caption: Caption) -> float:
    """The best precision and the best recall among the references, as their F-measure."""
    precision = 0.0
    recall = 0.0
    for reference in caption.references:
        common = longest_common_subsequence(caption.words, reference)
        if not common:
            continue
        precision = max(precision, common / len(caption.words))
        recall = max(recall, common / len(reference))

    if not precision:
        return 0.0
    beta = BETA**2
    return (1 + beta) * precision * recall / (recall + beta * precision)


def longest_common_subsequence(words: Words, reference: Words) -> int:
    """Its length, by dynamic programming over one row at a time."""
    lengths = [0] * (len(reference) + 1)
    for word in words:
        diagonal = 0
        for position, other in enumerate(reference, start=1):
            above = lengths[position]
            if word == other:
                lengths[position] = diagonal + 1
            else:
                lengths[position] = max(above, lengths[position - 1])
            diagonal = above
    return lengths[-1]


def cider_d(captions: Sequence[Caption]) -> float:
    """The mean over captions: 10 times the mean cosine of TF-IDF weighted n-grams."""
    frequency = _document_frequency(captions)
    log_images = math.log(len(captions))

    total = 0.0
    for caption in captions:
        weights = _tf_idf(caption.words, frequency, log_images)
        similarity = 0.0
        for reference in caption.references:
            reference_weights = _tf_idf(reference, frequency, log_images)
            penalty = _length_penalty(caption.words, reference)
            similarity += _similarity(weights, reference_weights) * penalty
        total += 10 * similarity / len(caption.references)
    return total / len(captions)


def _document_frequency(captions: Iterable[Caption]) -> Ngrams:
    """In the references of how many images each n-gram occurs."""
    frequency: Ngrams = Counter()
    for caption in captions:
        of_image: set[Ngram] = set()
        for reference in caption.references:
            for length in LENGTHS:
                of_image |= ngrams(reference, length).keys()
        frequency.update(of_image)
    return frequency


def _tf_idf(words: Words, frequency: Ngrams, log_images: float) -> list[Weights]:
    """For each length the n-grams, times the logarithm of how rare they are."""
    weights = []
    for length in LENGTHS:
        of_length = {}
        for ngram, count in ngrams(words, length).items():
            rarity = log_images - math.log(max(1, frequency[ngram]))
            of_length[ngram] = count * rarity
        weights.append(of_length)
    return weights


def _similarity(weights: Sequence[Weights], reference: Sequence[Weights]) -> float:
    """The mean over lengths of cosines, in which a caption's weights are clipped."""
    total = 0.0
    for length in range(LONGEST):
        ours = weights[length]
        theirs = reference[length]
        norm = _norm(ours) * _norm(theirs)
        if not norm:
            continue
        dot = 0.0
        for ngram in ours.keys() & theirs.keys():
            dot += min(ours[ngram], theirs[ngram]) * theirs[ngram]
        total += dot / norm
    return total / LONGEST


def _length_penalty(words: Words, reference: Words) -> float:
    """A Gaussian of the difference in length, which COCO counts in bigrams."""
    bigrams = max(0, len(words) - 1)
    reference_bigrams = max(0, len(reference) - 1)
    difference = (bigrams - reference_bigrams) / SIGMA
    return math.exp(-(difference**2) / 2)


def _norm(weights: Mapping[Ngram, float]) -> float:
    squares = sum(weight**2 for weight in weights.values())
    return math.sqrt(squares)


def java_scores(
    captions: Sequence[str], references: Sequence[Words]
) -> tuple[dict[str, float], dict[str, str]]:
    """`meteor` and `spice` in percent, as far as they can be had; and why the others cannot."""
    tokenized = {}
    tokenized_references = {}
    for row, texts in enumerate(references):
        tokenized[row] = [_tokenized(captions[row])]
        tokenized_references[row] = list(map(_tokenized, texts))

    scores = {}
    skipped = java_missing()
    for name in JAVA:
        if name in skipped:
            continue
        module = importlib.import_module(f"pycocoevalcap.{name}.{name}")
        scorer = getattr(module, name.capitalize())()
        score, _ = scorer.compute_score(tokenized_references, tokenized)
        scores[name] = _percent(float(score))
    return scores, skipped


def _tokenized(text: str) -> str:
    return " ".join(words_of(text))


def java_missing() -> dict[str, str]:
    """What METEOR and SPICE lack here, by name."""
    if shutil.which("java") is None:
        return dict.fromkeys(JAVA, "needs Java, which is not installed")

    package = importlib.util.find_spec("pycocoevalcap")
    if package is None:
        return dict.fromkeys(JAVA, "needs the package pycocoevalcap")

    (folder,) = package.submodule_search_locations or [""]
    models = Path(folder) / "spice" / "lib" / STANFORD
    if models.is_file():
        return {}
    fetch = "python -m pycocoevalcap.spice.get_stanford_models"
    return {"spice": f"needs the models of Stanford CoreNLP 3.6.0: {fetch}"}
