"""Texts to ids: a vocabulary made of captions, a vocab.txt, or the tokenizer of another model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from training.config import within
from training.corrupt import Pieces
from training.inputs import TextInput

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CAPTIONS = "captions"
BEGIN, END = "begin", "end"  # whatever a tokenizer of transformers puts there
PADDING = ("[PAD]", "<pad>")
MASKS = ("[MASK]", "<mask>")
BLIP_DROPS = re.compile(r"[.!\"()*#:;~]")  # BLIP's pre_caption
ALBEF_DROPS = re.compile(r"[,.'!?\"()*#:;~]")  # ALBEF's, which parts words at - and /
ALBEF_PARTS = re.compile(r"[-/]")


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Preprocessing of texts that belongs to a module of a model.

    `vocabulary`: "captions" makes one of at most `size` pieces from the releases; else the path of
    a vocab.txt (BERT's, lower case unless `cased`) or a tokenizer.json, or a tokenizer of
    transformers by its name or folder. `clean` "blip" and "albef": lower case, some signs dropped,
    as in their code. `words` cuts a text to so many (0: not); `length` counts pieces, with `first`
    and `last`, which stand around them; BEGIN and END ask a tokenizer of transformers for its own.
    `extra` pieces are put behind the vocabulary ([ENC], [DEC]).
    """

    vocabulary: str = CAPTIONS
    size: int = 30522
    length: int = 40
    cased: bool = False
    clean: Literal["", "blip", "albef"] = ""
    words: int = 0
    first: str = "[CLS]"
    last: str = "[SEP]"
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        within(1, 10_000_000, size=self.size, length=self.length)
        within(0, 10_000_000, words=self.words)

    def cleaned(self, text: str) -> str:
        """A text as it goes to the tokenizer."""
        if self.clean == "blip":
            text = " ".join(BLIP_DROPS.sub(" ", text.lower()).split())
        if self.clean == "albef":
            kept = ALBEF_DROPS.sub("", text.lower())
            text = " ".join(ALBEF_PARTS.sub(" ", kept).split())
        if self.words:
            text = " ".join(text.split()[: self.words])
        return text


