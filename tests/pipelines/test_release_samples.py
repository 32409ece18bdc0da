"""Samples: several texts of an image with their places, the order of the shuffle, splits by
cluster, the digest.
"""

from typing import Any

import pyarrow as pa

from pipelines.releases.sample import SHUFFLED, Layout, Summing, samples, shuffled, split_of, splits

IDS = ("a" * 64, "b" * 64, "c" * 64)
SCHEMA = {
    "candidate_id": pa.string(),
    "image_id": pa.string(),
    "page_url": pa.string(),
    "image_url": pa.string(),
    "text": pa.string(),
    "text_source": pa.string(),
    "original_text": pa.string(),
    "image_collection": pa.string(),
    "image_part": pa.string(),
    "image_row": pa.int64(),
    "image.cluster": pa.string(),
    "image.short_side": pa.int32(),
    "text.words": pa.int32(),
    "text.cut": pa.list_(pa.string()),
}
MEASURED = ("image.short_side", "text.cut", "text.words")


def kept(*rows: dict[str, Any]) -> pa.Table:
    """Kept rows as `Gather` hands them over."""
    default = {
        "image_collection": "a",
        "image_part": "part-0.arrow",
        "image_row": 0,
        "image.short_side": 30,
        "text.words": 2,
    }
    full = [{**default, "candidate_id": str(number), **row} for number, row in enumerate(rows)]
    table = pa.Table.from_pylist(full, schema=pa.schema(SCHEMA))
    return table.append_column(SHUFFLED, shuffled(table["image_id"], 0))


def found(table: pa.Table) -> pa.Table:
    return samples(table, Layout(rows=table.schema, measurements=MEASURED))


SEVERAL = (
    {
        "image_id": IDS[0],
        "text": "zebra",
        "original_text": "zebra |",
        "text_source": "alt",
        "page_url": "http://p/1",
        "image_url": "http://i/1",
    },
    {
        "image_id": IDS[0],
        "text": "a dog",
        "text_source": "title",
        "page_url": "http://p/2",
        "image_url": "http://i/2",
        "text.words": 3,
    },
    {
        "image_id": IDS[0],
        "text": "zebra",
        "text_source": "alt",
        "page_url": "http://p/0",
        "image_url": "http://i/1",
        "text.cut": ["|"],
    },
    {
        "image_id": IDS[1],
        "text": "",
        "text_source": None,
        "page_url": None,
        "image_url": "given://x/1",
        "image.cluster": IDS[0],
    },
)


def test_every_text_keeps_where_it_was_found_and_what_was_measured_of_it() -> None:
    by_id = {row["image_id"]: row for row in found(kept(*SEVERAL)).to_pylist()}
    first = by_id[IDS[0]]
    assert first["caption"] == ["a dog", "zebra"]
    assert first["text_source"] == ["title", "alt"]
    # of two equal texts the first by addresses
    assert first["page_url"] == ["http://p/2", "http://p/0"]
    assert first["image_url"] == ["http://i/2", "http://i/1"]
    assert first["candidate_id"] == ["1", "2"]
    assert first["original_text"] == [None, None]
    assert first["text.words"] == [3, 2]
    assert first["text.cut"] == [None, ["|"]]
    assert first["image.short_side"] == 30
    assert by_id[IDS[1]]["caption"] == [""]
    assert by_id[IDS[1]]["image.cluster"] == IDS[0]


def test_neither_order_nor_candidate_ids_matter() -> None:
    one = found(kept(*SEVERAL))
    renamed = [{**row, "candidate_id": f"x{number}"} for number, row in enumerate(SEVERAL)]
    other = found(kept(*reversed(renamed)))
    assert one.drop_columns(["candidate_id"]).equals(other.drop_columns(["candidate_id"]))


def test_a_text_that_is_not_there_is_an_empty_caption() -> None:
    rows = [
        {"image_id": IDS[0], "text": None},
        {"image_id": IDS[0], "text": ""},
        {"image_id": IDS[1], "text": None},
    ]
    by_id = {row["image_id"]: row for row in found(kept(*rows)).to_pylist()}
    assert [by_id[one]["caption"] for one in IDS[:2]] == [[""], [""]]


def test_samples_stand_in_the_order_of_the_shuffle() -> None:
    ids = [f"{number:064x}" for number in range(50)]
    table = found(kept(*({"image_id": one, "text": "x"} for one in ids)))
    assert table[SHUFFLED].to_pylist() == sorted(table[SHUFFLED].to_pylist())
    assert table["image_id"].to_pylist() != ids
    assert sorted(table["image_id"].to_pylist()) == ids


def test_near_duplicates_share_a_split() -> None:
    ids = [f"{number:064x}" for number in range(400)]
    rows = [
        {
            "image_id": one,
            "text": "x",
            "image.cluster": ids[number // 4 * 4] if number % 4 else None,
        }
        for number, one in enumerate(ids)
    ]
    table = found(kept(*rows))
    of = dict(zip(table["image_id"].to_pylist(), splits(table, 0.3).to_pylist(), strict=True))
    assert all(len({of[one] for one in ids[start : start + 4]}) == 1 for start in range(0, 400, 4))
    assert of == {one: split_of(ids[number // 4 * 4], 0.3) for number, one in enumerate(ids)}
    assert 60 < sum(split == "heldout" for split in of.values()) < 180
    assert set(splits(table, 0.0).to_pylist()) == {"train"}


def test_the_digest_does_not_depend_on_batches() -> None:
    table = found(kept(*SEVERAL))
    names = ["image_id", "caption", *MEASURED]

    def summed(rows: pa.Table, size: int) -> str:
        total = Summing(names)
        for batch in rows.to_batches(max_chunksize=size):
            total.add(batch)
        return total.hexdigest()

    assert summed(table, 1) == summed(table, 2) == summed(table.take([0, 1]), 9)
    assert summed(table, 1) != summed(table.take([1, 0]), 1)
    for name, value in (
        ("caption", [["a dogz", "ebra"], [""]]),
        ("text.words", [[3, None], [2]]),
        ("image.short_side", [30, 31]),
    ):
        place = table.schema.get_field_index(name)
        entry = table.schema.field(place)
        changed = table.sort_by("image_id").set_column(place, entry, pa.array(value, entry.type))
        assert summed(changed, 1) != summed(table.sort_by("image_id"), 1), name
