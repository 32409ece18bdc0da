"""Models of transformers and open_clip as folders of ours, and ours as folders of theirs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, normalizers
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from training.data.images import CLIP_MEAN, CLIP_STD, HALF, ImageSpec
from training.data.loader import Prepared
from training.data.tokenizer import (
    ALBEF_DROPS,
    ALBEF_PARTS,
    BEGIN,
    BLIP_DROPS,
    END,
    MASKS,
    TextSpec,
    Tokenizer,
    make_tokenizer,
)
from training.embed import PatchesSpec, WordsSpec
from training.export import CONFIG, IMPORTED, export_model, load_model
from training.folder import read_json, write_json
from training.heads import ClassifySpec
from training.hub import find_file
from training.model import Model, ModelSpec, Pass
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.lm import Captions
from training.objectives.mlm import MaskedWords
from training.plan import AnyObjective
from training.weights.export import Format, export
from training.weights.files import read
from training.weights.load import Report, from_pretrained

PROCESSORS = {"clip": "CLIPProcessor", "vilt": "ViltProcessor", "blip": "BlipProcessor"}
FETCH_AGAIN = "fetch the model again"
BICUBIC = 3  # of Pillow, as image processors write it


def import_model(source: str | Path, out: Path, *, tokenizer: str = "") -> Report:
    """A ViLT, CLIP, open_clip or BLIP, by folder or name of the hub, as a trained model in `out`.

    `tokenizer` names one where the source has none of its own. ValueError where the source is of
    another kind, is not whole, or `out` is taken.
    """
    checkpoint = read(source)
    kind = checkpoint.kind
    if kind not in (*PROCESSORS, "open_clip"):
        known = ", ".join((*PROCESSORS, "open_clip"))
        raise ValueError(f"{source} is a {kind}; whole models are {known}: towers go to --init")
    model, report = from_pretrained(checkpoint)
    if kind == "vilt":
        model = _vilt_as_trained(model)

    words = model.spec.embeds["words"]
    patches = model.spec.embeds["patches"]
    assert isinstance(words, WordsSpec), "of all these families"
    assert isinstance(patches, PatchesSpec), "of all these families"
    texts = _text_spec(kind, tokenizer or _with_tokenizer(source), words.length)
    encoder = make_tokenizer(texts)
    if encoder.size > words.vocab:
        raise ValueError(
            f"the tokenizer {texts.vocabulary} has {encoder.size} pieces, the model "
            f"{words.vocab}: name the one that belongs to it (--tokenizer)"
        )
    images = _image_spec(kind, source, patches)

    model.spec = replace(model.spec, prepare={"words": encoder.spec, "patches": images})
    prepared: dict[str, Prepared] = {"words": encoder, "patches": images}
    with _new_folder(out) as part:
        export_model(part, model, prepared, _objectives(model.spec, kind))
        write_json(part / CONFIG, {**read_json(part / CONFIG), IMPORTED: kind})
    return report


def export_to(source: Path, out: Path, kind: Format) -> tuple[str, ...]:
    """A trained model as the folder of a CLIP, open_clip, ViLT or BLIP, tokenizer and all.

    Returns names of weights that their classes know and the model has not. ValueError when their
    modules cannot express the model, or `out` is taken.
    """
    model, _ = load_model(source)
    texts, images = model.spec.prepare.get("words"), model.spec.prepare.get("patches")
    if not isinstance(texts, TextSpec) or not isinstance(images, ImageSpec):
        inputs = ", ".join(model.spec.prepare)
        raise ValueError(
            f"{source} does not read texts (words) and pixels (patches) itself, but {inputs}: a "
            f"model on a frozen tower cannot be a {kind}"
        )
    tokenizer = make_tokenizer(texts, folder=source / "prepare" / "words")
    with _new_folder(out) as part:
        unsaid = export(model, part, kind, tokens=_special_tokens(tokenizer, kind))
        _for_transformers(tokenizer, kind).save_pretrained(part)
        if kind == "open_clip":
            _complete_open_clip(part / "open_clip_config.json", images, tokenizer)
        else:
            write_json(part / "preprocessor_config.json", _image_settings(images, kind))
    return unsaid


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that gets its name when all is in it."""
    if out.exists():
        raise ValueError(f"{out} is there already: choose another folder, or remove it")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _vilt_as_trained(model: Model) -> Model:
    """A ViLT as the recipe has it: its pass is called match, and so is its head, of two classes.

    transformers' ranking score is what true has over false.
    """
    spec = model.spec
    heads = dict(spec.heads)
    state = model.state_dict()
    rank = heads.pop("rank", None)
    if isinstance(rank, ClassifySpec):
        heads["match"] = replace(rank, classes=2)
        for kind in ("weight", "bias"):
            score = state.pop(f"heads.rank.linear.{kind}")
            state[f"heads.match.linear.{kind}"] = torch.cat([torch.zeros_like(score), score])
            state[f"heads.match.pooler.{kind}"] = state.pop(f"heads.rank.pooler.{kind}")

    passes = {"match": Pass(stack="fusion", inputs=("words", "patches"))}
    renamed = Model(replace(spec, passes=passes, heads=heads))
    renamed.load_state_dict(state)
    return renamed


