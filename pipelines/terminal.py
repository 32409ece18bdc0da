"""Words of strangers on a terminal: shown as they are, but unable to move its cursor, colour it or
turn its text round.

Addresses, texts, names of columns and files come from the web. A terminal obeys the control
characters in them (ECMA-48: C0, DEL and C1), and every reader those of direction (Unicode's
bidirectional algorithm, UAX 9), which show other words than are there. So they are written as
escapes, at the one edge where something is printed; what is stored stays as it came.
"""

import io
import json
import logging
import math
import re
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

# C0 but the end of a line, DEL and C1; marks, embeddings, overrides and isolates of direction; ends
# of lines and paragraphs that no terminal has; characters of no width that no script needs, as
# joiners are needed; tags; halves of characters, which no terminal can be sent.
OBEYED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """A text with what a terminal would obey spelled out: `\\x1b[31m`, `\\u202e`."""
    return OBEYED.sub(
        lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text
    )


def visible_json(value: Any, indent: int | None = None) -> str:
    """JSON in which other scripts stay readable, and what a terminal would obey is escaped as JSON
    escapes.

    A number that JSON cannot write, infinite or none at all, is null.
    """
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return OBEYED.sub(lambda found: json.dumps(found[0])[1:-1].replace("\x7f", "\\u007f"), text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(text: str, file: TextIO | None = None) -> None:
    """Print a text as it can be seen. Commands print by this alone."""
    print(visible(text), file=file or sys.stdout)


class _Record(logging.LogRecord):
    """A record of a log whose message and traceback are as they can be seen."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[1] is not None:
            self.exc_text = visible(
                "".join(traceback.format_exception(self.exc_info[1])).rstrip("\n")
            )

    def getMessage(self) -> str:
        return visible(super().getMessage())


class _Said(logging.StreamHandler[TextIO]):
    """Prints what Winnow logs as it prints all else, on a line of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("winnow: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # whatever it is by now
        if self.stream.isatty():
            self.stream.write("\r\x1b[2K")  # over the line of progress, which is written anew
        super().emit(record)


_said = _Said()


def guard_terminal() -> None:
    """From here on, what this process logs, warns of or dies of is printed as it can be seen."""
    log = logging.getLogger("winnow")
    log.addHandler(_said)
    log.propagate = False  # some libraries give the root a handler with a form of its own
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a terminal of few letters is no end of a command
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.setLogRecordFactory(_Record)
    sys.excepthook = _died
    threading.excepthook = lambda about: _died(about.exc_type, about.exc_value, about.exc_traceback)
    if warnings.formatwarning is not _warned:
        _plain.append(warnings.formatwarning)
        warnings.formatwarning = _warned


_plain: list[Any] = []  # how warnings were formatted before


def _warned(*arguments: Any, **named: Any) -> str:
    return visible(_plain[0](*arguments, **named))


def _died(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    sys.stderr.write(visible("".join(traceback.format_exception(kind, error, trace))))
