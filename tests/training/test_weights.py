"""Weights in and out: what was loaded is said, what cannot be is an error, a round trip is one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    CLIPModel,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    ViTConfig,
    ViTModel,
)

from tests.training import parity
from training.embed import PatchesSpec, WordsSpec
from training.heads import ClassifySpec, ProjectSpec, ScaleSpec, VocabularySpec
from training.model import Model, ModelSpec, Pass, initialise
from training.recipes import blip, clip, vilt
from training.recipes import load as load_plan
from training.stack import Cross, StackSpec
from training.weights.export import export
from training.weights.load import cross_from_self, from_pretrained, load, load_part

WORDS = WordsSpec(vocab=23, width=20, length=9)
PATCHES = PatchesSpec(patch=4, width=20, grid=3)
STACK = StackSpec(layers=2, width=20, heads=5, hidden=36, eps=1e-12)


def _random(spec: ModelSpec) -> Model:
    model = Model(spec).eval()
    initialise(model, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def _blip() -> ModelSpec:
    text = replace(
        STACK,
        norm="post",
        attentions=("both", "causal"),
        cross=Cross(width=20),
    )
    words = {"stack": "text", "inputs": ("words",), "reads": "image"}
    return ModelSpec(
        embeds={"words": WORDS, "patches": PATCHES},
        stacks={"image": STACK, "text": text},
        passes={
            "image": Pass(stack="image", inputs=("patches",)),
            "text": Pass(stack="text", inputs=("words",), attention="both"),
            "match": Pass(**words, attention="both"),
            "caption": Pass(**words, attention="causal", rules=("causal",)),
        },
        heads={
            "text_project": ProjectSpec(width=20, dim=6),
            "image_project": ProjectSpec(width=20, dim=6),
            "match": ClassifySpec(width=20, classes=2),
            "vocabulary": VocabularySpec(width=20, vocab=23, tied="words"),
        },
    )


def _vilt() -> ModelSpec:
    patches = replace(PATCHES, interpolation="bilinear", align_corners=True, modality=True)
    return ModelSpec(
        embeds={"words": replace(WORDS, types=2, modality=True), "patches": patches},
        stacks={"fusion": STACK},
        passes={"fusion": Pass(stack="fusion", inputs=("words", "patches"))},
        heads={
            "vocabulary": VocabularySpec(width=20, vocab=23),
            "match": ClassifySpec(width=20, classes=2, tanh=True),
        },
    )


def _clip() -> ModelSpec:
    stack = replace(STACK, eps=1e-5, activation="quick_gelu")
    return ModelSpec(
        embeds={
            "captions": replace(WORDS, types=0, norm=False),
            "patches": replace(PATCHES, bias=False),
        },
        stacks={"language": stack, "image": replace(stack, first_norm=True)},
        passes={
            "language": Pass(stack="language", inputs=("captions",), rules=("causal",)),
            "image": Pass(stack="image", inputs=("patches",)),
        },
        heads={
            "text_project": ProjectSpec(width=20, dim=6, pool="last", bias=False),
            "image_project": ProjectSpec(width=20, dim=6, bias=False),
            "scale": ScaleSpec(),
        },
    )


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    ids, valid = parity.texts(22, [7, 4, 2])
    ids[torch.arange(3), valid.sum(1) - 1] = 22
    return ids, valid, parity.pixels(3, 3, 12, 12).detach().float()


def _logits(model: Model, ids: Tensor, valid: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """Everything that a model of these tests says, padding left out."""
    names = [*model.spec.embeds]
    words, patches = model.embed(names[0], ids, valid), model.embed("patches", pixels)
    if "fusion" in model.spec.passes:
        tokens = model.run("fusion", [words, patches])
        return {
            "mlm": model.head("vocabulary", tokens.x[:, : ids.shape[1]])[valid],
            "itm": model.head("match", tokens),
        }

    image = model.run("image", [patches])
    text = model.run("text" if "text" in model.spec.passes else "language", [words])
    said = {
        "text": model.head("text_project", text),
        "image": model.head("image_project", image),
    }
    if "match" in model.spec.passes:
        said["itm"] = model.head("match", model.run("match", [words], image))
        said["lm"] = model.head("vocabulary", model.run("caption", [words], image).x)[valid]
    return said


SAME = {"atol": 2e-5, "rtol": 0.0}  # float32: sums in another order


@pytest.mark.parametrize("kind", ["blip", "vilt", "clip", "open_clip"])
def test_a_round_trip_changes_no_logit(kind: str, tmp_path: Path) -> None:
    spec = {"blip": _blip, "vilt": _vilt}.get(kind, _clip)()
    model = _random(spec)
    parts = {"words": "captions", "text": "language"} if "clip" in kind else None
    unsaid = export(model, tmp_path / kind, kind, parts)  # type: ignore[arg-type]
    assert not [name for name in unsaid if "pooler" not in name]

    again, report = from_pretrained(tmp_path / kind)
    again.eval()
    batch = _batch()
    with torch.inference_mode():
        before, after = _logits(model, *batch), _logits(again, *batch)
    assert before.keys() == after.keys()
    for name, logits in before.items():
        assert torch.allclose(after[name], logits, **SAME), name
    assert not report.missing


def test_transformers_reads_our_blip(tmp_path: Path) -> None:
    model = _random(_blip())
    export(model, tmp_path, "blip", tokens={"bos_token_id": 21, "sep_token_id": 22})
    ids, valid, pixels = _batch()
    asked = {"input_ids": ids, "attention_mask": valid.long(), "pixel_values": pixels}
    captioner = BlipForConditionalGeneration.from_pretrained(tmp_path).eval()
    retriever = BlipForImageTextRetrieval.from_pretrained(tmp_path).eval()
    assert captioner.config.text_config.bos_token_id == 21

    with torch.inference_mode():
        said = _logits(model, ids, valid, pixels)
        assert torch.allclose(captioner(**asked).logits[valid], said["lm"], **SAME)
        assert torch.allclose(retriever(**asked).itm_score, said["itm"], **SAME)
        cosines = retriever(**asked, use_itm_head=False).itm_score
        assert torch.allclose(cosines, said["image"] @ said["text"].T, **SAME)


def test_transformers_reads_our_vilt(tmp_path: Path) -> None:
    model = _random(_vilt())
    export(model, tmp_path, "vilt")
    ids, valid, pixels = _batch()
    asked = {"input_ids": ids, "attention_mask": valid.long(), "pixel_values": pixels}
    words = ViltForMaskedLM.from_pretrained(tmp_path).eval()
    ranks = ViltForImageAndTextRetrieval.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        said = _logits(model, ids, valid, pixels)
        assert torch.allclose(words(**asked).logits[valid], said["mlm"], **SAME)
        match = said["itm"].softmax(-1)[:, 1:]
        assert torch.allclose(ranks(**asked).logits.sigmoid(), match, **SAME)


def test_transformers_and_open_clip_read_our_clip(tmp_path: Path) -> None:
    model = _random(_clip())
    parts = {"words": "captions", "text": "language"}
    export(model, tmp_path / "hf", "clip", parts, tokens={"eos_token_id": 22})
    export(model, tmp_path / "oc", "open_clip", parts)
    ids, valid, pixels = _batch()
    ids = ids.masked_fill(~valid, 0)
    theirs = CLIPModel.from_pretrained(tmp_path / "hf").eval()
    settings = json.loads((tmp_path / "oc/open_clip_config.json").read_text())["model_cfg"]
    other = open_clip.model.CLIP(**settings).eval()
    open_clip.load_checkpoint(other, str(tmp_path / "oc/open_clip_model.safetensors"))

    with torch.inference_mode():
        said = _logits(model, ids, valid, pixels)
        out = theirs(input_ids=ids, attention_mask=valid.long(), pixel_values=pixels)
        assert torch.allclose(out.text_embeds, said["text"], **SAME)
        assert torch.allclose(out.image_embeds, said["image"], **SAME)
        padded = F.pad(ids, (0, WORDS.length - ids.shape[1]))
        assert torch.allclose(other.encode_text(padded, normalize=True), said["text"], **SAME)
        assert torch.allclose(other.encode_image(pixels, normalize=True), said["image"], **SAME)


@pytest.mark.parametrize(("recipe", "kind"), [(blip, "blip"), (clip, "clip"), (vilt, "vilt")])
def test_models_of_recipes_are_expressible(recipe: ModuleType, kind: str, tmp_path: Path) -> None:
    spec = recipe.plan(size="tiny").model
    words = replace(spec.embeds["words"], vocab=23)
    heads = dict(spec.heads)
    if "vocabulary" in heads:
        heads["vocabulary"] = replace(heads["vocabulary"], vocab=23)
    model = _random(replace(spec, embeds={**spec.embeds, "words": words}, heads=heads))

    assert not [name for name in export(model, tmp_path, kind) if "pooler" not in name]
    _, report = from_pretrained(tmp_path)
    assert set(model.state_dict()) == set(report.loaded)


def test_what_cannot_be_said_in_their_modules_is_an_error(tmp_path: Path) -> None:
    spec = _vilt()
    gated = replace(spec, stacks={"fusion": replace(STACK, layer_scale=True)})
    with pytest.raises(ValueError, match="fusion has layer_scale True, and vilt can only have F"):
        export(Model(gated), tmp_path, "vilt")
    with pytest.raises(ValueError, match="the model has no part langauge"):
        export(Model(_clip()), tmp_path, "clip", {"text": "langauge"})


# Initial weights of towers


def _saved(theirs: nn.Module, folder: Path) -> Path:
    with torch.no_grad():
        for index, parameter in enumerate(theirs.parameters()):
            parameter += 0.1 + 0.01 * index
    theirs.save_pretrained(folder)
    return folder


def _bert(folder: Path, **more: int) -> Path:
    shape = {"hidden_size": 20, "num_attention_heads": 5, "intermediate_size": 36}
    shape |= {"vocab_size": 21, "max_position_embeddings": 12, "num_hidden_layers": 3, **more}
    return _saved(BertModel(BertConfig(**shape)), folder)


def test_bert_into_both_attentions_of_blip(tmp_path: Path) -> None:
    model = Model(_blip())
    report = load_part(model, "text", _bert(tmp_path), new_words=2)

    first = model.stacks["text"].blocks[1].attentions
    assert torch.equal(first["both"].inner.qkv.weight, first["causal"].inner.qkv.weight)
    assert first["causal"].inner.qkv.weight.abs().min() > 0
    assert "embeds.words.place cut from 12 rows to 9" in report.resized
    assert "embeds.words.token_type cut from 2 rows to 1" in report.resized
    assert all(".cross." in path for path in report.missing)
    text = str(report)
    assert "NOT LOADED, left as it was: stacks.text.blocks.*.cross.inner.query.weight (2)" in text
    assert "in the file, not used: encoder.layer.*.attention.self.query.weight" in text

    cross_from_self(model, "text", "causal")
    block = model.stacks["text"].blocks[0]
    assert torch.equal(block.cross.inner.query.weight, first.causal.inner.qkv.weight[:20]) is False
    own = block.attentions["causal"].inner.qkv.weight
    assert torch.equal(block.cross.inner.query.weight, own[:20])
    assert torch.equal(block.cross.inner.key_value.weight, own[20:])


def test_a_bert_in_two_halves_for_albef(tmp_path: Path) -> None:
    config = BertConfig(
        hidden_size=128,
        num_hidden_layers=5,
        num_attention_heads=4,
        intermediate_size=512,
        vocab_size=23,
        max_position_embeddings=30,
    )
    theirs = BertModel(config, add_pooling_layer=False)
    parity.randomise(theirs)
    theirs.float().save_pretrained(tmp_path)

    plan = load_plan("albef", size="tiny", init={"text": str(tmp_path)})
    assert plan.init == {"text": str(tmp_path), "fusion": str(tmp_path)}
    words = replace(plan.model.embeds["words"], vocab=23)  # type: ignore[arg-type]
    heads = {name: head for name, head in plan.model.heads.items() if name != "vocabulary"}
    model = _random(
        replace(plan.model, embeds={**plan.model.embeds, "words": words}, heads=heads, prepare={})
    )
    low, high = load_part(model, "text", tmp_path), load_part(model, "fusion", tmp_path)
    assert not low.missing
    assert all(".cross." in path for path in high.missing)  # random at first, as in the paper

    state = theirs.state_dict()
    for stack, block, other in (("text", 1, 1), ("fusion", 0, 2), ("fusion", 1, 3)):
        found = model.get_parameter(
            f"stacks.{stack}.blocks.{block}.feedforwards.shared.inner.into.weight"
        )
        assert torch.equal(found, state[f"encoder.layer.{other}.intermediate.dense.weight"])


def test_vit_into_the_fusion_of_vilt_with_another_grid(tmp_path: Path) -> None:
    shape = {"hidden_size": 20, "num_attention_heads": 5, "intermediate_size": 36}
    shape |= {"num_hidden_layers": 2, "image_size": 20, "patch_size": 4}
    theirs = ViTModel(ViTConfig(**shape))
    _saved(theirs, tmp_path)
    model = Model(_vilt())
    report = load_part(model, "fusion", tmp_path)

    table = theirs.embeddings.position_embeddings
    square = table[:, 1:].unflatten(1, (5, 5)).permute(0, 3, 1, 2)
    wanted = F.interpolate(square, size=(3, 3), mode="bicubic")[0].permute(1, 2, 0)
    assert torch.allclose(model.embeds["patches"].place, wanted, atol=1e-6)
    assert report.resized == ("embeds.patches.place resampled from 5 x 5 to 3 x 3",)
    assert report.missing == ("embeds.patches.modality",)
    assert report.unexpected == ("pooler.dense.bias", "pooler.dense.weight")


def test_a_folder_of_timm(tmp_path: Path) -> None:
    shape = {"img_size": 16, "patch_size": 4, "embed_dim": 20, "depth": 2, "num_heads": 5}
    theirs = timm.create_model("vit_tiny_patch16_224", **shape, num_classes=3).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    settings = {"architecture": "vit_tiny_patch16_224", "model_args": shape}
    (tmp_path / "config.json").write_text(json.dumps(settings))

    model, report = from_pretrained(tmp_path)
    pixels = parity.pixels(2, 3, 16, 16).detach().float()
    with torch.inference_mode():
        found = model.eval().run("image", [model.embed("patches", pixels)]).x
        assert torch.allclose(found, theirs.forward_features(pixels), **SAME)
    assert report.unexpected == ("head.bias", "head.weight")

    settings = {"architecture": "resnet18"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="resnet18 is no vision transformer"):
        from_pretrained(tmp_path)


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    bert = _bert(tmp_path / "bert")
    model = Model(_blip())
    with pytest.raises(ValueError, match=r"has 23 words here and 21 in the file: .*`new_words`"):
        load_part(model, "text", bert)
    with pytest.raises(ValueError, match=r"stack image has norm pre, but .* has post"):
        load(model, bert, {"text": "image"})
    with pytest.raises(ValueError, match=r"no part of the model is called 'txt'"):
        load_part(model, "txt", bert)
    with pytest.raises(ValueError, match=r"has nothing for this model"):
        load(Model(_vilt()), bert, {})
    with pytest.raises(ValueError, match=r"no folder with a config.json"):
        load(model, tmp_path)

    wide = _bert(tmp_path / "wide", intermediate_size=40)
    with pytest.raises(ValueError, match=r"into.weight is \[36, 20\] here and \[40, 20\]"):
        load(model, wide, {"text": "text"})
    heads = _bert(tmp_path / "heads", num_attention_heads=4)
    with pytest.raises(ValueError, match=r"stack text has heads 5, but .* has 4"):
        load(model, heads, {"text": "text"})
    short = _bert(tmp_path / "short", max_position_embeddings=5)
    with pytest.raises(ValueError, match=r"words.place is \[9, 20\] here and \[5, 20\]"):
        load_part(model, "words", short, new_words=2)

    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt/config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "gpt/model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"is a gpt2: no table for it; there are tables for: bert"):
        load(model, tmp_path / "gpt")


def test_two_different_text_stacks_in_one_file_are_no_blip(tmp_path: Path) -> None:
    model = _random(_blip())
    export(model, tmp_path, "blip")
    state = load_file(tmp_path / "model.safetensors")
    state["text_encoder.encoder.layer.0.output.dense.bias"] += 1
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"two different tensors for stacks.text.blocks.0.feedf"):
        from_pretrained(tmp_path)
    report = load(model, tmp_path, without=("text_encoder.",))
    assert any("both" in path for path in report.missing)
