"""Lexical search: terms, BM25, the inverted index, and its cache."""
