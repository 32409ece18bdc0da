"""The commands of the documents and of the help texts, run as they stand: each stands in the table,
with what is put in its place.

A new command in a document needs one line in `TABLE`: how it runs here, or why it does not.
"""

import contextlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from img2dataset import download
from PIL import Image

from flows.cli.commands import application
from flows.deployments.project_file import read_configuration
from pipelines.img2dataset.config import Img2datasetConfig
from pipelines.store import Folder
from pipelines.tables import read_table
from tests.pipelines.wats import envelope, image, wat
from tests.pipelines.web import Page, served

app = application()
HOME = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(HOME)) for path in HOME.glob("docs/*.md")),
)
SITE = "https://example.org/"  # of the documents; here a server on loopback


@dataclass(frozen=True)
class Run:
    """A command that is run, with these words of it replaced by others, and those that are
    added.
    """

    instead: tuple[tuple[str, str], ...] = ()
    more: str = ""


@dataclass(frozen=True)
class Not:
    """A command that is not run here, and why."""

    why: str


AS_IT_STANDS = Run()
PRIVATE = "--allow-private-addresses"  # the site of the test is on loopback
LONG = Not("takes minutes to hours, and is what CI itself does")
PEER = Not("works on the shared data beside the checkout: tests/quality.py, run by hand")
CLUSTER = Not(
    "needs a cluster: tests/pipelines/test_flink.py runs it where there are Java and Maven"
)
SERVER = Not("needs a Prefect server: tests/flows/test_prefect.py runs one")
TABLE: dict[str, Run | Not] = {
    # README.md
    "make demo": Not("takes minutes: tests/flows/test_demo.py runs a smaller one"),
    "make test": LONG,
    "make bench": LONG,
    "make check": LONG,
    "winnow collect --seed https://example.org/ --max-pages 1000 --id first": Run(more=PRIVATE),
    "winnow collect --warc 'crawl/*.warc.gz' --id archive": Run(more=PRIVATE),
    "winnow collect --index cdx.jsonl --language eng --id chosen": Run(more=PRIVATE),
    "winnow collect --pairs pairs.parquet --id pairs": Run(more=PRIVATE),
    "winnow collect --import coco/captions_train2017.json --id coco": AS_IT_STANDS,
    "winnow curate --recipe winnow --collection first --collection archive --release web-1": (
        AS_IT_STANDS
    ),
    "winnow train vilt --size small --release web-1 --out data/models/vilt-1": Run(
        instead=(("small", "tiny"),), more="--smoke"
    ),
    "winnow img2dataset --url_list urls.txt --output_folder images": Run(
        more="--allow_private_addresses"
    ),
    "winnow collect --seed URL": Run(
        instead=(("URL", SITE),), more=f"{PRIVATE} --max-pages 2 --id url"
    ),
    "winnow funnel --recipe winnow --collection ID": Run(instead=(("ID", "first"),)),
    "winnow curate --recipe winnow --collection ID --release NAME": Run(
        instead=(("ID", "first"), ("NAME", "named"))
    ),
    "winnow train RECIPE --release NAME --out DIR": Run(
        instead=(("RECIPE", "vilt"), ("NAME", "named"), ("DIR", "named")),
        more="--size tiny --smoke",
    ),
    "winnow evaluate DIR/model --captions captions.jsonl": Run(instead=(("DIR", "named"),)),
    "winnow report --recipe winnow --collection ID": Run(instead=(("ID", "first"),)),
    "winnow COMMAND --help": Run(instead=(("COMMAND", "collect"),)),
    "winnow run winnow.toml": SERVER,
    "winnow serve winnow.toml": SERVER,
    # CONTRIBUTING.md
    ".venv/bin/python -m pytest tests/flows/test_prefect.py": LONG,
    ".venv/bin/uv pip compile pyproject.toml --extra dev --no-annotate --no-header --python-version 3.11 -o constraints.txt": Not(  # noqa: E501
        "asks a package registry, and is what an engineer does"
    ),
    # docs/collect.md
    "winnow forget --url … --domain … --sha256 …": Run(
        instead=(
            ("--url …", f"--url {SITE}photo.jpg"),
            ("--domain …", "--domain gone.example"),
            ("--sha256 …", f"--sha256 {'0' * 64}"),
        ),
        more="--dry-run",
    ),
    # docs/curate.md
    "winnow funnel --recipe winnow --collection web": AS_IT_STANDS,
    "winnow funnel --recipe winnow --recipe datacomp-basic --recipe laion-400m --collection web --without alignment.score": (  # noqa: E501
        AS_IT_STANDS
    ),
    "winnow funnel --recipe cc12m --collection web --without text.anonymous image.unsafe pair.label_overlap text.profanities": (  # noqa: E501
        AS_IT_STANDS
    ),
    "winnow curate --recipe winnow --collection web --release web-1 --heldout 0.02": Run(
        instead=(("web-1", "web-2"),)
    ),
    "winnow curate --recipe everything --collection coco --release coco-1": AS_IT_STANDS,
    "winnow dashboard": AS_IT_STANDS,
    "winnow curate --recipe FILE": Run(
        instead=(("FILE", "mine.toml"),), more="--collection first --release mine"
    ),
    # docs/dashboard.md
    "winnow dashboard --root data": AS_IT_STANDS,
    "winnow dashboard --root data --recipe winnow --collection web": AS_IT_STANDS,
    "winnow dashboard --root data --recipe winnow --json funnel": AS_IT_STANDS,
    "winnow dashboard --recipe winnow --json moved --of 4=3 2=off": AS_IT_STANDS,
    "winnow dashboard --recipe winnow --recipe cc12m --json compare": AS_IT_STANDS,
    "winnow dashboard --recipe winnow --json groups --of by=language": AS_IT_STANDS,
    "winnow dashboard --json story --of query=https://example.org/photo.jpg": AS_IT_STANDS,
    "WINNOW_PICTURES=docs .venv/bin/python -m pytest tests/flows/test_dashboard.py": LONG,
    # docs/img2dataset.md
    "winnow img2dataset --url_list urls.txt --output_folder images --image_size 256 --contact you@example.org": Run(  # noqa: E501
        instead=(("--output_folder images", "--output_folder sized"),),
        more="--allow_private_addresses",
    ),
    'winnow img2dataset --url_list laion --input_format parquet --url_col URL --caption_col TEXT --output_format webdataset --output_folder laion-data --processes_count 16 --thread_count 128 --save_additional_columns \'["NSFW","similarity"]\'': Run(  # noqa: E501
        instead=(("--processes_count 16", "--processes_count 1"),), more="--allow_private_addresses"
    ),
    "winnow collect --import images": AS_IT_STANDS,
    # docs/log.md
    "winnow demo --seed 0": Not("takes minutes: tests/flows/test_demo.py runs a smaller one"),
    "python -m filters.fit.classifiers natural": Not("fits on photographs that are not shipped"),
    "winnow train clip --size tiny --release photos --init image=…/efficientnet-lite0 --init text=…/minilm": Not(  # noqa: E501
        "needs towers and photographs that are not shipped"
    ),
    "winnow train clip --size tiny --release photos --init image=…/efficientnet-lite0 --init text=…/minilm --set threads=1": Not(  # noqa: E501
        "needs towers and photographs that are not shipped"
    ),
    "winnow train blip --size tiny --release photos --init image=…/efficientnet-lite0 --init text=…/minilm --set threads=1": Not(  # noqa: E501
        "needs towers and photographs that are not shipped"
    ),
    "winnow evaluate …/model --captions heldout.jsonl --json": Not(
        "needs towers and photographs that are not shipped"
    ),
    "winnow train vilt --set finetune=models/vilt/model": Not(
        "goes on from a model of half an hour"
    ),
    # docs/quality.md
    ".venv/bin/python ../shared/tools/make_site.py --pairs ../shared/data/captions/flickr8k-train/captions.jsonl --out base --limit 6000 --seed 5": (  # noqa: E501
        PEER
    ),
    ".venv/bin/python -m http.server 18231 --bind 127.0.0.1 --directory base/site &": PEER,
    ".venv/bin/winnow collect --root data --id base --seed http://127.0.0.1:18231/ --allow-private-addresses": Run(  # noqa: E501
        instead=(("http://127.0.0.1:18231/", SITE),), more="--max-pages 1"
    ),
    ".venv/bin/python -m tests.quality table base/truth.jsonl data base": PEER,
    ".venv/bin/python -m tests.quality site hard --limit 2000 --seed 3": PEER,
    # docs/training.md
    "winnow collect --import captions.jsonl --id mine": AS_IT_STANDS,
    "winnow curate --recipe everything --collection mine --release mine-1 --heldout 0.1": Run(
        instead=(("0.1", "0.5"),)
    ),
    "winnow train clip --size tiny --release mine-1 --out data/models/mine --init image=towers/efficientnet-lite0 text=towers/minilm": Run(  # noqa: E501
        instead=((" --init image=towers/efficientnet-lite0 text=towers/minilm", ""),),
        more="--smoke",
    ),
    "winnow evaluate data/models/mine/model --release mine-1": AS_IT_STANDS,
    "winnow train clip --size tiny --release web-1 --out models/clip": Run(more="--smoke"),
    "winnow evaluate models/clip/model --captions captions.jsonl": AS_IT_STANDS,
    "winnow evaluate models/clip/model --captions captions.jsonl --task matching --json": (
        AS_IT_STANDS
    ),
    "winnow evaluate models/clip/model --release web-1 --split train --json": AS_IT_STANDS,
    "winnow embed models/clip/model --release web-1 --out vectors.parquet": AS_IT_STANDS,
    "winnow convert models/vilt/model --to vilt --out vilt-hf": Run(
        instead=(("models/vilt", "data/models/vilt-1"),)
    ),
    "winnow convert vilt-hf --out models/theirs": AS_IT_STANDS,
    "winnow match models/clip/model --captions captions.jsonl --json": AS_IT_STANDS,
    "winnow train blip --size small --release web-1 --init text=bert-base-uncased --set stages.0.batch=512 --out models/blip": Run(  # noqa: E501
        instead=(("small", "tiny"), (" --init text=bert-base-uncased", "")), more="--smoke"
    ),
    "winnow train ours.toml --release web-1 --seed 1 --out models/ours": AS_IT_STANDS,
    "winnow caption --images images.jsonl --captioner models/blip/model --json": Run(
        instead=(("images.jsonl", "captions.jsonl"),)
    ),
    "winnow train demo --release web=web-1 clean=web-2 --smoke --out models/two": AS_IT_STANDS,
    "winnow train models/clip/model --release captions.jsonl --out models/mine": Run(
        more="--smoke"
    ),
    "winnow train vqa --set finetune=models/vilt/model --release questions.jsonl --out models/vqa": Run(  # noqa: E501
        instead=(("models/vilt", "data/models/vilt-1"),), more="--smoke"
    ),
    "winnow evaluate models/vqa/model --captions val.jsonl --task vqa": Run(
        instead=(("val.jsonl", "questions.jsonl"),)
    ),
    "winnow train nlvr2 --set finetune=models/vilt/model --release sentences.jsonl --out models/nlvr2": Run(  # noqa: E501
        instead=(("models/vilt", "data/models/vilt-1"),), more="--smoke"
    ),
    "winnow evaluate models/nlvr2/model --captions dev.jsonl --task nlvr2": Run(
        instead=(("dev.jsonl", "sentences.jsonl"),)
    ),
    "winnow train clip --size small --release web-1 --out models/small --dry-run": Run(
        instead=(("--size small", "--size tiny"),)
    ),
    # docs/scale-out.md
    "PATH=$PWD/.venv/bin:$PATH .venv/bin/python -m apache_beam.runners.worker.worker_pool_main --service_port 50000": (  # noqa: E501
        CLUSTER
    ),
    "mvn -f tests/pipelines/flink.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$PWD/server": (  # noqa: E501
        CLUSTER
    ),
    "java $(for p in lang util nio net io time util.concurrent; do echo --add-opens=java.base/java.$p=ALL-UNNAMED; done) -cp 'server/*' org.apache.beam.runners.flink.FlinkJobServerDriver --job-host localhost --job-port 8099 --flink-master jobmanager:8081 --artifacts-dir /shared/beam": (  # noqa: E501
        CLUSTER
    ),
    "winnow curate --root s3://bucket/winnow --recipe winnow --collection first --release web-1 --runner PortableRunner --option=--job_endpoint=localhost:8099 --option=--parallelism=64 --option=--environment_type=EXTERNAL --option=--environment_config=localhost:50000": (  # noqa: E501
        CLUSTER
    ),
    # the examples of --help
    "winnow collect --seed https://example.org/ --max-pages 100": Run(
        more=f"{PRIVATE} --id hundred"
    ),
    "winnow curate --recipe winnow --collection web --release web-1": Run(
        instead=(("web-1", "web-3"),)
    ),
    "winnow funnel --recipe winnow --recipe everything --collection web": AS_IT_STANDS,
    "winnow report --recipe winnow --collection web --out report.html": AS_IT_STANDS,
    "winnow compare --warc CC-MAIN-x.warc.gz --wat CC-MAIN-x.warc.wat.gz": AS_IT_STANDS,
    "winnow dashboard --recipe winnow --collection web": AS_IT_STANDS,
    "winnow measurements": AS_IT_STANDS,
    "winnow recipes": AS_IT_STANDS,
    # the release has a model by then
    "winnow remove --release web-1 --dry-run": Run(
        instead=(("--release web-1", "--model vilt-1"),)
    ),
    "winnow train vilt --size small --release web-1 --out data/models/vilt": Run(
        instead=(("small", "tiny"),), more="--smoke"
    ),
    "winnow evaluate runs/vilt/model --captions captions.jsonl": Run(
        instead=(("runs/vilt/model", "data/models/vilt/model"),)
    ),
    "winnow report --run data/models/vilt --out runs.html": AS_IT_STANDS,
    "winnow embed runs/clip/model --captions captions.jsonl --out vectors.parquet": Run(
        instead=(("runs/clip/model", "models/clip/model"),)
    ),
    "winnow caption --images images.jsonl --captioner runs/blip/model --json": Run(
        instead=(("images.jsonl", "captions.jsonl"), ("runs/", "models/"))
    ),
    "winnow convert runs/vilt/model --to vilt --out vilt-for-transformers": Run(
        instead=(("runs/vilt/model", "data/models/vilt/model"),)
    ),
    "winnow match runs/vilt/model --captions captions.jsonl": Run(
        instead=(("runs/vilt/model", "data/models/vilt/model"),)
    ),
    "winnow scorer --collection web --labels labels.jsonl --out scorer.json": AS_IT_STANDS,
    "winnow train vilt --size tiny --root demo-out/data --release web --out models/vilt --set threads=1": Not(  # noqa: E501
        "takes half an hour"
    ),
    "winnow evaluate models/vilt/model --captions demo-out/site/heldout/captions.jsonl": Not(
        "looks at the model of half an hour"
    ),
    "winnow demo --out demo-out": Not("takes minutes: tests/flows/test_demo.py runs a smaller one"),
    "PREFECT_API_URL=http://127.0.0.1:4200/api winnow serve winnow.toml": SERVER,
    "winnow status --root data": AS_IT_STANDS,
    "winnow validate --root data": AS_IT_STANDS,
    "winnow img2dataset --url_list urls.txt --output_folder images --image_size 256": Run(
        instead=(("--output_folder images", "--output_folder small"),),
        more="--allow_private_addresses",
    ),
    "winnow doctor": Not("judges the machine, and may find it unfit: tests/flows/test_doctor.py"),
    'winnow forget --domain example.org --note "asked by its owner"': AS_IT_STANDS,
}
# Options of other programs that the documents name.
FOREIGN = {
    "--add-opens",
    "--artifacts-dir",
    "--bind",
    "--directory",
    "--dist",
    "--environment_config",
    "--environment_type",
    "--extra",
    "--flink-master",
    "--logdir",
    "--nproc-per-node",
    "--shutdown-timeout",
    "--flink_master",
    "--job-host",
    "--job-port",
    "--job_endpoint",
    "--limit",
    "--no-annotate",
    "--no-header",
    "--out",
    "--pairs",
    "--parallelism",
    "--python-version",
    "--service_port",
}
PROGRAMS = r"(winnow|make|mvn|java|python|\.venv/bin/\S+|[A-Z_]+=\S+ \S+)( |$)"


