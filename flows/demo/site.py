"""The demo's web site: drawn pictures on hand-made pages, about half of them with a known fault,
and the truth beside it.
"""

import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from flows.demo import wording
from flows.demo.markup import PAGE_FAULTS, Page, Reference, write_index, write_page
from flows.demo.scenes import chart, scene
from flows.demo.server import HEADERS, serve

__all__ = ["FAULTS", "build_site", "count_faults", "serve"]

# Share of all references that carries each fault: about half are sound, and a ninth have the text
# of another picture, which no rule on the text alone or the picture alone can see. The shares are
# ours; published curations of raw web pairs keep far less.
FAULTS = {
    "swapped": 1 / 9,
    "file_name": 0.075,
    "boilerplate": 0.075,
    "foreign": 0.06,
    "shared_text": 0.04,
    "thumbnail": 0.02,
    "chart": 0.035,
    "empty": 0.03,
    "duplicate": 0.03,
    "broken": 0.02,
    "robots": 0.015,
    "noai": 0.02,
}
_FEWEST = 100  # references: below it the rarer faults vanish in rounding
# pictures under one shared text, where ten are the usual limit (ALIGN, section 3, drops texts of
# more than ten images)
_SHARED = 14
_PER_PAGE = (9, 15)  # pictures on a page, twelve on average
# pictures on a page that asks to be left alone: many such pages, for the many ways of asking
_FEW = (2, 6)
_ASKING = (
    "noai",
    "noai, noimageai",
    "index, follow, noai",
    "noimageindex",
    "none",
    "NOAI",
    "winnow: noai",
)
_SETTINGS = "site.json"
_TEXTS: dict[str, Callable[[Random], str]] = {
    "file_name": wording.file_name,
    "boilerplate": wording.boilerplate,
    "foreign": wording.foreign,
    "duplicate": wording.vague,
    "empty": lambda rng: "",
}
# streams of random numbers: the length of one does not change the others
_HELDOUT, _CLEAN, _REFERENCES = range(3)


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A drawn picture as its file, with the text that is true of it."""

    image: Image.Image
    caption: str


def build_site(folder: Path, *, references: int, clean: int, heldout: int, seed: int) -> None:
    """Draw the site, the clean release's list and the held-out captions into `folder`, once; the
    same seed gives the same bytes.

    Raises ValueError when the folder holds something else, or when so few references are asked for
    that faults would be missing.
    """
    if references < _FEWEST:
        raise ValueError(
            f"a site of {references} references cannot carry every fault: ask for at least"
            f" {_FEWEST}"
        )
    settings = {"references": references, "clean": clean, "heldout": heldout, "seed": seed}
    if _is_built(folder, settings):
        return
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)  # what a killed run had begun
    (building / "site").mkdir(parents=True)
    taken = _draw_heldout(building / "heldout", heldout, seed)
    _draw_clean(building, clean, seed, taken)
    _draw_pages(building, references, seed, taken)
    (building / _SETTINGS).write_text(json.dumps(settings))
    os.replace(building, folder)


def count_faults(references: int) -> dict[str, int]:
    """How many references carry each fault; the rest of them are sound."""
    counts = {fault: round(share * references) for fault, share in FAULTS.items()}
    return counts | {"shared_text": max(_SHARED, counts["shared_text"])}


def _is_built(folder: Path, settings: dict[str, int]) -> bool:
    if not folder.exists() or not any(folder.iterdir()):
        return False
    found = json.loads((folder / _SETTINGS).read_text()) if (folder / _SETTINGS).exists() else None
    if found != settings:
        raise ValueError(
            f"{folder} holds {found or 'something else'}, not a site of {settings}: name another"
            " folder, or delete it"
        )
    return True


def _generator(seed: int, stream: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream, number])


def _draw(seed: int, stream: int, number: int, taken: Collection[str]) -> _Picture:
    """A scene whose caption is not taken; deterministic in its number, whatever was drawn
    before.
    """
    rng = _generator(seed, stream, number)
    for _ in range(1000):
        image, caption = scene(rng)
        if caption not in taken:
            return _Picture(image=image, caption=caption)
    raise ValueError(
        f"a thousand scenes in a row have taken captions: ask for fewer than {len(taken)} held-out"
        " pictures"
    )


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write_lines(path: Path, rows: Iterable[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def _draw_heldout(folder: Path, count: int, seed: int) -> set[str]:
    """Pictures for the evaluation, each with a caption of its own; returns those captions."""
    captions: dict[str, None] = {}
    rows: list[dict[str, object]] = []
    for number in range(count):
        picture = _draw(seed, _HELDOUT, number, captions)
        captions[picture.caption] = None
        rows.append({"image": f"images/{number:05d}.jpg", "captions": [picture.caption]})
        _write(folder / "images" / f"{number:05d}.jpg", _encode(picture.image))
    _write_lines(folder / "captions.jsonl", rows)
    return set(captions)


def _draw_clean(folder: Path, count: int, seed: int, taken: Collection[str]) -> None:
    """Sound pairs that no page links to, as a list of addresses and texts."""
    rows: list[dict[str, object]] = []
    for number in range(count):
        picture = _draw(seed, _CLEAN, number, taken)
        _write(folder / "site" / "clean" / f"{number:06d}.jpg", _encode(picture.image))
        rows.append({"url": f"/clean/{number:06d}.jpg", "text": picture.caption})
    _write_lines(folder / "clean.jsonl", rows)


def _draw_pages(folder: Path, count: int, seed: int, taken: Collection[str]) -> None:
    """The pages with their pictures, robots.txt, the headers to send, and the truth about every
    reference.
    """
    rng = Random(seed)
    pages = _paginate(_draw_references(folder / "site", count, seed, rng, taken), rng)
    truth: list[dict[str, object]] = []
    for number, page in enumerate(pages):
        following = f"..{pages[number + 1].path}" if number + 1 < len(pages) else None
        html, found = write_page(page, following, rng)
        _write(folder / "site" / page.path[1:], html.encode())
        truth += [
            {
                "page": page.path,
                "image": one.image,
                "text": one.text,
                "fault": one.fault,
                "keep": one.fault is None,
            }
            for one in found
        ]
    _write_lines(folder / "truth.jsonl", truth)
    _write(folder / "site" / "index.html", write_index([page.path[1:] for page in pages]).encode())
    _write(folder / "site" / "robots.txt", b"User-agent: *\nDisallow: /private/\n")
    blank = io.BytesIO()
    Image.new("P", (1, 1)).save(blank, "GIF")
    _write(folder / "site" / "static" / "blank.gif", blank.getvalue())
    headers = {page.path: page.header_robots for page in pages if page.header_robots}
    (folder / HEADERS).write_text(json.dumps(headers, indent=1))


def _draw_references(
    site: Path, count: int, seed: int, rng: Random, taken: Collection[str]
) -> list[Reference]:
    """Every reference of the site in the order of its picture's number; writes the pictures."""
    faults: list[str | None] = [
        fault for fault, times in count_faults(count).items() for _ in range(times)
    ]
    faults += [None] * (count - len(faults))
    rng.shuffle(faults)
    paths = _addresses(count, rng)
    drawn, captions = [], []
    for number, fault in enumerate(faults):
        if fault == "duplicate":  # gets its bytes once every other picture is drawn
            drawn.append(Reference(image=paths[number], text=wording.vague(rng), fault=fault))
            captions.append("")
            continue
        picture = _draw(seed, _REFERENCES, number, taken)
        captions.append(picture.caption)
        drawn.append(_place(site, paths[number], picture, fault, rng))
    _copy_duplicates(site, drawn, rng)
    return _share_texts(_swap_texts(drawn, captions), rng)


