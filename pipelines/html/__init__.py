"""From a page's bytes to its images, their addresses and texts."""
