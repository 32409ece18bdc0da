"""What a site, a page or an address forbids."""
