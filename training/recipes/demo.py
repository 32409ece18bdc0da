"""The small model of the demonstration: ImageBERT's two stages (large web release, then a small clean one) in about a minute on two cores."""

from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.plan import ModelSpec, Plan, Stage, Weighted


def plan(*, web: str = "web", clean: str = "clean", seed: int = 0, smoke: bool = False) -> Plan:
    """Two layers apart and two together at 64 pixels; contrast over the whole batch, matching and masked words on a part of it.

    Release names are the arguments. Matching and masked words alone need minutes more to leave chance at this size; the contrast aligns the modalities
    before they are fused (ALBEF), for a quarter of the arithmetic.
    """
    model = ModelSpec(width=192, heads=3, text_layers=2, image_layers=2, fusion_layers=2, text_length=24, image_size=64, patch=16, project=128)
    objectives = (
        Weighted(objective=Contrast()),
        Weighted(objective=Matching(rows=16)),
        Weighted(objective=MaskedWords(rows=16), weight=0.5),
    )
    first = Stage(name="web", data={web: 1.0}, steps=4 if smoke else 240, batch=8 if smoke else 64, lr=1e-3)
    second = Stage(name="clean", data={clean: 1.0}, steps=2 if smoke else 40, batch=first.batch, lr=3e-4)
    return Plan(name="demo", model=model, objectives=objectives, stages=(first, second), seed=seed, vocab_size=2000)
