"""The commands of `winnow`, by what they work on."""


def main() -> None:
    """Run the command line; exit status 0 only when all went well."""
    from flows.cli.commands import run

    run()
