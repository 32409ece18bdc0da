"""Records of CSV and TSV as people write them: with quotes by RFC 4180, without any, or both in one
file.

A field is quoted if a quote begins it and one that is not doubled ends it, before a delimiter or
the end of a line. Anything else is text as written, quotes and all. TSV is mostly not quoted:
there, quotes are taken off only where they were needed, unless the header shows that all fields
have them. A quoted field may go over several lines, but never over one that is a record with an
address of its own.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pipelines.sources.lists.charset import Charset
from pipelines.sources.lists.lines import LINE_BYTES, Line

DELIMITERS = {"csv": ",;\t|", "tsv": "\t,;|"}  # the likeliest first
BLANK = "it is blank"


class Record(NamedTuple):
    """What one or more lines hold: the number of the last of them, where it ends, and why it cannot
    be read if so.
    """

    number: int
    end: int
    value: Any
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the records of a file are written, and where in them address and text are."""

    delimiter: str
    width: int = 0  # fields; 0 before the header is read
    url: int = 0
    text: int = 0
    quoted: bool = True  # whether quotes around a field that needs none are no part of it

    def records(self, lines: Iterator[Line], charset: Charset) -> Iterator[Record]:
        return _Reader(self, lines, charset).records()

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(f'"((?:[^"]++|"")*+)"(?={re.escape(self.delimiter)}|\\Z)', re.DOTALL)

    def split(self, text: str, values: list[str]) -> str | None:
        """Add the fields of a text to `values`; the beginning of one whose quote is not closed,
        None if all are there.
        """
        at = 0
        while True:
            match = self._whole.match(text, at) if text.startswith('"', at) else None
            if match is None and OPEN.fullmatch(text, at):
                return text[at:]

            end = match.end() if match is not None else text.find(self.delimiter, at)
            end = len(text) if end < 0 else end
            values.append(self._value(match[1]) if match is not None else text[at:end])

            if end == len(text):
                return None
            at = end + len(self.delimiter)

    def closes(self, text: str) -> bool:
        """Whether a text begins with a quoted field that ends in it."""
        return self._whole.match(text) is not None

    def _value(self, inner: str) -> str:
        """What stands between quotes; with them, where only who writes wanted them."""
        needed = self.quoted or '"' in inner or "\n" in inner or self.delimiter in inner
        return inner.replace('""', '"') if needed else f'"{inner}"'

    def is_row(self, values: list[str]) -> bool:
        """Whether some fields are surely a record: texts hold commas, but hardly ever tabs or
        addresses.
        """
        return len(values) == self.width and (self.delimiter == "\t" or "://" in values[self.url])


# to the end of a text, this is a field that goes on
OPEN = re.compile(r'"(?:[^"]++|"")*+', re.DOTALL)
GOES_ON = re.compile(r'(?:[^"]++|"")*+', re.DOTALL)


class _Reader:
    def __init__(self, layout: Layout, lines: Iterator[Line], charset: Charset) -> None:
        self._layout = layout
        self._lines = lines
        self._charset = charset
        self._ahead: deque[tuple[Line, str]] = deque()  # read already, and still to come

    def _next(self) -> tuple[Line, str] | None:
        if self._ahead:
            return self._ahead.popleft()
        line = next(self._lines, None)
        if line is None:
            return None
        text = self._charset.text(line.data).rstrip("\r").replace("\0", "")
        return line, text.removeprefix("\ufeff") if line.number == 1 else text

    def records(self) -> Iterator[Record]:
        while (found := self._next()) is not None:
            line, text = found
            if line.fault:
                yield Record(line.number, line.end, None, line.fault)
            elif not text.strip(" "):
                yield Record(line.number, line.end, None, BLANK)
            elif '"' not in text:
                yield self._checked(line, text.split(self._layout.delimiter))
            else:
                yield self._quoted(line, text)

    def _quoted(self, line: Line, text: str) -> Record:
        """A record with quotes in it: as a strict reader has it if that fits, else as it is
        written.
        """
        layout, values = self._layout, list[str]()
        opened = layout.split(text, values)
        as_written = text.split(layout.delimiter)

        if opened is not None:
            last = self._continued(opened, values, alone=layout.is_row(as_written))
            if last is not None:
                return self._checked(last, values)
            values = as_written

        fits = not layout.width or len(values) == layout.width
        return self._checked(line, values if fits else as_written)

    def _continued(self, opened: str, values: list[str], *, alone: bool) -> Line | None:
        """Add the fields of the lines behind, as long as one is open; the last line, or None if
        they are no part of it.

        `alone` says that the line which opened it is a record by itself. Then no other record may
        be swallowed.
        """
        layout, taken = self._layout, list[tuple[Line, str]]()
        field, size = [opened], len(opened)

        while (found := self._next()) is not None:
            taken.append(found)
            line, text = found
            size += len(text) + 1
            if (
                line.fault
                or size > LINE_BYTES
                or (alone and layout.is_row(text.split(layout.delimiter)))
            ):
                break

            field.append(text)
            if GOES_ON.fullmatch(text):
                continue

            whole = "\n".join(field)
            if not layout.closes(whole):
                break

            rest = layout.split(whole, values)
            if rest is None and (not layout.width or len(values) == layout.width):
                return line
            if rest is None or len(values) >= layout.width:
                break
            field = [rest]

        self._ahead.extendleft(reversed(taken))
        return None

    def _checked(self, line: Line, values: list[str]) -> Record:
        width = self._layout.width
        if width and len(values) != width:
            return Record(
                line.number,
                line.end,
                None,
                f"it has {len(values):,} columns where the header has {width:,}",
            )
        return Record(line.number, line.end, values)
