"""What needs the rows of several collections at once."""
