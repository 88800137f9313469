"""Times named in a query, and the turns said at those times."""
