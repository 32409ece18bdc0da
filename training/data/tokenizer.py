"""Texts to ids: a vocabulary made of captions, a vocab.txt, or the tokenizer of another model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from training.config import within
from training.corrupt import Pieces
from training.inputs import TextInput

CLS, SEP = "[CLS]", "[SEP]"
SPECIAL = ("[PAD]", "[UNK]", CLS, SEP, "[MASK]")
CAPTIONS = "captions"
BEGIN, END = "begin", "end"  # whatever a tokenizer of transformers puts there
PADDING = ("[PAD]", "<pad>")
MASKS = ("[MASK]", "<mask>")
WORD_STARTS = ("\u0120", "\u2581")  # of byte-level BPE and of SentencePiece
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
    and `last`, which stand around them; BEGIN and END ask a tokenizer of transformers for its own,
    and so do BERT's [CLS] and [SEP] where it has none of that name (RoBERTa, CLIP). `extra` pieces
    are put behind the vocabulary ([ENC], [DEC]).
    """

    vocabulary: str = CAPTIONS
    size: int = 30522
    length: int = 40
    cased: bool = False
    clean: Literal["", "blip", "albef"] = ""
    words: int = 0
    first: str = CLS
    last: str = SEP
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        within(1, 10_000_000, size=self.size, length=self.length)
        within(0, 10_000_000, words=self.words)

    def cleaned(self, text: str) -> str:
        """A text as it goes to the tokenizer."""
        if self.clean == "blip":
            text = BLIP_DROPS.sub(" ", text.lower())
        if self.clean == "albef":
            text = ALBEF_DROPS.sub("", text.lower())
            text = ALBEF_PARTS.sub(" ", text)
        if self.clean or self.words:
            words = text.split()
            text = " ".join(words[: self.words or None])
        return text


