"""Captions with a cache are those without one, and each way of choosing chooses what it says."""

import pytest
import torch
from torch import Tensor

from tests.training import tiny
from training.generate import Decoding, TextGenerator, sample_nucleus
from training.model import Model
from training.tokens import Tokens

END = 7


def _writer() -> tuple[TextGenerator, Tensor, Tokens]:
    spec, _ = tiny.blip()
    model = tiny.build(spec).eval()
    inputs, _ = tiny.batch(5)
    pixels = inputs["patches"].pixels  # type: ignore[union-attr]
    with torch.no_grad():
        image = model.run("image", [model.embed("patches", pixels)])
        for parameter in model.parameters():
            parameter.mul_(1.5)  # sharper choices
    writer = TextGenerator(model, decoder="caption", head="vocabulary", end=END)
    return writer, torch.tensor([[1, 9]] * 5), image


@torch.no_grad()
def _log_probabilities(model: Model, ids: Tensor, image: Tokens) -> Tensor:
    tokens = model.run("caption", [model.embed("words", ids)], image)
    logits: Tensor = model.head("vocabulary", tokens.x)
    return logits.log_softmax(-1)


def test_greedy_with_a_cache_is_greedy_without() -> None:
    writer, prompt, image = _writer()
    found = writer.generate(prompt, Decoding(longest=6), reads=image)
    said = prompt
    for _ in range(6):
        piece = _log_probabilities(writer.model, said, image)[:, -1].argmax(1)
        ended = (said[:, 2:] == END).any(1)
        said = torch.cat([said, piece.masked_fill(ended, END)[:, None]], dim=1)
    assert torch.equal(found, said[:, 2:])


def test_a_caption_does_not_depend_on_its_neighbours() -> None:
    writer, prompt, image = _writer()
    draws = torch.rand(5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for decoding in (Decoding(longest=6), Decoding(longest=6, how="beam")):
        whole = writer.generate(prompt, decoding, reads=image)
        rows = torch.tensor([3])
        assert torch.equal(whole[rows], writer.generate(prompt[rows], decoding, reads=image[rows]))
    nucleus = Decoding(longest=6, how="nucleus")
    whole = writer.generate(prompt, nucleus, reads=image, draws=draws)
    rows = torch.tensor([4, 0])
    alone = writer.generate(prompt[rows], nucleus, reads=image[rows], draws=draws[rows])
    assert torch.equal(whole[rows], alone)


def test_beams_find_the_best_of_all_texts() -> None:
    """With as many beams as there are texts, against all texts of up to two pieces."""
    writer, prompt, image = _writer()
    row = torch.tensor([0])
    pieces = [piece for piece in range(tiny.VOCABULARY) if piece != END]
    decoding = Decoding(how="beam", beams=tiny.VOCABULARY, longest=2)
    found = writer.generate(prompt[row], decoding, reads=image[row])[0].tolist()

    def score(text: tuple[int, ...]) -> float:
        ids = torch.tensor([[*prompt[0].tolist(), *text]])
        says = _log_probabilities(writer.model, ids, image[row])[0]
        total = sum(says[place + 1, piece].item() for place, piece in enumerate(text))
        return total / len(text)

    texts = [(END,), *((a, b) for a in pieces for b in range(tiny.VOCABULARY))]
    best = max(texts, key=score)
    assert tuple(found[: len(best)]) == best


def test_one_beam_is_greedy_as_long_as_nothing_ends() -> None:
    writer, prompt, image = _writer()
    one = Decoding(how="beam", beams=1, longest=6, shortest=6)
    greedy = writer.generate(prompt, Decoding(longest=6, shortest=6), reads=image)
    assert torch.equal(writer.generate(prompt, one, reads=image), greedy)


def test_a_text_is_not_shorter_than_asked() -> None:
    writer, prompt, image = _writer()
    found = writer.generate(prompt, Decoding(longest=6, shortest=4), reads=image)
    assert not (found[:, :3] == END).any()


def test_a_repeated_piece_is_less_likely() -> None:
    writer, _, _ = _writer()
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    shaped = writer._adjust(logits, torch.tensor([[0, 1]]), 0, Decoding(repetition=2.0))
    assert shaped.tolist() == [[1.0, -4.0, 1.0]]


def test_the_nucleus_holds_the_likeliest_pieces() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.25, 0.15]]).log()
    draws = torch.arange(1000) / 1000
    found = sample_nucleus(logits.expand(1000, -1), 0.7, draws)
    counts = torch.bincount(found, minlength=4) / 1000
    # .5 and .25 reach .75, which is the first sum of at least .7
    assert counts.tolist() == pytest.approx([0, 2 / 3, 1 / 3, 0], abs=0.002)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shortest": 9, "longest": 3}, "lengths are 9 to 3"),
        ({"nucleus": 0.0}, "nucleus is 0.0"),
        ({"beams": 0}, "beams is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Decoding(**wrong)  # type: ignore[arg-type]
