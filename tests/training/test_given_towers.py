"""Towers of other families and shapes than the recipes', given by their folders."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizerFast,
    ViltConfig,
    ViltForMaskedLM,
    ViTConfig,
    ViTModel,
)

from tests.training.releases import picture, release
from training.data.features import FeatureSpec
from training.data.frozen import FrozenTower
from training.data.tokenizer import TextSpec, make_tokenizer
from training.data.towers import TowerSpec, keep_tower, text_tower
from training.embed import PatchesSpec, WordsSpec
from training.export import export_model, fit_vocabularies, load_scorer
from training.heads import VocabularySpec
from training.model import ModelSpec, Pass
from training.recipes import load
from training.recipes.parts import frozen_text, given_text
from training.stack import StackSpec
from training.train import load_initial_weights, make_run, prepare
from training.weights.files import understand
from training.weights.load import from_pretrained

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _byte_pairs(folder: Path, specials: list[str], start: str, end: str) -> tuple[str, str]:
    """A vocabulary of letters, alone and at the start or the end of a word."""
    folder.mkdir()
    pieces = [*specials, *LETTERS, *(f"{start}{letter}{end}" for letter in LETTERS)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return str(folder / "vocab.json"), str(folder / "merges.txt")


def _clip(folder: Path) -> Path:
    """First and last pieces are the first two of the vocabulary."""
    files = _byte_pairs(folder, ["<|startoftext|>", "<|endoftext|>"], "", "</w>")
    CLIPTokenizerFast(*files).save_pretrained(folder)
    text = {"vocab_size": 54, "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(
        text_config={**SHAPE, **text},
        vision_config={**SHAPE, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


def _roberta(folder: Path) -> Path:
    files = _byte_pairs(folder, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "\u0120", "")
    RobertaTokenizerFast(*files).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=57, max_position_embeddings=22, pad_token_id=1, type_vocab_size=1, **SHAPE
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


def _bert(folder: Path) -> Path:
    folder.mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, "number", *"0123456789"]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=64, **SHAPE)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("make", "ends"), [(_clip, (0, 1)), (_roberta, (0, 2))])
def test_texts_stand_between_the_pieces_of_the_towers_own_family(
    make: object, ends: tuple[int, int], tmp_path: Path
) -> None:
    assert callable(make)
    folder = str(make(tmp_path / "tower"))
    trained = given_text(folder, length=12).prepare
    assert isinstance(trained, TextSpec)
    ids = make_tokenizer(trained)(["ab"]).ids[0].tolist()
    assert (ids[0], ids[-1]) == ends

    frozen = frozen_text(folder, length=12).prepare
    assert isinstance(frozen, FeatureSpec)
    (found,) = FrozenTower(frozen.tower, frozen.prepare).of_texts(["ab"])
    wanted = text_tower(frozen.tower, "cpu")(torch.tensor([ids]), torch.ones(1, len(ids)).bool())
    torch.testing.assert_close(found, wanted[0])


def test_blip_takes_the_shapes_and_the_vocabulary_of_given_towers(tmp_path: Path) -> None:
    image = tmp_path / "vit"
    config = ViTConfig(image_size=28, patch_size=14, **{**SHAPE, "hidden_size": 20})
    ViTModel(config, add_pooling_layer=False).save_pretrained(image)
    text = _bert(tmp_path / "bert")

    init = {"image": str(image), "text": str(text)}
    plan = load("blip", size="small", init=init, smoke=True)
    assert isinstance(plan.model.embeds["patches"], PatchesSpec)
    assert plan.model.embeds["patches"].patch == 14
    assert (plan.model.stacks["image"].width, plan.model.stacks["text"].width) == (20, 16)
    assert plan.model.stacks["text"].attentions == ("both", "causal")

    said: list[str] = []
    releases = {"train": release(tmp_path, "release", 6)}
    prepared = prepare(plan, releases, lambda release: tmp_path)
    run = make_run(plan, prepared)
    load_initial_weights(run, said.append)
    export_model(tmp_path / "model", run.model, prepared, plan.stages[0].objectives)
    loaded = "\n".join(said)
    assert "embeds.words.word.weight: the last 2 rows are new, left as they were" in loaded
    assert "NOT LOADED, left as it was: embeds" not in loaded
    assert "NOT LOADED, left as it was: stacks.image" not in loaded

    scorer = load_scorer(tmp_path / "model")
    assert scorer.image_specs["patches"].size == 28
    scorer.images([picture(0)])
    scorer.texts(["number 0"])
    assert scorer.similarity().isfinite().all()


def test_a_head_knows_the_words_that_it_is_tied_to() -> None:
    """Two vocabularies of other sizes in one model, as of `blip` on a frozen image tower."""
    captions = [f"word{number // 2} thing{number // 2}" for number in range(800)]
    spec = ModelSpec(
        embeds={
            "words": WordsSpec(vocab=0, width=8, length=8),
            "spoken": WordsSpec(vocab=0, width=8, length=8),
        },
        stacks={"text": StackSpec(layers=1, width=8, heads=2)},
        passes={"text": Pass(stack="text", inputs=("words",))},
        heads={"vocabulary": VocabularySpec(width=8, vocab=0, tied="spoken")},
        prepare={"words": TextSpec(size=400, length=8), "spoken": TextSpec(size=300, length=8)},
    )
    tokenizers = {
        name: make_tokenizer(one, captions=captions)
        for name, one in spec.prepare.items()
        if isinstance(one, TextSpec)
    }
    head = fit_vocabularies(spec, tokenizers).heads["vocabulary"]
    assert isinstance(head, VocabularySpec)
    assert head.vocab == tokenizers["spoken"].size == 300

    alone = replace(spec, heads={"vocabulary": VocabularySpec(width=8, vocab=0)})
    with pytest.raises(ValueError, match=r"vocabulary: say how many .*words 400, spoken 300"):
        fit_vocabularies(alone, tokenizers)


def test_a_tower_in_several_files_is_kept_whole(tmp_path: Path) -> None:
    text = _bert(tmp_path / "bert")
    BertModel.from_pretrained(text).save_pretrained(tmp_path / "cut", max_shard_size="8KB")
    cut = tmp_path / "cut"
    assert not (cut / "model.safetensors").exists()
    spec = TowerSpec(folder=str(cut), library="transformers", layers=-1)
    keep_tower(spec, tmp_path / "kept")

    kept = replace(spec, folder=str(tmp_path / "kept"))
    ids = torch.tensor([[2, 7, 3]])
    there = torch.ones(1, 3).bool()
    torch.testing.assert_close(
        text_tower(kept, "cpu")(ids, there), text_tower(spec, "cpu")(ids, there)
    )


def test_an_older_vilt_calls_the_bias_of_its_words_otherwise() -> None:
    shape = {**SHAPE, "num_hidden_layers": 1, "vocab_size": 30, "image_size": 32, "patch_size": 16}
    model = ViltForMaskedLM(ViltConfig(**shape))
    torch.nn.init.normal_(model.mlm_score.decoder.bias)
    state = model.state_dict()
    bias = state.pop("mlm_score.decoder.bias")
    state["mlm_score.bias"] = bias
    ours, _ = from_pretrained(understand(model.config, "vilt", state))
    assert torch.equal(ours.get_parameter("heads.vocabulary.decode.bias"), bias)
