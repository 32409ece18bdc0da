"""Clusters of near duplicates over any number of collections, out of core."""
