"""What a model can do, on images and texts that it has not seen."""
