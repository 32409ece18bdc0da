"""The commands of `winnow`, by what they work on."""