class Tokenizer:
    """Texts to padded ids, and back."""

    def __init__(self, spec: TextSpec, backend: Backend) -> None:
        self.spec = spec
        self._backend = backend
        backend.no_padding()
        new = [piece for piece in spec.extra if self._id(piece) is None]
        backend.add_special_tokens(new)
        backend.encode_special_tokens = True  # a caption that says "[MASK]" does not mask

        ends = [piece for piece in (spec.first, spec.last) if piece]
        named = [*spec.extra, *ends]
        self.firsts = {piece: self._known_id(piece) for piece in named}
        self._first = [self.firsts[spec.first]] if spec.first else []
        self._last = [self.firsts[spec.last]] if spec.last else []
        backend.enable_truncation(max(1, spec.length - len(ends)))

        padding = [id_ for id_ in map(self._id, PADDING) if id_ is not None]
        self.padding = padding[0] if padding else 0
        self.pieces = _pieces(backend)

    @property
    def backend(self) -> Backend:
        """The tokenizer of the library `tokenizers` that does the work."""
        return self._backend

    @property
    def size(self) -> int:
        """Rows that a table of words needs: the largest id and one."""
        ids = self._backend.get_vocab(with_added_tokens=True).values()
        return max(ids) + 1

    def __call__(self, texts: Sequence[str]) -> TextInput:
        """[n, longest] ids: first, pieces, last; cut at the specified length, padded behind."""
        rows = []
        for pieces in self._encode(texts):
            rows.append(torch.tensor([*self._first, *pieces, *self._last], dtype=torch.int64))

        shape = len(rows), max(map(len, rows), default=0)
        ids = torch.full(shape, self.padding)
        valid = torch.zeros(shape, dtype=torch.bool)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            valid[index, : len(row)] = True
        return TextInput(ids=ids, valid=valid, pieces=self.pieces, firsts=self.firsts)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many pieces each text becomes, first and last counted."""
        ends = len(self._first) + len(self._last)
        return [len(pieces) + ends for pieces in self._encode(texts)]

    def text_of(self, ids: Sequence[int]) -> str:
        """The text that ids spell, special pieces left out."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def save(self, folder: Path) -> None:
        """As tokenizer.json, which every library reads."""
        self._backend.save(str(folder / "tokenizer.json"))

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        cleaned = list(map(self.spec.cleaned, texts))
        encodings = self._backend.encode_batch(cleaned, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _id(self, piece: str) -> int | None:
        id_: int | None = self._backend.token_to_id(piece)
        return id_

    def _known_id(self, piece: str) -> int:
        id_ = self._id(piece)
        if id_ is None:
            raise ValueError(
                f"the vocabulary {self.spec.vocabulary} has no piece {piece}: name another in "
                f"`first` and `last`, or put it into `extra`"
            )
        return id_


def make_tokenizer(
    spec: TextSpec, *, captions: Iterable[str] = (), folder: Path | None = None
) -> Tokenizer:
    """The tokenizer of a specification.

    `folder` is where `save` put one, which is then taken; `captions` are what a vocabulary of
    captions is made of.
    """
    path = Path(spec.vocabulary)
    if folder is not None:
        return Tokenizer(spec, _read(folder / "tokenizer.json"))
    if spec.vocabulary == CAPTIONS:
        vocabulary = build_vocabulary(captions, spec.size, cased=spec.cased)
        return Tokenizer(spec, _wordpiece(vocabulary, _own_normalizer(spec.cased)))
    if path.suffix == ".json":
        return Tokenizer(spec, _read(path))
    if path.suffix == ".txt":
        normalizer = normalizers.BertNormalizer(lowercase=not spec.cased)
        return Tokenizer(spec, _wordpiece(_vocabulary(path), normalizer))
    return _of_transformers(spec)


def build_vocabulary(captions: Iterable[str], size: int, *, cased: bool = False) -> list[str]:
    """The special pieces, letters (alone and continuing), then the most frequent words.

    Words are counted as the tokenizer will meet them, so each of them can come of it; letters are
    the most frequent ones, of a quarter of the pieces at most, so that rare words can be spelt.
    Frequency and then the alphabet settle the order: captions in any order give the same pieces.
    """
    normalizer = _own_normalizer(cased)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for caption in captions:
        normalized = normalizer.normalize_str(caption)
        for word, _ in splitter.pre_tokenize_str(normalized):
            words[word] += 1

    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    most = max(0, size - len(SPECIAL)) // 4
    spelling = []
    for letter in sorted(_ranked(letters)[:most]):
        spelling += [letter, f"##{letter}"]

    frequent = []
    for word in _ranked(words):
        if len(word) > 1 and words[word] > 1:
            frequent.append(word)
    room = max(0, size - len(SPECIAL) - len(spelling))
    return [*SPECIAL, *spelling, *frequent[:room]]


def _ranked(counts: Mapping[str, int]) -> list[str]:
    """By how often, the most frequent first, then by the alphabet."""
    return sorted(counts, key=lambda text: (-counts[text], text))


def _own_normalizer(cased: bool) -> Any:
    """Accents stay: without them Korean falls apart into parts of letters, and é is not e."""
    lower = normalizers.BertNormalizer(lowercase=not cased, strip_accents=False)
    return normalizers.Sequence([normalizers.NFC(), lower])


def _wordpiece(vocabulary: Sequence[str], normalizer: Any) -> Backend:
    """BERT's tokenizer with some normalizer."""
    missing = [piece for piece in SPECIAL if piece not in vocabulary]
    if missing:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}: give the vocab.txt of a BERT")
    ids = {piece: id_ for id_, piece in enumerate(vocabulary)}
    if len(ids) < len(vocabulary):
        raise ValueError("the vocabulary names a piece twice: give the vocab.txt of a BERT")

    backend = Backend(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(list(SPECIAL))
    return backend


def _vocabulary(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: no such vocabulary; give a vocab.txt, or {CAPTIONS!r}")
    return path.read_text(encoding="utf-8").splitlines()


def _read(path: Path) -> Backend:
    try:
        text = path.read_text(encoding="utf-8")
        return Backend.from_str(text)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: is this the folder of a model?") from error
    except Exception as error:  # of the library's own kind, without a name
        raise ValueError(f"{path} is no tokenizer ({error}): export the model again") from error


def _of_transformers(spec: TextSpec) -> Tokenizer:
    from transformers import AutoTokenizer

    name = spec.vocabulary
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no tokenizer {name!r}: {error}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"the tokenizer {name!r} has no fast form: it cannot be used here")

    begin = tokenizer.bos_token or tokenizer.eos_token
    own = {BEGIN: begin, END: tokenizer.eos_token}
    if backend.token_to_id(CLS) is None:
        own[CLS] = tokenizer.cls_token or begin
        own[SEP] = tokenizer.sep_token or tokenizer.eos_token
    first = own.get(spec.first, spec.first)
    last = own.get(spec.last, spec.last)
    if first is None or last is None:
        raise ValueError(
            f"the tokenizer {name!r} has no piece that ends a text: name one in `last`"
        )
    spec = replace(spec, first=first, last=last)
    return Tokenizer(spec, Backend.from_str(backend.to_str()))


def _pieces(backend: Backend) -> Pieces:
    """What masking must know: which pieces go on with a word, and which stand for no word."""
    ids = backend.get_vocab(with_added_tokens=True)
    rows = max(ids.values()) + 1
    continues = torch.zeros(rows, dtype=torch.bool)
    special = torch.ones(rows, dtype=torch.bool)  # ids of no piece are never put in

    begins = _word_start(ids)
    specials = set(SPECIAL)
    for added in backend.get_added_tokens_decoder().values():
        if added.special:
            specials.add(str(added))
    for piece, id_ in ids.items():
        special[id_] = piece in specials or piece.startswith("[unused")
        goes_on = not piece.startswith(begins) if begins else piece.startswith("##")
        continues[id_] = goes_on and not special[id_]

    mask = -1
    for piece in reversed(MASKS):
        mask = ids.get(piece, mask)
    return Pieces(continues=continues, special=special, mask=mask)


def _word_start(pieces: Collection[str]) -> str:
    """The sign that begins a tenth of the pieces, as none but the start of a word does; or ""."""
    for sign in WORD_STARTS:
        starting = [piece for piece in pieces if piece.startswith(sign)]
        if len(starting) * 10 > len(pieces):
            return sign
    return ""
