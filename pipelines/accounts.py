"""Accounts: what goes into a stage is counted, and adds up to the counts of what became of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class Miscounted(RuntimeError):
    """Something went in that did not come out under any name, or came out twice."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """That the count `of` is the sum of those named in `into`.

    A name that ends with a dot stands for all counts that begin with it; `also` are other counts
    that begin so and are no outcomes.
    """

    of: str
    into: tuple[str, ...]
    also: tuple[str, ...] = ()

    def went(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Where it went, the larger counts first."""
        found = {name: count for name, count in counts.items() if count and self._names(name)}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def _names(self, name: str) -> bool:
        begins = tuple(one for one in self.into if one.endswith("."))
        return name not in self.also and (name in self.into or name.startswith(begins))

    def check(self, total: int, counts: Mapping[str, int], where: str) -> dict[str, int]:
        """Where it went; Miscounted if that does not add up."""
        went = self.went(counts)
        if sum(went.values()) != total:
            raise Miscounted(f"{where}: {total:,} {self.of} became {sum(went.values()):,}: {went}")
        return went


def check(accounts: Iterable[Account], counts: Mapping[str, int], where: str) -> None:
    """That the accounts of a part add up, as far as what went in is counted by the part itself."""
    for account in accounts:
        if account.of in counts:
            account.check(counts[account.of], counts, where)
