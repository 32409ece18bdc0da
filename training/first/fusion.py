"""The fusion model: embeddings, a stack for each modality, one over both, and the heads that objectives ask for."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.first.embed import PatchEmbed, TextEmbed
from training.first.plan import ModelSpec
from training.first.stack import Stack


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens [n, t, width] with valid [n, t]; None says that all are valid."""

    x: Tensor
    valid: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> "Tokens":
        return Tokens(x=self.x[rows], valid=None if self.valid is None else self.valid[rows])


class FusionModel(nn.Module):
    """Text and image tokens, apart and then together."""

    def __init__(self, spec: ModelSpec, vocab: int) -> None:
        super().__init__()
        self.spec, self.vocab = spec, vocab
        self.text_embed = TextEmbed(vocab=vocab, width=spec.width, length=spec.text_length, dropout=spec.dropout)
        self.patch_embed = PatchEmbed(image_size=spec.image_size, patch=spec.patch, width=spec.width, dropout=spec.dropout)
        self.text_stack = _stack(spec, spec.text_layers)
        self.image_stack = _stack(spec, spec.image_layers)
        self.fusion_stack = _stack(spec, spec.fusion_layers)
        self.pool = nn.Linear(spec.width, spec.width)
        self.match_head = nn.Linear(spec.width, 2)
        self.word_head = WordHead(spec.width, vocab)
        if spec.project:
            self.text_project = nn.Linear(spec.width, spec.project)
            self.image_project = nn.Linear(spec.width, spec.project)
            self.log_scale = nn.Parameter(torch.tensor(2.6593))  # log(1 / 0.07), CLIP's first temperature

    def initialise(self, generator: torch.Generator) -> None:
        """Tables with deviation 0.02 (BERT), maps with 1/sqrt(inputs), zero biases, unit norms; settled by the generator."""
        for name, parameter in self.named_parameters():
            with torch.no_grad():
                if name == "log_scale" or "norm" in name.split(".")[-2]:
                    continue
                if parameter.ndim >= 2:
                    table = name.endswith(("place", "first", "word.weight"))
                    deviation = 0.02 if table else parameter.shape[-1] ** -0.5
                    parameter.normal_(0.0, deviation, generator=generator)
                elif name.endswith("segment"):
                    parameter.normal_(0.0, 0.02, generator=generator)
                else:
                    parameter.zero_()

    def encode_text(self, ids: Tensor) -> Tokens:
        """ids [n, t], 0 at padding, on any device."""
        ids = ids.to(self.text_embed.word.weight.device)
        valid = ids != 0
        return Tokens(x=self.text_stack(self.text_embed(ids), valid), valid=valid)

    def encode_image(self, pixels: Tensor) -> Tokens:
        """pixels [n, 3, side, side], -1..1."""
        return Tokens(x=self.image_stack(self.patch_embed(pixels)))

    def fuse(self, text: Tokens, image: Tokens) -> Tensor:
        """Text tokens first, then image tokens -> [n, text + image, width], after the last norm."""
        assert text.valid is not None
        seen = torch.ones(image.x.shape[:2], dtype=torch.bool, device=image.x.device)
        return self.fusion_stack(torch.cat([text.x, image.x], dim=1), torch.cat([text.valid, seen], dim=1))  # type: ignore[no-any-return]

    def match(self, text: Tokens, image: Tokens) -> Tensor:
        """Logits [n, 2] of (no match, match) from the fused first token, pooled through tanh (BERT, ViLT)."""
        return self.match_head(torch.tanh(self.pool(self.fuse(text, image)[:, 0])))  # type: ignore[no-any-return]

    def project_text(self, text: Tokens) -> Tensor:
        """Unit vectors [n, project] from the text's first token."""
        return F.normalize(self.text_project(text.x[:, 0]).float(), dim=-1)

    def project_image(self, image: Tokens) -> Tensor:
        """Unit vectors [n, project] from the image's first token."""
        return F.normalize(self.image_project(image.x[:, 0]).float(), dim=-1)


def _stack(spec: ModelSpec, layers: int) -> Stack:
    return Stack(layers=layers, width=spec.width, heads=spec.heads, mlp_ratio=spec.mlp_ratio, dropout=spec.dropout)


class WordHead(nn.Module):
    """BERT's head over the vocabulary, untied from the word table (the code of ViLT)."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.decode = nn.Linear(width, vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [m, width] -> logits [m, vocab]."""
        return self.decode(self.norm(F.gelu(self.transform(tokens))))  # type: ignore[no-any-return]
