"""Releases as training reads them: shards, their order, what becomes of a sample, batches ahead."""
