"""What a model is trained for: each objective gives sums and counts, so that they add up over batches and machines."""
