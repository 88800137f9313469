"""The endpoints whose bodies are streams: many turns, and chat files."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import Response, StreamingResponse

from evomem.errors import EvomemError, TurnError
from evomem.memory import BATCH
from evomem.records import Record, Turn, as_utc
from evomem.service import models
from evomem.service.endpoints import Readable, Seen, Writable, access_of, answer, service_of
from evomem.service.guard import too_large
from evomem.service.memories import ONE, PAGE
from evomem.service.replacing import Moved, Replacement, mark_of
from evomem.service.wire import imported_to_json, turn_from_json, turn_to_json, zone_from_text

router = APIRouter(prefix="/v1")
WHOLE = 16  # one transaction of `replace_sessions` may take the bytes of this many other bodies
_LINES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}
FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    ONE + "/turns/many", tags=["turns"], response_model=models.Stored, openapi_extra=_LINES
)
async def add_many(memory: Writable, request: Request, records: bool = False) -> Response:
    """Add turns, one JSON object a line, in order, as they arrive.

    A turn has `user` or `assistant` or both, and may have `speaker`, `id`, `time`, `session`,
    `metadata`, `source` and `recalled`. Turns are committed in batches of 64; an error reports how
    many are `stored`. Turns with ids can be sent again safely. With `records`, the response contains
    all stored turns; without, only their number.
    """
    added: list[Record] = []
    stored = 0
    metrics = service_of(request).metrics.turns
    try:
        async for turns in _batches(request, service_of(request).settings.max_body):
            done = await memory.aadd_many(turns)
            stored += len(done)
            metrics.inc(len(done))
            added += done if records else ()
    except EvomemError as error:
        error.stored = stored  # type: ignore[attr-defined]  # for the answer
        raise
    finally:
        request.state.count = stored
    values = [record.to_json() for record in added] if records else None
    return answer({"stored": stored, "records": values})


@router.post(
    ONE + "/turns/replace", tags=["turns"], response_model=models.Replaced, openapi_extra=_LINES
)
async def replace_sessions(memory: Writable, request: Request) -> Response:
    """Replace all turns of some sessions, in one transaction.

    The first line names the `sessions`, perhaps a `where`, and the `mark` of the turns that they hold
    ("" for none); the turns follow, as in `turns/many`, each with one of the sessions. If they hold
    others, nothing is written, and the response contains these, with their mark.
    """
    access_of(request).check("read", memory.namespace)  # the response may contain stored turns
    service = service_of(request)
    lines = _lines(request, service.settings.max_body)
    try:
        asked = models.Replace.model_validate_json(await anext(lines))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    turns: list[Turn] = []
    size = 0
    async for line in lines:
        size += len(line)
        if size > WHOLE * service.settings.max_body:
            raise too_large(WHOLE * service.settings.max_body)
        if line.strip():
            turns.append(_turn(line, len(turns) + 2))
    replacement = Replacement(turns, asked.mark)
    try:
        records = await memory.areplace_sessions(
            asked.sessions, replacement.build, where=asked.where
        )
    except Moved:
        stored = replacement.held
        if not replacement.is_stored:
            value = {"held": [record.to_json() for record in stored], "mark": mark_of(stored)}
            return answer({"records": None, **value})
        records = replacement.stored
    service.metrics.turns.inc(len(records))
    request.state.count = len(records)
    return answer({"records": [record.to_json() for record in records], "held": None, "mark": None})


@router.post(ONE + "/import", tags=["turns"], response_model=models.ImportedOut, openapi_extra=FILE)
async def import_chats(
    memory: Writable,
    request: Request,
    name: Annotated[str, Query(max_length=512, description="of the file, for messages")] = "upload",
    format: Annotated[str | None, Query(description="see evomem import --formats")] = None,
    timezone: Annotated[str | None, Query(description="of times that name none")] = None,
    since: Annotated[str | None, Query(description="leave out what was said before")] = None,
    skip_bad: bool = False,
    include_forgotten: bool = False,
    dry_run: bool = False,
    turn_source: Annotated[str | None, Query(max_length=512)] = None,
) -> Response:
    """Add what is new in a chat file of any known format; its bytes are the body."""
    earliest = as_utc(since)
    zone = None if timezone is None else zone_from_text(timezone)
    async with on_disk(request) as path:
        imported = await memory.aimport_chats(
            path,
            name=name,
            format=format,
            zone=zone,
            since=earliest,
            skip_bad=skip_bad,
            include_forgotten=include_forgotten,
            dry_run=dry_run,
            turn_source=turn_source,
        )
    if not dry_run:
        service_of(request).metrics.turns.inc(imported.new)
    request.state.count = imported.new
    return answer(imported_to_json(imported))


@router.get(ONE + "/export", tags=["memories"], response_class=StreamingResponse)
async def export(memory: Readable, past: Seen, request: Request) -> Response:
    """Return all turns as `turns/many` takes them, one JSON object a line."""
    service = service_of(request)
    seen = await service.run(past.of, memory)

    async def lines() -> AsyncIterator[bytes]:
        after = 0
        while records := await service.run(seen.history, after=after, limit=PAGE):
            after = records[-1].seq
            turns = [json.dumps(turn_to_json(record.turn)) for record in records]
            yield ("\n".join(turns) + "\n").encode()

    return StreamingResponse(lines(), media_type="application/x-ndjson")


# -------------------------------------------------------------------------------------------


async def _batches(request: Request, longest: int) -> AsyncIterator[list[Turn]]:
    """Yield turns as they arrive, in groups for one transaction each."""
    number, turns = 0, list[Turn]()
    async for line in _lines(request, longest):
        number += 1
        if not line.strip():
            continue
        try:
            turns.append(_turn(line, number))
        except TurnError:
            if turns:
                yield turns
            raise
        if len(turns) == BATCH:
            yield turns
            turns = []
    if turns:
        yield turns


def _turn(line: bytes, number: int) -> Turn:
    """Return the turn of a line. Raises `TurnError`."""
    try:
        return turn_from_json(json.loads(line))
    except (TurnError, TypeError, ValueError, RecursionError) as error:
        raise TurnError(f"line {number}: {error}") from error


async def _lines(request: Request, longest: int) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for part in request.stream():
        *lines, last = part.split(b"\n")
        for line in lines:
            yield bytes(buffer) + line
            buffer.clear()
        buffer += last
        if len(buffer) > longest:
            raise too_large(longest)
    yield bytes(buffer)


@asynccontextmanager
async def on_disk(request: Request) -> AsyncIterator[Path]:
    """Provide a file with the body, in a folder that only this user can read."""
    with tempfile.TemporaryDirectory(prefix="evomem-") as folder:
        path = Path(folder, "upload")
        with path.open("wb") as file:
            async for part in request.stream():
                await asyncio.to_thread(file.write, part)
        yield path
