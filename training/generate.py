"""Captions, word by word: greedy, by beams, or drawn from the nucleus, with cached keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from training.attention import Cache
from training.heads import at_least_float
from training.model import Model
from training.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a text is chosen. Lengths count pieces behind the prompt, the end among them.

    `repetition` divides the logit of a piece that was there before (Keskar et al. 2019; BLIP: 1.1);
    `length_penalty` is the power of the length by which a beam's log probability is divided.
    """

    how: Literal["greedy", "beam", "nucleus"] = "greedy"
    longest: int = 20
    shortest: int = 0
    beams: int = 3
    nucleus: float = 0.9
    repetition: float = 1.0
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.longest or self.longest < 1:
            raise ValueError(f"lengths are {self.shortest} to {self.longest}: give 0 <= a <= b")
        if not 0 < self.nucleus <= 1:
            raise ValueError(f"nucleus is {self.nucleus}: it is a share of probability in 0..1")
        if self.beams < 1:
            raise ValueError(f"beams is {self.beams}: at least 1 is needed")


class Writer:
    """A pass that decodes, and the head that says its words.

    Of the pass's inputs the last is the word embedding; what stands before it, and what it reads,
    is given once as tokens.
    """

    def __init__(self, model: Model, *, decoder: str, head: str, end: int) -> None:
        self.model = model
        self.decoder = decoder
        self.head = head
        self.end = end
        self.words = model.spec.passes[decoder].inputs[-1]

    @torch.no_grad()
    def write(
        self,
        prompt: Tensor,
        decoding: Decoding,
        *,
        before: Sequence[Tokens] = (),
        reads: Tokens | None = None,
        draws: Tensor | None = None,
    ) -> Tensor:
        """prompt [n, p] ids, all of one length -> [n, longest] ids, the end repeated behind it.

        `before` are tokens that stand before the words, `reads` what cross-attention looks at: [n,
        ...] each. `draws` [n, longest] in 0..1 settle a nucleus: a text depends on its own row
        alone.
        """
        if decoding.how == "beam":
            return self._beams(prompt, decoding, before, reads)
        if decoding.how == "nucleus" and draws is None:
            raise ValueError("a nucleus needs draws, so that captions can be made again")

        cache = Cache()
        logits = self._first(prompt, before, reads, cache)
        written = prompt.new_full((len(prompt), decoding.longest), self.end)
        ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
        for place in range(decoding.longest):
            said = torch.cat([prompt, written[:, :place]], dim=1)
            logits = self._shaped(logits, said, place, decoding)
            if decoding.how == "greedy" or draws is None:
                piece = logits.argmax(dim=1)
            else:
                piece = from_nucleus(logits, decoding.nucleus, draws[:, place])
            piece = piece.masked_fill(ended, self.end)
            written[:, place] = piece
            ended = ended | (piece == self.end)
            if bool(ended.all()):
                break
            logits = self._next(piece, prompt.shape[1] + place, reads, cache)
        return written

    def _first(
        self,
        prompt: Tensor,
        before: Sequence[Tokens],
        reads: Tokens | None,
        cache: Cache,
        rows: Tensor | None = None,
    ) -> Tensor:
        words = self.model.embed(self.words, prompt)
        tokens = self.model.run(self.decoder, [*before, words], reads, cache, rows)
        return self._logits(tokens)

    def _next(
        self,
        piece: Tensor,
        place: int,
        reads: Tokens | None,
        cache: Cache,
        rows: Tensor | None = None,
    ) -> Tensor:
        words = self.model.embed(self.words, piece[:, None], None, place)
        return self._logits(self.model.run(self.decoder, [words], reads, cache, rows))

    def _logits(self, tokens: Tokens) -> Tensor:
        return at_least_float(self.model.head(self.head, tokens.x[:, -1]))

    def _shaped(self, logits: Tensor, said: Tensor, place: int, decoding: Decoding) -> Tensor:
        if decoding.repetition != 1.0:
            there = logits.gather(1, said)
            lowered = torch.where(
                there > 0, there / decoding.repetition, there * decoding.repetition
            )
            logits = logits.scatter(1, said, lowered)
        if place < decoding.shortest - 1:
            logits = logits.clone()
            logits[:, self.end] = -torch.inf
        return logits

    def _beams(
        self,
        prompt: Tensor,
        decoding: Decoding,
        before: Sequence[Tokens],
        reads: Tokens | None,
    ) -> Tensor:
        """The best of `beams` continuations kept side by side, by log probability a piece."""
        beams = Beams(prompt, decoding, self.end)
        rows = beams.rows
        before = [tokens[rows] for tokens in before]

        cache = Cache()
        logits = self._first(prompt[rows], before, reads, cache, rows)
        for place in range(decoding.longest):
            logits = self._shaped(logits, beams.said(place), place, decoding)
            moved = beams.grow(F.log_softmax(logits, dim=1), place)
            if beams.settled():
                break
            cache = cache[moved]
            piece = beams.written[:, place]
            logits = self._next(piece, prompt.shape[1] + place, reads, cache, rows)
        return beams.best


