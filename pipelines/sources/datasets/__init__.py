"""Data sets that people have already, with images that need no fetching."""