def _objectives(spec: ModelSpec, kind: str) -> list[AnyObjective]:
    """What a model can be asked, by the heads that its file has."""
    found: list[AnyObjective] = []
    contrast = None
    if {"image_project", "text_project", "scale"} <= spec.heads.keys():
        contrast = Contrast()
        found.append(contrast)
    if "match" in spec.heads and "match" in spec.passes:
        found.append(Matching(contrast=contrast))
    if "caption" in spec.passes:
        found.append(Captions())
    elif "vocabulary" in spec.heads and "match" in spec.passes:
        found.append(MaskedWords())
    if not found:
        heads = ", ".join(spec.heads) or "none"
        raise ValueError(f"this {kind} can be asked nothing: it has no head for it ({heads})")
    return found


def _with_tokenizer(source: str | Path) -> str:
    """The source, if it has a tokenizer: transformers would make an empty one."""
    for name in ("tokenizer.json", "vocab.txt", "vocab.json"):
        if find_file(source, name) is not None:
            return str(source)
    raise ValueError(f"{source} has no tokenizer: name one that belongs to it (--tokenizer)")


def _text_spec(kind: str, vocabulary: str, length: int) -> TextSpec:
    if kind in ("clip", "open_clip"):
        return TextSpec(vocabulary=vocabulary, length=length, first=BEGIN, last=END)
    if kind == "vilt":
        return TextSpec(vocabulary=vocabulary, length=length)
    extra = ("[DEC]", "[ENC]")
    return TextSpec(vocabulary=vocabulary, length=min(length, 40), clean="blip", extra=extra)


def _image_spec(kind: str, source: str | Path, patches: PatchesSpec) -> ImageSpec:
    """As the file beside the weights says; what it leaves out is what the family's papers have."""
    said = _settings(source, kind)
    size = said.get("size", {})
    side = patches.grid * patches.patch
    mean = said.get("image_mean") or (HALF if kind == "vilt" else CLIP_MEAN)
    std = said.get("image_std") or (HALF if kind == "vilt" else CLIP_STD)
    plain = ImageSpec(size=side, patch=patches.patch, mean=tuple(mean), std=tuple(std))

    if kind == "vilt" and "height" not in size:
        return replace(plain, size=size.get("shortest_edge", 384), how="shorter")
    stretched = kind == "blip" or said.get("resize_mode") == "squash" or "height" in size
    if stretched and not said.get("do_center_crop"):
        return plain
    return replace(plain, how="crop", evaluate="centre")


def _settings(source: str | Path, kind: str) -> dict[str, Any]:
    """Of an image processor, under the names of transformers' preprocessor_config.json."""
    if kind == "open_clip":
        path = find_file(source, "open_clip_config.json")
        assert path is not None, "its weights were read"
        said = read_json(path, FETCH_AGAIN).get("preprocess_cfg", {})
        renamed = {"mean": "image_mean", "std": "image_std"}
        return {renamed.get(name, name): value for name, value in said.items() if name != "size"}

    path = find_file(source, "preprocessor_config.json")
    if path is None:
        path = find_file(source, "processor_config.json")
    if path is None:
        return {}
    said = read_json(path, FETCH_AGAIN)
    said = dict(said.get("image_processor", said))
    if isinstance(said.get("size"), int):
        said["size"] = {"shortest_edge": said["size"]}
    return said


