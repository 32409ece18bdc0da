"""Patches of images of all sizes: places, padding, sampling."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.embed import Patches, PatchesSpec, Words, WordsSpec
from training.regions import geometry

SPEC = PatchesSpec(patch=2, width=6, grid=5)
SIZES = torch.tensor([[5, 5], [3, 7], [8, 2], [1, 4], [6, 1]])


def _patches(spec: PatchesSpec) -> Patches:
    generator = torch.Generator().manual_seed(0)
    embed = Patches(spec).double()
    with torch.no_grad():
        for parameter in embed.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return embed


def _pixels(sizes: Tensor) -> Tensor:
    """Images at the top left of a batch, noise outside, which must not matter."""
    rows, columns = sizes.amax(0).tolist()
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(sizes), 3, 2 * rows, 2 * columns, generator=generator).double()


@pytest.mark.parametrize(("kind", "corners"), [("bilinear", True), ("bilinear", False)])
def test_places_of_many_sizes_at_once_bilinear(kind: str, corners: bool) -> None:
    _same_as_one_by_one(replace(SPEC, interpolation=kind, align_corners=corners))


@pytest.mark.parametrize("corners", [False, True])
def test_places_of_many_sizes_at_once_bicubic(corners: bool) -> None:
    _same_as_one_by_one(replace(SPEC, interpolation="bicubic", align_corners=corners))


def _same_as_one_by_one(spec: PatchesSpec) -> None:
    embed, pixels = _patches(spec), _pixels(SIZES)
    together = embed(pixels, SIZES)
    assert together.mask().sum(1).tolist() == [1 + 25, 1 + 21, 1 + 16, 1 + 4, 1 + 6]

    for index, (rows, columns) in enumerate(SIZES.tolist()):
        alone = embed(pixels[index : index + 1, :, : 2 * rows, : 2 * columns])
        assert alone.valid is None
        found = together.x[index, : alone.x.shape[1]]
        assert torch.allclose(found, alone.x[0], atol=1e-12)


def test_one_image_against_interpolation_by_hand() -> None:
    embed = _patches(SPEC)
    pixels = _pixels(torch.tensor([[4, 6]]))
    table = embed.place.permute(2, 0, 1)[None]
    places = F.interpolate(table, size=(4, 6), mode="bicubic", align_corners=False)[0]
    weight = embed.linear.weight.unflatten(1, (3, 2, 2))
    mapped = F.conv2d(pixels, weight, embed.linear.bias, stride=2)[0]
    wanted = (mapped + places).flatten(1).T
    found = embed(pixels).x[0]
    assert torch.allclose(found[1:], wanted, atol=1e-12)
    assert torch.equal(found[0], embed.first + embed.first_place)


def test_gradients_reach_the_table_of_places_both_ways() -> None:
    embed = _patches(SPEC)
    pixels = _pixels(torch.tensor([[4, 6], [4, 6]]))
    embed(pixels).x.square().sum().backward()
    wanted = embed.place.grad
    embed.zero_grad()
    embed(pixels, torch.tensor([[4, 6], [4, 6]])).x.square().sum().backward()
    assert wanted is not None
    assert embed.place.grad is not None
    assert torch.allclose(embed.place.grad, wanted, atol=1e-10)


def test_sampling_keeps_k_of_the_valid_patches_in_reading_order() -> None:
    embed = _patches(replace(SPEC, sample=9, class_token=False))
    pixels = _pixels(SIZES)
    places = SIZES.amax(0).prod()
    draw = torch.rand(len(SIZES), int(places), generator=torch.Generator().manual_seed(3))
    whole, kept = embed(pixels, SIZES), embed(pixels, SIZES, draw)
    assert kept.x.shape[1] == 9
    assert kept.mask().sum(1).tolist() == [9, 9, 9, 4, 6]

    for index, (rows, columns) in enumerate(SIZES.tolist()):
        every = whole.x[index, : rows * columns]
        found = kept.x[index][kept.mask()[index]]
        at = [int((every - token).abs().amax(1).argmin()) for token in found]
        assert torch.allclose(every[at], found, atol=1e-12)
        assert at == sorted(set(at))


def test_sampling_depends_on_the_draws_alone() -> None:
    embed = _patches(replace(SPEC, sample=6))
    pixels = _pixels(SIZES)
    count = int(SIZES.amax(0).prod())
    draw = torch.rand(len(SIZES), count, generator=torch.Generator().manual_seed(3))
    first = embed(pixels, SIZES, draw).x
    torch.manual_seed(99)
    assert torch.equal(embed(pixels, SIZES, draw).x, first)

    backwards = torch.arange(len(SIZES)).flip(0)
    turned = embed(pixels[backwards], SIZES[backwards], draw[backwards]).x
    assert torch.allclose(turned[backwards], first, atol=1e-12)
    other = torch.rand(len(SIZES), count, generator=torch.Generator().manual_seed(4))
    assert not torch.allclose(embed(pixels, SIZES, other).x, first)


def test_without_draws_all_patches_are_kept() -> None:
    embed = _patches(replace(SPEC, sample=3))
    pixels = _pixels(torch.tensor([[5, 5]]))
    assert embed(pixels).x.shape[1] == 26
    draw = torch.rand(1, 25, generator=torch.Generator().manual_seed(3))
    assert embed(pixels, None, draw).x.shape[1] == 4


def test_registers_stand_between_the_class_token_and_the_patches() -> None:
    embed = _patches(replace(SPEC, registers=2))
    tokens = embed(_pixels(SIZES), SIZES)
    assert torch.equal(tokens.x[1, 0], embed.first + embed.first_place)
    assert torch.equal(tokens.x[1, 1:3], embed.registers)
    assert tokens.mask()[3].sum() == 3 + 4


def test_places_of_patches_in_bfloat16_are_taken_where_they_are() -> None:
    spec = replace(SPEC, grid=40, class_token=False)
    embed = _patches(spec)
    sizes = torch.tensor([[37, 40], [40, 31]])
    pixels = torch.zeros(2, 3, 80, 80, dtype=torch.float64)
    wanted = embed(pixels, sizes)
    rough = embed.bfloat16()(pixels.bfloat16(), sizes)
    assert (rough.x - wanted.x)[wanted.mask()].abs().max() < 0.1


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="images of 10 x 9 are not cut evenly by patches of 2"):
        Patches(SPEC)(torch.zeros(1, 3, 10, 9))
    words = Words(WordsSpec(vocab=5, width=4, length=3))
    with pytest.raises(ValueError, match="4 tokens, but places for 3: cut the texts"):
        words(torch.zeros(1, 4, dtype=torch.int64))


def test_geometry_of_boxes() -> None:
    box = torch.tensor([0.25, 0.5, 0.75, 1.0])
    assert geometry(box, 5).tolist() == [0.25, 0.5, 0.75, 1.0, 0.25]
    assert geometry(box, 7).tolist() == [0.25, 0.5, 0.75, 1.0, 0.5, 0.5, 0.25]
