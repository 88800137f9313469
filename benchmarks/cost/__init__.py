"""Benchmarks of what it costs: time, memory, disk, scale."""