def _special_tokens(tokenizer: Tokenizer, kind: Format) -> dict[str, int]:
    """Numbers that their configurations want: where a text begins and ends, and padding."""
    end = tokenizer.firsts[tokenizer.spec.last]
    tokens = {
        "pad_token_id": tokenizer.padding,
        "bos_token_id": tokenizer.firsts[_begin(tokenizer, kind)],
        "eos_token_id": end,
    }
    if kind == "blip":
        tokens["sep_token_id"] = end
    return tokens


def _begin(tokenizer: Tokenizer, kind: Format) -> str:
    """The piece that a text which is written begins with."""
    return "[DEC]" if kind == "blip" else tokenizer.spec.first


def _for_transformers(tokenizer: Tokenizer, kind: Format) -> PreTrainedTokenizerFast:
    """The tokenizer with all that ours does around it: cleaning, first and last piece."""
    spec = tokenizer.spec
    backend = Backend.from_str(tokenizer.backend.to_str())
    backend.no_truncation()
    backend.normalizer = normalizers.Sequence([*_cleaning(spec.clean), backend.normalizer])
    around = [(piece, tokenizer.firsts[piece]) for piece in (spec.first, spec.last)]
    backend.post_processor = TemplateProcessing(
        single=f"{spec.first} $A {spec.last}", special_tokens=around
    )
    known = backend.get_vocab(with_added_tokens=True)
    masks = [piece for piece in MASKS if piece in known]
    extra: dict[str, Any] = {"mask_token": masks[0]} if masks else {}
    if "[UNK]" in known:
        extra["unk_token"] = "[UNK]"
    if spec.extra:
        extra["additional_special_tokens"] = list(spec.extra)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=spec.length,
        cls_token=spec.first,
        sep_token=spec.last,
        bos_token=_begin(tokenizer, kind),
        eos_token=spec.last,
        pad_token=backend.id_to_token(tokenizer.padding),
        split_special_tokens=True,  # a caption that says "[MASK]" does not mask
        **extra,
    )
    if kind in PROCESSORS:
        fast.init_kwargs["processor_class"] = PROCESSORS[kind]
    return fast


def _cleaning(clean: str) -> list[normalizers.Normalizer]:
    """What `TextSpec.cleaned` does, as the library says it; words are not counted."""
    if clean == "blip":
        signs = normalizers.Replace(Regex(BLIP_DROPS.pattern), " ")
        return [normalizers.Lowercase(), signs]
    if clean == "albef":
        signs = normalizers.Replace(Regex(ALBEF_DROPS.pattern), "")
        parts = normalizers.Replace(Regex(ALBEF_PARTS.pattern), " ")
        return [normalizers.Lowercase(), signs, parts]
    return []


def _image_settings(images: ImageSpec, kind: Format) -> Mapping[str, Any]:
    """preprocessor_config.json: the class that does what ours does in evaluation."""
    side = {"height": images.size, "width": images.size}
    settings: dict[str, Any] = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "resample": BICUBIC,
        "image_mean": list(images.mean),
        "image_std": list(images.std),
        "processor_class": PROCESSORS.get(kind, ""),
    }
    if images.how == "shorter":
        own = {"size": {"shortest_edge": images.size}, "size_divisor": images.patch}
        return {**settings, "image_processor_type": "ViltImageProcessor", "do_pad": True, **own}
    if images.centred:
        own = {"size": {"shortest_edge": images.size}, "do_center_crop": True, "crop_size": side}
        return {**settings, "image_processor_type": "CLIPImageProcessor", **own}
    return {**settings, "image_processor_type": "BlipImageProcessor", "size": side}


def _complete_open_clip(path: Path, images: ImageSpec, tokenizer: Tokenizer) -> None:
    """What open_clip must know beside the shapes: the piece that ends a text, and the pixels."""
    config = read_json(path)
    ends = {"pool_type": "eos", "eos_id": tokenizer.firsts[tokenizer.spec.last]}
    config["model_cfg"]["text_cfg"] |= {
        **ends,
        "pad_id": tokenizer.padding,
        "hf_tokenizer_name": ".",  # with local-dir: the folder itself
    }
    config["preprocess_cfg"] = {
        "size": images.size,
        "mean": list(images.mean),
        "std": list(images.std),
        "interpolation": "bicubic",
        "resize_mode": "shortest" if images.centred else "squash",
    }
    write_json(path, config)
