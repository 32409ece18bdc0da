"""What objectives do to a batch before they ask about it: masked words, negative partners."""

import torch
from torch import Tensor

IGNORED = -100  # the label of a token that no loss looks at, as in torch's cross entropy


def mask_words(
    ids: Tensor, *, continues: Tensor, special: Tensor, mask_id: int, generator: torch.Generator, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Whole words drawn until round(share x tokens) tokens are covered, then per token 80 % [MASK], 10 % a random piece, 10 % kept.

    ids [n, t] -> (corrupted ids, labels); labels are IGNORED where nothing was drawn. At least one word of each text is drawn.
    Words are drawn rather than tokens, so that long words are not drawn more often (BERT's whole-word masking, as ViLT uses it).
    """
    ordinary = ~special[ids]
    word = (ordinary & ~continues[ids]).cumsum(1) * ordinary  # 1, 2, 3 ... along the text; 0 for what is not of a word
    chosen = _draw_words(word, ordinary, share, generator)
    labels = torch.where(chosen, ids, IGNORED)
    draw = torch.rand(ids.shape, generator=generator)
    anything = torch.randint(0, special.shape[0], ids.shape, generator=generator)
    changed = torch.where(chosen & (draw < 0.8), mask_id, ids)  # 80/10/10: BERT
    return torch.where(chosen & (draw >= 0.8) & (draw < 0.9), anything, changed), labels


def _draw_words(word: Tensor, ordinary: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Words in random order while the tokens before them stay under the wanted number; [n, t] bool."""
    n, t = word.shape
    wanted = (ordinary.sum(1) * share).round().clamp(min=1)
    lengths = torch.zeros(n, t + 1).scatter_add_(1, word, torch.ones(n, t))
    lengths[:, 0] = 0
    order = torch.rand(n, t + 1, generator=generator).masked_fill(lengths == 0, 2.0).argsort(dim=1)
    ordered = lengths.gather(1, order)
    before = ordered.cumsum(1) - ordered
    drawn = torch.zeros(n, t + 1, dtype=torch.bool).scatter_(1, order, (before < wanted[:, None]) & (ordered > 0))
    return drawn.gather(1, word) & ordinary


def other_rows(n: int, generator: torch.Generator) -> Tensor:
    """For each of n rows another row, uniformly; [n] int64."""
    return (torch.arange(n) + torch.randint(1, n, (n,), generator=generator)) % n


def hard_rows(similarity: Tensor, same: Tensor, generator: torch.Generator) -> Tensor:
    """For each row a column drawn by softmax of similarity, never one that is `same` (ALBEF's hard negatives); [n] int64.

    A row whose columns are all the same draws any other row.
    """
    finite = similarity.detach().float().nan_to_num()  # a model that has diverged is for the loop to report
    weights = torch.softmax(finite, dim=1).masked_fill(same, 0.0) + 1e-8 * (~same)
    lonely = weights.sum(1) == 0
    weights[lonely] = 1.0
    weights[lonely, torch.arange(len(weights))[lonely]] = 0.0
    return torch.multinomial(weights, 1, generator=generator).squeeze(1)
