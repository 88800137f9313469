"""From a query to hits and to a prompt: candidates, ranking, current values, lines of context."""
