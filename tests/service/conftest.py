"""A client of version 1 of the protocol's SDK, which lives in a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

OLDER = "mcp==1.30.0"


@pytest.fixture(scope="session")
def older_client(pytestconfig):
    """The interpreter of a virtual environment with version 1 of the SDK, kept between runs."""
    folder = pytestconfig.cache.mkdir("mcp-1")
    python = folder / "bin" / "python"
    make = [[sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", OLDER]]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if not (folder / "ready").exists():
        for command in make:
            try:
                done = subprocess.run(
                    list(map(str, command)), env=bare, capture_output=True, text=True, timeout=300
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"no virtual environment with {OLDER} could be made: {error}")
            if done.returncode:
                pytest.skip(f"no virtual environment with {OLDER}: {done.stderr[-500:]}")
        (folder / "ready").touch()
    return str(python), bare
