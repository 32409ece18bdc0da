"""Weights of a checkpoint into modules of a model, and an account of what came and what not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.features import FeatureSpec
from training.heads import Scale, ScaleSpec
from training.model import Model, ModelSpec
from training.stack import StackSpec
from training.weights.files import Checkpoint, read
from training.weights.parameters import ParameterLoader, Parameters
from training.weights.rules import Rule

Renames = dict[str, str]  # a prefix of the table's paths -> the prefix of ours

ROOM = 1e-3  # beside a bound, for rounding
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
        for names in _grouped(self.missing):
            lines.append(f"  NOT LOADED, left as it was: {names}")
        for names in _grouped(self.unexpected):
            lines.append(f"  in the file, not used: {names}")
        for change in self.resized:
            lines.append(f"  {change}")
        return "\n".join(lines)


def _grouped(names: tuple[str, ...]) -> list[str]:
    """Names that differ in numbers alone, as one."""
    patterns = [re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names]
    lines = []
    for pattern, count in Counter(patterns).items():
        if count > 1:
            pattern = f"{pattern} ({count})"
        lines.append(pattern)
    return lines


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
    parameters = dict(model.named_parameters(remove_duplicate=False))

    loader = ParameterLoader(model, parameters, new_words)
    used: set[str] = set()
    for rule in checkpoint.family.table:
        if without and any(name.startswith(without) for name in rule.theirs):
            continue
        if not all(name in checkpoint.state for name in rule.theirs):
            continue
        for paths in _targets(rule, renames, parameters, skip):
            used |= set(rule.theirs)
            loader.load(rule, paths, checkpoint)

    if not loader.loaded:
        raise ValueError(
            f"{checkpoint.source} ({checkpoint.kind}) has nothing for this model: "
            f"it holds {', '.join(_parts(checkpoint.family.spec))}; "
            f"the model has {', '.join(_parts(model.spec))}; say which is which"
        )
    return Report(
        source=checkpoint.source,
        loaded=tuple(loader.loaded),
        missing=_missing(parameters, loader.loaded, renames),
        unexpected=tuple(name for name in checkpoint.state if name not in used),
        resized=tuple(loader.resized),
    )


def load_part(model: Model, part: str, source: str | Path, *, new_words: int = 0) -> Report:
    """Initial weights for one stack or embedding of `model`, and for what goes into the stack.

    The checkpoint's part is the one of the same name, or the only one of its kind; with a stack
    come the embeddings that both put into it. A stack that goes on where another one ended (ALBEF)
    is given the blocks behind that one's. Tokens that the model's preparation of texts adds to a
    vocabulary are new words. ValueError when that leaves a choice.
    """
    checkpoint = read(source)
    spec = model.spec
    theirs = checkpoint.family.spec
    for prepare in spec.prepare.values():
        new_words = new_words or len(getattr(prepare, "extra", ()))

    if part in spec.stacks:
        stack = _only(list(theirs.stacks), part, checkpoint.source)
        parts = {stack: part}
        for name in _inputs(theirs, stack):
            kind = type(theirs.embeds[name])
            same_kind = _of_type(spec, _inputs(spec, part), kind)
            if same_kind:
                parts[name] = _only(same_kind, name, "the model")
        skip = _layers_before(spec, part, theirs.stacks[stack].layers)
        return load(model, checkpoint, parts, new_words=new_words, skip=skip)

    if part in spec.embeds:
        kind = type(spec.embeds[part])
        same_kind = _of_type(theirs, list(theirs.embeds), kind)
        name = _only(same_kind, part, checkpoint.source)
        return load(model, checkpoint, {name: part}, new_words=new_words)

    known = ", ".join([*spec.stacks, *spec.embeds])
    raise ValueError(f"no part of the model is called {part!r}; there are: {known}")


def _layers_before(spec: ModelSpec, part: str, layers: int) -> int:
    """The layers of the tower that have run before this stack does.

    They are those of the stack that it goes on from, or of a frozen tower whose hidden states were
    cached.
    """
    for step in spec.passes.values():
        if step.stack != part:
            continue
        before = spec.passes.get(step.inputs[0])
        prepare = spec.prepare.get(step.inputs[0])
        if before is not None and before.stack in spec.stacks:
            return spec.stacks[before.stack].layers
        if isinstance(prepare, FeatureSpec):
            cached = prepare.tower.layers
            return cached if cached > 0 else layers + cached
    return 0


def _only(names: list[str], name: str, where: str) -> str:
    """The part of that name, or the only one there is."""
    if name in names:
        return name
    if len(names) != 1:
        raise ValueError(f"{where} has {names or 'nothing'} for {name}: say which (`parts`)")
    return names[0]


def _of_type(spec: ModelSpec, names: list[str], kind: type) -> list[str]:
    return [name for name in names if isinstance(spec.embeds[name], kind)]


def _inputs(spec: ModelSpec, stack: str) -> list[str]:
    """Embeddings that passes over a stack take in."""
    inputs: list[str] = []
    for step in spec.passes.values():
        if step.stack != stack:
            continue
        for name in step.inputs:
            if name in spec.embeds and name not in inputs:
                inputs.append(name)
    return inputs


def from_pretrained(source: str | Path | Checkpoint) -> tuple[Model, Report]:
    """A whole checkpoint as a model under our standard names; ValueError if it is not whole."""
    checkpoint = source if isinstance(source, Checkpoint) else read(source)
    model = Model(checkpoint.family.spec)
    report = load(model, checkpoint)
    if report.missing:
        raise ValueError(f"the file is not whole\n{report}")
    _widen_bounds(model)
    return model, report


def _widen_bounds(model: Model) -> None:
    """The factor of cosines is what the file says, also beyond the bounds of training."""
    heads = dict(model.spec.heads)
    for name, head in heads.items():
        module = model.heads[name]
        if isinstance(head, ScaleSpec) and isinstance(module, Scale):
            factor = float(module.log.exp())
            if not head.lowest <= factor <= head.highest:
                low = min(head.lowest, factor * (1 - ROOM))
                high = max(head.highest, factor * (1 + ROOM))
                module.spec = heads[name] = replace(head, lowest=low, highest=high)
    model.spec = replace(model.spec, heads=heads)


def cross_from_self(model: Model, stack: str, attention: str) -> None:
    """Cross-attention starts as a copy of self-attention; ValueError where widths differ."""
    spec = model.spec.stacks[stack]
    if spec.cross is None or spec.cross.width != spec.width:
        raise ValueError(f"{stack} cannot copy self-attention: no cross-attention of its width")
    blocks: Any = model.stacks[stack].blocks
    for block in blocks:
        if block.cross is not None:
            _copy_attention(block.attentions[attention], block.cross, bias=spec.bias)


@torch.no_grad()
def _copy_attention(own: Any, cross: Any, *, bias: bool) -> None:
    for kind in ("weight", "bias") if bias else ("weight",):
        query, key, value = getattr(own.inner.qkv, kind).chunk(3)
        key_value = torch.cat([key, value])
        getattr(cross.inner.query, kind).copy_(query)
        getattr(cross.inner.key_value, kind).copy_(key_value)
    cross.inner.out.load_state_dict(own.inner.out.state_dict())
    cross.norm.load_state_dict(own.norm.state_dict())


def _parts(spec: ModelSpec) -> dict[str, str]:
    """Names of embeddings, stacks and heads, with the path before each."""
    return {
        **dict.fromkeys(spec.embeds, "embeds"),
        **dict.fromkeys(spec.stacks, "stacks"),
        **dict.fromkeys(spec.heads, "heads"),
    }


def _renames(ours: ModelSpec, checkpoint: Checkpoint, parts: Mapping[str, str] | None) -> Renames:
    """Prefixes of the table's paths to prefixes of ours."""
    their_parts = _parts(checkpoint.family.spec)
    our_parts = _parts(ours)
    if parts is None:
        common = [name for name, group in their_parts.items() if our_parts.get(name) == group]
        parts = dict(zip(common, common, strict=True))

    renames: Renames = {}
    for name, target in parts.items():
        if name not in their_parts:
            raise ValueError(f"{checkpoint.source} has no {name!r}, but {', '.join(their_parts)}")
        group = their_parts[name]
        if our_parts.get(target) != group:
            raise ValueError(
                f"{name} of {checkpoint.source} is one of {group}, but this model "
                f"has no such {target!r}; there are: {', '.join(our_parts)}"
            )
        renames[f"{group}.{name}"] = f"{group}.{target}"
        if group == "stacks":
            _check_agree(checkpoint, name, ours.stacks[target], target)
    return renames


