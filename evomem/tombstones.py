"""The facts by which an import recognises a purged turn; stores keep only keyed digests of them.

Two turns are the same if their conversations and questions are: an answer may be regenerated, or
missing in another export. If the source has times, they must be equal, too, so that a later "Thanks."
is not mistaken for a purged one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from evomem.records import Turn

MADE_UP = "chat-"
"""The prefix of session names that an import derives from a conversation's first message."""
LONG_ID = 16  # characters; shorter ids may be counters, unique only in their conversation


def left_by(turn: Turn) -> list[str]:
    """Return the facts that a purged turn leaves."""
    at = turn.time.isoformat() if turn.time else ""
    facts = [_said(turn), _asked(turn, ""), _asked(turn, at), _answered(turn)]
    return facts + _ids(turn, [turn.id or ""])


def sought_by(turn: Turn, ids: Iterable[str]) -> list[str]:
    """Return the facts that this turn would have left if it had been purged.

    Args:
        turn: The turn as an import would write it; without a time if the source has none.
        ids: The ids of its messages.
    """
    at = turn.time.isoformat() if turn.time else ""
    alone = [] if turn.user else [_answered(turn)]
    return [_said(turn), _asked(turn, at), *alone, *_ids(turn, ids)]


def _scope(turn: Turn) -> str:
    session = turn.session or ""
    return "" if session.startswith(MADE_UP) else session


def _said(turn: Turn) -> str:
    return json.dumps(["said", _scope(turn), turn.user, turn.assistant])


def _asked(turn: Turn, at: str) -> str:
    return json.dumps(["asked", _scope(turn), turn.user or turn.assistant, at])


def _answered(turn: Turn) -> str:
    return json.dumps(["answered", _scope(turn), turn.assistant])


def _ids(turn: Turn, ids: Iterable[str]) -> list[str]:
    scope = _scope(turn)
    return [json.dumps(["id", scope, id]) for id in ids if scope or len(id) >= LONG_ID]
