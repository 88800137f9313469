"""The database layer below the log: connections, transactions, dialects, tables."""