def _check_agree(checkpoint: Checkpoint, name: str, ours: StackSpec, target: str) -> None:
    """What no tensor's shape tells: the same weights in another shape of stack are noise."""
    theirs = checkpoint.family.spec.stacks[name]
    for key in MUST_AGREE:
        our_value = getattr(ours, key)
        their_value = getattr(theirs, key)
        if our_value != their_value:
            raise ValueError(
                f"stack {target} has {key} {our_value}, but {checkpoint.source} has {their_value}: "
                "change the stack, or take other weights"
            )


def _targets(
    rule: Rule, renames: Renames, parameters: Parameters, skip: int
) -> list[tuple[str, ...]]:
    """The paths in our model that the rule fills: none, one, or one for each self-attention.

    "" stands for a tensor that the rule makes and our model has no use for.
    """
    targets = []
    for path in rule.ours:
        targets.append(_paths(_skipped(path, skip), renames, parameters))
    if not any(targets):
        return []
    return list(zip_longest(*targets, fillvalue=""))


def _skipped(path: str, skip: int) -> str:
    """The path with its block counted from `skip`; blocks before that match none of ours."""
    return re.sub(r"\.blocks\.(\d+)\.", lambda match: f".blocks.{int(match[1]) - skip}.", path)


def _paths(path: str, renames: Renames, parameters: Parameters) -> list[str]:
    """Parameters of ours for a path of the table."""
    group, name, rest = path.split(".", 2)
    prefix = renames.get(f"{group}.{name}")
    if prefix is None:
        return []
    renamed = f"{prefix}.{rest}"
    if renamed in parameters:
        return [renamed]
    if ".attentions.self." not in path:
        return []

    before, after = renamed.split("attentions.self.")
    start = re.escape(f"{before}attentions.")
    pattern = re.compile(start + r"\w+\." + re.escape(after))
    return [other for other in parameters if pattern.fullmatch(other)]


def _missing(
    parameters: Parameters, loaded: Mapping[str, Tensor], renames: Renames
) -> tuple[str, ...]:
    """Parameters of the renamed parts that were not loaded, under any of their names."""
    prefixes = tuple(f"{prefix}." for prefix in renames.values())
    filled = {id(parameters[path]) for path in loaded}
    missing = []
    for path, parameter in parameters.items():
        if path.startswith(prefixes) and id(parameter) not in filled:
            missing.append(path)
    return tuple(missing)
