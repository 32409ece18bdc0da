"""A source becomes a collection: the order of its stages, and their configuration."""
