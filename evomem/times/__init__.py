"""Times in the words of a query: what they name, and which turns were said then."""
