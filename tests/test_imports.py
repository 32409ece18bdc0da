"""Imports point one way, and the packages that must run alone import nothing heavy."""

import ast
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
BARE_MACHINE = {"torch", "transformers", "tokenizers", "safetensors", "pyarrow", "numpy", "PIL"}
# of training, inside the functions that need them
WHERE_USED = {"timm", "open_clip", "fsspec", "pycocoevalcap"}

# over 400 lines since they are formatted at 100 columns
TO_BE_SPLIT = {
    "filters/statistics.py",
    "flows/dashboard/app.py",
    "flows/dashboard/pictures.py",
    "flows/dashboard/views.py",
    "pipelines/collect.py",
    "pipelines/datasets/pairs.py",
    "pipelines/decisions/course.py",
    "pipelines/engine/children.py",
    "pipelines/images/headers.py",
    "pipelines/pages/addresses_of_image.py",
    "pipelines/pages/sources.py",
    "pipelines/stage.py",
    "pipelines/store.py",
    "pipelines/takedown/redact.py",
    "pipelines/takedown/run.py",
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
