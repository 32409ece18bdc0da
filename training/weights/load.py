"""Weights of a checkpoint into modules of a model, and an account of what came and what not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.features import FeatureSpec
from training.embed import Patches, Words
from training.model import Model, ModelSpec
from training.stack import StackSpec
from training.weights.files import Checkpoint, read
from training.weights.rules import Rule

MUST_AGREE = ("width", "heads", "head_width", "norm", "activation", "layer_scale", "bias")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a load did: paths of ours, except `unexpected`, which are names in the file.

    `missing` are parameters of the modules in question that the file does not have: they stay as
    they were. `resized` says what was resampled, cut or left with rows of its own.
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    resized: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing)
        lines = [f"{self.source}: {len(self.loaded)} of {total} parameters loaded"]
        lines += [f"  NOT LOADED, left as it was: {line}" for line in _grouped(self.missing)]
        lines += [f"  in the file, not used: {line}" for line in _grouped(self.unexpected)]
        lines += [f"  {line}" for line in self.resized]
        return "\n".join(lines)


def _grouped(names: tuple[str, ...]) -> list[str]:
    """Names that differ in numbers alone, as one."""
    counts: dict[str, int] = {}
    for name in names:
        stem = re.sub(r"\.\d+(?=\.|$)", ".*", name)
        counts[stem] = counts.get(stem, 0) + 1
    return [f"{stem} ({count})" if count > 1 else stem for stem, count in counts.items()]


def load(
    model: Model,
    source: str | Path | Checkpoint,
    parts: Mapping[str, str] | None = None,
    *,
    new_words: int = 0,
    without: tuple[str, ...] = (),
    skip: int = 0,
) -> Report:
    """Initial weights for modules of `model`.

    `parts` maps names of the checkpoint's modules (words, patches, text, image, fusion, and heads:
    see the families) to names of ours; without it, all that bear the same name. A stack of one
    self-attention gives it to all of ours; blocks behind our last one are left. Places of another
    grid are resampled, longer tables of places are cut. `new_words` is how many tokens our
    vocabulary has behind theirs. `without` are prefixes of names in the file to leave alone,
    `skip` is how many of their first blocks are left, so that ours are those behind. ValueError
    when nothing fits, or anything has another shape.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read(source)
    renames = _renames(model.spec, checkpoint, parts)
    mine = dict(model.named_parameters(remove_duplicate=False))

    filler = _Filler(model, mine, new_words)
    used: set[str] = set()
    for rule in checkpoint.family.table:
        for paths in _targets(rule, renames, mine, skip):
            if any(name.startswith(without) for name in rule.theirs if without):
                continue
            if all(name in checkpoint.state for name in rule.theirs):
                used |= set(rule.theirs)
                filler.fill(rule, paths, checkpoint)

    if not filler.loaded:
        raise ValueError(
            f"{checkpoint.source} ({checkpoint.kind}) has nothing for this model: "
            f"it holds {', '.join(_parts(checkpoint.family.spec))}; "
            f"the model has {', '.join(_parts(model.spec))}; say which is which"
        )
    return Report(
        source=checkpoint.source,
        loaded=tuple(filler.loaded),
        missing=_missing(mine, filler.loaded, renames),
        unexpected=tuple(name for name in checkpoint.state if name not in used),
        resized=tuple(filler.resized),
    )


def load_part(model: Model, part: str, source: str | Path, *, new_words: int = 0) -> Report:
    """Initial weights for one stack or embedding of `model`, and for what goes into the stack.

    The checkpoint's part is the one of the same name, or the only one of its kind; with a stack
    come the embeddings that both put into it. A stack that goes on where another one ended (ALBEF)
    is given the blocks behind that one's. Tokens that the model's preparation of texts adds to a
    vocabulary are new words. ValueError when that leaves a choice.
    """
    checkpoint = read(source)
    spec, theirs = model.spec, checkpoint.family.spec
    for prepare in spec.prepare.values():
        new_words = new_words or len(getattr(prepare, "extra", ()))
    if part in spec.embeds and part not in spec.stacks:
        kind = type(spec.embeds[part])
        found = [name for name, other in theirs.embeds.items() if isinstance(other, kind)]
        name = _only(found, part, checkpoint.source)
        return load(model, checkpoint, {name: part}, new_words=new_words)

    if part not in spec.stacks:
        known = ", ".join([*spec.stacks, *spec.embeds])
        raise ValueError(f"no part of the model is called {part!r}; there are: {known}")
    stack = _only(list(theirs.stacks), part, checkpoint.source)
    parts = {stack: part}
    for name in _inputs(theirs, stack):
        kind = type(theirs.embeds[name])
        same = [other for other in _inputs(spec, part) if isinstance(spec.embeds[other], kind)]
        if same:
            parts[name] = _only(same, name, "the model")
    skip = _layers_before(spec, part, theirs.stacks[stack].layers)
    return load(model, checkpoint, parts, new_words=new_words, skip=skip)


