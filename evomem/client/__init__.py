"""The client of a service: memories over HTTP, used like local ones (docs/operations/service.md).

A method describes its requests; two small drivers make them, one synchronous, one asynchronous.
"""

from __future__ import annotations

import os
from datetime import timezone, tzinfo
from typing import TYPE_CHECKING

from evomem._extras import require
from evomem.checks import check_zone

if TYPE_CHECKING:
    from evomem.client.database import RemoteDatabase

KEY_VARIABLE = "EVOMEM_KEY"


def connect(
    url: str,
    *,
    key: str | None = None,
    timeout: float = 60.0,
    verify: bool | str = True,
    zone: str | tzinfo = timezone.utc,
) -> RemoteDatabase:
    """Return the database of a service (`evomem serve`); makes no request yet.

    It has the methods, arguments, results and errors of `Database`, and its memories those of `Memory`;
    methods that need the database itself raise `ServiceError`. The client gives every turn an id, so
    that a request whose response was lost can be repeated safely.

    Args:
        url: The service's address, such as `"https://memory.example.com"`.
        key: A key from `evomem keys create`; None for `$EVOMEM_KEY`, or no key if that is not set.
        timeout: Seconds to wait for a connection, and for each chunk of a response.
        verify: Whether to check the service's certificate; or a file with the authorities to trust.
        zone: The time zone of queries, as in `evomem.open`; with a name or a fixed offset.

    Raises:
        ServiceError: The URL is invalid.
        QueryError: There is no such time zone.
        MissingExtra: httpx is not installed.
    """
    require("httpx", extra="client")
    from evomem.client.database import RemoteDatabase
    from evomem.client.transport import Transport

    secret = os.environ.get(KEY_VARIABLE) if key is None else key
    return RemoteDatabase(Transport(url, secret or None, timeout, verify), check_zone(zone))
