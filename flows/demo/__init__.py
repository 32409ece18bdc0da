"""The demonstration: a small site, a collection, two releases, a trained model."""
