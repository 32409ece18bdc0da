"""Import: data sets that people have, as candidates without a page and an index of where each image
lies; no image is copied here.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.accounts import Account
from pipelines.engine.stage import Output, Part, Stage
from pipelines.sources.datasets.detect_format import DataSet, Source, recognise
from pipelines.sources.datasets.files import (
    LINES,
    coco_samples,
    file_samples,
    grouped,
    line_cuts,
    line_samples,
)
from pipelines.sources.datasets.samples import Keys, Sample, tables
from pipelines.sources.datasets.tables import (
    Columns,
    arrow_runs,
    arrow_samples,
    columns_of,
    joined_samples,
    parquet_runs,
    parquet_samples,
    schema_of,
)
from pipelines.sources.datasets.tars import split_name, tar_samples
from pipelines.sources.held import HELD
from pipelines.tables import write_parquet


@dataclass(frozen=True, kw_only=True)
class Import(Stage):
    """Turns a data set into candidates; `images` is the folder of a captions file's images, `title`
    the name in given addresses.
    """

    name: ClassVar[str] = "import"
    version: ClassVar[int] = 4
    accounts: ClassVar[tuple[Account, ...]] = (
        Account(
            of="entries",
            into=(
                "samples",
                "import.bad_line",
                "import.blank_line",
                "import.damaged_row",
                "import.other",
            ),
        ),
        Account(
            of="samples",
            into=("archive_images", "import.missing", "import.outside", "import.elsewhere"),
        ),
    )
    path: str
    images: str = ""
    title: str = ""
    text_column: str = ""
    url_column: str = ""

    def config(self) -> dict[str, Any]:
        return {
            "title": self._data_set.name,
            "text_column": self.text_column,
            "url_column": self.url_column,
        }

    def inputs(self) -> dict[str, str]:
        return {"data_set": self._data_set.digest}

    @functools.cached_property
    def _data_set(self) -> DataSet:
        return recognise(self.path, images=self.images, name=self.title)

    def __getstate__(self) -> dict[str, Any]:
        """What workers need: a part says all else, and the names of a million files are long."""
        return {name: value for name, value in self.__dict__.items() if name != "_data_set"}

    def parts(self) -> list[Part]:
        found = self._data_set
        inputs = [(found.name, *cut) for source in found.sources for cut in self._cuts(source)]
        return [Part(name=f"{index:05d}", inputs=cut) for index, cut in enumerate(inputs)]

    def _cuts(self, source: Source) -> Iterator[tuple[str, ...]]:
        """What each part of a source needs to know: kind, address, label, what is beside, and which
        of it.
        """
        common = (source.kind, source.url, source.label, source.beside)
        if source.kind in ("parquet", "arrow"):
            self._columns(source.url)  # a table without images is said first
            for first, end in (
                parquet_runs(source.url) if source.kind == "parquet" else arrow_runs(source.url)
            ):
                yield *common, str(first), str(end)
        elif source.kind == "coco":
            version, count = source.names
            yield from (
                (*common, str(first), str(first + LINES), version)
                for first in range(0, int(count), LINES)
            )
        elif source.kind == "lines":
            yield from ((*common, str(offset), str(line)) for offset, line in line_cuts(source.url))
        elif source.kind == "files":
            yield from ((*common, *names) for names in grouped(source.names))
        else:
            yield *common, *source.names

    def _columns(self, url: str) -> Columns:
        return columns_of(url, schema_of(url), Keys(self.text_column, self.url_column))

    def process(self, part: Part) -> Output:
        counts: Counter[str] = Counter(candidates=0, archive_images=0)
        candidates, index = tables(self._samples(part.inputs[1:], counts), part.inputs[0], counts)
        files = [
            write_parquet(self.out, f"part-{part.name}.parquet", self.forgotten.blank(candidates))
        ]
        if index.num_rows:
            files.append(
                write_parquet(self.out, f"{HELD}{part.name}.parquet", index.sort_by("image_url"))
            )
        return Output(
            files=tuple(files),
            counts={name: count for name, count in counts.items() if count or name == "candidates"},
        )

    def _samples(self, inputs: tuple[str, ...], counts: Counter[str]) -> Iterator[Sample]:
        kind, url, label, beside, *which = inputs
        keys = Keys(self.text_column, self.url_column)
        if kind == "parquet":
            return parquet_samples(
                url, label, int(which[0]), int(which[1]), self._columns(url), counts
            )
        if kind == "arrow":
            return arrow_samples(
                url, label, int(which[0]), int(which[1]), self._columns(url), counts
            )
        if kind == "coco":
            return coco_samples(
                url, which[2], beside, label, (int(which[0]), int(which[1])), counts
            )
        if kind == "lines":
            return line_samples(url, beside, label, (int(which[0]), int(which[1])), counts, keys)
        if kind == "files":
            return file_samples(url, label, which, counts, keys)
        found = (
            tar_samples(url, label, counts, keys)
            if kind == "tar"
            else file_samples(url, label, which, counts, keys)
        )
        return self._with_rows(found, label, beside, counts) if beside else found

    def _with_rows(
        self, samples: Iterator[Sample], label: str, table: str, counts: Counter[str]
    ) -> Iterator[Sample]:
        """The samples of an img2dataset shard with the rows of its table."""
        columns = columns_of(
            table, schema_of(table), Keys(self.text_column, self.url_column), images=False
        )
        there: dict[str, list[Sample]] = {}
        for sample in samples:
            there.setdefault(split_name(sample.key.removeprefix(f"{label}/"))[0], []).append(sample)
        return joined_samples(table, label, columns, there, counts)
