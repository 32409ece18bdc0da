"""Mask rules against matrices written out, in every form that they are lowered to."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from training.masks import Mask, dense, lower
from training.stack import Cross, Stack, StackSpec
from training.tokens import Segment, Span, Tokens

WIDTH = 8


def _tokens(
    *spans: tuple[Segment, int],
    valid: list[str] | None = None,
    document: list[list[int]] | None = None,
    media: list[list[int]] | None = None,
    prefix: list[str] | None = None,
    seed: int = 0,
) -> Tokens:
    length = sum(count for _, count in spans)
    named = [valid, document, media, prefix]
    rows = next((len(fact) for fact in named if fact is not None), 1)
    generator = torch.Generator().manual_seed(seed)
    return Tokens(
        x=torch.randn(rows, length, WIDTH, generator=generator),
        spans=tuple(Span(segment=segment, length=count) for segment, count in spans),
        valid=None if valid is None else _matrix(valid),
        document=None if document is None else torch.tensor(document),
        media=None if media is None else torch.tensor(media),
        prefix=None if prefix is None else _matrix(prefix),
    )


def _matrix(rows: list[str]) -> Tensor:
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


TEXT, IMAGE, QUERY = Segment.TEXT, Segment.IMAGE, Segment.QUERY

# (rules, tokens, who sees whom in the first row: a line a query)
LITERAL: dict[str, tuple[tuple[str, ...], Tokens, list[str]]] = {
    "full": (("full",), _tokens((TEXT, 3)), ["111", "111", "111"]),
    "full, padded": (("full",), _tokens((TEXT, 3), valid=["110"]), ["110", "110", "110"]),
    "causal": (("causal",), _tokens((TEXT, 4)), ["1000", "1100", "1110", "1111"]),
    "causal, padded in front": (
        ("causal",),
        _tokens((IMAGE, 2), (TEXT, 2), valid=["1011"]),
        ["1000", "1000", "1010", "1011"],
    ),
    "prefix": (
        ("prefix",),
        _tokens((TEXT, 4), prefix=["1100"]),
        ["1100", "1100", "1110", "1111"],
    ),
    "unilm": (
        ("unilm",),
        _tokens((IMAGE, 2), (TEXT, 3)),
        ["11000", "11000", "11100", "11110", "11111"],
    ),
    "unilm, text first": (
        ("unilm",),
        _tokens((TEXT, 2), (QUERY, 2)),
        ["1011", "1111", "0011", "0011"],
    ),
    "block_diagonal": (
        ("block_diagonal",),
        _tokens((QUERY, 2), (TEXT, 2)),
        ["1100", "1100", "0011", "0011"],
    ),
    "same_document": (
        ("same_document",),
        _tokens((TEXT, 4), document=[[0, 0, 1, 1]]),
        ["1100", "1100", "0011", "0011"],
    ),
    "same_document, causal": (
        ("same_document", "causal"),
        _tokens((TEXT, 5), document=[[0, 0, 1, 1, 1]], valid=["11110"]),
        ["10000", "11000", "00100", "00110", "00110"],
    ),
}


@pytest.mark.parametrize("name", LITERAL)
def test_rules_against_matrices(name: str) -> None:
    rules, tokens, wanted = LITERAL[name]
    assert dense(rules, tokens, tokens)[0].tolist() == _matrix(wanted).tolist()


def test_last_media_sees_the_image_that_began_last() -> None:
    text = _tokens((TEXT, 5), media=[[0, 1, 1, 2, 2]])
    images = _tokens((IMAGE, 4), media=[[1, 1, 2, 2]])
    wanted = ["0000", "1100", "1100", "0011", "0011"]
    assert dense(("last_media",), text, images)[0].tolist() == _matrix(wanted).tolist()


def test_forms() -> None:
    """The cheapest form, and not a dearer one."""
    whole, padded = _tokens((TEXT, 3)), _tokens((TEXT, 3), valid=["110", "111"])
    behind_image = _tokens((IMAGE, 1), (TEXT, 2), valid=["110"])
    assert lower(("full",), whole, whole) == Mask()
    assert lower(("causal",), whole, whole) == Mask(is_causal=True)
    assert lower(("causal",), padded, padded) == Mask(is_causal=True)
    assert lower(("causal",), behind_image, behind_image).is_causal is False

    keys = lower(("full",), whole, padded).dense
    assert keys is not None
    assert keys.shape == (2, 1, 1, 3)
    blocks = lower(("unilm",), padded, padded, flex=True)
    assert blocks.blocks is not None
    assert blocks.dense is None
    assert lower(("full",), padded, padded, flex=True).blocks is None


def _heads(tokens: Tokens, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    n, t, _ = tokens.x.shape
    return torch.randn(n, 2, t, 4, generator=generator, dtype=torch.float64)


def _attended(mask: Mask, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    if mask.blocks is not None:
        found = flex_attention(query, key, value, block_mask=mask.blocks)
        assert isinstance(found, Tensor)
    else:
        found = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask.dense, is_causal=mask.is_causal
        )
    if mask.blind is not None:
        found = found.masked_fill(mask.blind[:, None, :, None], 0.0)
    return found


def _oracle(allowed: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention row by row, over the keys that a query sees; zero where it sees none."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = scores.exp() * allowed[:, None]
    return weights @ value / weights.sum(-1, keepdim=True).clamp(min=1e-300)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("flex", [False, True])
@pytest.mark.parametrize("name", [*LITERAL, "last_media"])
def test_lowered_forms_equal_the_oracle(name: str, flex: bool) -> None:
    if name == "last_media":
        rules: tuple[str, ...] = ("last_media",)
        query_tokens = _tokens((TEXT, 5), media=[[0, 1, 1, 2, 2], [0, 0, 0, 1, 1]])
        key_tokens = _tokens((IMAGE, 4), media=[[1, 1, 2, 2], [1, 1, 1, 1]])
    else:
        rules, query_tokens, _ = LITERAL[name]
        key_tokens = query_tokens

    query, key, value = _heads(query_tokens, 1), _heads(key_tokens, 2), _heads(key_tokens, 3)
    mask = lower(rules, query_tokens, key_tokens, flex=flex)
    allowed = dense(rules, query_tokens, key_tokens).expand(len(query), -1, -1)
    found, wanted = _attended(mask, query, key, value), _oracle(allowed, query, key, value)

    shown = allowed.any(-1)
    if name != "last_media":
        shown = shown & query_tokens.mask()  # what padding says is nobody's business
    shown_heads = shown[:, None].expand(-1, 2, -1)
    assert torch.allclose(found[shown_heads], wanted[shown_heads], atol=1e-12)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", LITERAL)
def test_what_is_hidden_moves_nothing_and_what_is_seen_does(name: str) -> None:
    rules, tokens, wanted = LITERAL[name]
    spec = StackSpec(layers=1, width=WIDTH, heads=2, norm="post", eps=1e-6)
    torch.manual_seed(0)
    stack = Stack(spec).double()
    x = tokens.x.double()
    before = stack(tokens.with_x(x), rules=rules).x

    sees, valid = _matrix(wanted), tokens.mask()[0]
    for key in range(x.shape[1]):
        changed = x.clone()
        changed[0, key] += 1.0
        after = stack(tokens.with_x(changed), rules=rules).x
        moved = (after - before)[0].abs().amax(-1) > 1e-9
        for query in range(x.shape[1]):
            if query != key and valid[query]:
                assert bool(moved[query]) == bool(sees[query, key]), (query, key)


def test_who_sees_nothing_gets_zero_and_finite_gradients() -> None:
    text = _tokens((TEXT, 3), media=[[0, 1, 1]])
    image = _tokens((IMAGE, 2), media=[[1, 1]], seed=1)
    spec = StackSpec(
        layers=1, width=WIDTH, heads=2, attentions=(), cross=Cross(width=WIDTH), norm="pre"
    )
    torch.manual_seed(0)
    stack = Stack(spec)
    seen = image.x.clone().requires_grad_()
    keys = image.with_x(seen)

    cross = stack.blocks[0].cross
    mask = lower(("last_media",), text, keys)
    assert mask.blind is not None
    assert mask.blind.tolist() == [[True, False, False]]
    added = cross.inner(text.x, mask, keys.x)
    assert torch.equal(added[0, 0], cross.inner.out.bias)
    assert not torch.allclose(added[0, 1], cross.inner.out.bias)

    out = stack(text, keys=keys, keys_rules=("last_media",)).x
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert seen.grad is not None
    assert torch.isfinite(seen.grad).all()
    assert all(
        torch.isfinite(parameter.grad).all()
        for parameter in stack.parameters()
        if parameter.grad is not None
    )


def test_a_row_that_is_all_padding_is_finite() -> None:
    tokens = _tokens((TEXT, 3), valid=["111", "000"])
    torch.manual_seed(0)
    stack = Stack(StackSpec(layers=2, width=WIDTH, heads=2))
    x = tokens.x.clone().requires_grad_()
    out = stack(tokens.with_x(x)).x
    out[0].sum().backward()
    assert torch.isfinite(out).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
