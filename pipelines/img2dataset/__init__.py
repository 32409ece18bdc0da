"""What `winnow img2dataset` does: img2dataset's arguments, datasets and writers, and our client."""
