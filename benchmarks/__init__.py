"""Benchmarks: `python -m benchmarks <name> --help`. See docs/benchmarks.md."""
