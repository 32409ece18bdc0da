"""What a model is trained for: each objective gives sums and counts, which add up."""
