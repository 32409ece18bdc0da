"""Models of images and texts: CLIP (transformers and open_clip), ViLT, BLIP."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, ScaleSpec
from training.model import HeadSpec, ModelSpec, Pass
from training.second import SECOND, with_second
from training.stack import Cross, StackSpec
from training.weights.rules import (
    BlockNames,
    CrossNames,
    Table,
    block,
    blocks,
    convolution,
    cross,
    maps,
    positions,
    reshaped,
    rows,
    same,
)
from training.weights.towers import (
    BERT,
    VIT,
    Family,
    activation,
    bert_embeddings,
    bert_vocabulary,
    bert_words,
    patches,
    post_norm,
    pre_norm,
    vocabulary,
)

CLIP = BlockNames(
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    norm="layer_norm1",
    into="mlp.fc1",
    back="mlp.fc2",
    feed_norm="layer_norm2",
)
BLIP_IMAGE = BlockNames(
    qkv=("self_attn.qkv",),
    out="self_attn.projection",
    norm="layer_norm1",
    into="mlp.fc1",
    back="mlp.fc2",
    feed_norm="layer_norm2",
)
BLIP_CROSS = CrossNames(
    query="crossattention.self.query",
    key_value=("crossattention.self.key", "crossattention.self.value"),
    out="crossattention.output.dense",
    norm="crossattention.output.LayerNorm",
)


def clip_stack(config: Any, *, image: bool) -> StackSpec:
    """The shape of CLIP's layers; the image tower has a norm in front as well."""
    return StackSpec(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        hidden=config.intermediate_size,
        eps=config.layer_norm_eps,
        activation=activation(config.hidden_act),
        attention_dropout=config.attention_dropout,
        first_norm=image,
    )


def clip_words(vocab: int, width: int, length: int) -> WordsSpec:
    """Words and places alone."""
    return WordsSpec(vocab=vocab, width=width, length=length, types=0, norm=False)


def clip_spec(
    words: WordsSpec, text: StackSpec, spec: PatchesSpec, image: StackSpec, dim: int
) -> ModelSpec:
    """Two towers; the text's vector is that of its last token."""
    return ModelSpec(
        embeds={"words": words, "patches": spec},
        stacks={"text": text, "image": image},
        passes={
            "text": Pass(stack="text", inputs=("words",), rules=("causal",)),
            "image": Pass(stack="image", inputs=("patches",)),
        },
        heads={
            "text_project": ProjectSpec(width=text.width, dim=dim, pool="last", bias=False),
            "image_project": ProjectSpec(width=image.width, dim=dim, bias=False),
            "scale": ScaleSpec(),
        },
    )


def clip(config: Any, keys: Set[str]) -> Family:
    """CLIPModel."""
    text, image = config.text_config, config.vision_config
    spec = clip_spec(
        clip_words(text.vocab_size, text.hidden_size, text.max_position_embeddings),
        clip_stack(text, image=False),
        patches(image, bias=False),
        clip_stack(image, image=True),
        config.projection_dim,
    )
    words, seen = "text_model.embeddings", "vision_model.embeddings"
    grid = image.image_size // image.patch_size
    texts = text.num_hidden_layers
    images = image.num_hidden_layers
    table: Table = (
        *same("embeds.words.word.weight", f"{words}.token_embedding.weight"),
        *same("embeds.words.place", f"{words}.position_embedding.weight"),
        *blocks(texts, "stacks.text", "text_model.encoder.layers", CLIP),
        *maps("stacks.text.last_norm", "text_model.final_layer_norm"),
        *same("embeds.patches.first", f"{seen}.class_embedding"),
        *positions("embeds.patches", f"{seen}.position_embedding.weight", grid, dims=2),
        *convolution(
            "embeds.patches.linear", f"{seen}.patch_embedding", image.patch_size, bias=False
        ),
        *maps("stacks.image.first_norm", "vision_model.pre_layrnorm"),
        *blocks(images, "stacks.image", "vision_model.encoder.layers", CLIP),
        *maps("stacks.image.last_norm", "vision_model.post_layernorm"),
        *same("heads.text_project.linear.weight", "text_projection.weight"),
        *same("heads.image_project.linear.weight", "visual_projection.weight"),
        *same("heads.scale.log", "logit_scale"),
    )
    return Family(spec=spec, table=table)


