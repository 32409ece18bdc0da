"""Captions, piece by piece: greedy, beam search or nucleus sampling, with a key-value cache."""

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


class TextGenerator:
    """Generates texts by a pass that decodes and the head with its logits.

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
    def generate(
        self,
        prompt: Tensor,
        decoding: Decoding,
        *,
        before: Sequence[Tokens] = (),
        reads: Tokens | None = None,
        draws: Tensor | None = None,
    ) -> Tensor:
        """prompt [n, p] ids, all of one length -> [n, longest] ids, the end repeated behind it.

        `before` are tokens in front of the words, `reads` those of cross-attention: [n, ...] each.
        `draws` [n, longest] in 0..1 settle nucleus sampling: a text depends on its own row alone.
        """
        if decoding.how == "beam":
            return self._beam_search(prompt, decoding, before, reads)
        if decoding.how == "nucleus" and draws is None:
            raise ValueError("a nucleus needs draws, so that captions can be made again")

        cache = Cache()
        logits = self._prefill(prompt, before, reads, cache)
        generated = prompt.new_full((len(prompt), decoding.longest), self.end)
        ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
        for step in range(decoding.longest):
            ids = torch.cat([prompt, generated[:, :step]], dim=1)
            logits = self._adjust(logits, ids, step, decoding)
            if decoding.how == "greedy" or draws is None:
                piece = logits.argmax(dim=1)
            else:
                piece = sample_nucleus(logits, decoding.nucleus, draws[:, step])

            piece = piece.masked_fill(ended, self.end)
            generated[:, step] = piece
            ended = ended | (piece == self.end)
            if bool(ended.all()):
                break
            logits = self._decode(piece, prompt.shape[1] + step, reads, cache)
        return generated

    def _prefill(
        self,
        prompt: Tensor,
        before: Sequence[Tokens],
        reads: Tokens | None,
        cache: Cache,
        rows: Tensor | None = None,
    ) -> Tensor:
        """[n, vocab] logits behind the prompt, whose keys and values go into the cache."""
        words = self.model.embed(self.words, prompt)
        tokens = self.model.run(self.decoder, [*before, words], reads, cache, rows)
        return self._logits(tokens)

    def _decode(
        self,
        piece: Tensor,
        position: int,
        reads: Tokens | None,
        cache: Cache,
        rows: Tensor | None = None,
    ) -> Tensor:
        """[n, vocab] logits behind one more piece at `position`."""
        words = self.model.embed(self.words, piece[:, None], None, position)
        tokens = self.model.run(self.decoder, [words], reads, cache, rows)
        return self._logits(tokens)

    def _logits(self, tokens: Tokens) -> Tensor:
        last = tokens.x[:, -1]
        return at_least_float(self.model.head(self.head, last))

    def _adjust(self, logits: Tensor, ids: Tensor, step: int, decoding: Decoding) -> Tensor:
        """The repetition penalty, and no end before the shortest length."""
        if decoding.repetition != 1.0:
            penalty = decoding.repetition
            repeated = logits.gather(1, ids)
            lowered = torch.where(repeated > 0, repeated / penalty, repeated * penalty)
            logits = logits.scatter(1, ids, lowered)
        if step < decoding.shortest - 1:
            logits = logits.clone()
            logits[:, self.end] = -torch.inf
        return logits

    def _beam_search(
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
        logits = self._prefill(prompt[rows], before, reads, cache, rows)
        for step in range(decoding.longest):
            logits = self._adjust(logits, beams.ids(step), step, decoding)
            origin = beams.extend(F.log_softmax(logits, dim=1), step)
            if beams.are_settled():
                break
            cache = cache[origin]
            piece = beams.generated[:, step]
            logits = self._decode(piece, prompt.shape[1] + step, reads, cache, rows)
        return beams.best


class Beams:
    """Unfinished texts of every row, `beams` of each, and the best that has ended."""

    def __init__(self, prompt: Tensor, decoding: Decoding, end: int) -> None:
        n, beams = len(prompt), decoding.beams
        self.decoding = decoding
        self.end = end
        self.rows = torch.arange(n, device=prompt.device).repeat_interleave(beams)
        self.prompt = prompt[self.rows]
        self.generated = prompt.new_full((n * beams, decoding.longest), end)
        self.best = prompt.new_full((n, decoding.longest), end)

        shape = n, beams
        self.scores = torch.full(shape, -torch.inf, device=prompt.device, dtype=torch.float64)
        self.best_score = self.scores[:, 0].clone()
        self.scores[:, 0] = 0.0  # at first all beams are one

    def ids(self, step: int) -> Tensor:
        """Prompts, and what was generated before `step`."""
        return torch.cat([self.prompt, self.generated[:, :step]], dim=1)

    def extend(self, log_probability: Tensor, step: int) -> Tensor:
        """One more piece for each beam: [n x beams, vocab] -> which beam each one continues."""
        n, beams = self.scores.shape
        vocab = log_probability.shape[1]
        total = self.scores.view(-1, 1) + log_probability

        # twice as many as there are beams: even if each beam ends, as many continue
        scores, index = total.view(n, -1).topk(2 * beams, dim=1)
        first_beam = torch.arange(0, n * beams, beams, device=index.device)
        origin = index // vocab + first_beam[:, None]
        piece = index % vocab
        self._keep_best(scores, origin, piece, step)

        unfinished = scores.masked_fill(piece == self.end, -torch.inf)
        self.scores, order = unfinished.topk(beams, dim=1)
        origin = origin.gather(1, order).flatten()
        self.generated = self.generated[origin]
        self.generated[:, step] = piece.gather(1, order).flatten()
        return origin

    def _keep_best(self, scores: Tensor, origin: Tensor, piece: Tensor, step: int) -> None:
        """A text that ends here, if it is better than the best before; at last any text ends."""
        if step < self.decoding.longest - 1:
            scores = scores.masked_fill(piece != self.end, -torch.inf)
        scores = scores / (step + 1) ** self.decoding.length_penalty
        score, index = scores.max(dim=1, keepdim=True)
        score = score.squeeze(1)

        text = self.generated[origin.gather(1, index).squeeze(1)]
        text[:, step] = piece.gather(1, index).squeeze(1)
        is_better = score > self.best_score
        self.best = torch.where(is_better[:, None], text, self.best)
        self.best_score = torch.where(is_better, score, self.best_score)

    def are_settled(self) -> bool:
        """Whether no unfinished text can become better than the best."""
        # log probabilities only fall, and no length divides them by more than the longest
        power = max(0.0, self.decoding.length_penalty)
        bound = self.scores.amax(dim=1) / self.decoding.longest**power
        return bool((bound < self.best_score).all())


def sample_nucleus(logits: Tensor, share: float, draw: Tensor) -> Tensor:
    """A piece from the likeliest ones that together reach `share` (Holtzman et al. 2020).

    logits [n, vocab], draw [n] in 0..1 -> [n]; equal logits stand in the vocabulary's order.
    """
    probability, order = logits.softmax(dim=1).sort(dim=1, descending=True, stable=True)
    before = probability.cumsum(dim=1) - probability
    nucleus = probability.masked_fill(before >= share, 0.0)

    ends = nucleus.cumsum(dim=1)
    value = draw.to(ends)[:, None] * ends[:, -1:]
    index = torch.searchsorted(ends, value, right=True)
    last = (nucleus > 0).sum(dim=1, keepdim=True) - 1
    return order.gather(1, torch.minimum(index, last)).squeeze(1)
