"""The machine whose children are killed, once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.durability.machine import Machine
from tests.durability.trials import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Where trials are run."""
    with Machine() as machine:
        yield Bench(machine, tmp_path_factory.mktemp("bench"))
