"""The times that a query names, and the turns of that time."""
