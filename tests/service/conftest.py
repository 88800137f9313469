"""A service with the hashing encoder, and a client of it."""

from __future__ import annotations

import pytest

for package in ("fastapi", "httpx", "prometheus_client", "uvicorn"):
    pytest.importorskip(package, reason="needs the extra [server]")

from tests.service.running import running  # noqa: E402


@pytest.fixture(scope="session")
def service():
    """A service of this process with a database in memory, for all tests that leave it as it was."""
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
