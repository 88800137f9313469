"""Sets of documents and long histories, read from their published layouts."""
