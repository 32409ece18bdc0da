"""Records of JSON: objects one a line, or the elements of one array, however long it is."""

import re
from collections.abc import Iterator

from pipelines.sources.lists.charset import Charset
from pipelines.sources.lists.delimited import BLANK, Record
from pipelines.sources.lists.lines import LINE_BYTES, TOO_LONG, Line

# bytes looked through for ends that are not there, in one part; then a damaged element takes more
# with it
IN_VAIN = 1 << 24

_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[")
_BETWEEN = re.compile(rb"[\xef\xbb\xbf\s,\[\]]*+")  # of elements, which are objects
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
_NEXT = re.compile(rb",\s*+(?=\{)")
_COMMA = re.compile(rb"(?=[,\]])")


def line_records(lines: Iterator[Line], charset: Charset) -> Iterator[Record]:
    """A record for each line, its text not parsed yet."""
    for line in lines:
        text = charset.text(line.data).removeprefix("\ufeff")
        fault = line.fault or ("" if text.strip() else BLANK)
        yield Record(line.number, line.end, text, fault)


def is_array(head: bytes) -> bool:
    return _ARRAY.match(head) is not None


class Elements:
    """A record for each element of an array, its text not parsed yet; the bytes begin at `offset`,
    with the array or in it.

    An object without an end is damaged, and so is what is no object. It ends where the next object
    begins: so it costs itself alone.
    """

    def __init__(self, chunks: Iterator[bytes], offset: int, number: int, charset: Charset) -> None:
        self._chunks = chunks
        self._charset = charset
        self._number = number
        self._window = b""
        self._at = 0  # where in the window the next element is
        self._before = offset  # bytes that were there before the window
        self._in_vain = 0

    def begin_part(self) -> None:
        """From here on all is as if it were read from here on."""
        self._in_vain = 0

    def __iter__(self) -> Iterator[Record]:
        while self._filled():
            self._at = _between(self._window, self._at)
            if self._at < len(self._window):
                self._filled()
                yield self._element()

    def _filled(self) -> bool:
        """Hold as many bytes as an element may have, if there are so many; whether there are
        any.
        """
        missing = LINE_BYTES - (len(self._window) - self._at)
        if missing > 0:
            pieces = [self._window[self._at :]]
            self._before += self._at
            self._at = 0

            while missing > 0 and (chunk := next(self._chunks, b"")):
                pieces.append(chunk)
                missing -= len(chunk)
            self._window = b"".join(pieces)

        return self._at < len(self._window)

    def _element(self) -> Record:
        """The record of the element that comes next."""
        start, limit = self._at, self._at + LINE_BYTES
        is_object = self._window.startswith(b"{", start)
        end = _end_of(self._window, start, limit) if is_object else 0
        fault = "" if end else "it is no JSON object that ends"

        if not end:
            end = self._damaged(_NEXT if is_object else _COMMA, limit)
            fault = TOO_LONG if end == limit else fault

        text = "" if fault else self._charset.text(self._window[start:end])
        self._at = end
        self._number += 1
        return Record(self._number, self._before + end, text, fault)

    def _damaged(self, ending: re.Pattern[bytes], limit: int) -> int:
        """Where what comes next ends, which is no whole object."""
        end = min(limit, len(self._window))
        if self._in_vain > IN_VAIN:
            return end

        self._in_vain += end - self._at
        found = ending.search(self._window, self._at + 1, end)
        return found.end() if found is not None else end


def _between(window: bytes, at: int) -> int:
    match = _BETWEEN.match(window, at)
    assert match is not None, "it matches nothing at all too"
    return match.end()


def _end_of(window: bytes, start: int, limit: int) -> int:
    """The end of the object that begins at `start`; 0 if it is not before the limit."""
    depth = 0
    for token in _TOKEN.finditer(window, start, limit):
        if token[0] in b"{[":
            depth += 1
        elif token[0] in b"}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return 0
