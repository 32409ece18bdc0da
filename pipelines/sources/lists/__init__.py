"""Lists of image addresses with texts: CSV, TSV, JSON and Parquet, as people write them."""
