"""Maintenance of whole databases: migrations, checks, copies, keys, other encoders."""
