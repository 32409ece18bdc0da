"""Recipes, their rules and group rules, and what they keep."""
