"""What people have already: lists of pairs and data sets, with the images that need no fetching."""
