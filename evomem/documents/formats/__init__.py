"""One module for each format: bytes in, `Parsed` out."""
