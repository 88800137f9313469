"""The endpoint of many memories at once: the state of `Database.together`, for a client's cache.

A client sends opaque marks of its state, and gets what has changed and, in the same response, the
cosines with a query.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Request
from starlette.responses import Response

from evomem.engine import TRIES
from evomem.errors import HeadMoved
from evomem.service import models
from evomem.service.endpoints import access_of, service_of
from evomem.service.names import join_name
from evomem.service.service import Service
from evomem.store import Extract
from evomem.together import Together

router = APIRouter(prefix="/v1")
_Marks = dict[str, str]
_marks: WeakKeyDictionary[Together, tuple[str, _Marks]] = WeakKeyDictionary()


@router.post("/together", tags=["memories"], response_model=models.TogetherOut)
async def together(asked: models.Together, request: Request) -> Response:
    """Return all turns below a prefix without their texts, and the cosine of each with a query.

    Memories that have not changed are null; so are all of them if the version is the same.
    """
    service, prefix = service_of(request), tuple(asked.prefix)
    request.state.memory = prefix
    access_of(request).check("read", prefix)
    text, count = await service.run(_read, service, asked)
    request.state.count = count
    return Response(text, media_type="application/json")


def _read(service: Service, asked: models.Together) -> tuple[bytes, int]:
    """Return the answer as JSON, and how many turns are in it."""
    for _ in range(TRIES):
        seen = service.db.together(*asked.prefix)
        cosines: list[float] | None = None
        if asked.query is not None:
            try:
                cosines = seen.cosines(asked.query).tolist()
            except HeadMoved:
                continue
        break
    else:
        raise HeadMoved("the memories change too often to be read; try again later")
    version, marks = _marks_of(seen, service.keys.secret())
    memories: dict[str, Any] | None = None
    count = 0
    if version != asked.version:
        memories = {}
        for extract in seen.extracts:
            name = join_name(extract.namespace)
            known = asked.known.get(name) == marks[name]
            memories[name] = None if known else _to_json(extract, marks[name])
            count += 0 if known else len(extract.turns)
    value = {"version": version, "memories": memories, "cosines": cosines}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace"), count


def _marks_of(seen: Together, secret: bytes) -> tuple[str, _Marks]:
    """Return a mark of the state of all memories, and one of each memory."""
    if seen not in _marks:
        marks = {
            join_name(extract.namespace): _digest(secret, extract.mark) for extract in seen.extracts
        }
        _marks[seen] = _digest(secret, marks), marks
    return _marks[seen]


def _digest(secret: bytes, value: object) -> str:
    return hashlib.blake2b(repr(value).encode(), key=secret, digest_size=12).hexdigest()


def _to_json(extract: Extract, mark: str) -> dict[str, Any]:
    return {
        "mark": mark,
        "turns": [
            {
                "seq": turn.seq,
                "id": turn.id,
                "session": turn.session,
                "metadata": turn.metadata,
                "added": turn.added.isoformat(),
            }
            for turn in extract.turns
        ],
    }
