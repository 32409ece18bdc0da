"""What a decision keeps, as shards with their papers, and the checking of them."""

SUPERSEDED = "superseded.json"  # in a release that held what was taken down since
