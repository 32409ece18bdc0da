"""CLIP as open_clip writes it."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from training.embed import PatchesSpec
from training.stack import StackSpec
from training.weights.pairs import clip_spec, clip_words
from training.weights.rules import (
    BlockNames,
    Table,
    blocks,
    convolution,
    maps,
    positions,
    same,
    transposed,
)
from training.weights.towers import Family

OPEN_CLIP = BlockNames(
    qkv=("attn.in_proj",),
    out="attn.out_proj",
    norm="ln_1",
    into="mlp.c_fc",
    back="mlp.c_proj",
    feed_norm="ln_2",
)


def open_clip(config: Any, keys: Set[str]) -> Family:
    """open_clip's CLIP with a ViT; config is `model_cfg` of its file."""
    text, image = config["text_cfg"], config["vision_cfg"]
    if not isinstance(image["layers"], int) or "timm_model_name" in image:
        raise ValueError("of open_clip's image towers only its own ViT is supported")
    if "hf_model_name" in text:
        raise ValueError("of open_clip's text towers only its own is supported")

    spec = clip_spec(
        clip_words(text.get("vocab_size", 49408), text["width"], text.get("context_length", 77)),
        _open_clip_stack(config, text, heads=text["heads"], image=False),
        PatchesSpec(
            patch=image["patch_size"],
            width=image["width"],
            grid=image["image_size"] // image["patch_size"],
            bias=False,
        ),
        _open_clip_stack(config, image, heads=image["width"] // _head(image), image=True),
        config["embed_dim"],
    )
    grid = image["image_size"] // image["patch_size"]
    table: Table = (
        *same("embeds.words.word.weight", "token_embedding.weight"),
        *same("embeds.words.place", "positional_embedding"),
        *blocks(text["layers"], "stacks.text", "transformer.resblocks", OPEN_CLIP),
        *maps("stacks.text.last_norm", "ln_final"),
        *same("embeds.patches.first", "visual.class_embedding"),
        *positions("embeds.patches", "visual.positional_embedding", grid, dims=2),
        *convolution("embeds.patches.linear", "visual.conv1", image["patch_size"], bias=False),
        *maps("stacks.image.first_norm", "visual.ln_pre"),
        *blocks(image["layers"], "stacks.image", "visual.transformer.resblocks", OPEN_CLIP),
        *maps("stacks.image.last_norm", "visual.ln_post"),
        *transposed("heads.text_project.linear.weight", "text_projection"),
        *transposed("heads.image_project.linear.weight", "visual.proj"),
        *same("heads.scale.log", "logit_scale"),
    )
    return Family(spec=spec, table=table)


def _head(image: dict[str, Any]) -> int:
    width: int = image.get("head_width", 64)
    return width


def _open_clip_stack(config: Any, tower: dict[str, Any], *, heads: int, image: bool) -> StackSpec:
    return StackSpec(
        layers=tower["layers"],
        width=tower["width"],
        heads=heads,
        hidden=int(tower["width"] * tower.get("mlp_ratio", 4.0)),
        eps=1e-5,
        activation="quick_gelu" if config.get("quick_gelu") else "gelu",
        first_norm=image,
    )
