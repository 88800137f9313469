"""What an English query says of time: the days and the sessions that it names."""

from evomem.times.dates import asked_days, asked_sessions, asks_only_when

__all__ = ["asked_days", "asked_sessions", "asks_only_when"]
