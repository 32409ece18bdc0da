"""From ids and pixels to tokens."""

import torch
from torch import Tensor, nn


class TextEmbed(nn.Module):
    """Word, place and segment vectors, normalised: BERT's sum, in which the segment is the modality (ViLT)."""

    def __init__(self, *, vocab: int, width: int, length: int, dropout: float) -> None:
        super().__init__()
        self.word = nn.Embedding(vocab, width, padding_idx=0)
        self.place = nn.Parameter(torch.zeros(length, width))
        self.segment = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width, eps=1e-12)  # BERT's epsilon
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [n, length] -> tokens [n, length, width]."""
        tokens = self.word(ids) + self.place[: ids.shape[1]] + self.segment
        return self.dropout(self.norm(tokens))  # type: ignore[no-any-return]


class PatchEmbed(nn.Module):
    """Square patches through one linear map, a learned class token before them, a learned vector for each place."""

    def __init__(self, *, image_size: int, patch: int, width: int, dropout: float) -> None:
        super().__init__()
        self.patch = patch
        self.linear = nn.Linear(3 * patch * patch, width)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(torch.zeros((image_size // patch) ** 2 + 1, width))
        self.segment = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [n, 3, side, side], scaled to -1..1 -> tokens [n, 1 + patches, width]; patches in reading order."""
        n, channels, height, wide = pixels.shape
        side = self.patch
        cut = pixels.reshape(n, channels, height // side, side, wide // side, side).permute(0, 2, 4, 1, 3, 5)
        tokens = self.linear(cut.reshape(n, -1, channels * side * side))
        tokens = torch.cat([self.first.expand(n, -1, -1), tokens], dim=1)
        return self.dropout(tokens + self.place + self.segment)  # type: ignore[no-any-return]
