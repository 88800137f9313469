"""What a session of Google's ADK says, as messages for `evomem.adapter`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from evomem.pairing import Message

Event = Any
"""`google.adk.events.Event`."""


@dataclass(frozen=True)
class Transcript:
    """What events say, and which of them were taken back."""

    messages: list[Message]
    rewound: set[str]
    """Ids of events that the session was rewound past, and whose places no other event has taken."""


def transcript_of(events: Sequence[Event]) -> Transcript:
    """Return what user and agents said in these events.

    A message has its event's id. The first message after a rewind has the id of the message whose
    place it takes.
    """
    live, rewound = _live(events)
    taken = set(live.values())
    messages: list[Message] = [
        {**message, "id": name}
        for event, name in ((events[place], name) for place, name in live.items())
        for message in _spoken(event)
    ]
    return Transcript(messages, rewound - taken)


def shown(events: Sequence[Event]) -> list[Message]:
    """Return everything that was ever said in these events."""
    return [message for event in events for message in _spoken(event)]


def text_of(content: Any) -> str:
    """Return the text of a content, without thoughts, calls and files."""
    parts = (content.parts if content else None) or ()
    return "\n".join(part.text for part in parts if part.text and not part.thought)


def _live(events: Sequence[Event]) -> tuple[dict[int, str], set[str]]:
    """Return the places of the events that are not rewound, each with its name; the ids of others.

    Read backwards, as the kit does: a rewind takes back everything from its invocation on, other
    rewinds included.
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


def _spoken(event: Event) -> Iterator[Message]:
    """Yield the messages of an event: a tool's result has the role of a user, and an agent as its author."""
    text = text_of(event.content)
    if not text or event.partial:
        return
    asked = event.author == "user"
    if asked or event.content.role == "model":
        yield {
            "role": "user" if asked else "assistant",
            "content": text,
            "id": event.id,
            "time": datetime.fromtimestamp(event.timestamp, timezone.utc),
        }
