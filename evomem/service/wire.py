"""JSON back into the types of `Memory`: records, hits, receipts, errors.

Their `to_json` methods write it. The service and the client share this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from evomem import errors
from evomem.checks import check_zone
from evomem.errors import EvomemError, QueryError, ServiceError, TurnError
from evomem.forgetting import Receipt
from evomem.importing import Imported
from evomem.influence import Influence
from evomem.records import Hit, Record, Turn

Json = Mapping[str, Any]

TURN_FIELDS = (
    "user",
    "assistant",
    "speaker",
    "id",
    "time",
    "session",
    "metadata",
    "source",
    "recalled",
)
KIND = "urn:evomem:"
"""The beginning of a problem's `type`; the name of the error follows."""


def turn_to_json(turn: Turn) -> dict[str, Any]:
    """Return a turn's fields without empty ones."""
    values = {name: getattr(turn, name) for name in TURN_FIELDS}
    values["time"] = turn.time and turn.time.isoformat()
    values["metadata"] = dict(turn.metadata)
    values["recalled"] = list(turn.recalled)
    return {name: value for name, value in values.items() if value}


def turn_from_json(value: object) -> Turn:
    """Return the turn. Raises `TurnError` if the value is not a turn, or has an unknown field."""
    if not isinstance(value, Mapping):
        raise TurnError(f"a turn is an object, got {type(value).__name__}")
    if unknown := [name for name in value if name not in TURN_FIELDS]:
        raise TurnError(
            f"{unknown[0]!r:.60} is not a field of a turn; the fields are {', '.join(TURN_FIELDS)}"
        )
    return Turn(**value)


def record_from_json(value: Json) -> Record:
    """Return what `Record.to_json` wrote."""
    turn = Turn(**{name: value[name] for name in TURN_FIELDS})
    added = datetime.fromisoformat(value["added"])
    return Record(value["seq"], turn, added, value.get("replaced_by"))


def hit_to_json(hit: Hit) -> dict[str, Any]:
    """Return a hit as plain JSON values, and the turns that it replaced as whole records."""
    return {**hit.to_json(), "replaced": [record.to_json() for record in hit.replaced]}


def hit_from_json(value: Json) -> Hit:
    """Return what `hit_to_json` wrote."""
    replaced = tuple(map(record_from_json, value["replaced"]))
    return Hit(
        record_from_json(value), value["score"], value["parts"], replaced, value["relevance"]
    )


def receipt_from_json(value: Json) -> Receipt:
    """Return what `Receipt.to_json` wrote."""
    return Receipt(
        memories=tuple(map(tuple, value["memories"])),
        ids=tuple(value["ids"]),
        turns=value["turns"],
        reread=value["reread"],
        kept=value["kept"],
        clean=value["clean"],
        time=datetime.fromisoformat(value["time"]),
    )


def influence_from_json(value: Json) -> Influence:
    """Return what `Influence.to_json` wrote."""
    return Influence(
        tuple(value["memory"]),
        value["id"],
        tuple(value["direct"]),
        tuple(value["indirect"]),
        tuple(value["answers"]),
        tuple(map(influence_from_json, value["forks"])),
    )


def imported_to_json(imported: Imported) -> dict[str, Any]:
    """Return the result of an import as plain JSON values."""
    return {
        "new": imported.new,
        "replaced": imported.replaced,
        "known": imported.known,
        "deleted": imported.deleted,
        "forgotten": imported.forgotten,
        "first": [turn_to_json(turn) for turn in imported.first],
    }


def imported_from_json(value: Json) -> Imported:
    """Return what `imported_to_json` wrote."""
    return Imported(**{**value, "first": tuple(map(turn_from_json, value["first"]))})


def zone_to_text(zone: tzinfo) -> str:
    """Return the name of a time zone, or its offset from UTC, such as "+03:30".

    Raises:
        QueryError: It has neither.
    """
    if isinstance(zone, ZoneInfo) and zone.key:
        return str(zone.key)
    if isinstance(zone, timezone):
        return datetime(2000, 1, 1, tzinfo=zone).isoformat()[19:]
    raise QueryError(
        f"a service needs the name of a time zone, such as ZoneInfo('Europe/Berlin'), got {zone!r}"
    )


def zone_from_text(text: str) -> tzinfo:
    """Return what `zone_to_text` wrote. Raises `QueryError` if it is not a time zone."""
    if text[:1] in ("+", "-"):
        with suppress(ValueError):
            zone = datetime.fromisoformat(f"2000-01-01T00:00:00{text}").tzinfo
            if zone is not None:
                return zone
    return check_zone(text)


def error_from_json(value: Json, status: int) -> EvomemError:
    """Return the error that a problem represents; `ServiceError` for one that is not ours."""
    name = str(value.get("type", "")).removeprefix(KIND)
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    detail = str(value.get("detail") or f"the service answered with the status {status}")
    if kind is None or kind is errors.MissingExtra:
        return ServiceError(detail)
    error: EvomemError = kind(detail)
    return error
