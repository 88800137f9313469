"""Databases below the log: connections, transactions, dialects, tables."""
