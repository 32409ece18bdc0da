"""Comparisons of speed and memory with peers and with physical limits, as ratios within one run:
`make bench`.
"""
