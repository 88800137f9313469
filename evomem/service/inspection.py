"""The inspector's endpoints, for what `Memory` does not return."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from evomem.checks import MAX_TURNS
from evomem.errors import NotFound
from evomem.inspector.alone import Alone
from evomem.inspector.preview import preview
from evomem.inspector.similarity import similarity
from evomem.inspector.tree import Node, forks, nodes
from evomem.memory_view import MemoryView
from evomem.service import inspection_models as models
from evomem.service.endpoints import Id, Past, Readable, Seen, access_of, answer, service_of
from evomem.service.memories import ONE, Limit, asked, readable_below
from evomem.service.models import Search
from evomem.service.names import join_name, split_name
from evomem.service.wire import hit_to_json

router = APIRouter(prefix="/v1", tags=["inspection"])
SESSIONS = 500  # names of sessions in an overview
FORKS = 1000  # memories below one that are searched for forks
SHOWN = 20  # turns per kind in the preview of a purge

After = Annotated[int, Query(ge=0, le=MAX_TURNS)]


@router.get("/tree", response_model=models.Nodes)
async def tree(
    request: Request,
    prefix: Annotated[str, Query(description="labels joined by slashes")] = "",
    after: str = "",
    limit: Limit = 100,
) -> Response:
    """Return the memories that the key may read, with their sizes and parents."""
    service, access, below = (
        service_of(request),
        access_of(request),
        readable_below(request, prefix),
    )
    first = split_name(after)

    def look() -> tuple[list[Node], str | None]:
        remaining = [name for name in service.db.memories(*below) if name > first]
        page = remaining[:limit]
        shown = nodes(service.db._engine, page, access.prefix)
        return shown, join_name(page[-1]) if len(remaining) > limit else None

    shown, following = await service.run(look)
    return answer({"memories": [node.to_json() for node in shown], "next": following})


@router.get(ONE + "/inspect", response_model=models.Overview)
async def overview(memory: Readable, past: Seen, request: Request) -> Response:
    """Return an overview of a memory: sessions, times, digest and forks."""
    access = access_of(request)

    def look() -> dict[str, Any]:
        engine = memory._engine
        with engine.store.snapshot():
            shown = nodes(engine, [memory.namespace], access.prefix)
            if not shown:
                raise NotFound(f"there is no memory {'/'.join(memory.namespace)!r}")
            view = past.of(memory)._view()
            period = engine.store.period(view) or (None, None)
            sessions = engine.store.sessions(view)
            first, last = (time and time.isoformat() for time in period)
            return {
                **shown[0].to_json(),
                "turns": engine.store.count(view),
                "last": view.seq,
                "first_time": first,
                "last_time": last,
                "sessions": sessions[:SESSIONS],
                "session_count": len(sessions),
                "digest": view.key.hex(),
                "revision": view.revision,
                "forks": [node.to_json() for node in forks(engine, memory.namespace, FORKS)],
            }

    return answer(await service_of(request).run(look))


@router.get(ONE + "/inspect/replaced", response_model=models.Pairs)
async def replaced(
    memory: Readable, past: Seen, request: Request, after: After = 0, limit: Limit = 50
) -> Response:
    """Return the replaced turns, each with its replacement."""
    pairs, following = await service_of(request).run(lambda: _pairs(past.of(memory), after, limit))
    request.state.count = len(pairs)
    return answer({"pairs": pairs, "next": following})


@router.get(ONE + "/turns/{id}/purge", response_model=models.PreviewOut)
async def preview_purge(memory: Readable, id: Id, request: Request) -> Response:
    """Return what purging a turn would remove and read again; nothing is changed."""
    effects = await service_of(request).run(preview, memory, id, limit=SHOWN)
    request.state.count = 1
    return answer(effects.to_json())


@router.post(ONE + "/inspect/map", response_model=models.MapOut)
async def similarity_map(
    memory: Readable, question: models.MapQuestion, request: Request
) -> Response:
    """Return the cosines of a query with turns, at several points of the log."""
    past = Past(question.at, question.said, question.added)

    def compare() -> dict[str, Any]:
        seen = past.of(memory)
        size = {"points": question.points, "turns": question.turns}
        return similarity(seen, question.query, **size).to_json()

    result = await service_of(request).run(compare)
    request.state.count = len(result["turns"])
    return answer(result)


@router.post(ONE + "/inspect/alone", response_model=models.AloneOut)
async def search_alone(memory: Readable, question: Search, request: Request) -> Response:
    """Search without memory: the encoder reads every text as if it were the first."""
    past, values = asked(question)
    alone: Alone = request.app.state.alone
    result = await service_of(request).run(lambda: alone.search(past.of(memory), **values))
    request.state.count = len(result.hits)
    hits = [hit_to_json(hit) for hit in result.hits]
    return answer({"hits": hits, "compared": result.compared, "remembers": result.remembers})


# -------------------------------------------------------------------------------------------


def _pairs(seen: MemoryView, after: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    store = seen._engine.store
    with store.snapshot():
        view = seen._view()
        by = store.replacements(view)
        chosen = sorted(seq for seq in by if seq > after)[: limit + 1]
        page = chosen[:limit]
        seqs = sorted({*page, *(by[seq] for seq in page)})
        turns = store.records(replace(view, with_replaced=True), seqs)
    pairs = [
        {"old": turns[seq].to_json(), "new": turns[by[seq]].to_json() if by[seq] in turns else None}
        for seq in page
        if seq in turns
    ]
    return pairs, page[-1] if len(chosen) > limit else None