def _addresses(count: int, rng: Random) -> list[str]:
    """Addresses that say nothing about the picture's number or its fault."""
    names: dict[int, None] = {}
    while len(names) < count:
        names[rng.getrandbits(40)] = None
    return [f"/photos/{name % 16:x}/{name:010x}.jpg" for name in names]


def _place(site: Path, path: str, picture: _Picture, fault: str | None, rng: Random) -> Reference:
    """Write the picture's file with whatever is wrong about it; the reference has its text unless
    that is what is wrong.
    """
    image, caption = picture.image, picture.caption
    if fault == "thumbnail":
        image = image.resize((side := rng.randint(40, 96), side))
    if fault == "chart":
        image, caption = chart(np.random.default_rng(rng.getrandbits(32)))
    data = _encode(image)
    if fault == "broken":
        data = _break(data, rng)
    if data:
        _write(site / path[1:], data)
    text = _TEXTS[fault](rng) if fault in _TEXTS else caption
    return Reference(image=path, text=text, fault=fault, width=image.width)


def _break(data: bytes, rng: Random) -> bytes:
    """What a server sends in place of a picture: a piece of it, less than its header, an error
    page, or (empty) nothing.
    """
    kind = rng.randrange(4)
    if kind == 0:
        return data[: rng.randint(len(data) // 5, len(data) // 2)]
    if kind == 1:
        return data[: rng.randint(10, 120)]
    return b"<!doctype html><title>Gone</title><p>This picture has moved." if kind == 2 else b""


def _copy_duplicates(site: Path, drawn: Sequence[Reference], rng: Random) -> None:
    """The same bytes again under another address, from sound references, each used once."""
    copies = [reference for reference in drawn if reference.fault == "duplicate"]
    originals = rng.sample(
        [reference for reference in drawn if reference.fault is None], len(copies)
    )
    for copy, original in zip(copies, originals, strict=True):
        _write(site / copy.image[1:], (site / original.image[1:]).read_bytes())


def _swap_texts(drawn: Sequence[Reference], captions: Sequence[str]) -> list[Reference]:
    """Give each swapped reference the caption of another one: half-way round their captions in
    order, so never its own.
    """
    swapped = sorted(
        (number for number, one in enumerate(drawn) if one.fault == "swapped"),
        key=lambda number: (captions[number], number),
    )
    half = len(swapped) // 2
    texts = {
        number: captions[swapped[(place + half) % len(swapped)]]
        for place, number in enumerate(swapped)
    }
    assert all(texts[number] != captions[number] for number in swapped)
    return [
        _with_text(one, texts[number]) if number in texts else one
        for number, one in enumerate(drawn)
    ]


def _share_texts(drawn: Sequence[Reference], rng: Random) -> list[Reference]:
    """Put one text under many pictures: under at least fourteen each."""
    count = Counter(one.fault for one in drawn)["shared_text"]
    texts: dict[str, None] = {}
    while len(texts) < count // _SHARED:
        texts[wording.shared(rng)] = None
    choices, turn, found = list(texts), 0, []
    for one in drawn:
        if one.fault == "shared_text":
            one, turn = _with_text(one, choices[turn % len(choices)]), turn + 1
        found.append(one)
    return found


def _with_text(reference: Reference, text: str) -> Reference:
    return Reference(image=reference.image, text=text, fault=reference.fault, width=reference.width)


def _paginate(references: Sequence[Reference], rng: Random) -> list[Page]:
    """Cut the references into pages: what is refused by page lies on pages of its own."""
    by_kind: dict[str, list[Reference]] = {kind: [] for kind in ("open", *PAGE_FAULTS)}
    for one in references:
        by_kind[one.fault if one.fault in PAGE_FAULTS else "open"].append(one)
    parts = [
        (kind, part)
        for kind, group in by_kind.items()
        for part in _cut(group, _FEW if kind == "noai" else _PER_PAGE, rng)
    ]
    rng.shuffle(parts)
    return [_page(number, kind, part, rng) for number, (kind, part) in enumerate(parts)]


def _cut(
    group: Sequence[Reference], lengths: tuple[int, int], rng: Random
) -> list[Sequence[Reference]]:
    parts, start = [], 0
    while start < len(group):
        length = rng.randint(*lengths)
        parts.append(group[start : start + length])
        start += length
    return parts


def _page(number: int, kind: str, part: Sequence[Reference], rng: Random) -> Page:
    path = f"/{'private' if kind == 'robots' else 'pages'}/{number:04d}.html"
    asking = rng.choice(_ASKING) if kind == "noai" else None
    if asking and (":" in asking or rng.random() < 0.5):
        return Page(path=path, references=part, header_robots=asking)
    return Page(path=path, references=part, meta_robots=asking)
