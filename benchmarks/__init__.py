"""Benchmarks: `python -m benchmarks <name> --help`. See docs/measurements/benchmarks.md."""
