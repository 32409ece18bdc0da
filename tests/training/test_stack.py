"""The stack: caches, feed-forward networks by segment, gates, checkpointing, shared parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from training.attention import Cache
from training.dropout import Dropout, dropout
from training.model import Model, ModelSpec, Pass, initialise
from training.stack import Cross, Stack, StackSpec
from training.tokens import Segment, Span, Tokens, join

SPEC = StackSpec(layers=3, width=12, heads=3, hidden=20)


def _stack(spec: StackSpec) -> Stack:
    torch.manual_seed(0)
    stack = Stack(spec).double()
    with torch.no_grad():
        for name, parameter in stack.named_parameters():
            if not name.endswith("gate"):
                parameter += 0.1 * torch.randn_like(parameter)
    return stack


def _tokens(segment: Segment, rows: int, length: int, seed: int, width: int = 12) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, length, width, generator=generator, dtype=torch.float64)
    return Tokens(x=x, spans=(Span(segment=segment, length=length),))


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("prompt", [1, 3])
def test_a_cache_gives_what_going_through_all_again_gives(cross: bool, prompt: int) -> None:
    spec = replace(SPEC, norm="post", cross=Cross(width=8) if cross else None)
    stack = _stack(spec)
    tokens = _tokens(Segment.TEXT, 2, 6, 1)
    keys = _tokens(Segment.IMAGE, 2, 4, 2, width=8) if cross else None
    wanted = stack(tokens, rules=("causal",), keys=keys).x

    cache = Cache()
    first = tokens.slice(0, prompt, Segment.TEXT)
    found = [stack(first, rules=("causal",), keys=keys, cache=cache).x]
    for index in range(prompt, 6):
        one = tokens.slice(index, index + 1, Segment.TEXT)
        found.append(stack(one, rules=("causal",), keys=keys, cache=cache).x)
    assert cache.length == 6
    assert torch.allclose(torch.cat(found, dim=1), wanted, atol=1e-12)


def test_chosen_rows_of_a_cache() -> None:
    stack = _stack(SPEC)
    tokens = _tokens(Segment.TEXT, 3, 4, 1)
    cache = Cache()
    stack(tokens.slice(0, 3, Segment.TEXT), rules=("causal",), cache=cache)
    rows = torch.tensor([2, 2, 0])
    chosen = stack(tokens.slice(3, 4, Segment.TEXT)[rows], rules=("causal",), cache=cache[rows])
    wanted = stack(tokens, rules=("causal",)).x[rows, 3:]
    assert torch.allclose(chosen.x, wanted, atol=1e-12)


@pytest.mark.parametrize("see_self", [False, True])
@pytest.mark.parametrize("held", [1, 3])
def test_several_rows_that_look_at_one(see_self: bool, held: int) -> None:
    """Outputs and gradients as if each had a copy of what it looks at."""
    spec = replace(SPEC, cross=Cross(width=12, see_self=see_self, norm_keys=True))
    rows = torch.tensor([2, 0, 2, 2]) % held
    found = []
    for copied in (False, True):
        stack = _stack(spec)
        tokens = _tokens(Segment.TEXT, 4, 5, 1)
        keys = _tokens(Segment.IMAGE, held, 4, 2)
        leaf = keys.x.requires_grad_()
        valid = (
            None if see_self else torch.tensor([[True] * 4, [True, True, False, False]] * 2)[:held]
        )
        keys = replace(keys, valid=valid)
        shown = keys[rows] if copied else keys
        out = stack(tokens, keys=shown, keys_rows=None if copied else rows).x
        (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        assert leaf.grad is not None
        weights = [one.grad for one in stack.parameters() if one.grad is not None]
        found.append([out.detach(), leaf.grad, *weights])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_each_segment_has_its_own_feed_forward_network() -> None:
    spec = replace(SPEC, layers=1, feedforwards=(Segment.QUERY,))
    stack = _stack(spec)
    queries, text = _tokens(Segment.QUERY, 2, 3, 1), _tokens(Segment.TEXT, 2, 4, 2)
    tokens = join([queries, text])
    before = stack(tokens).x

    networks = stack.blocks[0].feedforwards
    assert set(networks) == {"shared", "QUERY"}
    with torch.no_grad():
        networks["QUERY"].inner.out.bias[0] += 1.0
    moved = (stack(tokens).x - before).abs().amax(-1) > 1e-9
    assert moved.tolist() == [[True] * 3 + [False] * 4] * 2

    # what each says is what one network for all would say there
    networks["QUERY"].load_state_dict(networks["shared"].state_dict())
    plain = _stack(replace(SPEC, layers=1))
    plain.load_state_dict(
        {name: tensor for name, tensor in stack.state_dict().items() if "QUERY" not in name}
    )
    assert torch.allclose(stack(tokens).x, plain(tokens).x, atol=1e-12)


@pytest.mark.parametrize("attentions", [("self",), ()])
def test_gates_at_zero_change_nothing(attentions: tuple[str, ...]) -> None:
    """Flamingo's blocks: a frozen model says bit for bit what it said without them."""
    spec = replace(SPEC, cross=Cross(width=12, gate=True), attentions=attentions, last_norm=False)
    stack = _stack(spec)
    tokens, keys = _tokens(Segment.TEXT, 2, 4, 1), _tokens(Segment.IMAGE, 2, 3, 2)
    without = stack(tokens).x if attentions else tokens.x
    assert torch.equal(stack(tokens, keys=keys).x, without)

    with torch.no_grad():
        stack.blocks[1].cross.gate.fill_(0.5)
    assert not torch.allclose(stack(tokens, keys=keys).x, without)


