"""How the shipped classifiers were fitted."""
