"""Starting the service, after checking that this is safe."""

from __future__ import annotations

import os
import stat
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import uvicorn

from evomem.errors import InputError
from evomem.service.connections import Connection
from evomem.service.key_tables import keys_location
from evomem.service.keys import KeyStore
from evomem.service.settings import Settings

FINISH = 30  # seconds for running requests after a signal to stop
IDLE = 30  # seconds that an idle connection stays open


def check(settings: Settings, *, tls: bool) -> bool:
    """Return whether requests need a key.

    Raises:
        InputError: Other machines could use the service, and it is not protected.
        StoreError: The keys cannot be read.
    """
    location = settings.keys or keys_location(settings.database)
    store = KeyStore(location)
    try:
        now = datetime.now(timezone.utc)
        usable = [
            k for k in store.keys() if not k.revoked and (k.expires is None or k.expires > now)
        ]
        if settings.is_local:
            return store.any()
    finally:
        store.close()
    where = f"{settings.host}:{settings.port}"
    if not usable:
        raise InputError(
            f"{where} can be reached by others, and there is no valid key: make one first, as in "
            "evomem keys create --rights read,write,forget,admin"
        )
    if not (tls or settings.behind_proxy):
        raise InputError(
            f"{where} can be reached by others, and keys would travel in the clear: give --tls-cert "
            "and --tls-key, or --behind-proxy if a proxy ends TLS"
        )
    if not settings.names:
        raise InputError(
            "name the host by which clients call the service, as in --name memory.example.com"
        )
    if "://" not in location and Path(location).exists():
        mode = stat.S_IMODE(os.stat(location).st_mode)
        if mode & 0o077:
            raise InputError(f"the keys in {location} can be read by others: chmod 600 {location}")
    return True


def run(
    settings: Settings, *, workers: int = 1, tls_cert: str | None = None, tls_key: str | None = None
) -> None:
    """Serve until a signal to stop; then accept no more requests, and finish the running ones."""
    settings.to_environment()
    with tempfile.TemporaryDirectory(prefix="evomem-metrics-") as folder:
        if workers > 1:  # the folder in which workers share their counters
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)
        _run(settings, workers, tls_cert, tls_key)


def _run(settings: Settings, workers: int, tls_cert: str | None, tls_key: str | None) -> None:
    uvicorn.run(
        "evomem.service.app:from_environment",
        factory=True,
        http=Connection,
        host=settings.host,
        port=settings.port,
        workers=workers,
        access_log=False,  # it would contain names of memories; evomem has its own
        log_level="warning",
        server_header=False,
        proxy_headers=settings.behind_proxy,
        timeout_graceful_shutdown=FINISH,
        timeout_keep_alive=IDLE,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
