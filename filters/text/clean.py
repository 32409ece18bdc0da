"""Texts without what was put around them: a rewriter (LAIT's third step cleans as well as drops;
ImageBERT, section 3).
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.base import Filter, Level, measured
from filters.text.clean_patterns import BLANKS, CLOSE, GAP, OPEN, RULES, SEPARATOR

_REFERENCE = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});"
_LAST_PART = rf"(?s)^(?P<before>.*)(?P<after>{SEPARATOR}(?P<name>.*))$"
_MARKED = f"{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}"
_BESIDE = f"[^{OPEN}{CLOSE}]*{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}[^{OPEN}{CLOSE}]*"
NAMES_OF_A_SITE = 4
# times that all rules are applied, 0.1 s of a batch each: what people write has a few layers, and
# only a text that was made to cost time has hundreds ("x.jpg x.jpg …" loses one a round); what is
# still there then stays
ROUNDS = 32
SHORTEST_NAME = 3  # letters of a site's name; our choice: shorter ones are words of captions

Spans = tuple[NDArray[np.int64], list[str]]  # row and text of each


@dataclass(frozen=True)
class CleanFilter(Filter):
    """The text without boilerplate at its ends, markup, addresses, file names, hash tags and signs
    that repeat; and what was cut.

    References to characters (`&amp;`) are read first; of the text that they give, each span is a
    piece and the clean text is the rest, in its order, with single blanks. A text that is nothing
    but boilerplate becomes empty. What is clean stays as it is.
    """

    name: ClassVar[str] = "clean"
    version: ClassVar[int] = 2
    sentence: ClassVar[str] = (
        "Cuts credits, names of sites, calls to click, markup and addresses out of a text"
    )
    level: ClassVar[Level] = "candidate"
    reads: ClassVar[tuple[str, ...]] = ("text", "page_url")
    writes: ClassVar[Mapping[str, pa.DataType]] = {
        "text.clean": pa.string(),
        "text.cut": pa.list_(pa.string()),
    }

    def measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Each text is cleaned once for each site that shows it; null stays null."""
        text, site = batch.column("text").dictionary_encode(), _site_of(batch.column("page_url"))
        known = text.indices.is_valid().to_numpy(zero_copy_only=False)
        code = pc.fill_null(text.indices, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        both, place = np.unique(
            code * (len(site.dictionary) + 1) + site.indices.to_numpy(zero_copy_only=False),
            return_inverse=True,
        )
        if not len(text.dictionary):
            both = both[:0]
        which, at = np.divmod(both, len(site.dictionary) + 1)
        clean, cut = cleaned(
            text.dictionary.take(pa.array(which)), site.dictionary.take(pa.array(at))
        )
        rows = pa.array(place, mask=~known)
        return measured(self.writes, {"text.clean": clean.take(rows), "text.cut": cut.take(rows)})


def cleaned(text: pa.Array, host: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Texts without boilerplate, and the spans cut from each; `host` is that of the page, empty
    where there is none.
    """
    read = read_references(text)
    names = _names_of(host)
    state, active, spans = read, np.arange(len(read)), []
    for _ in range(ROUNDS):
        if not len(active):
            break
        after, found = _cut(
            state.take(pa.array(active)), [name.take(pa.array(active)) for name in names]
        )
        spans.append((active[found[0]], found[1]))
        state = _replaced(state, active, after)
        active = active[np.unique(found[0])]
    return _plain(state), _listed(spans, read)


def _cut(text: pa.Array, names: list[pa.Array]) -> tuple[pa.Array, Spans]:
    """Each rule once: what is left, and the spans that were cut."""
    rows: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    pieces: list[str] = []
    for marked in (_site_marked, *RULES):
        now = marked(text, names) if callable(marked) else pc.replace_substring_regex(text, *marked)
        changed = np.flatnonzero(
            pc.fill_null(pc.not_equal(now, text), False).to_numpy(zero_copy_only=False)
        )
        if not len(changed):
            continue
        hit = now.take(pa.array(changed))
        row, cut = _pieces(pc.replace_substring_regex(hit, _BESIDE, rf"\1{GAP}"))
        rows.append(changed[row])
        pieces += cut
        text = _replaced(text, changed, pc.replace_substring_regex(hit, _MARKED, GAP))
    return text, (np.concatenate(rows), pieces)


def _pieces(text: pa.Array) -> Spans:
    """What stands between gaps, without blanks around it."""
    parted = pc.split_pattern(text, GAP)
    trimmed = pc.replace_substring_regex(pc.list_flatten(parted), f"^[{BLANKS}]+|[{BLANKS}]+$", "")
    said = pc.not_equal(trimmed, "")
    row = pc.list_parent_indices(parted).filter(said)
    return row.to_numpy(zero_copy_only=False).astype(np.int64), trimmed.filter(said).to_pylist()


def _listed(spans: list[Spans], read: pa.Array) -> pa.Array:
    """The spans of each row in the order in which they stood in its text."""
    row = np.concatenate([np.zeros(0, dtype=np.int64), *(rows for rows, _ in spans)])
    piece = np.array([piece for _, pieces in spans for piece in pieces], dtype=object)
    counts = np.bincount(row, minlength=len(read))
    place = np.zeros(len(row), dtype=np.int64)
    several = np.flatnonzero(counts[row] > 1)
    # each once: one of a megabyte may have lost half a million pieces
    texts = np.unique(row[several])
    whole = dict(zip(texts.tolist(), read.take(pa.array(texts)).to_pylist(), strict=True))
    for number in several:
        place[number] = whole[row[number]].find(piece[number])
    order = np.lexsort((place, row))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(piece[order], pa.string()))


def read_references(text: pa.Array) -> pa.Array:
    """Texts with references to characters read, however often they were written as references; null
    as empty.
    """
    text = pc.fill_null(text, "")
    referring = np.flatnonzero(
        pc.match_substring_regex(text, _REFERENCE).to_numpy(zero_copy_only=False)
    )
    read = [_dereferenced(one) for one in text.take(pa.array(referring)).to_pylist()]
    return pc.replace_substring_regex(
        _replaced(text, referring, pa.array(read, pa.string())), f"[{GAP}{OPEN}{CLOSE}]", " "
    )


def _dereferenced(text: str) -> str:
    while (read := re.sub(_REFERENCE, lambda found: html.unescape(found[0]), text)) != text:
        text = read
    return text


def _plain(text: pa.Array) -> pa.Array:
    """Texts with gaps and runs of blanks as single blanks, none at the ends."""
    return pc.utf8_trim(pc.replace_substring_regex(text, f"[{BLANKS}]+", " "), " ")


def _replaced(text: pa.Array, rows: NDArray[np.int64], by: pa.Array) -> pa.Array:
    """Texts with those of some rows replaced."""
    if not len(rows):
        return text
    index = np.arange(len(text))
    index[rows] = len(text) + np.arange(len(rows))
    return pa.concat_arrays([text, by]).take(pa.array(index))


# --- the page's own site


def _site_marked(text: pa.Array, names: list[pa.Array]) -> pa.Array:
    """Texts with the name of the page's own site marked where it stands behind the last
    separator.
    """
    may = pc.and_(pc.not_equal(names[0], ""), pc.match_substring_regex(text, SEPARATOR))
    rows = np.flatnonzero(may.to_numpy(zero_copy_only=False))
    if not len(rows):
        return text
    parts = pc.extract_regex(text.take(pa.array(rows)), _LAST_PART)
    said = _squashed(pc.fill_null(parts.field("name"), ""))
    own = np.zeros(len(rows), dtype=bool)
    for name in names:
        own |= pc.and_(pc.equal(said, name.take(pa.array(rows))), pc.not_equal(said, "")).to_numpy(
            zero_copy_only=False
        )
    own_rows = pa.array(np.flatnonzero(own))
    before, after = (parts.field(part).take(own_rows) for part in ("before", "after"))
    return _replaced(text, rows[own], pc.binary_join_element_wise(before, OPEN, after, CLOSE, ""))


def _squashed(name: pa.Array) -> pa.Array:
    """The letters and digits of names in lower case, without a leading article."""
    return pc.replace_substring_regex(
        pc.replace_substring_regex(pc.utf8_lower(name), r"[^\pL\pN]+", ""), "^the", ""
    )


def _names_of(host: pa.Array) -> list[pa.Array]:
    """What the sites of these hosts may be called: each the same number of names, empty where there
    are fewer.
    """
    encoded = host.dictionary_encode()
    names = [_site_names(one) for one in encoded.dictionary.to_pylist()]
    columns = [
        pa.array([name[number] for name in names], pa.string()) for number in range(NAMES_OF_A_SITE)
    ]
    return [_squashed(column).take(encoded.indices) for column in columns]


@lru_cache(maxsize=65_536)
def _site_names(host: str) -> tuple[str, ...]:
    """The registered name of a host, that with its suffix, the whole host and what stands before
    the registered name.
    """
    found = _suffixes()(host)
    names = (found.domain, found.domain + found.suffix, host, found.subdomain.removeprefix("www"))
    long = [name for name in names if len(name) >= SHORTEST_NAME]
    return (*long, *[""] * (NAMES_OF_A_SITE - len(long)))


@lru_cache(maxsize=1)
def _suffixes() -> "tldextract.TLDExtract":  # type: ignore[name-defined]  # noqa: F821
    import tldextract

    # the list in its package; it asks nobody
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


def _site_of(page: pa.Array) -> pa.DictionaryArray:
    """The host of each page without `www.`; empty for a pair without a page."""
    host = pc.struct_field(
        pc.extract_regex(pc.utf8_lower(page), r"^[a-z]+://(?:www\.)?(?P<host>[^/:?#@]+)"), "host"
    )
    return pc.fill_null(host, "").dictionary_encode()