def vilt(config: Any, keys: Set[str]) -> Family:
    """ViltModel, ViltForMaskedLM, ViltForImageAndTextRetrieval, those for answers, files of ours.

    The last are ViltForQuestionAnswering and, of two images, ViltForImagesAndTextClassification.
    """
    words = WordsSpec(
        vocab=config.vocab_size,
        width=config.hidden_size,
        length=config.max_position_embeddings,
        types=config.type_vocab_size,
        eps=config.layer_norm_eps,
        modality=True,
        dropout=config.hidden_dropout_prob,
    )
    spec = patches(config, interpolation="bilinear", align_corners=True, modality=True)
    where, kinds = "vilt.embeddings", ["embeds.words.modality", "embeds.patches.modality"]
    two = _answers_of_two_images(config, keys)
    kinds += [f"embeds.{SECOND}.modality"] if two else []
    table: Table = (
        *bert_embeddings("embeds.words", f"{where}.text_embeddings", words),
        *reshaped("embeds.patches.first", f"{where}.cls_token", (-1,), (1, 1, -1)),
        *positions("embeds.patches", f"{where}.position_embeddings", spec.grid),
        *convolution("embeds.patches.linear", f"{where}.patch_embeddings.projection", spec.patch),
        *rows(kinds, f"{where}.token_type_embeddings.weight"),
        *blocks(config.num_hidden_layers, "stacks.fusion", "vilt.encoder.layer", VIT),
        *maps("stacks.fusion.last_norm", "vilt.layernorm"),
    )
    heads, more = _vilt_heads(config, keys)
    model = ModelSpec(
        embeds={"words": words, "patches": spec},
        stacks={"fusion": pre_norm(config)},
        passes={"fusion": Pass(stack="fusion", inputs=("words", "patches"))},
        heads=heads,
    )
    if two:
        model = with_second(model, "patches")
    return Family(spec=model, table=table + more)


def _vilt_heads(config: Any, keys: Set[str]) -> tuple[dict[str, HeadSpec], Table]:
    heads: dict[str, HeadSpec] = {}
    table: Table = ()
    if "mlm_score.decoder.bias" in keys:
        # every ViltConfig says tied, also that of a file with a matrix of its own, as the paper's
        tied = "mlm_score.decoder.weight" not in keys
        heads["vocabulary"] = vocabulary(config, tied=tied)
        embeddings, bias = "vilt.embeddings.text_embeddings", "mlm_score.decoder.bias"
        table += bert_vocabulary("heads.vocabulary", "mlm_score", embeddings, tied=tied, bias=bias)

    width = config.hidden_size
    if "itm_score.fc.weight" in keys:  # the paper's two classes, as its own code calls them
        heads["match"] = ClassifySpec(width=width, classes=2, tanh=True)
        table += maps("heads.match.pooler", "vilt.pooler.dense")
        table += maps("heads.match.linear", "itm_score.fc")
    elif "rank_output.weight" in keys:
        heads["rank"] = ClassifySpec(width=width, classes=1, tanh=True)
        table += maps("heads.rank.pooler", "vilt.pooler.dense")
        table += maps("heads.rank.linear", "rank_output")
    elif "classifier.3.weight" in keys:
        joined = 2 if _answers_of_two_images(config, keys) else 1
        heads["answer"] = ClassifySpec(
            width=width,
            classes=config.num_labels,
            tanh=True,
            joined=joined,
            hidden=2 * width,  # of both kinds
        )
        table += maps("heads.answer.pooler", "vilt.pooler.dense")
        for ours, theirs in (("into", 0), ("norm", 1), ("linear", 3)):
            table += maps(f"heads.answer.{ours}", f"classifier.{theirs}")
    return heads, table


def _answers_of_two_images(config: Any, keys: Set[str]) -> bool:
    """Whether a file is of NLVR2: it knows three modalities, text and either image."""
    return "classifier.3.weight" in keys and config.modality_type_vocab_size == 3


def blip(config: Any, keys: Set[str]) -> Family:
    """BlipForConditionalGeneration, BlipForImageTextRetrieval, BlipModel, and files of ours.

    A file of ours holds the text stack twice, as `text_encoder` and as `text_decoder`, which differ
    in self-attention alone; each class of transformers takes what it knows. The deprecated
    BlipModel puts the image's vector through the tower's last norm a second time: no pass of ours
    does, and nobody has trained it.
    """
    text, image = config.text_config, config.vision_config
    encoder = next((name for name in ("text_encoder", "text_model") if _has(keys, name)), "")
    decoder = "text_decoder.bert" if _has(keys, "text_decoder") else ""

    table = _blip_image(image)
    if encoder:
        table += _blip_text(encoder, "both", text, keys)
    if decoder:
        table += _blip_text(decoder, "causal", text, keys)
    heads, more = _blip_heads(config, keys)

    names = {"both": encoder, "causal": decoder}
    crossing = any(".crossattention." in key for key in keys)
    model = ModelSpec(
        embeds={"words": bert_words(text), "patches": patches(image)},
        stacks={
            "image": _blip_tower(image),
            "text": replace(
                post_norm(text),
                attentions=tuple(name for name, found in names.items() if found),
                cross=Cross(width=image.hidden_size) if crossing else None,
            ),
        },
        passes=_blip_passes(bool(encoder), bool(decoder), crossing),
        heads=heads,
    )
    return Family(spec=model, table=table + more)


