"""Benchmarks of quality: retrieval, order, time, precision."""
