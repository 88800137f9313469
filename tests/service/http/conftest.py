"""A service with the hashing encoder, and a client of it. Needs the extra [server]."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

NEEDED = ("fastapi", "httpx", "prometheus_client", "uvicorn")
collect_ignore_glob = [] if all(map(find_spec, NEEDED)) else ["*.py"]


@pytest.fixture(scope="session")
def service():
    """A service of this process with a database in memory, for all tests that leave it as it was."""
    from tests.service.http.running import running

    with running() as served:
        yield served


@pytest.fixture
async def db(service):
    """A client of an empty service: for tests that a database in this process passes, too."""
    client = service.connect()
    yield client
    await client.aclose()
    with service.connect() as other:
        for names in other.memories():
            other.memory(*names).drop()
