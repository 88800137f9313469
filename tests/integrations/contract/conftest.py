"""Hosts of frameworks that are not installed are not looked through for examples."""

from __future__ import annotations

from importlib.util import find_spec

HOSTS = {"google_adk_host.py": ("google", "google.adk"), "strands_host.py": ("strands",)}
collect_ignore = [
    host for host, modules in HOSTS.items() if not all(find_spec(name) for name in modules)
]
