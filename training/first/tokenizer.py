"""WordPiece: a vocabulary built from captions, or a given vocab.txt."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from torch import Tensor

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD = re.compile(r"\w+|[^\w\s]")


def build_vocabulary(captions: Iterable[str], size: int) -> list[str]:
    """The most frequent words, then every letter met (alone and continuing), so that any word can be spelt; at most `size` pieces.

    Frequency and then alphabet settle the order, so the same captions in any order give the same vocabulary: the trainer of
    `tokenizers` numbers its letters in the order of a hash map and does not.
    """
    words: Counter[str] = Counter()
    for caption in captions:
        words.update(_WORD.findall(caption.lower()))
    letters = [letter for letter, _ in Counter("".join(words)).most_common()]
    spelling = [piece for letter in sorted(letters)[: size // 4] for piece in (letter, f"##{letter}")]
    ranked = sorted((word for word in words if len(word) > 1 and words[word] > 1), key=lambda word: (-words[word], word))
    return [*SPECIAL, *spelling, *ranked[: max(0, size - len(SPECIAL) - len(spelling))]]


class Tokenizer:
    """Texts to padded ids; lower case, as bert-base-uncased."""

    def __init__(self, vocabulary: Sequence[str], length: int) -> None:
        missing = [piece for piece in SPECIAL if piece not in vocabulary]
        if missing:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}: give the vocab.txt of a BERT")
        if vocabulary[0] != "[PAD]":
            raise ValueError("the first line of the vocabulary must be [PAD]: id 0 stands for padding")
        self.vocabulary, self.length = list(vocabulary), length
        numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self.mask_id = numbers["[MASK]"]
        self._pieces = BertWordPieceTokenizer(vocab=numbers, lowercase=True)
        self._pieces.enable_truncation(length)
        self.continues = torch.tensor([piece.startswith("##") for piece in vocabulary])
        self.special = torch.tensor([piece in SPECIAL or piece.startswith("[unused") for piece in vocabulary])

    @classmethod
    def read(cls, path: Path, length: int) -> "Tokenizer":
        """From a vocab.txt, one piece a line."""
        if not path.is_file():
            raise ValueError(f"{path}: no such vocabulary; give a vocab.txt, or none to build one from the captions")
        return cls(path.read_text(encoding="utf-8").splitlines(), length)

    def ids(self, texts: Sequence[str]) -> Tensor:
        """[n, longest] int64: [CLS] pieces [SEP], cut at `length`, 0 at padding."""
        encoded = [found.ids for found in self._pieces.encode_batch(list(texts))]
        table: NDArray[np.int64] = np.zeros((len(encoded), max(map(len, encoded), default=0)), dtype=np.int64)
        for row, numbers in enumerate(encoded):
            table[row, : len(numbers)] = numbers
        return torch.from_numpy(table)
