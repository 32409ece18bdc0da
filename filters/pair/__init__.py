"""Measurements of an image with its text."""
