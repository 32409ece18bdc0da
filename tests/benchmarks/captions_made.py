"""Captions as they are found on the web, made up of the frequencies of English words; the same in
every run.
"""

import random


def captions(count: int, seed: int = 5) -> list[str]:
    """About 55 characters and ten words each; one in twenty is not ASCII, some have capitals,
    numbers, addresses.
    """
    from wordfreq import top_n_list, word_frequency

    draw = random.Random(seed)
    words = [word for word in top_n_list("en", 30_000) if word.isascii()]
    drawn = iter(draw.choices(words, [word_frequency(word, "en") for word in words], k=count * 20))
    return [
        _written(
            [next(drawn) for _ in range(min(20, max(1, round(draw.gauss(10, 4)))))], draw, place
        )
        for place in range(count)
    ]


def _written(words: list[str], draw: random.Random, place: int) -> str:
    text, kind = " ".join(words), draw.random()
    if kind < 0.5:
        return text.capitalize() + "."
    if kind < 0.6:
        return text.title()
    if kind < 0.65:
        return f"{text}, caf\u00e9 \u2013 {draw.randrange(2000)}"
    if kind < 0.7:
        return f"{text.replace(' ', ', ', 2)} ({draw.randrange(2000)})"
    return f"{text} | www.example.org/{place}" if kind < 0.72 else text
