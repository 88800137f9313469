"""Benchmarks of cost: time, memory, disk, scale."""
