"""Results: output, tables, plots, pages, and figures in documents."""
