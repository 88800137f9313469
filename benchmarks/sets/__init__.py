"""Sets of documents and long histories in the layouts in which they are published."""