def _layers_before(spec: ModelSpec, part: str, layers: int) -> int:
    """The layers of the tower whose work is done before this stack is asked.

    They are those of the stack that it goes on from, or of a frozen tower whose hidden states were
    kept.
    """
    for step in spec.passes.values():
        if step.stack != part:
            continue
        before = spec.passes.get(step.inputs[0])
        prepare = spec.prepare.get(step.inputs[0])
        if before is not None and before.stack in spec.stacks:
            return spec.stacks[before.stack].layers
        if isinstance(prepare, FeatureSpec):
            kept = prepare.tower.layers
            return kept if kept > 0 else layers + kept
    return 0


def _only(names: list[str], wanted: str, where: str) -> str:
    if wanted in names:
        return wanted
    if len(names) != 1:
        raise ValueError(f"{where} has {names or 'nothing'} for {wanted}: say which (`parts`)")
    return names[0]


def _inputs(spec: ModelSpec, stack: str) -> list[str]:
    """Embeddings that passes over a stack take in."""
    found = [
        name
        for step in spec.passes.values()
        if step.stack == stack
        for name in step.inputs
        if name in spec.embeds
    ]
    return list(dict.fromkeys(found))


def from_pretrained(source: str | Path) -> tuple[Model, Report]:
    """A whole checkpoint as a model under our standard names; ValueError if it is not whole."""
    checkpoint = read(source)
    model = Model(checkpoint.family.spec)
    report = load(model, checkpoint)
    if report.missing:
        raise ValueError(f"the file is not whole\n{report}")
    return model, report


def cross_from_self(model: Model, stack: str, attention: str) -> None:
    """Cross-attention starts as a copy of self-attention; ValueError where widths differ."""
    spec = model.spec.stacks[stack]
    if spec.cross is None or spec.cross.width != spec.width:
        raise ValueError(f"{stack} cannot copy self-attention: no cross-attention of its width")
    with torch.no_grad():
        blocks: Any = model.stacks[stack].blocks
        for block in blocks:
            if block.cross is None:
                continue
            own = block.attentions[attention]
            for kind in ("weight", "bias") if spec.bias else ("weight",):
                query, key, value = getattr(own.inner.qkv, kind).chunk(3)
                getattr(block.cross.inner.query, kind).copy_(query)
                getattr(block.cross.inner.key_value, kind).copy_(torch.cat([key, value]))
            block.cross.inner.out.load_state_dict(own.inner.out.state_dict())
            block.cross.norm.load_state_dict(own.norm.state_dict())


def _parts(spec: ModelSpec) -> dict[str, str]:
    """Names of embeddings, stacks and heads, with the path before each."""
    return {
        **dict.fromkeys(spec.embeds, "embeds"),
        **dict.fromkeys(spec.stacks, "stacks"),
        **dict.fromkeys(spec.heads, "heads"),
    }


def _renames(
    ours: ModelSpec, checkpoint: Checkpoint, parts: Mapping[str, str] | None
) -> dict[str, list[str]]:
    """Prefixes of the table's paths to prefixes of ours."""
    theirs, mine = _parts(checkpoint.family.spec), _parts(ours)
    if parts is None:
        parts = {name: name for name in theirs if mine.get(name) == theirs[name]}

    renames: dict[str, list[str]] = {}
    for name, target in parts.items():
        if name not in theirs:
            raise ValueError(f"{checkpoint.source} has no {name!r}, but {', '.join(theirs)}")
        if mine.get(target) != theirs[name]:
            raise ValueError(
                f"{name} of {checkpoint.source} is one of {theirs[name]}, but this model "
                f"has no such {target!r}; there are: {', '.join(mine)}"
            )
        renames[f"{theirs[name]}.{name}"] = [f"{theirs[name]}.{target}"]
        if theirs[name] == "stacks":
            _agree(checkpoint, name, ours.stacks[target], target)
    return renames


def _agree(checkpoint: Checkpoint, name: str, ours: StackSpec, target: str) -> None:
    """What no tensor's shape tells: the same weights in another shape of stack are noise."""
    theirs = checkpoint.family.spec.stacks[name]
    for key in MUST_AGREE:
        mine, wanted = getattr(ours, key), getattr(theirs, key)
        if mine != wanted:
            raise ValueError(
                f"stack {target} has {key} {mine}, but {checkpoint.source} has {wanted}: "
                "change the stack, or take other weights"
            )


def _targets(
    rule: Rule, renames: dict[str, list[str]], mine: Mapping[str, Tensor], skip: int = 0
) -> list[tuple[str, ...]]:
    """The paths in our model that the rule fills: none, one, or one for each self-attention.

    "" stands for a tensor that the rule makes and our model has no use for.
    """
    found = [_paths(_moved(path, skip), renames, mine) for path in rule.ours]
    if not any(found):
        return []
    return list(zip_longest(*found, fillvalue=""))


