"""Single towers of transformers: BERT and its kin, ViT, DeiT, DINOv2."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from training.embed import PatchesSpec, WordsSpec
from training.heads import VocabularySpec
from training.model import HeadSpec, ModelSpec, Pass
from training.stack import Activation, StackSpec
from training.weights.rules import (
    BlockNames,
    Table,
    blocks,
    convolution,
    distilled_positions,
    maps,
    positions,
    reshaped,
    same,
    without_rows,
)

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}

BERT = BlockNames(
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    out="attention.output.dense",
    norm="attention.output.LayerNorm",
    into="intermediate.dense",
    back="output.dense",
    feed_norm="output.LayerNorm",
)
VIT = BlockNames(
    qkv=("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    out="attention.output.dense",
    norm="layernorm_before",
    into="intermediate.dense",
    back="output.dense",
    feed_norm="layernorm_after",
)
DINOV2 = BlockNames(
    qkv=VIT.qkv,
    out="attention.output.dense",
    norm="norm1",
    into="mlp.fc1",
    back="mlp.fc2",
    feed_norm="norm2",
    scales=("layer_scale1.lambda1", "layer_scale2.lambda1"),
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a file of a family becomes: a model under our standard names, and the table."""

    spec: ModelSpec
    table: Table


def activation(name: str) -> Activation:
    """Ours of that name; ValueError where the core has none."""
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"no tower here has the activation {name!r}; there are: {known}")
    return ACTIVATIONS[name]


def post_norm(config: Any) -> StackSpec:
    """The shape of BERT's layers."""
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise ValueError("places relative to each other are not supported: take another tower")
    return StackSpec(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        hidden=config.intermediate_size,
        norm="post",
        eps=config.layer_norm_eps,
        activation=activation(config.hidden_act),
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
    )


def pre_norm(config: Any) -> StackSpec:
    """The shape of ViT's layers."""
    if not getattr(config, "qkv_bias", True):
        raise ValueError("attention without biases is not supported: take another tower")
    return StackSpec(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        hidden=getattr(config, "intermediate_size", 0),
        eps=config.layer_norm_eps,
        activation=activation(config.hidden_act),
        dropout=getattr(config, "hidden_dropout_prob", 0.0),
        attention_dropout=getattr(config, "attention_probs_dropout_prob", 0.0),
    )


def bert_words(config: Any, *, length: int = 0) -> WordsSpec:
    """BERT's embedding of words."""
    return WordsSpec(
        vocab=config.vocab_size,
        width=config.hidden_size,
        length=length or config.max_position_embeddings,
        types=getattr(config, "type_vocab_size", 0),  # BLIP's BERT has no types
        eps=config.layer_norm_eps,
        dropout=config.hidden_dropout_prob,
    )


def bert_embeddings(ours: str, theirs: str, words: WordsSpec, skip: int = 0) -> Table:
    """BERT's embedding; `skip` places at the head of the table belong to nobody."""
    table = same(f"{ours}.word.weight", f"{theirs}.word_embeddings.weight")
    place = f"{theirs}.position_embeddings.weight"
    table += without_rows(f"{ours}.place", place, skip) if skip else same(f"{ours}.place", place)
    if words.types:
        table += same(f"{ours}.token_type", f"{theirs}.token_type_embeddings.weight")
    return table + maps(f"{ours}.norm", f"{theirs}.LayerNorm")


def bert(config: Any, keys: Set[str]) -> Family:
    """BertModel (MiniLM is one) and BertForMaskedLM."""
    words = bert_words(config)
    table = bert_embeddings("embeds.words", "embeddings", words)
    table += blocks(config.num_hidden_layers, "stacks.text", "encoder.layer", BERT)

    heads: dict[str, HeadSpec] = {}
    if "cls.predictions.bias" in keys:
        tied = config.tie_word_embeddings
        heads["vocabulary"] = vocabulary(config, tied=tied)
        table += bert_vocabulary("heads.vocabulary", "cls.predictions", "embeddings", tied=tied)
    return Family(spec=_text(words, post_norm(config), heads), table=table)


