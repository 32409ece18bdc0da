"""The transformer stack: pre-norm blocks over tokens, with the attention kernel of torch."""

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Self-attention and a feed-forward network, each behind its norm (pre-LN) and added to the stream."""

    def __init__(self, *, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)  # the epsilon of ViT
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """tokens [n, t, width]; mask [n, 1, 1, t], true where a token may be looked at."""
        tokens = tokens + self.dropout(self._attend(self.norm1(tokens), mask))
        return tokens + self.dropout(self.mlp(self.norm2(tokens)))  # type: ignore[no-any-return]

    def _attend(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        n, t, width = tokens.shape
        query, key, value = self.qkv(tokens).reshape(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(n, t, width))  # type: ignore[no-any-return]


class Stack(nn.Module):
    """Blocks one after another; a last norm when there is at least one block."""

    def __init__(self, *, layers: int, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width=width, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout) for _ in range(layers))
        self.norm: nn.Module = nn.LayerNorm(width, eps=1e-6) if layers else nn.Identity()

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """tokens [n, t, width]; valid [n, t], false at padding (None: all are valid)."""
        mask = None if valid is None else valid[:, None, None, :]
        for block in self.blocks:
            tokens = block(tokens, mask)
        return self.norm(tokens)  # type: ignore[no-any-return]
