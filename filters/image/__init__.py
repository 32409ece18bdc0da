"""Measurements of images."""
