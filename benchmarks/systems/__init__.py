"""The systems that benchmarks compare: encoders, evomem itself, and other memory systems."""
