"""Keeps Mem0, where it is installed, from the user's home and from the network."""

from __future__ import annotations

import os
import tempfile

os.environ["MEM0_TELEMETRY"] = "False"  # both are read when Mem0 is imported
os.environ["MEM0_DIR"] = tempfile.mkdtemp(prefix="mem0")
