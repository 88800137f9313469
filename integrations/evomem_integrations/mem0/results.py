"""Rows of a collection in the form of Mem0's results, and the fields that Mem0 adds to payloads."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from evomem.records import Turn
from evomem_integrations.documents import turn_text
from evomem_integrations.mem0.collection import Item

PROMOTED = (
    "user_id", "agent_id", "run_id", "actor_id", "role", "attributed_to", "expiration_date",
)  # fmt: skip
EARLIER = "mem0_earlier"  # internal metadata: the texts before updates, oldest first
EARLIER_BYTES = 32_768  # the maximum size of `EARLIER`, half of a turn's metadata
EARLIER_COUNT = 256
CORE = {"data", "hash", "created_at", "updated_at", "id", "text_lemmatized", EARLIER, *PROMOTED}


def stamped(payload: dict[str, Any], time: datetime | None) -> dict[str, Any]:
    """Return a payload with the fields that Mem0 adds."""
    data = payload["data"]
    created = payload.get("created_at") or (time or datetime.now(timezone.utc)).isoformat()
    hashed = text_hash(turn_text(data) if isinstance(data, Turn) else data)
    return {**payload, "hash": hashed, "created_at": created, "updated_at": created}


def event(id: str, payload: Mapping[str, Any], infer: bool) -> dict[str, Any]:
    """Return a memory's entry in the result of `add`; `infer` as there."""
    data = payload["data"]
    shown = {
        "id": id,
        "memory": turn_text(data) if isinstance(data, Turn) else data,
        "event": "ADD",
    }
    if infer:
        return shown
    return {**shown, "actor_id": payload.get("actor_id"), "role": payload["role"]}


def item(row: Item) -> dict[str, Any]:
    """Return a row in the form of Mem0's results."""
    payload = row.payload
    extra = {key: value for key, value in payload.items() if key not in CORE}
    shown = {
        "id": row.id,
        "memory": payload["data"],
        "hash": payload.get("hash"),
        "metadata": extra or None,
        "score": None,
        "created_at": payload.get("created_at"),
        "updated_at": payload.get("updated_at"),
    }
    return {**shown, **{key: payload[key] for key in PROMOTED if key in payload}}


def details(score: float, least: float) -> dict[str, Any]:
    """Return Mem0's explanation of a score; the semantic score is the only component."""
    return {
        "score_details": {
            "semantic_score": score,
            "bm25_score": 0.0,
            "entity_boost": 0.0,
            "raw_score": score,
            "max_possible_score": 1.0,
            "final_score": score,
            "threshold": least,
        }
    }


def truncated(versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the earlier versions, without the oldest texts if they exceed `EARLIER_BYTES`."""
    newest = [*versions[:1], *versions[1:][-EARLIER_COUNT:]]
    for place, version in enumerate(newest):
        if len(json.dumps(newest)) <= EARLIER_BYTES:
            break
        newest[place] = {**version, "memory": None}
    return newest


def text_hash(text: str) -> str:
    """Return Mem0's hash of a text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def events(row: Item) -> list[dict[str, Any]]:
    """Return the versions of a memory's text, oldest first, in the form of `history`."""
    payload, events = row.payload, []
    versions = [*payload.get(EARLIER, []), {"memory": payload["data"]}]
    for place, version in enumerate(versions):
        before = versions[place - 1] if place else None
        at = version.get("at") or payload["updated_at"]
        events.append(
            {
                "id": str(uuid.uuid5(uuid.UUID(int=0), f"{row.id}/{at}/{place}")),
                "memory_id": row.id,
                "old_memory": before and before["memory"],
                "new_memory": version["memory"],
                "event": "UPDATE" if before else "ADD",
                "created_at": payload["created_at"],
                "updated_at": at,
                "is_deleted": False,
                "actor_id": payload.get("actor_id"),
                "role": payload.get("role"),
            }
        )
    return events
