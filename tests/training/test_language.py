"""LLaVA on a frozen language model is that of transformers; what is beside it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    CLIPVisionModel,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from tests.training import parity
from training.data.tokenizer import BEGIN, END, TextSpec, make_tokenizer
from training.data.towers import TowerSpec
from training.embed import GridSpec
from training.generate import Decoding, TextGenerator
from training.language import LanguageHeadSpec, LanguageSpec, LanguageWordsSpec, Lora
from training.model import Model, ModelSpec, Pass, initialise

IMAGE, END_ID = 3, 2
PATCHES = 9  # of a picture of 12 pixels, cut by 4


def _llava() -> LlavaForConditionalGeneration:
    vision = CLIPVisionConfig(
        hidden_size=20,
        num_hidden_layers=3,
        num_attention_heads=5,
        intermediate_size=36,
        image_size=12,
        patch_size=4,
    )
    text = LlamaConfig(
        vocab_size=31,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=40,
        bos_token_id=1,
        eos_token_id=END_ID,
        pad_token_id=0,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-2
    )
    config.image_token_id = IMAGE
    theirs = LlavaForConditionalGeneration(config)
    parity.randomise(theirs)
    return theirs


def _saved(theirs: LlavaForConditionalGeneration, folder: Path) -> tuple[str, str]:
    """Its tower and its language model, each in a folder of its own."""
    tower = CLIPVisionModel(theirs.config.vision_config).double()
    tower.load_state_dict(theirs.model.vision_tower.state_dict())
    tower.save_pretrained(folder / "tower")

    language = AutoModelForCausalLM.from_config(theirs.config.text_config).double()
    language.model.load_state_dict(theirs.model.language_model.state_dict())
    language.lm_head.load_state_dict(theirs.lm_head.state_dict())
    language.save_pretrained(folder / "language")
    return str(folder / "tower"), str(folder / "language")


def _ours(tower: str, language: str, *, rank: int = 0) -> Model:
    spec = ModelSpec(
        embeds={
            "patches": GridSpec(
                features=20,
                width=24,
                hidden=24,
                skip=1,
                tower=TowerSpec(folder=tower, library="transformers", layers=-1),
            ),
            "words": LanguageWordsSpec(language="language"),
        },
        stacks={},
        passes={"caption": Pass(stack="language", inputs=("patches", "words"), rules=("causal",))},
        heads={"vocabulary": LanguageHeadSpec(language="language")},
        languages={"language": LanguageSpec(folder=language, rank=rank, alpha=6.0)},
    )
    return Model(spec).double().eval()


def _project_like(
    model: Model, theirs: LlavaForConditionalGeneration
) -> list[tuple[Tensor, Tensor]]:
    """Give ours their projector; pairs of parameters that stand for each other."""
    mine = model.get_submodule("embeds.patches.linear")
    other = theirs.model.multi_modal_projector
    pairs = []
    for ours, name in (("0", "linear_1"), ("2", "linear_2")):
        for kind in ("weight", "bias"):
            own = getattr(mine.get_submodule(ours), kind)
            given = getattr(getattr(other, name), kind)
            own.data.copy_(given.data)
            pairs.append((own, given))
    return pairs


def _logits(model: Model, pixels: Tensor, ids: Tensor, valid: Tensor | None) -> Tensor:
    tokens = [model.embed("patches", pixels), model.embed("words", ids, valid)]
    said = model.run("caption", tokens)
    return model.head("vocabulary", said.x[:, PATCHES:])


def test_llava_is_that_of_transformers(tmp_path: Path) -> None:
    theirs = _llava()
    model = _ours(*_saved(theirs, tmp_path))
    pairs = _project_like(model, theirs)
    pixels = parity.pixels(3, 3, 12, 12).detach()
    ids, valid = parity.texts(31, [7, 4, 2])
    ids = ids.where(ids != IMAGE, 5)

    images = torch.full((3, PATCHES), IMAGE)
    wanted = theirs(
        input_ids=torch.cat([images, ids], dim=1),
        attention_mask=torch.cat([images > 0, valid], dim=1).long(),
        pixel_values=pixels,
    ).logits[:, PATCHES:]
    found = _logits(model, pixels, ids, valid)
    assert parity.difference(found[valid], wanted[valid]) < parity.EXACT

    parity.probe(wanted, valid).backward()
    parity.probe(found, valid).backward()
    for own, other in pairs:
        assert own.grad is not None
        assert other.grad is not None
        assert parity.difference(own.grad, other.grad) < parity.EXACT
    assert len(list(model.parameters())) == len(pairs)


def test_small_matrices_are_as_good_as_changed_maps(tmp_path: Path) -> None:
    """Output and gradients of W with B and A beside it are those of W + scale x B A."""
    theirs = _llava()
    model = _ours(*_saved(theirs, tmp_path), rank=3)
    _project_like(model, theirs)
    pixels = parity.pixels(2, 3, 12, 12).detach()
    ids, _ = parity.texts(31, [6, 6])

    before = _logits(_ours(str(tmp_path / "tower"), str(tmp_path / "language")), pixels, ids, None)
    initialise(model, torch.Generator().manual_seed(1))
    fresh = _ours(str(tmp_path / "tower"), str(tmp_path / "language"))
    fresh.load_state_dict({n: t for n, t in model.state_dict().items() if "lora" not in n})
    at_first = _logits(model, pixels, ids, None)
    assert torch.equal(at_first, _logits(fresh, pixels, ids, None))
    assert not torch.equal(at_first, before)

    merged = fresh.get_submodule("languages.language").model  # type: ignore[attr-defined]
    merged.requires_grad_(True)
    loras = dict(model.get_submodule("languages.language.lora").named_children())
    assert len(loras) == 2 * 7  # query, key, value, output and three maps of each of two layers
    generator = torch.Generator().manual_seed(2)
    for name, lora in loras.items():
        assert isinstance(lora, Lora)
        assert lora.scale == 2.0  # alpha 6 over rank 3
        lora.up.data.normal_(generator=generator)
        linear = merged.get_submodule(name.replace("-", "."))
        linear.weight.data += 2.0 * lora.up.data @ lora.down.data

    found, wanted = _logits(model, pixels, ids, None), _logits(fresh, pixels, ids, None)
    assert parity.difference(found, wanted) < parity.EXACT
    parity.probe(found).backward()
    parity.probe(wanted).backward()
    for name, lora in loras.items():
        assert isinstance(lora, Lora)
        whole = merged.get_submodule(name.replace("-", ".")).weight.grad
        assert lora.up.grad is not None
        assert lora.down.grad is not None
        assert parity.difference(lora.up.grad, 2.0 * whole @ lora.down.T) < parity.EXACT
        assert parity.difference(lora.down.grad, 2.0 * lora.up.T @ whole) < parity.EXACT


def test_greedy_texts_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = _llava()
    model = _ours(*_saved(theirs, tmp_path))
    _project_like(model, theirs)
    pixels = parity.pixels(4, 3, 12, 12).detach()
    prompt = torch.full((4, 1), 1)
    writer = TextGenerator(model, decoder="caption", head="vocabulary", end=END_ID)
    found = writer.generate(prompt, Decoding(longest=8), before=[model.embed("patches", pixels)])

    images = torch.full((4, PATCHES), IMAGE)
    wanted = theirs.generate(
        input_ids=torch.cat([images, prompt], dim=1),
        attention_mask=torch.ones(4, PATCHES + 1, dtype=torch.int64),
        pixel_values=pixels,
        max_new_tokens=8,
        do_sample=False,
    )[:, PATCHES + 1 :]
    ended = (wanted == END_ID).cumsum(1) > 0
    wanted = wanted.masked_fill(ended, END_ID)
    assert torch.equal(found[:, : wanted.shape[1]], wanted)
    assert len({tuple(row) for row in found.tolist()}) > 1, "texts depend on their image"

    beams = writer.generate(
        prompt, Decoding(how="beam", beams=2, longest=8), before=[model.embed("patches", pixels)]
    )
    assert beams.shape == (4, 8)


def test_a_model_with_turned_matrices_has_small_ones_too(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=19, n_embd=16, n_layer=1, n_head=2, n_positions=12)
    theirs = AutoModelForCausalLM.from_config(config)
    parity.randomise(theirs)
    theirs.save_pretrained(tmp_path)
    spec = ModelSpec(
        embeds={"words": LanguageWordsSpec(language="gpt")},
        stacks={},
        passes={"caption": Pass(stack="gpt", inputs=("words",), rules=("causal",))},
        heads={"vocabulary": LanguageHeadSpec(language="gpt")},
        languages={"gpt": LanguageSpec(folder=str(tmp_path), rank=2)},
    )
    model = Model(spec).double().eval()
    initialise(model, torch.Generator().manual_seed(1))
    assert {name.split(".")[3] for name, _ in model.named_parameters()} == {
        "transformer-h-0-attn-c_attn",
        "transformer-h-0-attn-c_proj",
        "transformer-h-0-mlp-c_fc",
        "transformer-h-0-mlp-c_proj",
    }
    ids = torch.tensor([[3, 4, 5, 6]])
    said = model.run("caption", [model.embed("words", ids)])
    found = model.head("vocabulary", said.x)
    assert parity.difference(found, theirs(input_ids=ids).logits) < parity.EXACT


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"rules": ("full",)},
            r'pass caption: gpt is a language model: its rules are \["causal"\]',
        ),
        ({"reads": "words"}, "reads nothing"),
        ({"stack": "gtp"}, "no stack 'gtp'; there are: gpt"),
    ],
)
def test_a_language_model_runs_in_one_way(changed: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"stack": "gpt", "inputs": ("words",), "rules": ("causal",)}
    with pytest.raises(ValueError, match=message):
        ModelSpec(
            embeds={"words": LanguageWordsSpec(language="gpt")},
            stacks={},
            passes={"caption": Pass(**{**settings, **changed})},  # type: ignore[arg-type]
            languages={"gpt": LanguageSpec(folder="gpt2")},
        )


def test_a_folder_without_a_language_model_is_named(tmp_path: Path) -> None:
    spec = ModelSpec(
        embeds={}, stacks={}, passes={}, languages={"gpt": LanguageSpec(folder=str(tmp_path))}
    )
    with pytest.raises(ValueError, match="no causal language model"):
        Model(spec)


def test_first_and_last_pieces_are_the_tokenizers_own(tmp_path: Path) -> None:
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "red": 3, "circle": 4}
    backend = Backend(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>"
    ).save_pretrained(tmp_path)
    tokenizer = make_tokenizer(TextSpec(vocabulary=str(tmp_path), first=BEGIN, last=END))
    assert (tokenizer.spec.first, tokenizer.spec.last) == ("</s>", "</s>")  # it has no beginning
    assert tokenizer(["red circle"]).ids.tolist() == [[2, 3, 4, 2]]
