"""The tables of a collection, column by column."""

import hashlib

import pyarrow as pa

CANDIDATES = pa.schema(
    [
        ("candidate_id", pa.string()),  # 32 hex characters
        ("page_url", pa.string()),  # null for an imported pair
        ("image_url", pa.string()),
        ("alternatives", pa.list_(pa.string())),  # other sizes of the same image
        ("text", pa.string()),
        # alt, title, figcaption, aria_label, link, surrounding, given
        ("text_source", pa.string()),
        ("context", pa.string()),  # words around the image
        ("place", pa.int32()),  # index of the image in its page, from 0
        ("images_on_page", pa.int32()),
        ("declared_width", pa.int32()),  # CSS pixels
        ("declared_height", pa.int32()),
        # the landmark that holds the image: main, article, nav, aside, header, footer; null if none
        # does
        ("region", pa.string()),
        ("page_language", pa.string()),  # what the page says of itself
        ("archive", pa.string()),  # where the page was read
        ("offset", pa.int64()),  # byte of its record in the archive
        ("captured_at", pa.string()),  # ISO 8601, UTC
        ("permission", pa.string()),  # null, or the reason of the refusal
    ]
)

FETCHES = pa.schema(
    [
        ("image_url", pa.string()),
        # sha256 of the original bytes in hex; null unless fetched and decoded
        ("image_id", pa.string()),
        ("outcome", pa.string()),  # fetched, or what stopped it
        ("held_in", pa.string()),  # the collection that holds the bytes
        ("detail", pa.string()),  # the error in words
        ("status", pa.int32()),  # HTTP status
        ("final_url", pa.string()),  # after redirects
        ("content_type", pa.string()),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("fetched_at", pa.string()),  # ISO 8601, UTC
    ]
)

IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", pa.binary()),  # encoded bytes, upright and in 8-bit colour
        ("width", pa.int32()),  # pixels, as stored
        ("height", pa.int32()),
        ("original_width", pa.int32()),  # pixels, as fetched
        ("original_height", pa.int32()),
        ("original_bytes", pa.int64()),
        ("format", pa.string()),  # of the original: JPEG, PNG, WEBP…
        ("reencoded", pa.bool_()),  # false: the bytes as fetched
        ("animated", pa.bool_()),  # of the original; the first frame is what is stored and measured
        # what of the original is not in the stored picture, such as a colour profile that was no
        # use
        ("note", pa.string()),
        ("image_url", pa.string()),
        ("fetched_at", pa.string()),
    ]
)

FETCHED = "fetched"
KEPT = "kept"


def identify(*fields: str | int | None) -> str:
    """The 128-bit digest of some fields in hex: a candidate_id is that of page, capture time,
    image, text, source and place.
    """
    packed = "\x1f".join("" if field is None else str(field) for field in fields)
    return hashlib.blake2b(packed.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
