"""Arguments of Mem0's callers (ids, limits, messages, dates), checked as Mem0 checks them."""

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

IDENTITY = (*OWNERS, "actor_id")  # set by the caller's ids and the speaker, never by metadata


def owner(ids: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids that are given, as text.

    Raises:
        QueryError: An id is blank, contains white space, or is `"*"`, a list or a condition.
    """
    labels = {}
    for name in OWNERS:
        value = ids.get(name)
        if value is None:
            continue
        if isinstance(value, Collection) and not isinstance(value, str):
            raise QueryError(f"{name} is {value!r}: give the id of one owner, as text")
        text = str(value).strip()
        check_owner(name, text)
        if not text or any(char.isspace() for char in text):
            raise QueryError(f"{name} is {value!r}: give an id without white space")
        labels[name] = text
    return labels


def scope(filters: Mapping[str, Any] | None, ids: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters that include the owner's ids; Mem0 2.x has them in the filters, 1.x separately.

    Raises:
        QueryError: No id is given, or an id differs from the one in the filters.
    """
    named = {name: value for name, value in ids.items() if value is not None}
    for name in named:
        if filters and filters.get(name, named[name]) != named[name]:
            raise QueryError(
                f"{name} is {named[name]!r}, but {filters[name]!r} in the filters: give it once"
            )
    scoped = {**(filters or {}), **named}
    if not any(scoped.get(name) is not None for name in OWNERS):
        raise QueryError(
            "filters must contain at least one of: user_id, agent_id, run_id. "
            "Example: filters={'user_id': 'u1'}"
        )
    return {**scoped, **owner(scoped)}


def limit(top_k: object, limit: object) -> int:
    """Return the maximum number of results: `limit` of Mem0 1.x if given, otherwise `top_k` of 2.x.

    Raises:
        QueryError: It is not an integer, or negative.
    """
    count = top_k if limit is None else limit
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise QueryError(f"top_k must be a whole number that is not negative, got {count!r}")
    return count


def threshold(value: object) -> float:
    """Return the minimum score of results; for None, Mem0's default of 0.1.

    Raises:
        QueryError: It is not a number between 0 and 1.
    """
    if value is None:
        return 0.1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise QueryError(f"threshold must be a number between 0 and 1, got {value!r}")
    return float(value)


def expiry(value: object) -> str | None:
    """Return an expiration date as text.

    Raises:
        TurnError: It is not a date.
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
    """Return a time given as seconds since 1970, a `datetime` or ISO 8601 with a time zone.

    Raises:
        TurnError: It has none of these forms.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return as_utc(value)
    try:
        return datetime.fromtimestamp(value, timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise TurnError(f"timestamp {value!r} is not a time: give seconds since 1970") from error


def configuration(config: Any) -> Mapping[str, Any]:
    """Return a configuration as a mapping, from a mapping or the explicitly set fields of a `MemoryConfig`.

    Raises:
        QueryError: It is neither.
    """
    if config is None or isinstance(config, Mapping):
        return config or {}
    if not hasattr(config, "model_fields_set"):
        raise QueryError(f"config must be a mapping or a MemoryConfig, got {type(config).__name__}")
    fields = {name: getattr(config, name) for name in config.model_fields_set}
    if (store := fields.get("vector_store")) is not None:
        options = store.config
        if not isinstance(options, Mapping):
            options = options.model_dump(exclude_unset=True)
        fields["vector_store"] = {"provider": store.provider, "config": options}
    return fields


def note_ignored(call: str, names: Collection[str]) -> None:
    """Log unknown arguments, which are ignored as in Mem0."""
    if names:
        logger.warning("%s: ignoring unknown arguments: %s", call, ", ".join(sorted(names)))


def user_metadata(metadata: Mapping[str, Any] | None, context: str) -> dict[str, Any]:
    """Return metadata as JSON, without the ids of owner and actor, which metadata cannot set.

    Raises:
        TurnError: JSON cannot hold it.
    """
    allowed = dict(metadata or {})
    for name in IDENTITY:
        if name in allowed:
            logger.warning(
                "%s: ignoring metadata[%r] - identity fields cannot be set through metadata",
                context,
                name,
            )
            del allowed[name]
    try:
        return dict(plain_json(allowed))
    except (TypeError, ValueError) as error:
        raise TurnError(f"metadata must be plain JSON: {error}") from error


def turns(messages: object, infer: bool) -> list[dict[str, Any]]:
    """Return messages as payloads with text, role and actor, one per message or one per exchange.

    System messages, tool results and messages without text are left out; of content in parts, only
    text is used. A text that the log cannot hold is cleaned (`evomem.adapter`), and its payload
    records the changes.

    Args:
        messages: A text, a message, or a list of messages.
        infer: Whether a user's message and its answers become one payload (`evomem.pairing`).

    Raises:
        TurnError: `messages` has none of these forms.
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
                'a message must be a dict like {"role": "user", "content": "..."}, '
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
