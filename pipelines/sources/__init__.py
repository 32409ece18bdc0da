"""What there is to read, far and near: the bytes, lines and records of sources."""
