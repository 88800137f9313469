"""The command that an agent calls with an event as JSON; at a session's start it returns quoted turns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evomem.errors import InputError
from evomem.hooks.sessions import PROJECT
from evomem.memory import Memory
from evomem.newest import newest
from evomem.quoting import quote, shortened
from evomem.records import Record

START = "SessionStart"
RECALLED_TURNS = 8  # at the start of a session
MAX_SIDE = 600  # characters per side of a turn
MAX_TOTAL = 6_000  # characters; agents cut a hook's output at about 10,000


def parse(text: str) -> dict[str, Any]:
    """Return an event.

    Raises:
        InputError: The text is not an event of an agent.
    """
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"an agent sends an event as JSON on stdin: {error}") from error
    if not isinstance(event, dict) or not isinstance(event.get("hook_event_name"), str):
        raise InputError("the event has no hook_event_name, which every event of an agent has")
    return event


def context(memory: Memory, event: Mapping[str, Any]) -> str:
    """Return the text for the model at the start of a session: the newest turns of its folder.

    Returns:
        The JSON output of a hook, or "" if there are no turns.
    """
    folder = event.get("cwd")
    if not isinstance(folder, str):
        return ""
    turns = newest(memory, RECALLED_TURNS, where={PROJECT: folder})
    shown: list[Record] = []
    for turn in reversed(turns):
        shown.insert(0, shortened(turn, MAX_SIDE))
        if len(quote(shown)) > MAX_TOTAL:
            del shown[0]
            break
    if not shown:
        return ""
    text = (
        "What was said last in this folder, in earlier sessions or before this one was compacted:\n"
    )
    output = {"hookEventName": START, "additionalContext": text + quote(shown)}
    return json.dumps({"hookSpecificOutput": output})