class Beams:
    """Texts of every row that are still written, `beams` of each, and the best that has ended."""

    def __init__(self, prompt: Tensor, decoding: Decoding, end: int) -> None:
        self.decoding = decoding
        self.end = end
        n, beams = len(prompt), decoding.beams
        self.rows = torch.arange(n, device=prompt.device).repeat_interleave(beams)
        self.prompt = prompt[self.rows]
        self.written = prompt.new_full((n * beams, decoding.longest), end)
        self.best = prompt.new_full((n, decoding.longest), end)

        nothing = torch.full((n, beams), -torch.inf, device=prompt.device, dtype=torch.float64)
        self.best_score = nothing[:, 0].clone()
        self.scores = nothing
        self.scores[:, 0] = 0.0  # at first all beams are one

    def said(self, place: int) -> Tensor:
        """Prompts, and what was written before `place`."""
        return torch.cat([self.prompt, self.written[:, :place]], dim=1)

    def grow(self, log_probability: Tensor, place: int) -> Tensor:
        """One more piece for each beam: [n x beams, vocab] -> which beam each goes on from."""
        n, beams = self.scores.shape
        vocabulary = log_probability.shape[1]
        total = self.scores.view(-1, 1) + log_probability

        # twice as many as there are beams: even if each beam ends, as many go on
        found, at = total.view(n, -1).topk(2 * beams, dim=1)
        first = torch.arange(0, n * beams, beams, device=at.device)
        origin = at // vocabulary + first[:, None]
        piece = at % vocabulary
        self._keep_best(found, origin, piece, place)

        going_on = found.masked_fill(piece == self.end, -torch.inf)
        self.scores, order = going_on.topk(beams, dim=1)
        moved = origin.gather(1, order).flatten()
        self.written = self.written[moved]
        self.written[:, place] = piece.gather(1, order).flatten()
        return moved

    def _keep_best(self, found: Tensor, origin: Tensor, piece: Tensor, place: int) -> None:
        """A text that ends here, if it is better than the best before; at last any text ends."""
        ended = found
        if place < self.decoding.longest - 1:
            ended = found.masked_fill(piece != self.end, -torch.inf)
        ended = ended / (place + 1) ** self.decoding.length_penalty
        score, which = ended.max(dim=1, keepdim=True)

        text = self.written[origin.gather(1, which).squeeze(1)]
        text[:, place] = piece.gather(1, which).squeeze(1)
        better = score.squeeze(1) > self.best_score
        self.best = torch.where(better[:, None], text, self.best)
        self.best_score = torch.where(better, score.squeeze(1), self.best_score)

    def settled(self) -> bool:
        """Whether no text that is still written can become better than the best."""
        # log probabilities only fall, and no length divides them by more than the longest
        power = max(0.0, self.decoding.length_penalty)
        hope = self.scores.amax(dim=1) / self.decoding.longest**power
        return bool((hope < self.best_score).all())


def from_nucleus(logits: Tensor, share: float, draw: Tensor) -> Tensor:
    """A piece from the likeliest ones that together reach `share` (Holtzman et al. 2020).

    logits [n, vocab], draw [n] in 0..1 -> [n]; equal logits stand in the vocabulary's order.
    """
    probability, order = logits.softmax(dim=1).sort(dim=1, descending=True, stable=True)
    before = probability.cumsum(dim=1) - probability
    kept = probability.masked_fill(before >= share, 0.0)
    ends = kept.cumsum(dim=1)
    at = draw.to(ends)[:, None] * ends[:, -1:]
    place = torch.searchsorted(ends, at, right=True)
    last = (kept > 0).sum(dim=1, keepdim=True) - 1
    return order.gather(1, torch.minimum(place, last)).squeeze(1)
