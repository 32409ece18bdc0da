"""What one response or page says of its use: robots directives, TDM reservation, Content-Usage and
Content-Signal.

Sources: Google's and Bing's pages on X-Robots-Tag and the robots meta tag (bot names, valued
directives, unavailable_after), DeviantArt's noai and noimageai, W3C TDMRep (community group report
of 10 May 2024; its "Processing priority": a header supersedes the file of the origin, a meta
element the header), draft-ietf-aipref-attach-05 and -vocab-07 (Content-Usage), contentsignals.org
(Content-Signal). A value that is not known says nothing; where a value can be read in two ways, the
one that refuses is taken.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice, pairwise

TOKEN = "winnow"  # the product token of our user agent, which robots.txt and X-Robots-Tag may name
# in this order a refusal is named when several apply: what speaks of machine learning first
DIRECTIVES = ("noai", "noimageai", "noml", "none", "noindex", "noimageindex")
# directives that hold a value after a colon; what stands left of another colon is the name of a bot
VALUED = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
# noarchive and nocache are among those that do not refuse: they speak of the copy that a search
# engine shows, and what Bing makes of them for its own training (2023) it says of its own crawler
HARMLESS = frozenset(
    {
        "all",
        "index",
        "follow",
        "archive",
        "nofollow",
        "noarchive",
        "nocache",
        "nosnippet",
        "noodp",
        "noydir",
        "notranslate",
        "nopreview",
    }
    | {"nositelinkssearchbox", "indexifembedded"}
)
BOT = re.compile(r"[a-z*][^\s,:;]*")

# Labels of uses that our training falls under: train-ai is the vocabulary's since 2025-08
# (draft-ietf-aipref-vocab-07 6.1), the others are those of its earlier drafts (-01: tdm > ai >
# genai; -02 and -03: all or bots > train-ai > train-genai), where silence on a narrower use means
# what the wider one says
TRAINING = ("train-ai", "train-genai", "ai", "genai")
WIDER = ("tdm", "all", "bots")
# headers and meta elements
SPEAKING = frozenset(
    {"x-robots-tag", "robots", TOKEN, "tdm-reservation", "content-usage", "content-signal"}
)
KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")  # RFC 9651 3.1.2
# one that is not closed goes to the end, so that none is looked for twice
STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|$)')
EXPIRY = re.compile(r"unavailable_after\s*:\s*")
EXPIRIES = 8  # between two commas; nobody gives one page two dates
DATE_CHARACTERS = 64  # the longest form, that of RFC 850, has 33
LIST = re.compile(r"\([^()]*\)")


def directives(values: Iterable[str]) -> Iterator[tuple[str | None, str]]:
    """(bot or None for all, directive) of header values; a bot's name covers the rest of its
    value.
    """
    for value in values:
        bot: str | None = None
        for piece in value.lower().split(","):
            bot, words = _named(bot, piece.strip())
            for word in re.split(r"[\s;]+", words):
                if word:
                    yield bot, word


def _named(bot: str | None, words: str) -> tuple[str | None, str]:
    """The bot that a piece speaks to and what it says; a valued directive, known or not, says
    nothing that matters here.
    """
    *names, said = (side.strip() for side in words.split(":"))
    for left, right in pairwise([*names, said]):
        start = re.split(r"[\s;,]", right, maxsplit=1)[0]
        if (
            left in VALUED
            or not BOT.fullmatch(left)
            or not (start in VALUED or start in HARMLESS or start in DIRECTIVES)
        ):
            return bot, ""
        bot = left.split("/", 1)[0]
    return bot, said


def directives_outcome(values: Iterable[str], at: datetime | None = None) -> str | None:
    """`permission.<directive>` if these X-Robots-Tag or robots meta values forbid us, else None.

    `unavailable_after` refuses from its date on; `at` (now unless given) is when the use is judged.
    """
    said = list(values)
    found = {word for bot, word in directives(said) if _ours(bot)}
    outcome = next((f"permission.{name}" for name in DIRECTIVES if name in found), None)
    if outcome is None and any(date <= (at or datetime.now(UTC)) for date in expiries(said)):
        return "permission.unavailable_after"
    return outcome


def expiries(values: Iterable[str]) -> Iterator[datetime]:
    """The dates of `unavailable_after` that concern us; RFC 822, RFC 850 and ISO 8601 are read, as
    Google does.
    """
    for value in values:
        bot: str | None = None
        begin = 0
        for piece in value.lower().split(",") if "unavailable_after" in value.lower() else ():
            for found in islice(EXPIRY.finditer(piece), EXPIRIES):
                speaks_to, _ = _named(bot, f"{piece[: found.start()]}all")
                start = begin + found.end()
                date = _date(value[start : start + DATE_CHARACTERS])
                if date is not None and _ours(speaks_to):
                    yield date
            bot, _ = _named(bot, piece.strip())
            begin += len(piece) + 1


def _date(text: str) -> datetime | None:
    """The date that a text begins with; without a zone it is UTC."""
    pieces = text.split(",")
    # a weekday has a comma behind it
    for candidate in (pieces[0].strip(), ",".join(pieces[:2]).strip()):
        for read in (datetime.fromisoformat, parsedate_to_datetime):
            try:
                date = read(candidate)
            except (ValueError, TypeError, IndexError, OverflowError):
                continue
            return date if date.tzinfo else date.replace(tzinfo=UTC)
    return None


def _ours(bot: str | None) -> bool:
    return bot in (None, "*", TOKEN)


def follows_links(values: Iterable[str]) -> bool:
    """Whether robots directives let links of the page be followed."""
    return not any(_ours(bot) and word in ("nofollow", "none") for bot, word in directives(values))


def reserved(*statements: Iterable[str]) -> bool:
    """Whether text and data mining is reserved by `tdm-reservation` values, given in the order
    file, headers, meta elements.

    A later statement supersedes an earlier one, silence and other values than 0 and 1 leave it; of
    several in one place 1 wins.
    """
    state = False
    for values in statements:
        known = {value.strip() for value in values} & {"0", "1"}
        state = "1" in known if known else state
    return state


def usage_outcome(value: str) -> str | None:
    """`permission.content_usage` where a Content-Usage statement disallows training, else None;
    what cannot be parsed says nothing.
    """
    stated = {
        key: member for key, member in (_members(value) or {}).items() if member in ("y", "n")
    }
    training = [stated[label] for label in TRAINING if label in stated]
    wider = [stated[label] for label in WIDER if label in stated] if not training else []
    return "permission.content_usage" if "n" in [*training, *wider] else None


def _members(value: str) -> dict[str, str] | None:
    """Keys and bare values of a structured dictionary, parameters dropped, the last of a key; None
    if it is none (RFC 9651 4.2.2).
    """
    found: dict[str, str] = {}
    for member in LIST.sub("()", STRING.sub('""', value)).split(","):
        key, _, bare = member.split(";", 1)[0].strip(" \t").partition("=")
        if not KEY.fullmatch(key) or " " in bare:
            return None
        found[key] = bare
    return found


def signal_outcome(value: str) -> str | None:
    """`permission.content_signal` where a Content-Signal disallows training (`ai-train=no`), else
    None.
    """
    pairs = (piece.partition("=") for piece in re.split(r"[\s,;]+", value.lower()))
    return (
        "permission.content_signal"
        if any(name == "ai-train" and said == "no" for name, _, said in pairs)
        else None
    )


def headers_outcome(headers: Iterable[tuple[str, str]], at: datetime | None = None) -> str | None:
    """What response headers (name, value), repeated ones included, say of the use of the
    response.
    """
    return page_outcome(headers, (), at)


def metas_outcome(metas: Iterable[tuple[str, str]], at: datetime | None = None) -> str | None:
    """What (name, content) of the meta elements of a page say of its use."""
    return page_outcome((), metas, at)


def page_outcome(
    headers: Iterable[tuple[str, str]], metas: Iterable[tuple[str, str]], at: datetime | None = None
) -> str | None:
    """What the headers and the meta elements of one page say of its use, a meta element's TDM
    reservation before a header's.
    """
    of_headers, of_metas = _by_name(headers), _by_name(metas)
    if not of_headers and not of_metas:
        return None
    robots = [
        *of_headers.get("x-robots-tag", []),
        *of_metas.get("robots", []),
        *of_metas.get(TOKEN, []),
    ]
    if outcome := directives_outcome(robots, at):
        return outcome
    if reserved(of_headers.get("tdm-reservation", []), of_metas.get("tdm-reservation", [])):
        return "permission.tdm"
    if "content-usage" in of_headers and (
        outcome := usage_outcome(", ".join(of_headers["content-usage"]))
    ):
        return outcome
    return signal_outcome(", ".join(of_headers.get("content-signal", [])))


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if (said := name.lower().strip()) in SPEAKING:
            found.setdefault(said, []).append(value)
    return found
