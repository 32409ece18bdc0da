"""What a model looks at, on attention and features whose answer is known."""

from pathlib import Path

import pytest
import torch

from tests.training.worlds import picture
from training.evaluate import alignment
from training.evaluate.alignment import look, transport
from training.evaluate.attention_patterns import attention_of, shares_of_patterns
from training.evaluate.scorer import Scorer
from training.masks import lower
from training.stack import Stack, StackSpec
from training.tokens import Segment, Span, Tokens

SPANS = (Span(segment=Segment.TEXT, length=4), Span(segment=Segment.IMAGE, length=6))
SEGMENTS = torch.tensor([0] * 4 + [1] * 6)


def _one_hot(columns: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(columns, 10).float()[None]


def test_each_pattern_is_named_by_what_it_exceeds() -> None:
    place = torch.arange(10)
    own = SEGMENTS[:, None] == SEGMENTS[None, :]
    within = own.float() / own.sum(1, keepdim=True)
    across = (~own).float() / (~own).sum(1, keepdim=True)
    heads = torch.cat([_one_hot(place * 0), _one_hot(place), within[None], across[None]])
    found = shares_of_patterns(heads, SEGMENTS)
    assert [one["pattern"] for one in found] == ["vertical", "diagonal", "block", "reversed_block"]
    assert found[0]["vertical"] == found[1]["diagonal"] == 1
    assert found[2]["block"] == found[3]["reversed_block"] == 1
    # 4 words and 6 patches: 16 + 36 of 100 pairs are of one kind
    assert found[0]["even"]["block"] == pytest.approx(0.52)
    assert found[0]["even"]["reversed_block"] == pytest.approx(0.48)
    assert found[0]["even"]["vertical"] == pytest.approx(0.1)
    # of 10 tokens with themselves, 3 and 5 pairs of neighbours, both ways
    assert found[0]["even"]["diagonal"] == pytest.approx(0.26)


def test_listened_attention_is_what_the_stack_computes() -> None:
    torch.manual_seed(1)
    stack = Stack(StackSpec(layers=2, width=8, heads=2)).eval()
    valid = torch.ones(1, 10, dtype=torch.bool)
    valid[0, 9] = False
    tokens = Tokens(x=torch.randn(1, 10, 8), spans=SPANS, valid=valid)
    with attention_of(stack) as weights:
        stack(tokens)
    assert [tuple(one.shape) for one in weights] == [(1, 2, 10, 10)] * 2
    assert bool((weights[0][..., 9] == 0).all())

    attention = stack.blocks[0].attentions["self"]  # type: ignore[union-attr, index]
    x = attention.norm(tokens.x)
    value = attention.inner.qkv(x).chunk(3, dim=-1)[2].view(1, 10, 2, 4).transpose(1, 2)
    mixed = (weights[0] @ value).transpose(1, 2).flatten(2)
    expected = attention.inner(x, lower(("full",), tokens, tokens))
    torch.testing.assert_close(attention.inner.out(mixed), expected, rtol=1e-5, atol=1e-5)


def test_words_go_to_the_patches_that_equal_them() -> None:
    """Inner words 1 and 2 have the directions of patches; the class token takes no part."""
    x = torch.zeros(1, 10, 10)
    x[0, :, 9] = 0.01
    x[0, 1, 0] = x[0, 2, 1] = 1  # words
    x[0, 5, 0] = x[0, 6, 0] = x[0, 7, 1] = x[0, 8, 1] = 1  # patches; 4 is the class token
    x[0, 9, 5] = 1
    plan, distance = transport(
        Tokens(x=x[:, :9], spans=(SPANS[0], Span(segment=Segment.IMAGE, length=5))), 1
    )
    assert plan.shape == (4, 4)
    assert plan.sum() == pytest.approx(1, abs=1e-3)
    assert plan[0].sum() == plan[3].sum() == 0
    assert plan[1, :2].sum() == pytest.approx(0.5, abs=1e-2)
    assert plan[2, 2:].sum() == pytest.approx(0.5, abs=1e-2)
    assert distance == pytest.approx(0, abs=0.01)


def test_a_pair_is_looked_at(scorer: Scorer) -> None:
    spec = scorer.image_specs["patches"]
    pixels = torch.from_numpy(spec.pixels(picture("red", "circle", 3)).copy())
    found = look(scorer, {"patches": [pixels]}, "a red circle on white")
    assert found["words"] == ["a", "red", "circle", "on", "white"]
    assert found["grid"] == [4, 4]
    assert found["image"].startswith("data:image/jpeg;base64,")
    shares = torch.tensor(found["alignment"])
    assert shares.shape == (5, 4, 4)
    torch.testing.assert_close(shares.sum((1, 2)), torch.ones(5), rtol=0, atol=1e-3)
    assert 0 <= found["probability"] <= 1
    (layer,) = found["patterns"]
    assert len(layer) == 2
    for head in layer:
        assert head["block"] + head["reversed_block"] == pytest.approx(1, abs=1e-3)


def test_some_pairs_of_a_file(scorer: Scorer, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "red-circle.png").write_bytes(b"no picture")
    shapes.write_text(shapes.read_text().replace('["a blue circle', '["", "a blue circle'))
    found = alignment.evaluate(scorer, shapes, shown=3)
    assert (len(found["pairs"]), found["unreadable"]) == (2, 1)
    assert found["pairs"][0]["words"][:2] == ["a", "blue"]
    with pytest.raises(ValueError, match="has no words"):
        look(scorer, {"patches": [torch.zeros(32, 32, 3, dtype=torch.uint8)]}, " ")
    scorer.matching = None
    with pytest.raises(ValueError, match="does not join words and patches"):
        alignment.evaluate(scorer, shapes)