def documented() -> Iterator[tuple[str, str]]:
    """Each command with where it stands: lines of indented blocks, and spans of code that are more
    than a name.
    """
    for name in DOCUMENTS:
        text = (HOME / name).read_text(encoding="utf-8")
        for block in re.findall(r"(?:^ {4,}.*\n?)+", text, re.MULTILINE):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                command = re.sub(r"\s+# .*|\s{2,}# .*", "", line.strip())
                if re.match(PROGRAMS, command):
                    yield name, command
        for span in re.findall(r"`([^`]+)`", text):
            command = " ".join(span.split())
            if re.match(r"(winnow|make|python) \S|\.venv/bin/", command) and not re.fullmatch(
                r"winnow [a-z0-9]+", command
            ):
                yield name, command
    for name, function in commands().items():
        for example in re.findall(
            r"^\s*Example: (.+)$", function.__doc__ or app[name].help, re.MULTILINE
        ):
            yield f"winnow {name} --help", example


def commands() -> dict[str, Callable[..., Any]]:
    """The functions behind the commands of `winnow`."""
    found = {name: app[name].default_command for name in app if not name.startswith("-")}
    return {name: function for name, function in found.items() if function is not None}


def options() -> set[str]:
    """Every option of every command."""
    known = {
        name
        for command in commands()
        for argument in app[command].assemble_argument_collection()
        for name in argument.names
    }
    return known | {f"--{name}" for name in Img2datasetConfig.model_fields}


