"""A recipe over collections: the outcome of every candidate."""
