"""The client of a service: memories over HTTP, used as if they were here (docs/operations/service.md).

A method describes the requests that it takes; two thin drivers make them, one blocking, one awaiting.
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
    """Return the database of a service (`evomem serve`). Nothing is asked of it yet.

    It has the methods, arguments, results and errors of `Database`, and its memories those of
    `Memory`; what needs the database itself raises `ServiceError`. Every turn gets an id here, so
    that a request whose answer was lost is made again without harm.

    Args:
        url: Such as `"https://memory.example.com"`.
        key: What `evomem keys create` showed; None for `$EVOMEM_KEY`, and for none if that is not set.
        timeout: Seconds to wait for a connection, and for each piece of an answer.
        verify: Whether to check the service's certificate; or a file with the authorities to trust.
        zone: The time zone of the people who ask, as in `evomem.open`; one with a name or
            a fixed offset.

    Raises:
        ServiceError: The URL is none.
        QueryError: There is no such time zone.
        MissingExtra: httpx is not installed.
    """
    require("httpx", extra="client")
    from evomem.client.database import RemoteDatabase
    from evomem.client.transport import Transport

    secret = os.environ.get(KEY_VARIABLE) if key is None else key
    return RemoteDatabase(Transport(url, secret or None, timeout, verify), check_zone(zone))
