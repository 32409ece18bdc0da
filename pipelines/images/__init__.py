"""Pictures: read with bounds, decoded right, stored once."""
