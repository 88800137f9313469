"""Codex: one JSONL file per session, one item of the Responses API in each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evomem.chats.fields import label
from evomem.chats.shapes import openai_responses
from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, has

_LINES = frozenset({"session_meta", "response_item", "event_msg", "turn_context", "compacted"})
_MACHINE = (
    *(
        "<environment_context>",
        "<user_instructions>",
        "<turn_aborted>",
        "<permissions instructions>",
    ),
    *("<recommended_plugins>", "<skills_instructions>", "<apps_instructions>", "<app-context>"),
    *("<collaboration_mode>", "<user_shell_command>", "<subagent_notification>"),
    *("# AGENTS.md instructions", "These AGENTS.md instructions replace"),
    "The previously provided AGENTS.md instructions no longer apply.",
)
"""Prefixes of texts that the program writes in the user's name."""


def _is_message(raw: Raw) -> bool:
    if isinstance(raw.get("payload"), Mapping) and "type" in raw:
        return raw["type"] in _LINES or "timestamp" in raw
    # files from before September 2025: one line describes the session, the others are bare items
    return "record_type" in raw or (
        has(raw, "id", "timestamp", "instructions") and "role" not in raw
    )


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    payload = raw.get("payload")
    kind = raw.get("type")
    context.machine = _MACHINE
    if kind == "session_meta" and isinstance(payload, Mapping):
        context.session = label(where, payload, ("id", "session_id"))
        return
    if "instructions" in raw and "payload" not in raw:
        context.session = label(where, raw, ("id",))
        return
    if kind != "response_item" or not isinstance(payload, Mapping):
        context.left_out["event"] += 1  # the items contain its text too
        return
    if payload.get("type") != "message":
        counted = openai_responses.machinery(str(payload.get("type")))
        context.left_out[counted or "event"] += 1
        return
    yield from openai_responses.read_messages(
        {"timestamp": raw.get("timestamp"), **payload}, where, context
    )


SHAPE = Shape(
    name="codex",
    about="sessions of Codex: a JSONL file, or a folder of them",
    marks=("timestamp", "type", "payload"),
    is_message=_is_message,
    read_messages=_read_messages,
    beside=("openai-responses",),
)
