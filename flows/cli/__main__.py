"""`python -m flows.cli` is `winnow`, as torchrun needs it."""

from flows.cli import main

main()
