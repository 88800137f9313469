"""The endpoints of one memory: the methods of `Memory` and `MemoryView`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

import evomem
from evomem.checks import MAX_TURNS
from evomem.forgetting import Receipt
from evomem.inspector.words import history_with
from evomem.memory import Memory
from evomem.memory_view import MemoryView, Point
from evomem.records import MAX_LABEL, Record
from evomem.service import models
from evomem.service.endpoints import (
    Forgettable,
    Id,
    Past,
    Readable,
    Seen,
    Writable,
    access_of,
    answer,
    condition,
    service_of,
    sources,
)
from evomem.service.names import join_name, split_name
from evomem.service.wire import hit_to_json, zone_from_text
from evomem.store import Namespace

router = APIRouter(prefix="/v1")
PAGE = 1000  # maximum number of turns or names on one page
ONE = "/memories/{memory:path}"
NOW = Past(None, None, None)

Times = Annotated[str | None, Query(max_length=512, description="ISO 8601 with a time zone")]
Labels = Annotated[list[str] | None, Query(description='"" stands for turns without a source')]
Limit = Annotated[int, Query(ge=1, le=PAGE)]


@router.get("", tags=["service"])
async def about(request: Request) -> dict[str, Any]:
    """Return the version, the encoder, and the key's rights."""
    service, access = service_of(request), access_of(request)
    return {
        "evomem": evomem.__version__,
        "encoder": asdict(service.db.spec),
        "key": {
            "id": access.key,
            "prefix": list(access.prefix),
            "rights": sorted(access.rights),
        },
        "read_only": service.settings.read_only,
    }


@router.get("/memories", tags=["memories"], response_model=models.Names)
async def list_memories(
    request: Request,
    prefix: Annotated[str, Query(description="labels joined by slashes")] = "",
    after: str = "",
    limit: Limit = 100,
    sizes: bool = False,
) -> Response:
    """Return the memories that the key may read and that begin with `prefix`."""
    below = readable_below(request, prefix)
    db = service_of(request).db
    turns: Mapping[Namespace, int] | None = None
    if sizes:
        turns = await service_of(request).run(db.sizes, *below)
    namespaces = (
        list(turns) if turns is not None else await service_of(request).run(db.memories, *below)
    )
    first = split_name(after)
    remaining = [names for names in namespaces if names > first]
    last = join_name(remaining[limit - 1]) if len(remaining) > limit else None
    page = remaining[:limit]
    return answer(
        {
            "memories": [list(names) for names in page],
            "turns": None if turns is None else [turns[names] for names in page],
            "next": last,
        }
    )


def readable_below(request: Request, prefix: str) -> Namespace:
    """Return the labels that names begin with if the key may read them. Raises `AccessDenied`."""
    access, labels = access_of(request), split_name(prefix)
    if labels != access.prefix[: len(labels)]:
        access.check("read", labels)
    access.check("read", access.prefix)
    return max(labels, access.prefix, key=len)


# one turn ----------------------------------------------------------------------------------


@router.post(ONE + "/turns", tags=["turns"], response_model=models.RecordOut)
async def add(memory: Writable, turn: models.NewTurn, request: Request) -> Response:
    """Add one turn; once this returns, it survives a crash."""
    record = await memory.aadd(**turn.model_dump())
    service_of(request).metrics.turns.inc()
    return _record(record, request)


@router.get(ONE + "/turns", tags=["turns"], response_model=models.Page)
async def history(
    memory: Readable,
    past: Seen,
    request: Request,
    after: Annotated[int, Query(ge=0, le=MAX_TURNS)] = 0,
    limit: Limit = 100,
    since: Times = None,
    until: Times = None,
    session: str | None = None,
    role: str | None = None,
    where: Annotated[str | None, Query(description="metadata, as JSON")] = None,
    source: Labels = None,
    not_source: Labels = None,
    all: Annotated[bool, Query(description="also turns that were replaced")] = False,
    speaker: str | None = None,
    words: Annotated[
        str | None, Query(max_length=MAX_LABEL, description="only turns that share a word with it")
    ] = None,
) -> Response:
    """List turns, oldest first, a page at a time."""
    tests = condition(where)

    def read() -> list[Record]:
        seen = past.of(memory)
        list_turns = seen.history if words is None else partial(history_with, seen, words)
        return list_turns(
            after=after,
            limit=limit + 1,
            since=since,
            until=until,
            session=session,
            role=role,
            where=tests,
            source=sources(source),
            not_source=sources(not_source),
            all=all,
            speaker=speaker,
        )

    records = await service_of(request).run(read)
    page = records[:limit]
    request.state.count = len(page)
    following = page[-1].seq if len(records) > limit else None
    return answer({"turns": [record.to_json() for record in page], "next": following})


@router.get(ONE + "/turns/{id}", tags=["turns"], response_model=models.RecordOut)
async def get(memory: Readable, id: Id, past: Seen, request: Request) -> Response:
    """Return one turn."""
    record = await service_of(request).run(lambda: past.of(memory).get(id))
    return _record(record, request)


@router.patch(ONE + "/turns/{id}", tags=["turns"], response_model=models.RecordOut)
async def annotate(
    memory: Writable, id: Id, change: models.Annotation, request: Request
) -> Response:
    """Replace a turn's metadata."""
    return _record(await memory.aannotate(id, change.metadata), request)


