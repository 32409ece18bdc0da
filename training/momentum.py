"""The momentum twin of a model, and the queue of what it saw; both are state of a training run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.distributed import local
from training.negatives import Keys


class Queue(nn.Module):
    """The last image and text vectors with their keys: buffers, so that checkpoints hold them.

    A queue that is not full yet offers what it holds. The keys tell a row's own image or text in
    the queue, which is no negative: 57,600 places over 6,000 photos hold each nine times.
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
        self.register_buffer("image_key", torch.zeros(length, dtype=torch.int64))
        self.register_buffer("text_key", torch.zeros(length, dtype=torch.int64))
        self.register_buffer("source", torch.zeros(length, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def held(self) -> int:
        """How many places are filled."""
        return min(int(self.seen), self.length)

    def behind(self, keys: Keys, image: Tensor, text: Tensor) -> tuple[Keys, Tensor, Tensor]:
        """The given rows, and the queue's behind them."""
        held = self.held()
        joined = Keys(
            image=torch.cat([keys.image, self.image_key[:held]]),
            text=torch.cat([keys.text, self.text_key[:held]]),
            source=torch.cat([keys.source, self.source[:held]]),
        )
        images = torch.cat([image, self.image[:held].to(image)])
        return joined, images, torch.cat([text, self.text[:held].to(text)])

    @torch.no_grad()
    def push(self, keys: Keys, image: Tensor, text: Tensor) -> None:
        """Let the global batch in; the oldest rows go."""
        rows = torch.arange(len(image), device=self.image.device)
        places = (int(self.seen) + rows) % self.length
        if len(rows) > self.length:
            raise ValueError(f"a batch of {len(rows)} does not fit into a queue of {self.length}")
        self.image[places] = image.to(self.image)
        self.text[places] = text.to(self.text)
        self.image_key[places] = keys.image
        self.text_key[places] = keys.text
        self.source[places] = keys.source
        self.seen += len(rows)


@torch.no_grad()
def follow(twin: nn.Module, model: nn.Module, momentum: float) -> None:
    """twin = momentum x twin + (1 - momentum) x model; buffers are copied."""
    for mine, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        local(mine.data).lerp_(local(theirs.data), 1 - momentum)
    for held, now in zip(twin.buffers(), model.buffers(), strict=True):
        held.copy_(now)
