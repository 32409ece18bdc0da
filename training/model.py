"""A model: embeddings, stacks, the passes over them, and the heads that its objectives need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from training.attention import Cache
from training.data.features import FeatureSpec
from training.data.images import ImageSpec, SecondImageSpec
from training.data.tokenizer import TextSpec
from training.embed import (
    Grid,
    GridSpec,
    Patches,
    PatchesSpec,
    Queries,
    QueriesSpec,
    Words,
    WordsSpec,
)
from training.heads import (
    Classify,
    ClassifySpec,
    Project,
    ProjectSpec,
    Regress,
    RegressSpec,
    Scale,
    ScaleSpec,
    Vocabulary,
    VocabularySpec,
)
from training.language import (
    Language,
    LanguageHead,
    LanguageHeadSpec,
    LanguageSpec,
    LanguageWords,
    LanguageWordsSpec,
    Lora,
)
from training.masks import RuleName
from training.regions import Regions, RegionsSpec
from training.stack import Stack, StackSpec
from training.tokens import Tokens, join

EmbedSpec = WordsSpec | PatchesSpec | RegionsSpec | GridSpec | QueriesSpec | LanguageWordsSpec
PrepareSpec = TextSpec | ImageSpec | SecondImageSpec | FeatureSpec
HeadSpec = ProjectSpec | ScaleSpec | ClassifySpec | VocabularySpec | RegressSpec | LanguageHeadSpec


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One way through a stack: what goes in, who sees whom, what cross-attention looks at.

    `inputs` and `reads` name embeddings or other passes; several inputs are joined in their order.
    `first` is the token that takes the place of a text's first one (BLIP: [ENC], [DEC]). A frozen
    language model stands in for a stack; its one rule is "causal", and it reads nothing.
    """

    stack: str
    inputs: tuple[str, ...]
    rules: tuple[RuleName, ...] = ("full",)
    attention: str = ""
    reads: str = ""
    reads_rules: tuple[RuleName, ...] = ("full",)
    first: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A whole model as data: it is written beside the weights, and equal ones are equal models.

    `prepare` says for each embedding how texts and images become its input. `shared` maps the path
    of a module, or of a parameter, to that of another which takes its place, so that both are one
    (parameters shared between stacks). `languages` are frozen language models, which passes run as
    they do stacks.
    """

    embeds: Mapping[str, EmbedSpec]
    stacks: Mapping[str, StackSpec]
    passes: Mapping[str, Pass]
    heads: Mapping[str, HeadSpec] = field(default_factory=dict)
    prepare: Mapping[str, PrepareSpec] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    languages: Mapping[str, LanguageSpec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, step in self.passes.items():
            self._check(name, step)
        for name in self.prepare:
            if name not in self.embeds:
                raise ValueError(f"prepare: no embedding is called {name!r}")
        for name, part in {**self.embeds, **self.heads}.items():
            language = getattr(part, "language", "")
            if language and language not in self.languages:
                known = ", ".join(self.languages) or "none"
                raise ValueError(f"{name}: no language {language!r}; there are: {known}")
        self.roots_of_all()

    def _check(self, name: str, step: Pass) -> None:
        if step.stack not in {*self.stacks, *self.languages}:
            known = ", ".join([*self.stacks, *self.languages])
            raise ValueError(f"pass {name}: no stack {step.stack!r}; there are: {known}")
        known_nodes = [*self.embeds, *self.passes]
        for node in (*step.inputs, *filter(None, [step.reads])):
            if node not in known_nodes:
                known = ", ".join(known_nodes)
                raise ValueError(f"pass {name}: nothing is called {node!r}; there are: {known}")

        if step.stack in self.languages:
            if step.rules != ("causal",) or step.reads or step.attention:
                raise ValueError(
                    f'pass {name}: {step.stack} is a language model: its rules are ["causal"], it '
                    "reads nothing and has one attention"
                )
            return

        stack = self.stacks[step.stack]
        if step.reads and stack.cross is None:
            raise ValueError(f"pass {name} reads {step.reads}, but {step.stack} has no cross")
        if step.attention and step.attention not in stack.attentions:
            known = ", ".join(stack.attentions)
            raise ValueError(f"pass {name}: no attention {step.attention!r}; there are: {known}")
        if not step.attention and len(stack.attentions) > 1:
            known = ", ".join(stack.attentions)
            raise ValueError(f"pass {name} must say which attention it uses: {known}")

    def leads(self, node: str, embed: str) -> bool:
        """Whether the tokens of an embedding stand before all others of a pass."""
        while node in self.passes:
            node = self.passes[node].inputs[0]
        return node == embed

    def at_resolution(self, size: int) -> ModelSpec:
        """The same model, its patches cut from images of another size in pixels; 0: unchanged.

        ValueError where it cuts none, or not evenly.
        """
        if not size:
            return self
        resized: dict[str, PrepareSpec] = {}
        for name, embed in self.embeds.items():
            images = self.prepare.get(name)
            if isinstance(embed, PatchesSpec) and isinstance(images, ImageSpec):
                if size < 1 or size % embed.patch:
                    raise ValueError(f"resolution {size} is no multiple of patch {embed.patch}")
                resized[name] = images.resized(size)
        if not resized:
            raise ValueError(f"resolution {size} asks for patches of images, and there are none")
        return replace(self, prepare={**self.prepare, **resized})

    def roots_of_all(self) -> dict[str, frozenset[str]]:
        """For each embedding and pass the embeddings with data that it depends on.

        Learned queries are no data. ValueError when passes depend on themselves.
        """
        return {name: self.roots(name) for name in (*self.embeds, *self.passes)}

    def roots(self, name: str, above: tuple[str, ...] = ()) -> frozenset[str]:
        """The embeddings with data that an embedding or a pass depends on."""
        if name in above:
            raise ValueError(f"the passes {' -> '.join([*above, name])} depend on each other")
        if name in self.embeds:
            learned = isinstance(self.embeds[name], QueriesSpec)
            return frozenset() if learned else frozenset({name})

        step = self.passes[name]
        found: frozenset[str] = frozenset()
        for node in (*step.inputs, *filter(None, [step.reads])):
            found |= self.roots(node, (*above, name))
        return found


class Model(nn.Module):
    """The modules of a specification. Who computes what in which order is the views' business."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.languages = nn.ModuleDict(
            {name: Language(part) for name, part in spec.languages.items()}
        )
        self.embeds = nn.ModuleDict({name: self._embed(part) for name, part in spec.embeds.items()})
        self.stacks = nn.ModuleDict({name: Stack(part) for name, part in spec.stacks.items()})
        self.heads = nn.ModuleDict({name: self._head(part) for name, part in spec.heads.items()})
        self._tie()

    def _embed(self, spec: EmbedSpec) -> nn.Module:
        if isinstance(spec, LanguageWordsSpec):
            return LanguageWords(self._language(spec.language))
        return _embed(spec)

    def _head(self, spec: HeadSpec) -> nn.Module:
        if isinstance(spec, LanguageHeadSpec):
            return LanguageHead(self._language(spec.language))
        return _head(spec)

    def _language(self, name: str) -> Language:
        found = self.languages[name]
        assert isinstance(found, Language), "made so"
        return found

    def _tie(self) -> None:
        for name, head in self.spec.heads.items():
            if isinstance(head, VocabularySpec) and head.tied:
                words = self.get_submodule(f"embeds.{head.tied}.word")
                self.get_submodule(f"heads.{name}.decode").weight = words.weight
            if isinstance(head, RegressSpec) and head.tied:
                feature = self.get_submodule(f"embeds.{head.tied}.feature")
                self.heads[name].weight = feature.weight

        for path, other in self.spec.shared.items():
            parent, _, attribute = path.rpartition(".")
            self._part(path)
            setattr(self.get_submodule(parent), attribute, self._part(other))

    def _part(self, path: str) -> nn.Module | nn.Parameter:
        """A module, or a parameter that stands in one beside others."""
        parent, _, attribute = path.rpartition(".")
        found = getattr(self.get_submodule(parent), attribute)
        assert isinstance(found, nn.Module | nn.Parameter), f"{path} can be shared"
        return found

    def embed(self, name: str, *inputs: object) -> Tokens:
        """What an embedding makes of its input."""
        tokens: Tokens = self.embeds[name](*inputs)
        return tokens

    def run(
        self,
        name: str,
        inputs: list[Tokens],
        reads: Tokens | None = None,
        cache: Cache | None = None,
        reads_rows: Tensor | None = None,
        front: int = 0,
    ) -> Tokens:
        """One pass, on tokens of its inputs and of what it reads.

        `reads_rows` says which row of that each row of the inputs looks at, where several look at
        one: its keys and values are then made once. Of a stack, `front` tokens come out; 0: all.
        """
        step = self.spec.passes[name]
        if step.stack in self.spec.languages:
            said: Tokens = self.languages[step.stack](join(inputs), rules=step.rules, cache=cache)
            return said

        tokens: Tokens = self.stacks[step.stack](
            join(inputs),
            rules=step.rules,
            attention=step.attention,
            keys=reads,
            keys_rules=step.reads_rules,
            keys_rows=reads_rows,
            cache=cache,
            front=front,
        )
        return tokens

    def head(self, name: str, *inputs: object) -> Tensor:
        """What a head says."""
        answer: Tensor = self.heads[name](*inputs)
        return answer


