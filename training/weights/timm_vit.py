"""timm's vision transformers: ViT, DeiT and DINOv2 under one set of names."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import torch
from torch import nn

from training.embed import PatchesSpec
from training.stack import StackSpec
from training.weights.rules import BlockNames, Table, blocks, convolution, maps, positions, reshaped
from training.weights.towers import Family, image_tower

PLAIN = BlockNames(
    qkv=("attn.qkv",),
    out="attn.proj",
    norm="norm1",
    into="mlp.fc1",
    back="mlp.fc2",
    feed_norm="norm2",
)
SCALED = BlockNames(
    qkv=PLAIN.qkv,
    out=PLAIN.out,
    norm=PLAIN.norm,
    into=PLAIN.into,
    back=PLAIN.back,
    feed_norm=PLAIN.feed_norm,
    scales=("ls1.gamma", "ls2.gamma"),
)


def vit(config: Any, keys: Set[str]) -> Family:
    """A file's config names an architecture; its shape is that of timm's own module."""
    import timm

    name = config["architecture"]
    with torch.device("meta"):
        model: Any = timm.create_model(name, pretrained=False, **config.get("model_args", {}))
    if type(model) is not timm.models.VisionTransformer:
        raise ValueError(
            f"{name} is no vision transformer, and cannot be trained here: give a ViT, or take "
            "--size tiny of `clip` or `blip`, which computes its features once"
        )
    _supported(name, model, keys)

    first: Any = model.blocks[0]
    spec = PatchesSpec(
        patch=model.patch_embed.patch_size[0],
        width=model.embed_dim,
        grid=model.patch_embed.grid_size[0],
        bias=model.patch_embed.proj.bias is not None,
    )
    stack = StackSpec(
        layers=len(model.blocks),
        width=model.embed_dim,
        heads=first.attn.num_heads,
        hidden=first.mlp.fc1.out_features,
        eps=first.norm1.eps,
        first_norm=isinstance(model.norm_pre, nn.LayerNorm),
        last_norm=isinstance(model.norm, nn.LayerNorm),
        layer_scale="blocks.0.ls1.gamma" in keys,
    )

    table: Table = (
        *reshaped("embeds.patches.first", "cls_token", (-1,), (1, 1, -1)),
        *positions("embeds.patches", "pos_embed", spec.grid),
        *convolution("embeds.patches.linear", "patch_embed.proj", spec.patch, bias=spec.bias),
        *blocks(stack.layers, "stacks.image", "blocks", SCALED if stack.layer_scale else PLAIN),
    )
    if stack.first_norm:
        table += maps("stacks.image.first_norm", "norm_pre")
    if stack.last_norm:
        table += maps("stacks.image.last_norm", "norm")
    return Family(spec=image_tower(spec, stack), table=table)


def _supported(name: str, model: Any, keys: Set[str]) -> None:
    wanted = {"cls_token", "pos_embed", "blocks.0.attn.qkv.bias", "blocks.0.mlp.fc1.weight"}
    if missing := wanted - keys:
        raise ValueError(f"{name} is no plain ViT: its file has no {', '.join(sorted(missing))}")

    grid = model.patch_embed.grid_size
    tokens = getattr(model, "num_prefix_tokens", 1)
    plain = grid[0] == grid[1] and tokens == 1 and not getattr(model, "no_embed_class", False)
    if not plain or not isinstance(model.blocks[0].mlp.act, nn.GELU):
        raise ValueError(f"{name} has registers, a grid or an activation that no tower here has")
