"""Benchmarks of what is found: retrieval, order, time, precision."""