@router.post(ONE + "/turns/{id}/correct", tags=["turns"], response_model=models.RecordOut)
async def correct(
    memory: Writable, id: Id, change: models.Correction, request: Request
) -> Response:
    """Replace a turn with a corrected one."""
    record = await memory.acorrect(id, **change.model_dump())
    service_of(request).metrics.turns.inc()
    return _record(record, request)


@router.delete(ONE + "/turns/{id}", tags=["forgetting"], response_model=models.RecordOut)
async def delete(memory: Forgettable, id: Id, request: Request) -> Response:
    """Hide a turn from everything that the memory returns; its text stays on disk until a purge."""
    return _record(await memory.adelete(id), request)


@router.post(ONE + "/turns/{id}/purge", tags=["forgetting"], response_model=models.ReceiptOut)
async def purge(memory: Forgettable, id: Id, how: models.Purge, request: Request) -> Response:
    """Forget a turn for good, with its influence on later turns."""
    return _receipt(await memory.apurge(id, forks=how.forks), request)


@router.get(ONE + "/turns/{id}/influence", tags=["turns"], response_model=models.InfluenceOut)
async def influence(memory: Readable, id: Id, past: Seen, request: Request) -> Response:
    """Return which later turns and answers a turn has influenced, here and in forks."""
    result = await service_of(request).run(lambda: past.of(memory).influence(id))
    return answer(result.to_json())


# questions ---------------------------------------------------------------------------------


@router.post(ONE + "/search", tags=["questions"], response_model=models.Hits)
async def search(memory: Readable, question: models.Search, request: Request) -> Response:
    """Return the turns that answer a query best, each with the parts of its score."""
    past, values = asked(question)
    seen = await _at(past, memory, request)
    hits = await seen.asearch(**values)
    request.state.count = len(hits)
    return answer({"hits": [hit_to_json(hit) for hit in hits]})


@router.post(ONE + "/context", tags=["questions"], response_model=models.ContextOut)
async def context(memory: Readable, question: models.Ask, request: Request) -> Response:
    """Return the best turns for a query as text for a prompt."""
    past, values = asked(question)
    seen = await _at(past, memory, request)
    text = await seen.acontext(**values)
    request.state.count = len(text.ids)
    return answer({"text": str(text), "ids": text.ids})


# the memory as a whole ---------------------------------------------------------------------


@router.post(ONE + "/fork", tags=["memories"], response_model=models.ForkOut)
async def fork(memory: Writable, how: models.Fork, request: Request) -> Response:
    """Create a memory that begins with this one's present or past turns, and is independent."""
    service, past = service_of(request), Past(how.at, how.said, how.added)
    made = await service.run(lambda: past.of(memory).fork(*how.labels))
    return answer({"memory": list(made.namespace)})


@router.post(ONE + "/reread", tags=["memories"], response_model=models.RereadOut)
async def reread(memory: Writable, request: Request) -> Response:
    """Read all turns again in the order in which they were said; their seqs change."""
    turns = await memory.areread()
    request.state.count = turns
    return answer({"turns": turns})


@router.post(ONE + "/expire", tags=["forgetting"], response_model=models.ReceiptOut)
async def expire(memory: Forgettable, what: models.Expire, request: Request) -> Response:
    """Purge all turns that meet every given condition."""
    return _receipt(await memory.aexpire(**what.model_dump()), request)


@router.get(ONE, tags=["memories"], response_model=models.MemoryOut)
async def describe(memory: Readable, past: Seen, request: Request) -> Response:
    """Return how many turns the memory has, now or at a point in the past."""

    def read() -> dict[str, Any]:
        seen = past.of(memory)
        seq, time, added = seen._point or Point()
        return {
            "memory": list(memory.namespace),
            "turns": len(seen),
            "seq": seq,
            "said": time and time.isoformat(),
            "added": added and added.isoformat(),
        }

    return answer(await service_of(request).run(read))


@router.delete(ONE, tags=["forgetting"], response_model=models.ReceiptOut)
async def drop(memory: Forgettable, request: Request, below: bool = False) -> Response:
    """Forget the whole memory and, with `below`, all memories whose names begin with its name."""
    service = service_of(request)
    if below:
        return _receipt(await service.run(service.db.drop, *memory.namespace), request)
    return _receipt(await memory.adrop(), request)


# -------------------------------------------------------------------------------------------


def asked(question: models.Question) -> tuple[Past, dict[str, Any]]:
    """Return the point in the past of a question, and the arguments of `search`."""
    values = question.model_dump()
    values["zone"] = None if question.zone is None else zone_from_text(question.zone)
    past = Past(*(values.pop(name) for name in Past._fields))
    if question.trust is not None:
        values["trust"] = {label or None: weight for label, weight in question.trust.items()}
    return past, values


async def _at(past: Past, memory: Memory, request: Request) -> MemoryView:
    return memory if past == NOW else await service_of(request).run(past.of, memory)


def _record(record: Record, request: Request) -> Response:
    request.state.count = 1
    return answer(record.to_json())


def _receipt(receipt: Receipt, request: Request) -> Response:
    request.state.count = receipt.turns
    return answer(receipt.to_json())
