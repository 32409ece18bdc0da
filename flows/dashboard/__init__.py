"""The dashboard: what recipes keep and drop, and what they would with other thresholds, on pages in
a browser and as JSON.
"""
