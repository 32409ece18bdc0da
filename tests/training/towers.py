"""Tiny towers and language models of transformers in folders, every number of theirs random."""

from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTModel,
)

from tests.training import parity
from tests.training.worlds import COLOURS, SHAPES

WORDS = ("<pad>", "<unk>", "<s>", "</s>", "a", "on", "white", *COLOURS, *SHAPES)


def tower_folder(folder: Path) -> str:
    """A ViT of two layers that sees 32 pixels as sixteen patches and a class token."""
    config = ViTConfig(
        hidden_size=20,
        num_hidden_layers=2,
        num_attention_heads=5,
        intermediate_size=36,
        image_size=32,
        patch_size=8,
    )
    tower = ViTModel(config, add_pooling_layer=False)
    parity.randomise(tower)
    tower.float().save_pretrained(folder)
    return str(folder)


def language_folder(folder: Path) -> str:
    """A Llama of two layers with the words of drawn shapes, and its tokenizer."""
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=40,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    language = LlamaForCausalLM(config)
    parity.randomise(language)
    language.float().save_pretrained(folder)

    numbers = {word: number for number, word in enumerate(WORDS)}
    backend = Backend(models.WordLevel(numbers, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    ).save_pretrained(folder)
    return str(folder)
