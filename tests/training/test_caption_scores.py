"""Scores of captions on literal sentences, against the code of COCO's own evaluation."""

import contextlib
import io
import shutil

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from training.evaluate import caption_scores as scores
from training.evaluate.caption_scores import caption_scores, java_missing, words_of

CAPTIONS = [
    "a brown dog runs through the tall grass",
    "Two men in red shirts.",
    "a a a a",
    "",
    "a child",
]
REFERENCES = [
    [
        "A brown dog is running through tall, green grass .",
        "The dog runs through the grass.",
        "a dog",
    ],
    ["Two men wearing red shirts stand on a beach", "Two guys on the beach, in red."],
    ["A girl's ball rolls away", "A girl isn't looking"],
    ["nobody is here", "An empty street"],
    ["A child"],
]


def _coco(captions: list[str], references: list[list[str]]) -> dict[str, float]:
    """The same by pycocoevalcap, on words cut alike."""
    given = {n: [" ".join(words_of(one)) for one in row] for n, row in enumerate(references)}
    made = {n: [" ".join(words_of(one))] for n, one in enumerate(captions)}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu = Bleu(4).compute_score(given, made)[0][3]
    return {
        "cider": 100 * Cider().compute_score(given, made)[0],
        "bleu4": 100 * bleu,
        "rouge_l": 100 * Rouge().compute_score(given, made)[0],
    }


@pytest.mark.parametrize("count", [5, 3, 2])
def test_scores_are_those_of_coco(count: int) -> None:
    captions, references = CAPTIONS[:count], REFERENCES[:count]
    found = caption_scores(captions, references)
    assert found == pytest.approx(_coco(captions, references), abs=0.006)


def test_captions_of_people_score_full_marks_against_themselves() -> None:
    found = caption_scores(
        ["a dog runs on grass", "two men drink tea"],
        [["A dog runs on grass."], ["Two men drink tea"]],
    )
    # CIDEr-D of a sentence with itself is 10 (that is 1,000 in percent)
    assert found == {"cider": 1000.0, "bleu4": 100.0, "rouge_l": 100.0}


def test_captions_without_a_common_word_score_nothing() -> None:
    found = caption_scores(["green tea", "blue sky"], [["A dog runs"], ["Two men"]])
    assert found == {"cider": 0.0, "bleu4": 0.0, "rouge_l": 0.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog's ball isn't red.", "a dog 's ball is n't red"),
        ("black-and-white , 4-wheeler; T-shirt", "black-and-white 4-wheeler t-shirt"),
        ('He says: "hi" ... (1,000 times)', "he says hi 1,000 times"),
        ("été à 3.5 m!?", "été à 3.5 m"),
        (" . ", ""),
    ],
)
def test_words_are_cut_as_the_treebank_does(text: str, words: str) -> None:
    assert words_of(text) == words.split()


def test_without_java_two_scores_are_left_out_and_it_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    reason = "needs Java, which is not installed"
    assert scores.java_scores(["a"], [["a"]]) == ({}, {"meteor": reason, "spice": reason})


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program")
def test_meteor_where_java_is() -> None:
    if "meteor" in java_missing():
        pytest.fail(java_missing()["meteor"])
    found, _ = scores.java_scores(["a brown dog runs"], [["a brown dog runs"]])
    assert found["meteor"] == 100.0
