"""The gradients of a global batch do not depend on how it is cut into chunks and ranks."""

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.training import tiny
from training.distributed import Ranks
from training.inputs import ImageInput, Input
from training.model import ModelSpec
from training.momentum import Queue, follow
from training.negatives import Keys
from training.objectives.base import Objective
from training.step import accumulate_gradients, add_up_gradients
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
    add_up_gradients(model, draws.ranks)
    return numbers, {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def _twin_views(spec: ModelSpec, inputs: dict[str, Input], keys: Keys, draws: Draws) -> Views:
    queue = Queue(6, 8).double()
    generator = torch.Generator().manual_seed(4)
    rows = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator, dtype=torch.float64), dim=1)
    number = torch.arange(5)
    queue.push(Keys(image=number, text=number, source=number), rows, rows.flip(0))
    with torch.no_grad():
        return Views(tiny.build(spec, seed=2).requires_grad_(False), inputs, keys, draws, queue=queue)


def _nearly(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float) -> None:
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


def test_two_ranks_give_the_gradient_of_one(tmp_path: Path) -> None:
    cases = [(tiny.vilt, 0, False), (tiny.blip, 0, False), (tiny.blip, 3, False)]
    cases.append((tiny.blip, 0, True))
    mp.spawn(_rank, args=(str(tmp_path), cases), nprocs=2)

    inputs, keys = tiny.batch(8)
    for number, (make, _, twin) in enumerate(cases):
        wanted_numbers, wanted = _gradients(make, inputs, keys, twin=twin)
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert found["numbers"] == pytest.approx(wanted_numbers, rel=1e-9)
        _nearly(found["gradients"], wanted, 1e-9)


def _rank(rank: int, folder: str, cases: list[tuple[Make, int, bool]]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    whole, all_keys = tiny.batch(8)
    inputs, keys = tiny.rows_of(whole, all_keys, 4 * rank, 4 * rank + 4)
    for number, (make, chunk, twin) in enumerate(cases):
        numbers, gradients = _gradients(make, inputs, keys, chunk=chunk, ranks=Ranks.current(), twin=twin)
        if rank == 0:
            torch.save({"numbers": numbers, "gradients": gradients}, f"{folder}/{number}.pt")
    dist.destroy_process_group()


def test_ranks_with_fewer_pairs_wait_for_the_others(tmp_path: Path) -> None:
    """A row that has no wrong partner makes no pair: 10 pairs here, 12 there, 5 at a time."""
    mp.spawn(_uneven, args=(str(tmp_path),), nprocs=2)
    inputs, keys = tiny.batch(8)
    numbers, gradients = _gradients(tiny.blip, inputs, _crowded(keys))
    found = torch.load(tmp_path / "uneven.pt", weights_only=True)
    assert found["numbers"] == pytest.approx(numbers, rel=1e-9)
    _nearly(found["gradients"], gradients, 1e-9)


def _crowded(keys: Keys) -> Keys:
    """The first row shares its image with three others and its text with the last four."""
    texts = keys.text.clone()
    texts[4:] = texts[0]
    return Keys(image=torch.tensor([0, 0, 0, 0, 4, 5, 6, 7]), text=texts, source=keys.source)


def _uneven(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    whole, keys = tiny.batch(8)
    inputs, mine = tiny.rows_of(whole, _crowded(keys), 4 * rank, 4 * rank + 4)
    numbers, gradients = _gradients(tiny.blip, inputs, mine, chunk=5, ranks=Ranks.current())
    if rank == 0:
        torch.save({"numbers": numbers, "gradients": gradients}, f"{folder}/uneven.pt")
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
    follow(twin, model, 0.9)
    for mine, old, new in zip(twin.parameters(), other.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, 0.9 * old + 0.1 * new)
        assert not mine.requires_grad


def test_the_oldest_rows_leave_a_queue() -> None:
    queue = Queue(4, 1)
    for start in (0, 3):
        rows = torch.arange(start, start + 3)
        vectors = rows[:, None].float()
        queue.push(Keys(image=rows, text=rows, source=rows), vectors, vectors)
    keys, images, _ = queue.behind(
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