def initialise(model: Model, generator: torch.Generator) -> None:
    """Random weights, settled by the generator alone.

    Tables, places and queries with deviation 0.02 (BERT); maps with 1/sqrt(inputs); zero biases;
    norms, gates, scales and the upper matrix of LoRA as they were made.
    """
    for name, parameter in model.named_parameters():
        owner, _, kind = name.rpartition(".")
        module = model.get_submodule(owner)
        if isinstance(module, nn.LayerNorm | Scale) or kind in ("gate", "scale"):
            continue
        if isinstance(module, Lora) and kind == "up":
            continue
        with torch.no_grad():
            if (isinstance(module, nn.Linear) and kind == "weight") or isinstance(module, Lora):
                parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
            elif kind == "bias":
                parameter.zero_()
            else:
                parameter.normal_(0.0, 0.02, generator=generator)


def _embed(spec: WordsSpec | PatchesSpec | RegionsSpec | GridSpec | QueriesSpec) -> nn.Module:
    match spec:
        case WordsSpec():
            return Words(spec)
        case PatchesSpec():
            return Patches(spec)
        case RegionsSpec():
            return Regions(spec)
        case GridSpec():
            return Grid(spec)
        case QueriesSpec():
            return Queries(spec)


def _head(
    spec: ProjectSpec | ScaleSpec | ClassifySpec | VocabularySpec | RegressSpec,
) -> nn.Module:
    match spec:
        case ProjectSpec():
            return Project(spec)
        case ScaleSpec():
            return Scale(spec)
        case ClassifySpec():
            return Classify(spec)
        case VocabularySpec():
            return Vocabulary(spec)
        case RegressSpec():
            return Regress(spec)
