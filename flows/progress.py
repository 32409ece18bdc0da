"""Progress in words: one line that is rewritten on a terminal, plain lines now and then
elsewhere.
"""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from filters.recipe.funnel import Funnel
from pipelines.engine.stage import Progress
from pipelines.terminal import visible

WIDTH = 26  # columns for what a stage does
PLAIN_SECONDS = 5.0  # between two lines about one stage where nothing can be rewritten


class Lines:
    """Prints how far each stage is; safe to call from several threads."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._open = False
        self._said = ("", "")  # the line before

    def __call__(self, progress: Progress) -> None:
        counts = progress.words or ", ".join(
            f"{value:,} {name}" for name, value in brief(progress.counts).items()
        )
        of = f"{progress.done:,}/{progress.parts:,}" if progress.parts else f"{progress.done:,}"
        self.line(
            progress.stage,
            f"{of} {counts}".rstrip(),
            last=bool(progress.parts) and progress.done >= progress.parts,
        )

    def line(self, name: str, text: str, *, last: bool) -> None:
        """Say something of a stage; in plain output only its last words and one line every few
        seconds are printed.
        """
        name, text = visible(name), visible(text)
        with self._lock:
            now = time.monotonic()
            # a stage says how it ended, the watch over it perhaps too
            if last and self._said == (name, text):
                return
            self._said = (name, text) if last else ("", "")
            if self._terminal:
                self._out.write(f"\r\x1b[2K  {name:<{WIDTH}} {text}" + ("\n" if last else ""))
                self._open = not last
            elif last or now - self._last.get(name, 0.0) >= PLAIN_SECONDS:
                self._out.write(f"  {name:<{WIDTH}} {text}\n")
                self._last[name] = now
            self._out.flush()

    def tell(self, what: str, done: int, total: int) -> None:
        """How much of something is done."""
        self.line(what, f"{done:,}/{total:,}", last=done >= total)

    def say(self, text: str) -> None:
        """A line of its own."""
        with self._lock:
            self._out.write(("\n" if self._open else "") + visible(text) + "\n")
            self._open = False
            self._out.flush()


def brief(counts: Mapping[str, int], most: int = 4) -> dict[str, int]:
    """The largest few of some counts, the rest added up."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    rest = sum(value for _, value in ordered[most:])
    return dict(ordered[:most]) | ({"other": rest} if rest else {})


def recall_table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Recall at 1, 5 and 10 both ways, a line for each run, in per cent."""
    lines = [
        f"{'':<12} {'text to image':^23} {'image to text':^23}",
        f"{'':<12} " + " ".join(["R@1     R@5     R@10  "] * 2),
    ]
    for name, found in runs.items():
        cells = [
            f"{found[way][rank]:5.1f}"
            for way in ("text_to_image", "image_to_text")
            for rank in ("r1", "r5", "r10")
        ]
        lines.append(f"{name:<12} " + "   ".join(cells))
    return "\n".join(lines)


def score_table(found: Mapping[str, Any]) -> str:
    """What an evaluation found, a line for each number; recalls as a table, with those of shuffled
    images and of chance below them.
    """
    lines = []
    if "text_to_image" in found:
        shuffled = {"shuffled": found["blind"]["shuffled_images"]} if "blind" in found else {}
        lines.append(recall_table({"model": found, **shuffled, "chance": found["chance"]}))
        told = ("text_to_image", "image_to_text", "chance", "blind")
        found = {name: value for name, value in found.items() if name not in told}
    lines += [f"{name:<16} {_figure(value)}" for name, value in found.items()]
    return "\n".join(lines)


def _figure(value: Any) -> str:
    """A number as people read it; of a table of numbers each with its name."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_figure(one)}" for name, one in value.items())
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def funnel_table(funnel: Funnel) -> str:
    """The funnel in lines: each outcome with its count and share."""
    width = max(len(name) for name in [*funnel.outcomes, "candidates"])
    rows = [("candidates", funnel.candidates, 1.0), *funnel.rows()]
    left_out = f", without {', '.join(funnel.without)}" if funnel.without else ""
    return f"recipe {funnel.recipe}{left_out}\n" + "\n".join(
        f"  {name:<{width}} {count:>12,} {share:>7.1%}" for name, count, share in rows
    )


def collection_table(
    id: str, counts: Mapping[str, int], accounts: Sequence[Mapping[str, Any]]
) -> str:
    """What a collection holds, where everything went that went into it, and what else was
    counted.
    """
    told = {"images", *(name for one in accounts for name in (one["of"], *one["went"]))}
    beside = {name: count for name, count in counts.items() if count and name not in told}
    lines = [
        (
            f"collection {id}: {counts.get('candidates', 0):,} candidates,"
            f" {counts.get('images', 0):,} images"
        ),
        accounts_table(accounts),
    ]
    return "\n".join([*lines, f"  beside these {_went(beside)}"] if beside else lines)


def accounts_table(accounts: Sequence[Mapping[str, Any]]) -> str:
    """Where everything went that went into a collection, a line for each kind of thing."""
    width = max([12, *(len(one["of"]) for one in accounts)])
    lines = [f"  {one['in']:>12,} {one['of']:<{width}} {_went(one['went'])}" for one in accounts]
    return "\n".join(["where everything went:", *lines])


def _went(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def roads_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What the WAT road loses against the archives, on the pages that both hold."""
    pages, images = found["pages"], found["images"]
    rows = {"images": images, **found["texts"]}
    both = f"{pages['both']:,} pages in both ({pages['warc']:,} in WARC, {pages['wat']:,} in WAT)"
    lines = [both, f"{'':<12}{'WARC':>10}{'WAT':>10}{'lost':>10}"]
    return "\n".join(
        [
            *lines,
            *(
                f"{name:<12}{row['warc']:>10,}{row['wat']:>10,}{row['lost']:>10,}"
                for name, row in rows.items()
            ),
        ]
    )
