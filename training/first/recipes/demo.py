"""The small model of the demonstration: ImageBERT's two stages, a large web release and then a small clean one."""

from training.first.objectives.itc import Contrast
from training.first.objectives.itm import Matching
from training.first.objectives.mlm import MaskedWords
from training.first.plan import ModelSpec, Plan, Stage, Weighted


def plan(*, web: str = "web", clean: str = "clean", seed: int = 0, smoke: bool = False) -> Plan:
    """Two layers apart and two together at 64 pixels; contrast over the whole batch, matching and masked words on a part of it.

    The arguments `web` and `clean` are names of releases. Contrast aligns the modalities before they are fused (ALBEF) and costs half of
    the arithmetic; the other two weigh little, because with weights of 0.5 and 0.25 they cost a third of R@1 (21 for 28) and their own
    layers, which nothing else trains, learn as fast under Adam. Batches of 32 did better than of 64 and a width of 128 better than 192,
    for the same time. 450 steps of 32 see a release of the demo's 2,100 pairs seven times: at thirteen times wrong pairs were learnt by
    heart. Expected of `winnow demo` with seeds 0, 1 and 2: R@1 of 12 to 20 among 240, of the control 4 to 8.
    """
    layers = {"text_layers": 2, "image_layers": 2, "fusion_layers": 2}
    model = ModelSpec(width=128, heads=4, **layers, text_length=24, image_size=64, patch=16, project=128)
    objectives = (
        Weighted(objective=Contrast()),
        Weighted(objective=Matching(rows=8), weight=0.1),
        Weighted(objective=MaskedWords(rows=8), weight=0.05),
    )
    first = Stage(name="web", data={web: 1.0}, steps=4 if smoke else 450, batch=8 if smoke else 32, lr=1.5e-3)
    second = Stage(name="clean", data={clean: 1.0}, steps=2 if smoke else 45, batch=first.batch, lr=1e-4)
    # One thread: at this size a second one saved an eighth of the time on an idle machine (0.12 for 0.14 s a step) and cost six times as
    # much on a busy one, where each waits for the other; a second run beside this one uses the second core better
    return Plan(name="demo", model=model, objectives=objectives, stages=(first, second), seed=seed, vocab_size=2000, threads=1)
