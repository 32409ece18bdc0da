"""Files that a stranger has changed, for property tests."""

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

WAYS = ("flip", "cut", "end", "repeat", "insert", "noise", "join")


@st.composite
def mutated(
    draw: st.DrawFn, files: Mapping[str, bytes], longest: int, pieces: Sequence[bytes]
) -> tuple[str, bytes]:
    """One of some files with bits flipped, up to `longest` bytes cut out or repeated, an end cut
    off, one of some pieces put in, noise put over it, or another of the files behind it.
    """
    name = draw(st.sampled_from(sorted(files)))
    data = bytearray(files[name])
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, longest))
        match draw(st.sampled_from(WAYS)):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + length]
            case "end":
                del data[at:]
            case "repeat":
                data[at:at] = data[at : at + length] * draw(st.integers(1, 5))
            case "insert":
                data[at:at] = draw(st.sampled_from(pieces))
            case "noise":
                data[at : at + 8] = draw(st.binary(min_size=8, max_size=8))
            case "join":
                data += files[draw(st.sampled_from(sorted(files)))]
    return name, bytes(data)
