"""The momentum twin of a model, and the queue of what it saw; both are state of a training run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.distributed import local
from training.negatives import Keys


class Queue(nn.Module):
    """The last image and text vectors with their keys: buffers, so that checkpoints hold them.

    A queue that is not full yet offers what it holds. The keys tell a row's own image or text in
    the queue, which is no negative: a queue of 57,600 over 6,000 photos holds each nine times.
    """

    image: Tensor
    text: Tensor
    image_key: Tensor
    text_key: Tensor
    source: Tensor
    seen: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("image", torch.zeros(length, dim))
        self.register_buffer("text", torch.zeros(length, dim))
        for name in ("image_key", "text_key", "source"):
            self.register_buffer(name, torch.zeros(length, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def append_to(self, keys: Keys, image: Tensor, text: Tensor) -> tuple[Keys, Tensor, Tensor]:
        """The given rows, and the queue's behind them."""
        count = min(int(self.seen), self.length)
        keys = Keys(
            image=torch.cat([keys.image, self.image_key[:count]]),
            text=torch.cat([keys.text, self.text_key[:count]]),
            source=torch.cat([keys.source, self.source[:count]]),
        )
        image = torch.cat([image, self.image[:count].to(image)])
        text = torch.cat([text, self.text[:count].to(text)])
        return keys, image, text

    @torch.no_grad()
    def push(self, keys: Keys, image: Tensor, text: Tensor) -> None:
        """Add the global batch; the oldest rows go."""
        count = len(image)
        if count > self.length:
            raise ValueError(f"a batch of {count} does not fit into a queue of {self.length}")

        rows = torch.arange(count, device=self.image.device)
        slots = (rows + self.seen) % self.length
        self.image[slots] = image.to(self.image)
        self.text[slots] = text.to(self.text)
        self.image_key[slots] = keys.image
        self.text_key[slots] = keys.text
        self.source[slots] = keys.source
        self.seen += count


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average = decay x average + (1 - decay) x model; buffers are copied."""
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        local(mine.data).lerp_(local(theirs.data), 1 - decay)
    for buffer, current in zip(average.buffers(), model.buffers(), strict=True):
        buffer.copy_(current)
