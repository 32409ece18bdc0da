"""Pages of archives, indexes and folders, and the candidates that they hold."""
