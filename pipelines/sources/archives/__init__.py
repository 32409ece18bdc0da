"""Web archives (WARC, WAT, WACZ), their indexes, and the candidates that they hold."""
