"""What `winnow img2dataset` does: lists of addresses become the folders of img2dataset 1.47, by its writers and with our client."""
