"""Measurements that a pretrained model makes."""
