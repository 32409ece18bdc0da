"""Names of persons, with a recogniser whose weights name given words exactly."""

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from filters.given_models import Given
from filters.models.persons import PersonsFilter
from filters.registry import filters_for

# the label of each word; 0 where not listed
NAMES = {"anna": 1, "schmidt": 2, "bob": 1, "o": 1, "##neil": 0, "paris": 3}
LABELS = ("O", "B-PER", "I-PER", "B-LOC")
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "dog",
    "and",
    "in",
    "with",
    ",",
    ".",
    "'",
    "(",
    ")",
    "-",
    "2",
    *NAMES,
)


def save(folder: Path, labels: tuple[str, ...] = LABELS) -> Path:
    """A BERT without layers: a token's label is in the embedding of its word."""
    from transformers import BertConfig, BertForTokenClassification, BertTokenizer

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 0,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "max_position_embeddings": 34,
    }
    model = BertForTokenClassification(
        BertConfig(vocab_size=len(WORDS), **sizes, id2label=dict(enumerate(labels)))
    )
    embeddings = model.bert.embeddings
    for table in (
        embeddings.position_embeddings,
        embeddings.token_type_embeddings,
        embeddings.word_embeddings,
    ):
        torch.nn.init.zeros_(table.weight)
    with torch.no_grad():
        for row, word in enumerate(WORDS):
            embeddings.word_embeddings.weight[row, NAMES.get(word, 0)] = 1.0
        model.classifier.weight.copy_(torch.eye(len(labels), 8))
    model.save_pretrained(folder)
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> PersonsFilter:
    return PersonsFilter.of(
        Given(
            persons=str(save(tmp_path_factory.mktemp("persons") / "model")), device="cpu", batch=4
        )
    )


def anonymous(recogniser: PersonsFilter, texts: list[str | None]) -> list[str | None]:
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    result: list[str | None] = recogniser.measure(batch).column("text.anonymous").to_pylist()
    return result


LITERAL = {
    "Anna Schmidt with a dog": "<PERSON> with a dog",
    "a dog and Anna": "a dog and <PERSON>",
    "Anna Schmidt Bob and a dog": "<PERSON> and a dog",  # beside one another: one
    "Anna and Bob": "<PERSON> and <PERSON>",
    "Anna, Bob": "<PERSON>, <PERSON>",
    "a dog (Anna  Schmidt) in Paris": "a dog (<PERSON>) in Paris",  # a place is no person
    "Oneil with a dog": "<PERSON> with a dog",  # the first piece of a word speaks for it
    "a dog in Paris": "a dog in Paris",
    "a  dog\u00a0and ANNA!": "a  dog\u00a0and <PERSON>!",
    "": "",
}


@pytest.mark.parametrize(("text", "expected"), LITERAL.items())
def test_a_text_becomes(text: str, expected: str, recogniser: PersonsFilter) -> None:
    assert anonymous(recogniser, [text]) == [expected]


def test_rows_do_not_depend_on_their_neighbours(recogniser: PersonsFilter) -> None:
    assert anonymous(recogniser, [*LITERAL, None, *LITERAL]) == [
        *LITERAL.values(),
        None,
        *LITERAL.values(),
    ]
    assert anonymous(recogniser, []) == []


def test_names_are_found_beyond_the_longest_text_of_the_model(recogniser: PersonsFilter) -> None:
    text = "a dog and " * 30 + "Anna Schmidt " + "a dog and " * 30 + "Bob"
    assert anonymous(recogniser, [text]) == [
        "a dog and " * 30 + "<PERSON> " + "a dog and " * 30 + "<PERSON>"
    ]


def test_it_travels_and_says_what_it_depends_on(recogniser: PersonsFilter, tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(recogniser))
    assert anonymous(again, ["Bob"]) == ["<PERSON>"]
    moved = PersonsFilter.of(
        Given(persons=str(save(tmp_path / "elsewhere")), device="cpu", batch=4)
    )
    assert moved.config == recogniser.config
    assert moved.folder != recogniser.folder


def test_a_model_that_names_no_persons_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", ("O", "B-ORG", "I-ORG", "B-LOC"))
    with pytest.raises(ValueError, match=r"no label names persons \(O, B-ORG, I-ORG, B-LOC\)"):
        PersonsFilter.of(Given(persons=str(folder)))


def test_without_a_recogniser_the_option_is_named() -> None:
    with pytest.raises(ValueError, match=r"add --persons, or --without text\.anonymous"):
        filters_for(["text.anonymous"])
