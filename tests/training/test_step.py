"""The gradients of a global batch do not depend on how it is cut into chunks and ranks."""

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.training import tiny
from tests.training.processes import HOW
from training.distributed import Ranks
from training.inputs import ImageInput, Input, TextInput
from training.model import ModelSpec
from training.momentum import Queue, update_ema
from training.negatives import Keys
from training.objectives.base import Objective
from training.objectives.itc import Contrast
from training.objectives.itm import Matching
from training.objectives.mlm import MaskedWords
from training.step import accumulate_gradients, all_reduce_gradients
from training.views import Draws, Views

Make = Callable[[], tuple[ModelSpec, list[Objective]]]
MODELS = pytest.mark.parametrize("make", [tiny.vilt, tiny.blip])
WEIGHTS = {"wra": 0.1}


def _gradients(
    make: Make,
    inputs: dict[str, Input],
    keys: Keys,
    *,
    chunk: int = 0,
    ranks: Ranks | None = None,
    twin: bool = False,
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    spec, objectives = make()
    model = tiny.build(spec)
    draws = Draws(seed=3, step=5, ranks=ranks or Ranks())
    seen = _twin_views(spec, inputs, keys, draws) if twin else None
    views = Views(model, inputs, keys, draws, chunk=chunk, twin=seen, alpha=0.4)
    numbers = accumulate_gradients(objectives, WEIGHTS, views)
    all_reduce_gradients(model, draws.ranks)
    return numbers, {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _twin_views(spec: ModelSpec, inputs: dict[str, Input], keys: Keys, draws: Draws) -> Views:
    queue = Queue(6, 8).double()
    generator = torch.Generator().manual_seed(4)
    rows = torch.nn.functional.normalize(
        torch.randn(5, 8, generator=generator, dtype=torch.float64), dim=1
    )
    number = torch.arange(5)
    queue.push(Keys(image=number, text=number, source=number), rows, rows.flip(0))
    with torch.no_grad():
        return Views(
            tiny.build(spec, seed=2).requires_grad_(False), inputs, keys, draws, queue=queue
        )


def _nearly(
    found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        largest = gradient.abs().max().clamp(min=1e-9)
        error = (found[name] - gradient).abs().max() / largest
        assert error < tolerance, name


@MODELS
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_chunks_give_the_gradient_of_the_whole_batch(make: Make, chunk: int) -> None:
    inputs, keys = tiny.batch(8)
    numbers, gradients = _gradients(make, inputs, keys)
    cut_numbers, cut_gradients = _gradients(make, inputs, keys, chunk=chunk)
    assert cut_numbers == pytest.approx(numbers, rel=1e-12)
    _nearly(cut_gradients, gradients, 1e-12)


@MODELS
def test_every_parameter_gets_a_gradient(make: Make) -> None:
    spec, _ = make()
    _, gradients = _gradients(make, *tiny.batch(8))
    silent = {name for name, gradient in gradients.items() if not gradient.abs().sum() > 0}
    assert gradients.keys() == dict(tiny.build(spec).named_parameters()).keys()
    assert not {name for name in silent if not name.endswith("place")}


def test_the_twin_and_its_queue_change_the_targets() -> None:
    inputs, keys = tiny.batch(8)
    alone, _ = _gradients(tiny.blip, inputs, keys)
    numbers, gradients = _gradients(tiny.blip, inputs, keys, twin=True)
    cut_numbers, cut_gradients = _gradients(tiny.blip, inputs, keys, twin=True, chunk=3)
    assert numbers["itc"] != pytest.approx(alone["itc"], rel=1e-3)
    assert cut_numbers == pytest.approx(numbers, rel=1e-12)
    _nearly(cut_gradients, gradients, 1e-12)


def _contrast_alone() -> tuple[ModelSpec, list[Objective]]:
    """Matching and captions rest, and so do the heads and attentions that only they use."""
    spec, objectives = tiny.blip()
    return spec, objectives[:1]


def _albef() -> tuple[ModelSpec, list[Objective]]:
    spec, (contrast, matching, _) = tiny.blip()
    return spec, [contrast, matching, MaskedWords(soft=True)]


def _local() -> tuple[ModelSpec, list[Objective]]:
    """Candidates and wrong partners of a rank's own rows, as the papers have it."""
    contrast = Contrast(local=True)
    spec, _ = tiny.blip()
    return spec, [contrast, Matching(contrast=contrast, over="rank")]


def _dropping() -> tuple[ModelSpec, list[Objective]]:
    """Towers that drop numbers at random."""
    spec, objectives = _contrast_alone()
    stacks = {name: replace(one, dropout=0.3) for name, one in spec.stacks.items()}
    return replace(spec, stacks=stacks), objectives


@dataclass(frozen=True)
class Case:
    """What two ranks do."""

    make: Make
    chunk: int = 0
    twin: bool = False  # with its queue
    crowded: bool = False  # some rows have no wrong partner: 10 pairs here, 12 there
    ragged: bool = False  # rows of one rank are shorter than those of the other

    def batch(self) -> tuple[dict[str, Input], Keys]:
        inputs, keys = tiny.batch(8)
        if self.ragged:
            inputs = _ragged(inputs)
        return inputs, _crowded(keys) if self.crowded else keys

    def of_rank(self, rank: int) -> tuple[dict[str, Input], Keys]:
        """Its half, padded as its own loader does."""
        inputs, keys = tiny.rows_of(*self.batch(), 4 * rank, 4 * rank + 4)
        return _cut(inputs) if self.ragged else inputs, keys

    def wanted(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """What one process gives for the whole batch."""
        if self.make is _local:
            return _of_halves(self.make, *self.batch())
        chunk = 4 if self.make is _dropping else 0  # rows that are drawn for together
        return _gradients(self.make, *self.batch(), twin=self.twin, chunk=chunk)


CASES = [
    Case(tiny.vilt),
    Case(tiny.blip),
    Case(tiny.blip, chunk=3),
    Case(tiny.blip, twin=True),
    Case(tiny.blip, chunk=5, crowded=True),  # ranks with fewer pairs wait for the others
    Case(_albef, twin=True),
    Case(_albef, chunk=3, twin=True),
    Case(_contrast_alone),
    Case(_local),
    Case(tiny.vilt, ragged=True),
    Case(tiny.blip, chunk=3, twin=True, ragged=True),
    Case(_dropping),
]


def test_two_ranks_give_the_gradient_of_one(tmp_path: Path) -> None:
    mp.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method=HOW)
    for number, case in enumerate(CASES):
        numbers, gradients = case.wanted()
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert found["numbers"] == pytest.approx(numbers, rel=1e-9), case
        _nearly(found["gradients"], gradients, 1e-9)


def _crowded(keys: Keys) -> Keys:
    """The first row shares its image with three others and its text with the last four."""
    texts = keys.text.clone()
    texts[4:] = texts[0]
    return Keys(image=torch.tensor([0, 0, 0, 0, 4, 5, 6, 7]), text=texts, source=keys.source)


def _ragged(inputs: dict[str, Input]) -> dict[str, Input]:
    """Short texts and small images of one size first, long and large ones behind."""
    text, images = _text_and_images(inputs)
    valid = text.valid.clone()
    valid[:4, 4:] = False
    valid[4] = True
    sizes = torch.tensor([[2, 2], [2, 2], [2, 2], [2, 2], [3, 3], [2, 3], [3, 1], [3, 3]])
    return {
        "words": replace(text, valid=valid, ids=text.ids * valid),
        "patches": replace(images, sizes=sizes),
    }


def _cut(inputs: dict[str, Input]) -> dict[str, Input]:
    """Padded to the longest of these rows alone; images of one size say none."""
    text, images = _text_and_images(inputs)
    assert images.sizes is not None
    longest = int(text.valid.sum(1).max())
    height, width = (4 * images.sizes.amax(0)).tolist()
    of_one_size = bool((images.sizes == images.sizes[0]).all())
    return {
        "words": replace(text, valid=text.valid[:, :longest], ids=text.ids[:, :longest]),
        "patches": ImageInput(
            pixels=images.pixels[:, :, :height, :width],
            sizes=None if of_one_size else images.sizes,
        ),
    }


def _text_and_images(inputs: dict[str, Input]) -> tuple[TextInput, ImageInput]:
    text, images = inputs["words"], inputs["patches"]
    assert isinstance(text, TextInput)
    assert isinstance(images, ImageInput)
    return text, images


@dataclass(frozen=True, kw_only=True)
class _Half(Draws):
    """A process alone that draws what one of two ranks draws."""

    half: int

    def uniform(self, name: str, rows: int, *shape: int) -> torch.Tensor:
        every = super().uniform(name, 2 * rows, *shape)
        return every[self.half * rows : (self.half + 1) * rows]


def _of_halves(
    make: Make, inputs: dict[str, Input], keys: Keys
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Each half of a batch by itself, counted together."""
    spec, objectives = make()
    model = tiny.build(spec)

    def views(half: int) -> Views:
        rows, mine = tiny.rows_of(inputs, keys, 4 * half, 4 * half + 4)
        return Views(model, rows, mine, _Half(seed=3, step=5, half=half))

    counts = []
    for half in range(2):
        given = [one.prepare(views(half)).counts for one in objectives]
        counts.append({name: count for each in given for name, count in each.items()})

    numbers = dict.fromkeys(counts[0], 0.0)
    for half in range(2):
        shares = {
            name: counts[half][name] / (counts[0][name] + counts[1][name]) for name in numbers
        }
        for name, mean in accumulate_gradients(objectives, shares, views(half)).items():
            numbers[name] += shares[name] * mean
    return numbers, {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for number, case in enumerate(CASES):
        inputs, keys = case.of_rank(rank)
        numbers, gradients = _gradients(
            case.make, inputs, keys, chunk=case.chunk, ranks=Ranks.current(), twin=case.twin
        )
        if rank == 0:
            torch.save({"numbers": numbers, "gradients": gradients}, f"{folder}/{number}.pt")
    dist.destroy_process_group()


def test_a_twin_in_half_precision_believes_in_whole() -> None:
    spec, objectives = tiny.blip()
    inputs, keys = tiny.batch(8)
    model, twin = tiny.build(spec).float(), tiny.build(spec, seed=2).float()
    pixels = inputs["patches"]
    assert isinstance(pixels, ImageInput)
    inputs["patches"] = ImageInput(pixels=pixels.pixels.float())

    def half() -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16)

    draws = Draws(seed=3, step=5)
    with torch.no_grad():
        seen = Views(twin, inputs, keys, draws, precision=half)
    views = Views(model, inputs, keys, draws, twin=seen, alpha=0.4, precision=half)
    numbers = accumulate_gradients(objectives, {}, views)
    wanted, _ = _gradients(tiny.blip, *tiny.batch(8), twin=True)
    assert numbers["lm"] == pytest.approx(wanted["lm"], rel=0.02)
    assert all(math.isfinite(value) for value in numbers.values())


def test_the_twin_follows() -> None:
    spec, _ = tiny.blip()
    model, other = tiny.build(spec, seed=1), tiny.build(spec, seed=2)
    twin = tiny.build(spec, seed=2).requires_grad_(False)
    update_ema(twin, model, 0.9)
    for mine, old, new in zip(
        twin.parameters(), other.parameters(), model.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, 0.9 * old + 0.1 * new)
        assert not mine.requires_grad


def test_the_oldest_rows_leave_a_queue() -> None:
    queue = Queue(4, 1)
    for start in (0, 3):
        rows = torch.arange(start, start + 3)
        vectors = rows[:, None].float()
        queue.push(Keys(image=rows, text=rows, source=rows), vectors, vectors)
    keys, images, _ = queue.append_to(
        Keys(
            image=torch.zeros(0, dtype=torch.int64),
            text=torch.zeros(0, dtype=torch.int64),
            source=torch.zeros(0, dtype=torch.int64),
        ),
        torch.zeros(0, 1),
        torch.zeros(0, 1),
    )
    assert sorted(keys.image.tolist()) == [2, 3, 4, 5]
    assert sorted(images[:, 0].tolist()) == [2, 3, 4, 5]
