"""The log of turns in SQL: rows, views of memories, writing, dropping, filters."""
