"""Weights of Hugging Face, timm and open_clip as ours, and ours as theirs."""
