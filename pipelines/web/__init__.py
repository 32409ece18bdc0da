"""The web as a guest sees it: permission, crawling, fetching."""
