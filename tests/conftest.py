"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import evomem

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EVOMEM_SHARED", ROOT.parent / "shared"))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[evomem.Database]:
    """A new database on disk, read by the hashing encoder."""
    with evomem.open(str(tmp_path / "test.db"), encoder="hash") as opened:
        yield opened
