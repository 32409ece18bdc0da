"""The charset that the lines of a list are read in."""

import codecs
from dataclasses import dataclass

# the marks of byte order, the longer first
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UTF8, WESTERN = "utf-8", "windows-1252"

# What the Encoding standard reads where Latin-1 has controls; five bytes stay what they are.
_LETTERS = {
    0x80 + index: letter
    for index, letter in enumerate("€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ")  # noqa: RUF001 - it is what it says
}


def text_of(data: bytes) -> tuple[str, bool]:
    """The text of a small file, and whether it is in Unicode: by its mark, in UTF-8, else in
    Windows-1252.
    """
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return data.decode(name, errors="replace"), True
    try:
        return data.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return western(data), False


def western(data: bytes) -> str:
    return data.decode("latin-1").translate(_LETTERS)


@dataclass(slots=True)
class Charset:
    """How the bytes of a list become text. Undecided, it looks at what it reads; `odd` counts the
    lines that were no UTF-8.
    """

    name: str = ""
    odd: int = 0
    good: int = 0  # lines of UTF-8 that are not ASCII
    # bytes of odd lines that are not ASCII, and how many of them stand beside another
    letters: int = 0
    beside: int = 0

    def text(self, data: bytes) -> str:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return self._odd(data)

        if not self.name:
            self.good += not data.isascii()
        return text

    def _odd(self, data: bytes) -> str:
        self.odd += 1
        if self.name == UTF8:
            return data.decode(errors="replace")

        if not self.name:
            high = [byte > 127 for byte in data]
            self.letters += sum(high)
            self.beside += sum(map(bool.__and__, high, high[1:]))
        return western(data)

    def decided(self, where: str) -> str:
        """UTF-8 if more of the lines are, else Windows-1252; ValueError where that cannot be.

        In the languages that Windows-1252 is for, a letter with a mark stands among others without;
        in Cyrillic, Greek, Chinese or Japanese charsets such bytes stand side by side.
        """
        if self.odd <= self.good:
            return UTF8

        if self.beside * 2 > self.letters:
            raise ValueError(
                f"{where} is neither in UTF-8 nor in Windows-1252: save it as UTF-8, as with iconv"
                " -f CHARSET -t UTF-8"
            )
        return WESTERN