class Tokenizer:
    """Texts to padded ids, and back."""

    def __init__(self, spec: TextSpec, backend: Backend) -> None:
        self.spec = spec
        self._backend = backend
        backend.no_padding()
        backend.add_special_tokens([piece for piece in spec.extra if self._id(piece) is None])
        backend.encode_special_tokens = True  # a caption that says "[MASK]" does not mask
        backend.enable_truncation(max(1, spec.length - len(self._around)))

        self.firsts = {piece: self._known(piece) for piece in (*spec.extra, *self._around)}
        self.padding = next((one for one in map(self._id, PADDING) if one is not None), 0)
        self.pieces = _pieces(backend)

    @property
    def backend(self) -> Backend:
        """The tokenizer of the library `tokenizers` that does the work."""
        return self._backend

    @property
    def size(self) -> int:
        """Rows that a table of words needs: the largest id and one."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def _around(self) -> list[str]:
        return [piece for piece in (self.spec.first, self.spec.last) if piece]

    def __call__(self, texts: Sequence[str]) -> TextInput:
        """[n, longest] ids: first, pieces, last; cut at the specified length, padded behind."""
        rows = [self._row(found) for found in self._encode(texts)]
        longest = max(map(len, rows), default=0)
        ids = torch.full((len(rows), longest), self.padding, dtype=torch.int64)
        valid = torch.zeros(len(rows), longest, dtype=torch.bool)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
            valid[number, : len(row)] = True
        return TextInput(ids=ids, valid=valid, pieces=self.pieces, firsts=self.firsts)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many pieces each text becomes, those around it counted."""
        return [len(found) + len(self._around) for found in self._encode(texts)]

    def text_of(self, ids: Sequence[int]) -> str:
        """The text that ids spell, special pieces left out."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def save(self, folder: Path) -> None:
        """As tokenizer.json, which every library reads."""
        self._backend.save(str(folder / "tokenizer.json"))

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        cleaned = [self.spec.cleaned(text) for text in texts]
        found = self._backend.encode_batch(cleaned, add_special_tokens=False)
        return [one.ids for one in found]

    def _row(self, ids: list[int]) -> list[int]:
        first = [self.firsts[self.spec.first]] if self.spec.first else []
        last = [self.firsts[self.spec.last]] if self.spec.last else []
        return [*first, *ids, *last]

    def _id(self, piece: str) -> int | None:
        found = self._backend.token_to_id(piece)
        return None if found is None else int(found)

    def _known(self, piece: str) -> int:
        found = self._id(piece)
        if found is None:
            raise ValueError(
                f"the vocabulary {self.spec.vocabulary} has no piece {piece}: name another in "
                f"`first` and `last`, or put it into `extra`"
            )
        return found


def make_tokenizer(
    spec: TextSpec, *, captions: Iterable[str] = (), folder: Path | None = None
) -> Tokenizer:
    """The tokenizer of a specification.

    `folder` is where `save` put one, which is then taken; `captions` are what a vocabulary of
    captions is made of.
    """
    if folder is not None:
        return Tokenizer(spec, _read(folder / "tokenizer.json"))
    if spec.vocabulary == CAPTIONS:
        return Tokenizer(spec, _own(build_vocabulary(captions, spec.size, cased=spec.cased)))
    if spec.vocabulary.endswith(".json"):
        return Tokenizer(spec, _read(Path(spec.vocabulary)))
    if spec.vocabulary.endswith(".txt"):
        return Tokenizer(spec, _wordpiece(_lines(Path(spec.vocabulary)), cased=spec.cased))
    return _of_transformers(spec)


def build_vocabulary(captions: Iterable[str], size: int, *, cased: bool = False) -> list[str]:
    """The special pieces, letters (alone and continuing), then the most frequent words.

    Words are counted as the tokenizer will meet them, so each of them can come of it; letters are
    the most frequent ones, of a quarter of the pieces at most, so that rare words can be spelt.
    Frequency and then the alphabet settle the order: captions in any order give the same pieces.
    """
    normalise, split = _own_normaliser(cased), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for caption in captions:
        found = split.pre_tokenize_str(normalise.normalize_str(caption))
        words.update(word for word, _ in found)

    letters: Counter[str] = Counter()
    for word, times in words.items():
        for letter in word:
            letters[letter] += times
    kept = _ranked(letters)[: max(0, size - len(SPECIAL)) // 4]
    spelling = [piece for letter in sorted(kept) for piece in (letter, f"##{letter}")]

    longer = [word for word in _ranked(words) if len(word) > 1 and words[word] > 1]
    room = max(0, size - len(SPECIAL) - len(spelling))
    return [*SPECIAL, *spelling, *longer[:room]]


def _ranked(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda one: (-counts[one], one))


def _own_normaliser(cased: bool) -> Any:
    """Accents stay: without them Korean falls apart into parts of letters, and é is not e."""
    lower = normalizers.BertNormalizer(lowercase=not cased, strip_accents=False)
    return normalizers.Sequence([normalizers.NFC(), lower])


def _own(vocabulary: Sequence[str], *, cased: bool = False) -> Backend:
    backend = _wordpiece(vocabulary, cased=cased)
    backend.normalizer = _own_normaliser(cased)
    return backend


def _wordpiece(vocabulary: Sequence[str], *, cased: bool) -> Backend:
    missing = [piece for piece in SPECIAL if piece not in vocabulary]
    if missing:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}: give the vocab.txt of a BERT")
    numbers = {piece: number for number, piece in enumerate(vocabulary)}
    if len(numbers) < len(vocabulary):
        raise ValueError("the vocabulary names a piece twice: give the vocab.txt of a BERT")
    backend = Backend(models.WordPiece(numbers, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(list(SPECIAL))
    return backend


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: no such vocabulary; give a vocab.txt, or {CAPTIONS!r}")
    return path.read_text(encoding="utf-8").splitlines()


def _read(path: Path) -> Backend:
    try:
        return Backend.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: is this the folder of a model?") from error
    except Exception as error:  # of the library's own kind, without a name
        raise ValueError(f"{path} is no tokenizer ({error}): export the model again") from error


def _of_transformers(spec: TextSpec) -> Tokenizer:
    from transformers import AutoTokenizer

    name = spec.vocabulary
    try:
        found = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no tokenizer {name!r}: {error}") from error
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"the tokenizer {name!r} has no fast form: it cannot be used here")
    around = {BEGIN: found.bos_token or found.eos_token, END: found.eos_token}
    first, last = around.get(spec.first, spec.first), around.get(spec.last, spec.last)
    if first is None or last is None:
        raise ValueError(
            f"the tokenizer {name!r} has no piece that ends a text: name one in `last`"
        )
    return Tokenizer(replace(spec, first=first, last=last), Backend.from_str(backend.to_str()))


def _pieces(backend: Backend) -> Pieces:
    """What masking must know: which pieces go on with a word, and which stand for no word."""
    numbers = backend.get_vocab(with_added_tokens=True)
    rows = max(numbers.values()) + 1
    continues = torch.zeros(rows, dtype=torch.bool)
    special = torch.ones(rows, dtype=torch.bool)  # ids of no piece are never put in
    begins = next((sign for sign in ("\u0120", "\u2581") if _often(numbers, sign)), "")
    added = {str(piece) for piece in backend.get_added_tokens_decoder().values() if piece.special}
    for piece, number in numbers.items():
        unused = piece.startswith("[unused")
        special[number] = piece in added or piece in SPECIAL or unused
        goes_on = not piece.startswith(begins) if begins else piece.startswith("##")
        continues[number] = goes_on and not special[number]

    masks = [numbers[piece] for piece in MASKS if piece in numbers]
    return Pieces(continues=continues, special=special, mask=masks[0] if masks else -1)


def _often(numbers: Mapping[str, int], sign: str) -> bool:
    """Whether a sign begins so many pieces that it must mean the beginning of a word."""
    return sum(piece.startswith(sign) for piece in numbers) * 10 > len(numbers)