def test_cross_attention_every_second_block() -> None:
    stack = Stack(replace(SPEC, cross=Cross(width=12, every=2)))
    assert [block.cross is not None for block in stack.blocks] == [True, False, True]


def test_checkpointing_gives_the_same_gradients() -> None:
    spec = replace(SPEC, cross=Cross(width=12), dropout=0.2, attention_dropout=0.1)
    stack = _stack(spec)
    tokens, keys = _tokens(Segment.TEXT, 2, 5, 1), _tokens(Segment.IMAGE, 2, 3, 2)

    def gradients(checkpointing: bool) -> list[Tensor]:
        stack.zero_grad()
        stack.checkpointing = checkpointing
        torch.manual_seed(7)  # for dropout
        stack(tokens, keys=keys, rules=("causal",)).x.square().sum().backward()
        return [p.grad.clone() for p in stack.parameters() if p.grad is not None]

    plain, again = gradients(False), gradients(True)
    assert len(plain) == len(again) > 40
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_stacks_that_share_a_module() -> None:
    spec = ModelSpec(
        embeds={},
        stacks={"one": SPEC, "other": SPEC},
        passes={},
        shared={"stacks.other.blocks.1": "stacks.one.blocks.1"},
    )
    model = Model(spec)
    initialise(model, torch.Generator().manual_seed(0))
    assert model.stacks["other"].blocks[1] is model.stacks["one"].blocks[1]
    single = sum(parameter.numel() for parameter in Stack(SPEC).parameters())
    block = sum(parameter.numel() for parameter in model.stacks["one"].blocks[1].parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * single - block


def test_width_and_heads_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="width 12 is not a multiple of heads 5"):
        StackSpec(layers=1, width=12, heads=5)
    assert Stack(StackSpec(layers=1, width=12, heads=5, head_width=4)).blocks[
        0
    ].attentions.self.inner.qkv.weight.shape == (60, 12)


def test_a_pass_that_asks_for_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="pass match reads image, but text has no cross"):
        ModelSpec(
            embeds={},
            stacks={"text": SPEC, "tower": SPEC},
            passes={
                "image": Pass(stack="tower", inputs=()),
                "match": Pass(stack="text", inputs=(), reads="image"),
            },
        )


@pytest.mark.parametrize("front", [1, 3, 5])
@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        (SPEC, ("full",)),
        (replace(SPEC, norm="post", bias=False), ("full",)),
        (replace(SPEC, layer_scale=True, feedforwards=(Segment.IMAGE,)), ("full",)),
        (replace(SPEC, cross=Cross(width=12)), ("unilm",)),
        (replace(SPEC, cross=Cross(width=12, see_self=True)), ("full",)),
        (replace(SPEC, layers=0), ("full",)),
        (SPEC, ("causal",)),
    ],
)
def test_tokens_from_the_front_alone(spec: StackSpec, rules: tuple[str, ...], front: int) -> None:
    """What is read is the same, and so are all gradients; padding and blind queries included."""
    found = []
    for trimmed in (True, False):
        stack = _stack(spec)
        see_self = spec.cross is not None and spec.cross.see_self
        text, image = _tokens(Segment.TEXT, 2, 3, 1), _tokens(Segment.IMAGE, 2, 4, 2)
        text = replace(text, valid=torch.tensor([[True] * 3, [True, False, False]]))
        tokens = join([text, image])
        leaf = tokens.x.requires_grad_()
        keys = None if spec.cross is None else _tokens(Segment.IMAGE, 2, 4, 3)
        if keys is not None and not see_self:
            keys = replace(keys, valid=torch.tensor([[True, True, False, False], [False] * 4]))
        out = stack(tokens, rules=rules, keys=keys, front=front if trimmed else 0)
        out = out if trimmed else out.front(front)
        assert sum(span.length for span in out.spans) == front
        weights = torch.randn(out.x.shape, generator=torch.Generator().manual_seed(4))
        (out.x * weights).sum().backward()
        gradients = [
            torch.zeros_like(one) if one.grad is None else one.grad for one in stack.parameters()
        ]
        found.append([out.x, *gradients, leaf.grad])
    assert len(found[0]) == len(found[1])
    for ours, wanted in zip(*found, strict=True):
        assert torch.allclose(ours, wanted, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 1), (1001, 7), (64, 30, 33)])
def test_dropout(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    module = Dropout(0.3)
    torch.manual_seed(3)
    x = torch.ones(shape, dtype=dtype, requires_grad=True)
    out = module(x)
    out.float().sum().backward()  # type: ignore[no-untyped-call]
    assert out.shape == x.shape
    assert out.dtype == dtype
    larger = out[out != 0]
    assert torch.allclose(larger, torch.full_like(larger, 1 / 0.7), rtol=1e-4)
    assert x.grad is not None
    assert torch.equal(x.grad, out)  # the same numbers go back
    torch.manual_seed(3)
    assert torch.equal(module(x), out)
    assert torch.equal(module.eval()(x), x)


def test_draws_of_dropout() -> None:
    """Four to a random number: each with its share, none of which says anything of another."""
    kept = dropout(torch.ones(400_000), 0.3) != 0
    columns = kept.view(-1, 4).float()
    assert torch.allclose(columns.mean(0), torch.full((4,), 0.7), atol=0.006)  # four deviations
    assert (torch.corrcoef(columns.T) - torch.eye(4)).abs().max() < 0.013


def test_dropout_of_nothing_and_of_all() -> None:
    assert torch.equal(dropout(torch.ones(5), 0.0), torch.ones(5))
    assert not dropout(torch.ones(5), 1.0).any()