def _moved(path: str, skip: int) -> str:
    """The path with its block counted from `skip`; blocks before that have none of ours."""
    return re.sub(r"\.blocks\.(\d+)\.", lambda found: f".blocks.{int(found[1]) - skip}.", path)


def _paths(path: str, renames: dict[str, list[str]], mine: Mapping[str, Tensor]) -> list[str]:
    kind, name, rest = path.split(".", 2)
    renamed = [f"{prefix}.{rest}" for prefix in renames.get(f"{kind}.{name}", [])]
    fitting = [other for other in renamed if other in mine]
    if fitting or ".attentions.self." not in path or not renamed:
        return fitting

    before, after = renamed[0].split("attentions.self.")
    pattern = re.compile(re.escape(f"{before}attentions.") + r"\w+\." + re.escape(after))
    return [other for other in mine if pattern.fullmatch(other)]


def _missing(
    mine: Mapping[str, nn.Parameter], loaded: dict[str, Tensor], renames: dict[str, list[str]]
) -> tuple[str, ...]:
    prefixes = tuple(f"{prefix}." for targets in renames.values() for prefix in targets)
    filled = {id(mine[path]) for path in loaded}
    return tuple(
        path
        for path, parameter in mine.items()
        if path.startswith(prefixes) and id(parameter) not in filled
    )


class _Filler:
    """Copies tensors into parameters, and remembers what it did."""

    def __init__(self, model: Model, mine: Mapping[str, nn.Parameter], new_words: int) -> None:
        self.model = model
        self.mine = mine
        self.new_words = new_words
        self.loaded: dict[str, Tensor] = {}
        self.resized: list[str] = []

    def fill(self, rule: Rule, paths: tuple[str, ...], checkpoint: Checkpoint) -> None:
        """One rule's tensors; ValueError when the file gives two for one of ours."""
        made = rule.load([checkpoint.state[name] for name in rule.theirs])
        for path, tensor in zip(paths, made, strict=True):
            if not path:
                continue
            before = self.loaded.get(path)
            if before is not None and not torch.equal(before, tensor):
                raise ValueError(
                    f"{checkpoint.source} has two different tensors for {path}, one of them "
                    f"{' + '.join(rule.theirs)}: leave one by its prefix (`without`)"
                )
            if before is None:
                self._copy(path, tensor, checkpoint)
                self.loaded[path] = tensor

    def _copy(self, path: str, tensor: Tensor, checkpoint: Checkpoint) -> None:
        target = self.mine[path]
        owner = self.model.get_submodule(path.rpartition(".")[0])
        rows = len(target) if target.dim() else 0

        if tensor.shape != target.shape:
            tensor = self._fitted(path, owner, tensor, target)
        if tensor.shape[1:] != target.shape[1:] or tensor.dim() != target.dim():
            raise ValueError(
                f"{path} is {list(target.shape)} here and {list(tensor.shape)} in "
                f"{checkpoint.source}: give both the same shape"
            )
        with torch.no_grad():
            if not rows:
                target.copy_(tensor)
            else:
                target[: len(tensor)].copy_(tensor)

    def _fitted(self, path: str, owner: nn.Module, tensor: Tensor, target: Tensor) -> Tensor:
        """Tensors of another shape that can still be used, and no others."""
        name, same_width = path.rpartition(".")[2], tensor.shape[-1] == target.shape[-1]
        if isinstance(owner, Patches) and name == "place" and same_width:
            self.resized.append(
                f"{path} resampled from {tensor.shape[0]} x {tensor.shape[1]} "
                f"to {target.shape[0]} x {target.shape[1]}"
            )
            return _resampled(tensor, len(target))

        shorter = len(target) < len(tensor)
        if isinstance(owner, Words) and name in ("place", "token_type") and same_width and shorter:
            self.resized.append(f"{path} cut from {len(tensor)} rows to {len(target)}")
            return tensor[: len(target)]

        if path.endswith(("word.weight", "decode.weight", "decode.bias")):
            return self._words(path, tensor, target)
        raise ValueError(
            f"{path} is {list(target.shape)} here and {list(tensor.shape)} in the file: "
            "give both the same shape, or leave this part out"
        )

    def _words(self, path: str, tensor: Tensor, target: Tensor) -> Tensor:
        if len(target) - len(tensor) != self.new_words or tensor.shape[1:] != target.shape[1:]:
            raise ValueError(
                f"{path} has {len(target)} words here and {len(tensor)} in the file: use the "
                "file's tokenizer; where ours is theirs with tokens behind it, say how many "
                "(`new_words`); or leave the words out (`parts`)"
            )
        self.resized.append(f"{path}: the last {self.new_words} rows are new, left as they were")
        return tensor


def _resampled(place: Tensor, side: int) -> Tensor:
    """[rows, columns, width] -> [side, side, width], as ViT is fine-tuned at another size."""
    resampled = F.interpolate(
        place.permute(2, 0, 1)[None].float(), size=(side, side), mode="bicubic", align_corners=False
    )
    return resampled[0].permute(1, 2, 0).to(place.dtype)
