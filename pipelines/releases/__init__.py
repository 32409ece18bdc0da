"""What a decision keeps, as shards with their papers, and the checking of them."""
