"""Measurements of texts."""
