"""`Session`: access to a service that one person starts for one page, as `evomem inspect` does."""

from __future__ import annotations

import hmac
import secrets

from evomem.service.access import Access


class Session:
    """Exchanges a ticket, which is visible in a link, for a key that only the page knows."""

    def __init__(self, access: Access) -> None:
        """Allow `access` to anyone who has the ticket first."""
        self.ticket = secrets.token_urlsafe(32)
        self._key = secrets.token_urlsafe(32)
        self._access = access
        self._is_used = False

    def redeem(self, ticket: str) -> str | None:
        """Return the key for the ticket; None if the ticket is wrong or was redeemed before."""
        if self._is_used or not _equal(ticket, self.ticket):
            return None
        self._is_used = True
        return self._key

    def access_of(self, secret: str) -> Access | None:
        """Return what the key allows; None for every other secret, and for the ticket itself."""
        return self._access if self._is_used and _equal(secret, self._key) else None


def _equal(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())
