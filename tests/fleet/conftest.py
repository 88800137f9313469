"""Modules that only Ray's tests import are not looked through for examples without Ray."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("ray") else ["on_nodes.py", "on_ray.py"]