def _has(keys: Set[str], prefix: str) -> bool:
    return any(key.startswith(f"{prefix}.") for key in keys)


def _blip_tower(image: Any) -> StackSpec:
    return StackSpec(
        layers=image.num_hidden_layers,
        width=image.hidden_size,
        heads=image.num_attention_heads,
        hidden=image.intermediate_size,
        eps=image.layer_norm_eps,
        activation=activation(image.hidden_act),
        attention_dropout=image.attention_dropout,
    )


def _blip_image(image: Any) -> Table:
    where = "vision_model.embeddings"
    grid = image.image_size // image.patch_size
    layers = image.num_hidden_layers
    return (
        *reshaped("embeds.patches.first", f"{where}.class_embedding", (-1,), (1, 1, -1)),
        *positions("embeds.patches", f"{where}.position_embedding", grid),
        *convolution("embeds.patches.linear", f"{where}.patch_embedding", image.patch_size),
        *blocks(layers, "stacks.image", "vision_model.encoder.layers", BLIP_IMAGE),
        *maps("stacks.image.last_norm", "vision_model.post_layernorm"),
    )


def _blip_text(theirs: str, attention: str, text: Any, keys: Set[str]) -> Table:
    table = bert_embeddings("embeds.words", f"{theirs}.embeddings", bert_words(text))
    for index in range(text.num_hidden_layers):
        ours, layer = f"stacks.text.blocks.{index}", f"{theirs}.encoder.layer.{index}"
        table += block(ours, layer, BERT, attention)
        if f"{layer}.crossattention.self.query.weight" in keys:
            table += cross(ours, layer, BLIP_CROSS)
    return table


def _blip_passes(encoder: bool, decoder: bool, crossing: bool) -> dict[str, Pass]:
    passes = {"image": Pass(stack="image", inputs=("patches",))}
    if encoder:
        passes["text"] = Pass(stack="text", inputs=("words",), attention="both")
    if encoder and crossing:
        passes["match"] = Pass(
            stack="text",
            inputs=("words",),
            attention="both",
            reads="image",
            first="[ENC]",
        )
    if decoder:
        passes["caption"] = Pass(
            stack="text",
            inputs=("words",),
            rules=("causal",),
            attention="causal",
            reads="image",
            first="[DEC]",
        )
    return passes


def _blip_heads(config: Any, keys: Set[str]) -> tuple[dict[str, HeadSpec], Table]:
    text, image = config.text_config.hidden_size, config.vision_config.hidden_size
    heads: dict[str, HeadSpec] = {}
    table: Table = ()
    if "text_proj.weight" in keys:
        dim = config.image_text_hidden_size
        heads["text_project"] = ProjectSpec(width=text, dim=dim)
        heads["image_project"] = ProjectSpec(width=image, dim=dim)
        table += maps("heads.text_project.linear", "text_proj")
        table += maps("heads.image_project.linear", "vision_proj")
    elif "text_projection.weight" in keys:
        dim = config.projection_dim
        heads["text_project"] = ProjectSpec(width=text, dim=dim, tanh=True, bias=False)
        heads["image_project"] = ProjectSpec(width=image, dim=dim, bias=False)
        table += maps("heads.text_project.pooler", "text_model.pooler.dense")
        table += maps("heads.text_project.linear", "text_projection", bias=False)
        table += maps("heads.image_project.linear", "visual_projection", bias=False)

    if "itm_head.weight" in keys:
        heads["match"] = ClassifySpec(width=text, classes=2)
        table += maps("heads.match.linear", "itm_head")
    if "logit_scale" in keys:
        heads["scale"] = ScaleSpec()
        table += same("heads.scale.log", "logit_scale")
    if "text_decoder.cls.predictions.bias" in keys:
        tied = config.text_config.tie_word_embeddings
        heads["vocabulary"] = vocabulary(config.text_config, tied=tied)
        embeddings, theirs = "text_decoder.bert.embeddings", "text_decoder.cls.predictions"
        table += bert_vocabulary("heads.vocabulary", theirs, embeddings, tied=tied)
    return heads, table
