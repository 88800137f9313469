"""The days and sessions that an English query names."""

from evomem.times.dates import asked_days, asked_sessions, asks_only_when

__all__ = ["asked_days", "asked_sessions", "asks_only_when"]
