"""A database in memory: what lies on disk is tested where it matters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import evomem


@pytest.fixture
def db() -> Iterator[evomem.Database]:
    """A new database, read by the hashing encoder."""
    with evomem.open(":memory:", encoder="hash") as opened:
        yield opened
