"""The messages of a session of Google's ADK, in the form that `evomem.adapter` takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from evomem.pairing import Message

Event = Any
"""`google.adk.events.Event`."""


@dataclass(frozen=True)
class SessionMessages:
    """The messages of a session, and the events that a rewind removed."""

    messages: list[Message]
    rewound: set[str]
    """Ids of the events that a rewind removed and no later event replaced."""


def session_messages(events: Sequence[Event]) -> SessionMessages:
    """Return the messages of user and agents in these events, without rewound ones.

    A message has its event's id. The first message after a rewind has the id of the message that it
    replaces.
    """
    live, rewound = _live(events)
    messages: list[Message] = [
        {**message, "id": id} for place, id in live.items() for message in _messages(events[place])
    ]
    return SessionMessages(messages, rewound - set(live.values()))


def all_messages(events: Sequence[Event]) -> list[Message]:
    """Return the messages of user and agents in these events, including rewound ones."""
    return [message for event in events for message in _messages(event)]


def text_of(content: Any) -> str:
    """Return the text of a content, without thoughts, tool calls and files."""
    parts = (content.parts if content else None) or ()
    return "\n".join(part.text for part in parts if part.text and not part.thought)


def _live(events: Sequence[Event]) -> tuple[dict[int, str], set[str]]:
    """Return the id of each event that is not rewound, by position, and the ids of rewound events.

    Events are read backwards, as ADK reads them: a rewind removes everything from its invocation on,
    including other rewinds.
    """
    first: dict[str, int] = {}
    for place, event in enumerate(events):
        first.setdefault(event.invocation_id, place)
    live: dict[int, str] = {}
    rewound: set[str] = set()
    place, later = len(events) - 1, -1
    while place >= 0:
        event = events[place]
        invocation = event.actions.rewind_before_invocation_id if event.actions else None
        if not invocation:
            live[place] = event.id
            later = place
        elif first.get(invocation, place) < place:
            start = first[invocation]
            rewound |= {event.id for event in events[start:place]}
            place = start
            if later >= 0:
                live[later] = events[start].id
        place -= 1
    return dict(sorted(live.items())), rewound


def _messages(event: Event) -> Iterator[Message]:
    """Yield the message of an event with text; a tool's result has a user's role and an agent's name."""
    text = text_of(event.content)
    if not text or event.partial:
        return
    from_user = event.author == "user"
    if from_user or event.content.role == "model":
        yield {
            "role": "user" if from_user else "assistant",
            "content": text,
            "id": event.id,
            "time": datetime.fromtimestamp(event.timestamp, timezone.utc),
        }