def roberta(config: Any, keys: Set[str]) -> Family:
    """RobertaModel and RobertaForMaskedLM; its places begin behind that of padding."""
    skip = config.pad_token_id + 1
    words = bert_words(config, length=config.max_position_embeddings - skip)
    table = bert_embeddings("embeds.words", "embeddings", words, skip)
    table += blocks(config.num_hidden_layers, "stacks.text", "encoder.layer", BERT)

    heads: dict[str, HeadSpec] = {}
    if "lm_head.bias" in keys:
        tied = config.tie_word_embeddings
        heads["vocabulary"] = vocabulary(config, tied=tied)
        matrix = "embeddings.word_embeddings" if tied else "lm_head.decoder"
        table += maps("heads.vocabulary.transform", "lm_head.dense")
        table += maps("heads.vocabulary.norm", "lm_head.layer_norm")
        table += same("heads.vocabulary.decode.weight", f"{matrix}.weight")
        table += same("heads.vocabulary.decode.bias", "lm_head.bias")
    return Family(spec=_text(words, post_norm(config), heads), table=table)


def _text(words: WordsSpec, stack: StackSpec, heads: dict[str, HeadSpec]) -> ModelSpec:
    return ModelSpec(
        embeds={"words": words},
        stacks={"text": stack},
        passes={"text": Pass(stack="text", inputs=("words",))},
        heads=heads,
    )


def vocabulary(config: Any, *, tied: bool) -> VocabularySpec:
    """BERT's head over words, tied to the embedding where the file's is."""
    return VocabularySpec(
        width=config.hidden_size,
        vocab=config.vocab_size,
        tied="words" if tied else "",
        activation=activation(config.hidden_act),
        eps=config.layer_norm_eps,
    )


def bert_vocabulary(
    ours: str, theirs: str, embeddings: str, *, tied: bool, bias: str = ""
) -> Table:
    """BERT's head; a tied matrix is not in the file a second time, the bias stands beside it."""
    matrix = f"{embeddings}.word_embeddings" if tied else f"{theirs}.decoder"
    return (
        *maps(f"{ours}.transform", f"{theirs}.transform.dense"),
        *maps(f"{ours}.norm", f"{theirs}.transform.LayerNorm"),
        *same(f"{ours}.decode.weight", f"{matrix}.weight"),
        *same(f"{ours}.decode.bias", bias or f"{theirs}.bias"),
    )


def patches(config: Any, **more: Any) -> PatchesSpec:
    """ViT's embedding of patches."""
    if config.image_size % config.patch_size:
        raise ValueError(f"{config.image_size} px are not cut evenly by {config.patch_size}")
    return PatchesSpec(
        patch=config.patch_size,
        width=config.hidden_size,
        grid=config.image_size // config.patch_size,
        dropout=getattr(config, "hidden_dropout_prob", 0.0),
        **more,
    )


def vit(config: Any, keys: Set[str]) -> Family:
    """ViTModel and what is built on it; facebook's DeiT without distillation is one too."""
    return _image(patches(config), pre_norm(config), VIT)


def deit(config: Any, keys: Set[str]) -> Family:
    """DeiTModel: a second token, for distillation, stands behind the class token."""
    spec = patches(config, registers=1)
    family = _image(spec, pre_norm(config), VIT)
    where, token = "embeddings.position_embeddings", "embeddings.distillation_token"
    kept = tuple(rule for rule in family.table if where not in rule.theirs)
    moved = distilled_positions("embeds.patches", where, token, spec.grid)
    return Family(spec=family.spec, table=kept + moved)


def dinov2(config: Any, keys: Set[str]) -> Family:
    """Dinov2Model."""
    if config.use_swiglu_ffn:
        raise ValueError("DINOv2 giant's gated networks are not supported: take small to large")
    stack = StackSpec(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        hidden=int(config.hidden_size * config.mlp_ratio),
        eps=config.layer_norm_eps,
        activation=activation(config.hidden_act),
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        layer_scale=True,
    )
    return _image(patches(config), stack, DINOV2)


def _image(spec: PatchesSpec, stack: StackSpec, names: BlockNames) -> Family:
    table: Table = (
        *reshaped("embeds.patches.first", "embeddings.cls_token", (-1,), (1, 1, -1)),
        *positions("embeds.patches", "embeddings.position_embeddings", spec.grid),
        *convolution("embeds.patches.linear", "embeddings.patch_embeddings.projection", spec.patch),
        *blocks(stack.layers, "stacks.image", "encoder.layer", names),
        *maps("stacks.image.last_norm", "layernorm"),
    )
    return Family(spec=image_tower(spec, stack), table=table)


def image_tower(spec: PatchesSpec, stack: StackSpec) -> ModelSpec:
    """A tower over patches, under our standard names."""
    return ModelSpec(
        embeds={"patches": spec},
        stacks={"image": stack},
        passes={"image": Pass(stack="image", inputs=("patches",))},
    )
