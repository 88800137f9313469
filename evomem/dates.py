"""The days, sessions and events that an English query names."""

from evomem.times.dates import asked_days, asked_events, asked_sessions, asks_only_when

__all__ = ["asked_days", "asked_events", "asked_sessions", "asks_only_when"]
