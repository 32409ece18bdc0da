"""The structure of a JPEG, marker by marker (ITU-T T.81, JFIF 1.02, EXIF 2.32, ICC.1 annex B.4):
what it says, and whether it is whole.

A stream that is cut anywhere has no end marker behind its last scan, as none can occur within coded
data. So a JPEG of ordinary make, with every table that its scans name and an end, is known to be
whole without decoding it, at a tenth of the cost. Whatever is unusual is left to the decoder to
judge.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipelines.images.directories import orientation_of
from pipelines.images.headers import PROFILE, Damaged, Header
from pipelines.images.metadata import exif_fault

SEGMENTS = 4_096  # a profile of 4 MB has 65; more is an attack on readers in Python
# bytes between segments together: mostly none, and readers in Python go byte by byte
SKIPPED = 1 << 17
# as libjpeg looks for the next one: behind fill bytes, and past stuffed zeros
MARKER = re.compile(rb"\xff([^\x00\xff])")
# without a segment: TEM, restarts, another start of image
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
SCANS = 500  # what libjpeg-turbo's own fuzzers allow; each is a pass over the whole picture
# pixels times scans: a progressive picture of ten scans at the limit of pixels, twice
SCANNED = 20 * 89_478_485
PIECE = 1 << 20  # bytes looked through at once
# neither a stuffed byte nor a restart
ENDS_SCAN = np.array([code not in (0x00, 0xFF, *range(0xD0, 0xD8)) for code in range(256)])
ORDINARY = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive with Huffman coding
DECODED = (*ORDINARY, 0xC9, 0xCA)  # and the last two with arithmetic coding
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# markers of EXIF, XMP, profiles, Photoshop and others
TELLING = frozenset(bytes((code,)) for code in range(0xE1, 0xEE))
# JFIF and Adobe, and their least bytes; other application data are not for the decoder
PASSED_ON = {0xE0: 14, 0xEE: 12}


@lru_cache(maxsize=1_024)  # nearly all pictures have the tables of the standard's annex K
def _huffman_tables(content: bytes) -> tuple[frozenset[tuple[str, int]], bool]:
    """The tables that a segment defines, and whether all are codes without prefixes in common."""
    tables, sound, at = set(), True, 0
    while at + 17 <= len(content):
        counts = content[at + 1 : at + 17]
        tables.add(("ac" if content[at] >> 4 else "dc", content[at] & 15))
        sound &= (
            sum(counts) <= 256
            and sum(count << (15 - index) for index, count in enumerate(counts)) <= 1 << 16
        )
        lengths = content[at + 17 : at + 17 + sum(counts)]
        # of a difference of DC, in bits
        sound &= content[at] >> 4 == 1 or max(lengths, default=0) <= 15
        at += 17 + sum(counts)
    return frozenset(tables), sound and at == len(content)


@dataclass(slots=True)
class _Walk:
    """What the segments up to now have said."""

    data: bytes
    frame: int = 0  # the marker
    # of all frame headers, of which there should be one
    frames: list[int] = field(default_factory=list)
    skipped: int = 0  # bytes between segments
    bits: int = 0
    width: int = 0
    height: int = 0
    # sampling across and down, quantisation table
    components: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    tables: set[tuple[str, int]] = field(default_factory=set)
    exif: bytes = b""
    exifs: int = 0  # segments of EXIF, of which there should be one
    lists: list[bytes] = field(default_factory=list)  # of the pictures behind the first
    says: bool = False  # anything of itself beside its pixels, but for comments
    profile: dict[int, bytes] = field(default_factory=dict)
    profiles: int = 0  # parts announced
    dropped: list[tuple[int, int]] = field(default_factory=list)  # what the decoder need not see
    # where markers stand behind the first scan's header
    marks: npt.NDArray[np.uint32] | None = None
    scans: int = 0
    coded: int = 0  # bytes of all scans
    covered: set[int] = field(default_factory=set)  # components that some scan brings
    ordinary: bool = True
    end: int = 0  # the place behind the end marker; 0 if there is none

    def walk(self) -> None:
        """Read segment by segment to the end; what cannot be followed makes the picture
        extraordinary.
        """
        pos = 2
        for _ in range(SEGMENTS):
            found = MARKER.search(self.data, pos)
            if found is None:
                return
            before, pos = pos, found.end()
            self._skip(before, found.start())
            marker = self.data[pos - 1]
            if marker == 0xD9:
                self.end = pos
                return
            if marker in ALONE:
                self.ordinary = False
                continue
            start, pos = pos, pos + int.from_bytes(self.data[pos : pos + 2], "big")
            if pos > len(self.data) or pos < start + 2:
                return
            self._segment(marker, self.data[start + 2 : pos], (before, pos))
            if marker == 0xDA:
                pos = self._scan(pos)
        raise Damaged("decode.corrupt", f"more than {SEGMENTS} segments")

    def _skip(self, start: int, end: int) -> None:
        """What stands between two segments: nothing in most pictures, else fill bytes or what
        belongs nowhere.
        """
        self.ordinary &= self.data[start] == 0xFF
        self.skipped += end - start
        if self.skipped > SKIPPED:
            raise Damaged("decode.corrupt", f"more than {SKIPPED} bytes between its segments")

    def _segment(self, marker: int, content: bytes, place: tuple[int, int]) -> None:
        if marker in FRAMES:
            self._frame(marker, content)
        elif marker == 0xC4:
            tables, sound = _huffman_tables(content)
            self.tables |= tables
            self.ordinary &= sound
        elif marker == 0xDB:
            self._quantisation(content)
        elif marker == 0xDA:
            self._names(content)
        elif marker == 0xFE or (0xE0 <= marker <= 0xEF and not _passed_on(marker, content)):
            self.dropped.append(place)
            self._application(marker, content)
        elif marker not in (0xDD, *PASSED_ON):
            self.ordinary = False

    def _frame(self, marker: int, content: bytes) -> None:
        self.frames.append(marker)
        if self.frame or len(content) < 6 or len(content) < 6 + 3 * content[5]:
            self.ordinary = False
            return
        self.frame, self.bits = marker, content[0]
        self.height, self.width = (
            int.from_bytes(content[1:3], "big"),
            int.from_bytes(content[3:5], "big"),
        )
        for at in range(6, 6 + 3 * content[5], 3):
            self.components[content[at]] = (
                content[at + 1] >> 4,
                content[at + 1] & 15,
                content[at + 2],
            )
        sampled = all(
            across in range(1, 5) and down in range(1, 5)
            for across, down, _ in self.components.values()
        )
        self.ordinary &= (
            marker in ORDINARY and self.bits == 8 and len(self.components) == content[5] and sampled
        )

    def _quantisation(self, content: bytes) -> None:
        at = 0
        while at < len(content):
            self.tables.add(("quantisation", content[at] & 15))
            at += 129 if content[at] >> 4 else 65
        self.ordinary &= at == len(content)

    def _names(self, content: bytes) -> None:
        """A scan's header: it may name only what is there."""
        count = content[0] if content else 0
        if not 1 <= count <= 4 or len(content) != 4 + 2 * count:
            self.ordinary = False
            return
        spectrum = content[1 + 2 * count]
        self.ordinary &= self.frame != 0xC2 or _sound_pass(count, *content[1 + 2 * count :])
        first = content[3 + 2 * count] >> 4 == 0  # not a refinement of bits sent before
        for at in range(1, 1 + 2 * count, 2):
            dc, ac = ("dc", content[at + 1] >> 4), ("ac", content[at + 1] & 15)
            needed = (
                {dc, ac} if self.frame != 0xC2 else {ac} if spectrum else {dc} if first else set()
            )
            component = self.components.get(content[at])
            self.covered.add(content[at])
            self.ordinary &= (
                component is not None
                and ("quantisation", component[2]) in self.tables
                and needed <= self.tables
            )

    def _application(self, marker: int, content: bytes) -> None:
        self.says |= marker != 0xFE
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            self.exif = self.exif or content
            self.exifs += 1
        elif marker == 0xE2 and content.startswith(b"MPF\0"):
            self.lists.append(content[4:])
        elif marker == 0xE2 and content.startswith(b"ICC_PROFILE\0") and len(content) > 14:
            self.profile.setdefault(content[12], content[14:])
            self.profiles = content[13]

    def _scan(self, pos: int) -> int:
        """Past the coded data that begin there."""
        self.scans += 1
        if self.scans > SCANS or self.scans * self.width * self.height > SCANNED:
            raise Damaged(
                "decode.corrupt",
                f"more than {self.scans - 1} scans of {self.width} x {self.height} pixels",
            )
        if self.marks is None:
            self.marks = _marks(self.data, pos)
        index = int(np.searchsorted(self.marks, np.uint32(pos)))
        end = int(self.marks[index]) if index < len(self.marks) else len(self.data)
        self.coded += end - pos
        return end

    def least(self) -> int:
        """Bytes that the coded data must have at least: a bit a block for each of its codes, two
        codes in a scan of one pass.
        """
        across = max(side for side, _, _ in self.components.values())
        down = max(side for _, side, _ in self.components.values())
        blocks = sum(
            -(-self.width * wide // (8 * across)) * -(-self.height * high // (8 * down))
            for wide, high, _ in self.components.values()
        )
        return blocks * (1 if self.frame == 0xC2 else 2) // 8

    def fault(self) -> str | None:
        """Why nobody should read its metadata."""
        if self.exifs > 1:
            return "EXIF in several segments"
        faults = (exif_fault(one) for one in ([self.exif] if self.exif else []) + self.lists)
        return next((fault for fault in faults if fault is not None), None)

    def icc(self) -> tuple[bytes | None, str | None]:
        """The profile, and why there is none."""
        if not self.profile:
            return None, None
        if sorted(self.profile) != list(range(1, self.profiles + 1)):
            return None, "colour profile ignored: parts of it are missing"
        profile = b"".join(self.profile[part] for part in sorted(self.profile))
        return (
            (profile, None)
            if len(profile) <= PROFILE
            else (None, f"colour profile ignored: more than {PROFILE} bytes")
        )


def _sound_pass(components: int, start: int, end: int, bits: int) -> bool:
    """Whether a scan of a progressive picture may be so (T.81 G.1.1.1): libjpeg ends at others."""
    high, low = bits >> 4, bits & 15
    spectrum = end == 0 if start == 0 else start <= end <= 63 and components == 1
    return spectrum and low <= 13 and (high == 0 or high == low + 1)


def _passed_on(marker: int, content: bytes) -> bool:
    """Whether a decoder needs it: it says how colours are coded. One that is cut short makes
    readers in Python raise.
    """
    return len(content) >= PASSED_ON[marker] if marker in PASSED_ON else False


def _marks(data: bytes, start: int) -> npt.NDArray[np.uint32]:
    """Where markers stand from there on that end a scan, looked for in pieces: data made of nothing
    else take four times their size.
    """
    codes = np.frombuffer(data, np.uint8)
    found = [np.zeros(0, np.uint32)]
    for begin in range(start, len(data) - 1, PIECE):
        places = np.flatnonzero(codes[begin : min(begin + PIECE, len(data) - 1)] == 0xFF) + begin
        found.append(places[ENDS_SCAN[codes[places + 1]]].astype(np.uint32))
    return np.concatenate(found)


def _check_frames(walk: _Walk) -> None:
    """Refuse what libjpeg-turbo 3 does not decode; of lossless frames, which it does not scale,
    Pillow 12.3 writes beyond its buffer.
    """
    for marker in walk.frames:
        if marker not in DECODED:
            kind = "a lossless" if marker in (0xC3, 0xC7, 0xCB, 0xCF) else "a hierarchical"
            raise Damaged(
                "decode.unsupported",
                f"{kind} JPEG (frame SOF{marker - 0xC0}), which is not decoded",
            )
    if len(walk.frames) > 1:
        raise Damaged("decode.corrupt", f"{len(walk.frames)} frame headers in one JPEG")
    if walk.frame and walk.bits != 8:
        raise Damaged(
            "decode.unsupported", f"a JPEG of {walk.bits} bits a colour, which is not decoded"
        )


def jpeg_header(data: bytes) -> Header:
    """A JPEG, or the first picture of an MPO; Damaged if it has no size, or fewer coded bytes than
    any picture of its size.
    """
    walk = _Walk(data)
    walk.walk()
    _check_frames(walk)
    if not walk.width or not walk.height or not walk.components:
        raise Damaged("decode.corrupt", "begins like a JPEG, yet its header cannot be read")
    whole = walk.ordinary and walk.end > 0 and walk.covered == walk.components.keys()
    if whole and walk.coded < walk.least():
        raise Damaged("decode.truncated", f"{walk.coded} coded bytes, of at least {walk.least()}")
    profile, note = walk.icc()
    return Header(
        kind="JPEG",
        width=walk.width,
        height=walk.height,
        body=_without(data[: walk.end] if walk.end else data, walk.dropped),
        orientation=orientation_of(walk.exif),
        profile=profile,
        note=note,
        plain=walk.bits == 8 and len(walk.components) in (1, 3),
        probe=data if walk.says else b"",
        fault=walk.fault(),
        whole=whole,
        bits=walk.bits,
        channels=len(walk.components),
    )


def tells_early(data: bytes) -> bool:
    """Whether EXIF, a profile or the like stand where they do in nearly all that have any: in
    front, or behind JFIF.
    """
    at = 4 + int.from_bytes(data[4:6], "big") if data[3:4] == b"\xe0" else 2
    return data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] in TELLING


def _without(data: bytes, places: list[tuple[int, int]]) -> bytes:
    kept, pos = [], 0
    for start, end in places:
        kept.append(data[pos:start])
        pos = end
    return b"".join((*kept, data[pos:])) if places else data
