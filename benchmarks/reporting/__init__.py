"""Output of results: tables, plots, pages, and figures in documents."""
