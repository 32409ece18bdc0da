"""ViLT-B/32 (Kim, Son and Kim 2021): one stack over words and patches, masked words and matching."""

from training.first.objectives.itm import Matching
from training.first.objectives.mlm import MaskedWords
from training.first.plan import ModelSpec, Plan, Stage, Weighted


def plan(*, data: dict[str, float] | None = None, vocab: str = "", seed: int = 0, smoke: bool = False) -> Plan:
    """The 100k-step schedule of the paper on releases `data` (name -> share; default: one release called `train`).

        winnow train vilt --release mine --out models/vilt

    Different from the paper: no start from ViT-B/32 weights, square 384-pixel pictures (144 patches, all used), no word-patch alignment
    loss (weight 0.1 there), one device. Expected with the paper's data: zero-shot Flickr30k R@1 69.7 (text) and 51.3 (image), its
    Table 5; about 96 H200-hours at 40 % of peak. `smoke` takes seconds on a CPU and only shows that everything runs.
    """
    model = ModelSpec(width=768, heads=12, fusion_layers=12, dropout=0.1, text_length=40, image_size=384, patch=32)
    stage = Stage(name="pretrain", data=data or {"train": 1.0}, steps=100_000, batch=4096, lr=1e-4, warmup=0.1, weight_decay=0.01)
    if smoke:
        model = ModelSpec(width=32, heads=2, fusion_layers=2, text_length=16, image_size=64, patch=32)
        stage = Stage(name="pretrain", data=stage.data, steps=4, batch=8, lr=1e-4)
    return Plan(
        name="vilt-smoke" if smoke else "vilt",
        model=model,
        objectives=(Weighted(objective=MaskedWords()), Weighted(objective=Matching(both=False))),
        stages=(stage,),
        seed=seed,
        vocab=vocab,
        precision="float32" if smoke else "bfloat16",  # fp16 in the paper
        checkpoint_every=1000,
    )
