"""Search by words: terms and BM25, the inverted index, and its cache."""