def test_every_command_of_the_documents_is_run_or_listed() -> None:
    there = {command: place for place, command in documented()}
    missing = [f"{place}: {command}" for command, place in there.items() if command not in TABLE]
    assert missing == [], "add a line to TABLE for each"
    assert [command for command in TABLE if command not in there] == [], (
        "these stand in no document any more"
    )


def test_every_command_has_an_example() -> None:
    with_example = {place.split()[1] for place, _ in documented() if place.endswith("--help")}
    assert set(commands()) - with_example == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_option_and_command_that_a_document_names_exists(name: str) -> None:
    text = (HOME / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*", text))
    peer = (
        {f"--{name}" for name in signature(download).parameters}
        if name == "docs/img2dataset.md"
        else set()
    )
    known = options() | FOREIGN | {"--help", "--version", "--name", "--flag", "--noflag"} | peer
    assert {one for one in named if one.rstrip("-") not in known} == set()
    assert set(re.findall(r"`winnow ([a-z0-9]+)`", text)) - set(commands()) == set()


def test_the_plan_of_the_documents_is_valid(tmp_path: Path) -> None:
    shutil.copy(HOME / "docs/winnow.toml", tmp_path)
    assert read_configuration(tmp_path / "winnow.toml").curate[0].recipe == "winnow"


# Running them


def photograph(seed: int) -> bytes:
    """A smooth picture with a little noise, which the classifier of photographs takes for one."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((200, 180), Image.Resampling.BICUBIC), dtype=np.float64)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=88
    )
    return buffer.getvalue()


ANIMALS = ("dog", "horse", "cat", "goat", "heron", "swan")
PLACES = (
    "beach",
    "old bridge",
    "river",
    "wooden fence",
    "harbour",
    "red barn",
    "mountain lake",
    "stone wall",
)
TEXTS = [
    f"A brown {animal} stands near the {place} in the evening"
    for animal in ANIMALS
    for place in PLACES
]


def site() -> dict[str, Page]:
    pages: dict[str, Page] = {f"/{number}.jpg": photograph(number) for number in range(len(TEXTS))}
    images = "".join(
        f'<p><img src="/{number}.jpg" alt="{text}" width="200" height="180"></p>'
        for number, text in enumerate(TEXTS)
    )
    return pages | {
        "/": f'<html lang="en"><title>Animals</title><a href="/more">more</a>{images}',
        "/more": f"<html lang=en>{images}",
    }


@dataclass
class Sandbox:
    """A folder where the commands run in this process, with the address of the site that stands for
    that of the documents.
    """

    work: Path
    url: str
    served: list[list[str]]  # what a dashboard became

    def run(self, command: str, entry: Run = AS_IT_STANDS) -> str:
        """What a command prints; it ends well."""
        for old, new in entry.instead:
            assert old in command, f"{command!r} has no {old!r}"
            command = command.replace(old, new)
        words = shlex.split(f"{command} {entry.more}".replace(SITE, f"{self.url}/"))
        assert words[0].endswith("winnow")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = app(
                words[1:], exit_on_error=False, print_error=False, result_action="return_value"
            )
        assert not status, f"{command} ended with {status}: {printed.getvalue()}"
        return printed.getvalue()

    def prepare(self) -> None:
        """What the documents take for granted: a collection `web`, lists, archives, a data set,
        labels, captions, a recipe.
        """
        self.run(f"winnow collect --seed {SITE} {PRIVATE} --id web")
        (archive,) = (self.work / "data/collections/web/pages").glob("*.warc.gz")
        (self.work / "crawl").mkdir()
        for name in ("crawl/a.warc.gz", "CC-MAIN-x.warc.gz"):
            shutil.copy(archive, self.work / name)
        links = [image(f"{self.url}/{number}.jpg", alt=text) for number, text in enumerate(TEXTS)]
        (self.work / "CC-MAIN-x.warc.wat.gz").write_bytes(wat(envelope(f"{self.url}/", links)))
        self.write_lines("cdx.jsonl", self.index(archive))
        urls = [f"{self.url}/{number}.jpg" for number in range(len(TEXTS))]
        pq.write_table(pa.table({"url": urls, "text": TEXTS}), self.work / "pairs.parquet")
        self.write_coco()
        self.write_lines(
            "captions.jsonl",
            [
                {"image": f"coco/{number}.jpg", "captions": [text]}
                for number, text in enumerate(TEXTS[:8])
            ],
        )
        answers = ["yes", "no"]
        self.write_lines(
            "questions.jsonl",
            [
                {
                    "image": f"coco/{number}.jpg",
                    "question": f"is it {number}?",
                    "answers": [answers[number % 2]],
                }
                for number in range(8)
            ],
        )
        self.write_lines(
            "sentences.jsonl",
            [
                {
                    "images": [f"coco/{number}.jpg", "coco/0.jpg"],
                    "sentence": f"one shows {number}",
                    "label": number % 2 == 0,
                }
                for number in range(8)
            ],
        )
        pairs = read_table(
            Folder(str(self.work / "data/collections/web/candidates")),
            "part-00000.parquet",
            ["candidate_id"],
        )
        self.write_lines(
            "labels.jsonl",
            [{"candidate_id": id, "label": True} for id in pairs["candidate_id"].to_pylist()],
        )
        shutil.copy(HOME / "filters/recipes/winnow.toml", self.work / "mine.toml")
        (self.work / "ours.toml").write_text(
            'recipe = "clip"\nsize = "tiny"\n[[stages]]\nsteps = 2\nbatch = 4\n'
        )
        (self.work / "urls.txt").write_text("".join(f"{url}\n" for url in urls[:4]))
        (self.work / "laion").mkdir()
        table = {
            "URL": urls[:4],
            "TEXT": TEXTS[:4],
            "NSFW": ["UNLIKELY"] * 4,
            "similarity": [0.3] * 4,
        }
        pq.write_table(pa.table(table), self.work / "laion/a.parquet")

    def index(self, archive: Path) -> list[dict[str, str]]:
        """The lines of an index of the pages of an archive, as Common Crawl's server gives them."""
        found = []
        with archive.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                about = {
                    "url": record.headers["WARC-Target-URI"],
                    "mime": "text/html",
                    "status": "200",
                    "languages": "eng",
                }
                found.append(
                    {
                        **about,
                        "filename": "crawl/a.warc.gz",
                        "offset": str(record.stream_pos),
                        "length": "1",
                    }
                )
        ends = [int(one["offset"]) for one in found[1:]] + [archive.stat().st_size]
        return [
            {**one, "length": str(end - int(one["offset"]))}
            for one, end in zip(found, ends, strict=True)
        ]

    def write_coco(self) -> None:
        (self.work / "coco").mkdir()
        images, captions = [], []
        for number, text in enumerate(TEXTS[:8]):
            (self.work / f"coco/{number}.jpg").write_bytes(photograph(number))
            images.append({"id": number, "file_name": f"{number}.jpg"})
            captions.append({"id": number, "image_id": number, "caption": text})
        (self.work / "coco/captions_train2017.json").write_text(
            json.dumps({"images": images, "annotations": captions})
        )

    def write_lines(self, name: str, rows: list[dict[str, Any]]) -> None:
        (self.work / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WINNOW_CONTACT", "you@example.org")
    monkeypatch.setenv("WINNOW_ROOT", "data")
    became: list[list[str]] = []
    monkeypatch.setattr(
        "flows.dashboard.serve.os.execve", lambda program, words, environment: became.append(words)
    )
    with served(site()) as web:
        yield Sandbox(work=tmp_path, url=web.url, served=became)


@pytest.mark.timeout(1200)
def test_the_commands_of_the_documents_run_as_they_stand(sandbox: Sandbox) -> None:
    sandbox.prepare()
    said = {}
    for command, entry in TABLE.items():
        if isinstance(entry, Run):
            said[command] = sandbox.run(command, entry)
    dashboards = [
        command
        for command in said
        if command.startswith("winnow dashboard") and "--json" not in command
    ]
    assert len(sandbox.served) == len(dashboards) == 4
    assert all(str(sandbox.work / "data") in words[-1] for words in sandbox.served)
    assert said["winnow validate --root data"] == "every file is as its manifest says\n"
    assert (
        "without text.anonymous, image.unsafe, pair.label_overlap, text.profanities"
        in said[
            "winnow funnel --recipe cc12m --collection web --without text.anonymous image.unsafe"
            " pair.label_overlap text.profanities"
        ]
    )
    moved = json.loads(said["winnow dashboard --recipe winnow --json moved --of 4=3 2=off"])
    assert moved["changes"] == {"4": 3.0, "2": None}
    story = json.loads(
        said["winnow dashboard --json story --of query=https://example.org/photo.jpg"]
    )
    assert story["candidates"] == []
