"""Models that see two images of a sample: every pass over an image once more (NLVR2)."""

from __future__ import annotations

from dataclasses import replace

from training.data.images import ImageSpec, SecondImageSpec
from training.embed import PatchesSpec
from training.model import ModelSpec, Pass, PrepareSpec

SECOND = "second"


def with_second(spec: ModelSpec, image: str) -> ModelSpec:
    """The same model with an embedding `second`, and with NAME_second for each pass NAME that
    depends on the embedding `image`.

    Weights are shared but for the modality, which tells one image from the other (ViLT). ValueError
    when images are not read as pixels.
    """
    patches, prepare = spec.embeds[image], spec.prepare.get(image)
    if not isinstance(patches, PatchesSpec) or not isinstance(prepare, ImageSpec | None):
        raise ValueError(f"{image} are kept features: two images need a model that reads pixels")

    def named(name: str) -> str:
        if name == image:
            return SECOND
        return f"{name}_{SECOND}" if name and image in spec.roots(name) else name

    again: dict[str, Pass] = {}
    for name, step in spec.passes.items():
        if image in spec.roots(name):
            inputs = tuple(map(named, step.inputs))
            again[named(name)] = replace(step, inputs=inputs, reads=named(step.reads))

    own = ["linear", "place"]
    own += ["first", "first_place"] if patches.class_token else []
    own += ["registers"] if patches.registers else []
    prepared: dict[str, PrepareSpec] = dict(spec.prepare)
    if prepare is not None:
        prepared[SECOND] = SecondImageSpec(**vars(prepare))
    return replace(
        spec,
        embeds={**spec.embeds, SECOND: patches},
        passes={**spec.passes, **again},
        prepare=prepared,
        shared={
            **spec.shared,
            **{f"embeds.{SECOND}.{name}": f"embeds.{image}.{name}" for name in own},
        },
    )
