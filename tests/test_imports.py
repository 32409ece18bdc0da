"""Imports point one way, and the packages that must run alone import nothing heavy."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipelines", "filters", "captioning", "training", "flows")
MAY_USE = {
    "filters": set(),
    "training": set(),
    "pipelines": {"filters"},
    "captioning": {"training", "pipelines", "filters"},
    "flows": set(PACKAGES),
}
FORBIDDEN = {
    "filters": {"apache_beam", "prefect"},
    "pipelines": {"prefect"},
    "captioning": {"prefect", "apache_beam"},
}
# files and folders of pipelines: each imports only those before it
ORDER = [
    *("background", "times", "terminal", "urls", "store", "lease", "tables", "schema", "accounts"),
    *("permission", "engine", "images", "html", "sources", "web", "img2dataset", "dedup"),
    *("measure", "collect", "decide", "releases", "takedown", "curate", "validate", "scoring"),
]
# the same of filters
LAYERS = [
    *("given_models", "base", "logistic", "text", "image", "pair", "models"),
    *("registry", "recipe", "fit"),
]
BARE_MACHINE = {"torch", "transformers", "tokenizers", "safetensors", "pyarrow", "numpy", "PIL"}
# of training, inside the functions that need them
WHERE_USED = {"timm", "open_clip", "fsspec", "pycocoevalcap"}

# over 400 lines since they are formatted at 100 columns
TO_BE_SPLIT = {
    "filters/recipe/statistics.py",
    "flows/dashboard/app.py",
    "pipelines/decide/decision_run.py",
    "pipelines/engine/children.py",
    "pipelines/html/addresses_of_image.py",
    "pipelines/images/headers.py",
    "pipelines/sources/lists/pairs.py",
    "pipelines/sources/paths.py",
}


def imports(path: Path, *, top: bool = False) -> set[str]:
    """Packages that a file imports anywhere in it, or at its top alone."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        ours = imports(path) & set(PACKAGES) - {package}
        assert ours <= MAY_USE[package], (
            f"{path.relative_to(ROOT)} imports {ours - MAY_USE[package]}"
        )
        assert not imports(path) & FORBIDDEN.get(package, set()), path.relative_to(ROOT)


def graph(package: str) -> dict[str, set[str]]:
    """The modules of a package, each with those of them that it imports anywhere in it."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / package).rglob("*.py")
    }
    return {name: modules(path, set(files)) - {name} for name, path in files.items()}


def modules(path: Path, ours: set[str]) -> set[str]:
    """Those of our modules that a file imports, or takes something from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if names <= ours else names | {node.module}
    return found & ours


@pytest.mark.parametrize(("package", "order"), [("pipelines", ORDER), ("filters", LAYERS)])
def test_a_folder_imports_only_those_before_it(package: str, order: list[str]) -> None:
    def layer(module: str) -> int:
        parts = module.split(".")
        return order.index(parts[1] if len(parts) > 1 else package)

    edges = [(module, other) for module, others in graph(package).items() for other in others]
    assert len(edges) > 100
    assert not [
        f"{module} imports {other}" for module, other in edges if layer(other) > layer(module)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_files_import_each_other(package: str) -> None:
    left = graph(package)
    while free := {name for name, others in left.items() if not others & set(left)}:
        left = {name: others for name, others in left.items() if name not in free}
    # what is still there stands in a circle, or leads to one
    assert not left


def test_training_needs_only_what_a_bare_gpu_machine_has() -> None:
    at_hand = set(sys.stdlib_module_names) | BARE_MACHINE | {"training"}
    for path in sorted((ROOT / "training").rglob("*.py")):
        foreign = imports(path) - at_hand
        assert foreign <= WHERE_USED, f"{path.relative_to(ROOT)} imports {foreign}"
        assert not imports(path, top=True) - at_hand, (
            f"{path.relative_to(ROOT)} imports {foreign} at its top"
        )


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    for package in PACKAGES:
        assert not {path.stem for path in (ROOT / package).rglob("*.py")} & {
            "utils",
            "util",
            "common",
            "helpers",
            "misc",
        }


def test_files_and_functions_stay_readable() -> None:
    long = []
    lengths = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text()
            if source.count("\n") > 400 and str(path.relative_to(ROOT)) not in TO_BE_SPLIT:
                long.append(path.relative_to(ROOT))
            nodes = (
                node
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            )
            lengths += [(node.end_lineno or 0) - node.lineno + 1 for node in nodes]
    assert not long, f"over 400 lines: {long}"
    assert sum(length <= 50 for length in lengths) >= 0.9 * len(lengths)


def test_every_file_that_is_asked_for_is_there() -> None:
    answers = re.findall(r"\| `([\w/.-]+)` \|$", (ROOT / "docs/where.md").read_text(), re.MULTILINE)
    assert len(answers) >= 20
    assert [path for path in answers if not (ROOT / path).exists()] == []
