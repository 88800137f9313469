"""What Mem0's callers pass in, checked as Mem0 checks it: ids, limits, messages, dates."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Any

from evomem.adapter import plain_json, spoken
from evomem.errors import QueryError, TurnError
from evomem.pairing import exchanges
from evomem.records import as_utc
from evomem_integrations.mem0.filters import OWNERS, check_owner

logger = logging.getLogger(__name__)

IDENTITY = (*OWNERS, "actor_id")  # set by who is asking and who speaks, never by metadata


def owner(ids: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids that are given, as text.

    Raises:
        QueryError: One is blank, holds white space, is `"*"`, or is a list or a condition.
    """
    labels = {}
    for name in OWNERS:
        value = ids.get(name)
        if value is None:
            continue
        if isinstance(value, Collection) and not isinstance(value, str):
            raise QueryError(f"{name} is {value!r}; give the id of one owner, as text")
        text = str(value).strip()
        check_owner(name, text)
        if not text or any(char.isspace() for char in text):
            raise QueryError(f"{name} is {value!r}; give an id without white space")
        labels[name] = text
    return labels


def scope(filters: Mapping[str, Any] | None, ids: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters that name whose memories are meant: 2.x has the ids among them, 1.x apart.

    Raises:
        QueryError: No id is given, or two that differ.
    """
    given = {name: value for name, value in ids.items() if value is not None}
    for name in given:
        if filters and filters.get(name, given[name]) != given[name]:
            raise QueryError(f"{name} is {given[name]!r}, and {filters[name]!r} in the filters")
    scoped = {**(filters or {}), **given}
    if not any(scoped.get(name) is not None for name in OWNERS):
        raise QueryError(
            "filters must contain at least one of: user_id, agent_id, run_id. "
            "Example: filters={'user_id': 'u1'}"
        )
    return {**scoped, **owner(scoped)}


def limit(top_k: object, limit: object) -> int:
    """Return how many results are wanted: `top_k` of 2.x, unless `limit` of 1.x is given.

    Raises:
        QueryError: It is no whole number, or negative.
    """
    count = top_k if limit is None else limit
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise QueryError(f"top_k must be a whole number that is not negative, got {count!r}")
    return count


def threshold(value: object) -> float:
    """Return the least score wanted; None is Mem0's default, 0.1.

    Raises:
        QueryError: It is no number between 0 and 1.
    """
    if value is None:
        return 0.1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise QueryError(f"threshold must be a number between 0 and 1, got {value!r}")
    return float(value)


def expiry(value: object) -> str | None:
    """Return an expiration date as text.

    Raises:
        TurnError: It is no date.
    """
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if value is None:
        return None
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise TurnError(f"expiration_date must be a date like 2027-01-31, got {value!r}") from error


def moment(value: object) -> datetime | None:
    """Return a time: seconds since 1970, a `datetime` or ISO 8601 with a time zone.

    Raises:
        TurnError: It is none of these.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return as_utc(value)
    try:
        return datetime.fromtimestamp(value, timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise TurnError(f"timestamp {value!r} is no time: give seconds since 1970") from error


def configuration(config: Any) -> Mapping[str, Any]:
    """Return a configuration as a mapping, from one or from the fields that were set in a `MemoryConfig`.

    Raises:
        QueryError: It is neither.
    """
    if config is None or isinstance(config, Mapping):
        return config or {}
    if not hasattr(config, "model_fields_set"):
        raise QueryError(f"config must be a mapping or a MemoryConfig, got {type(config).__name__}")
    given = {name: getattr(config, name) for name in config.model_fields_set}
    if (store := given.get("vector_store")) is not None:
        own = store.config
        options = own if isinstance(own, Mapping) else own.model_dump(exclude_unset=True)
        given["vector_store"] = {"provider": store.provider, "config": options}
    return given


def note_ignored(call: str, names: Collection[str]) -> None:
    """Log arguments that are not known, and that Mem0 ignores."""
    if names:
        logger.warning("%s: ignoring unknown arguments: %s", call, ", ".join(sorted(names)))


def own_metadata(metadata: Mapping[str, Any] | None, context: str) -> dict[str, Any]:
    """Return metadata without the keys that say whose a memory is: those are not up to it."""
    own = dict(metadata or {})
    for name in IDENTITY:
        if name in own:
            logger.warning(
                "%s: ignoring metadata[%r] - identity fields cannot be set through metadata",
                context,
                name,
            )
            del own[name]
    try:
        return dict(plain_json(own))
    except (TypeError, ValueError) as error:
        raise TurnError(f"metadata must be plain JSON: {error}") from error


def turns(messages: object, infer: bool) -> list[dict[str, Any]]:
    """Return messages as payloads with their text, role and actor: one each, or one an exchange.

    System messages and messages without text are left out, as Mem0 does, and so are results of tools;
    of content in parts, the text counts. A text that the log cannot hold is changed (`evomem.adapter`):
    the payload says how.

    Args:
        messages: A text, a message, or a list of messages.
        infer: Whether a user's message and everything that answers it are one (`evomem.pairing`).

    Raises:
        TurnError: It is none of these.
    """
    texts = spoken(_messages(messages))
    if not infer:
        return [_payload(message) for message in texts]
    return [
        _payload(exchange.messages[0][1])
        if len(exchange.messages) == 1
        else {"data": exchange.turn(), **exchange.turn().metadata}
        for exchange in exchanges(enumerate(texts))
    ]


def _messages(messages: object) -> list[dict[str, Any]]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    elif isinstance(messages, Mapping):
        messages = [messages]
    if not isinstance(messages, Sequence):
        raise TurnError(
            f"messages must be a text, a dict or a list of dicts, got {type(messages).__name__}"
        )
    result = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise TurnError(
                'a message is a dict like {"role": "user", "content": "..."}, '
                f"got {type(message).__name__}"
            )
        role, content = message.get("role"), message.get("content")
        if isinstance(content, list):
            parts = [part for part in content if isinstance(part, Mapping)]
            content = " ".join(str(p.get("text")) for p in parts if p.get("type") == "text")
        if role == "system":
            continue
        if not isinstance(role, str) or not isinstance(content, str):
            logger.warning("Skipping a message without role or text: %s", sorted(message))
            continue
        name = {"name": str(message["name"])} if message.get("name") else {}
        result.append({"role": role, "content": content, **name})
    return result


def _payload(message: Mapping[str, Any]) -> dict[str, Any]:
    actor = {"actor_id": message["name"]} if "name" in message else {}
    return {**message["metadata"], "data": message["content"], "role": message["role"], **actor}
