"""What is measured on candidates, images and pairs, and what recipes keep of them."""
