"""The settings of the service. Workers get them through the environment."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import asdict, dataclass

VARIABLE = "EVOMEM_SERVICE"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, with its default."""

    database: str = "./evomem.db"
    encoder: str | None = None
    device: str | None = None
    reranker: str | None = None
    """The re-ranker for searches that ask for it: see `evomem.open`."""
    keys: str | None = None
    """Where keys are stored: a file or a PostgreSQL URL; None stores them next to the database."""
    host: str = "127.0.0.1"
    port: int = 8377
    names: tuple[str, ...] = ()
    """Host names that clients use, in addition to those of this machine."""
    origins: tuple[str, ...] = ()
    """Websites whose scripts may call it, such as `https://app.example.com`."""
    in_flight: int = 256
    """Maximum number of concurrent requests."""
    rate: float | None = None
    """Requests a second that one key may make of one worker."""
    max_body: int = 4 << 20
    """Maximum bytes of a body that is one JSON value, or of a line of JSONL."""
    max_upload: int = 1 << 30
    """Maximum bytes of a streamed body."""
    body_seconds: float = 30.0
    """Seconds that a body may take to arrive; for a streamed body, each chunk."""
    behind_proxy: bool = False
    """Whether a proxy in front terminates TLS."""
    access_days: float = 30.0
    """Days for which lines of the access log are kept."""
    lease: float | None = None
    """Seconds that leases of memories last (docs/operations/fleet.md); None for no leases."""
    metrics: bool = False
    traces: bool = False
    read_only: bool = False
    """Whether the service is read-only, whatever a key allows."""

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the service."""
        return self.is_loopback and not self.behind_proxy

    @property
    def is_loopback(self) -> bool:
        """Whether it accepts connections only from this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def to_environment(self) -> None:
        """Pass the settings to the processes that this one starts."""
        os.environ[VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def from_environment(cls) -> Settings:
        """Return the settings that `to_environment` passed, or the defaults."""
        values = json.loads(os.environ.get(VARIABLE, "{}"))
        lists = {name: tuple(values[name]) for name in ("names", "origins") if name in values}
        return cls(**{**values, **lists})
