"""The tools: arguments of `shapes` in, a memory's public methods, a text and a result out.

The server determines the memory (`server.make_server`); no argument can name another.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote as percent

from pydantic import BaseModel

import evomem
from evomem.errors import DuplicateTurn, InputError, NotFound, QueryError
from evomem.memory import Memory
from evomem.memory_view import MemoryView
from evomem.newest import newest
from evomem.quoting import NOTE, one_line, quote, shortened, without_quotes
from evomem.records import Record
from evomem.service.mcp import shapes

SHOWN = 20  # turns that the preview of `forget` lists
SIDE = 4_000  # characters of either side of a turn in a list; `get` and `fetch` return all


@dataclass(frozen=True, slots=True)
class Call:
    """The context of a tool call."""

    memory: Memory
    source: str | None
    """The source of turns that are stored (`Turn.source`)."""
    secret: bytes
    """Signs the tokens of `forget`."""


Answer = tuple[str, BaseModel]
"""The text for the model, and the structured result."""


async def remember(call: Call, args: shapes.Remember) -> Answer:
    """Store a turn."""
    text, reply = without_quotes(args.text), without_quotes(args.reply or "")
    left_out = (text, reply) != (args.text, args.reply or "")
    if left_out and not text.strip():
        raise InputError(
            "the text holds nothing but what was recalled from this memory, which is stored already; "
            "give only what is new"
        )
    try:
        record = await call.memory.aadd(
            text,
            reply=reply if reply.strip() else None,
            session=args.session,
            time=args.time,
            supersedes=args.supersedes,
            id=args.id,
            source=call.source,
        )
    except DuplicateTurn as error:  # whose message has the stored text, which is not quoted there
        raise DuplicateTurn(
            f"the id {args.id!r:.100} is taken by another text, or by a turn that was deleted: use a "
            "new id, and name a turn that is no longer true in supersedes"
        ) from error
    stored = f"Stored as turn {record.seq}, id {record.id}."
    if left_out:
        stored += " Quoted memory was left out: it is stored already."
    time = record.time.isoformat()
    return stored, shapes.RememberOut(id=record.id, seq=record.seq, time=time, left_out=left_out)


async def recall(call: Call, args: shapes.Recall) -> Answer:
    """Return the turns that answer a question."""
    memory = call.memory if args.as_of is None else await _as_of(call.memory, args.as_of)
    if args.max_tokens is not None:
        if args.explain:
            raise QueryError("explain needs the ranking that k gives: leave max_tokens out")
        context = await memory.acontext(
            args.query,
            max_tokens=args.max_tokens,
            session=args.session,
            min_relevance=args.min_relevance,
            rerank=_reranks(memory),
        )
        return _turns(await _records(memory, context.ids))
    hits = [
        replace(hit, record=shortened(hit.record, SIDE))
        for hit in await memory.asearch(
            args.query,
            args.k,
            session=args.session,
            min_relevance=args.min_relevance,
            rerank=_reranks(memory),
        )
    ]
    shown = [shapes.turn_out(hit.record, hit, explain=args.explain) for hit in hits]
    text = quote(hit.record for hit in hits)
    if args.explain:
        text += "\n" + "\n".join(map(_explained, shown))
    return text, shapes.TurnsOut(turns=shown)


async def timeline(call: Call, args: shapes.Timeline) -> Answer:
    """Return turns in their order."""
    filters: dict[str, Any] = {"session": args.session, "since": args.since, "until": args.until}
    if args.after is not None:
        turns = await call.memory.ahistory(after=args.after, limit=args.limit, **filters)
    else:
        turns = await asyncio.to_thread(newest, call.memory, args.limit, **filters)
    return _turns([shortened(turn, SIDE) for turn in turns])


async def get(call: Call, args: shapes.Get) -> Answer:
    """Return one turn."""
    return _turns([await call.memory.aget(args.id)])


async def forget(call: Call, args: shapes.Forget) -> Answer:
    """Show what would be forgotten; with the token of that answer, forget it."""
    gone = await _named(call.memory, args)
    token = _token(call, gone)
    later = await call.memory.ahistory(after=gone[0].seq)
    ids = {record.id for record in gone}
    answers = [record for record in later if ids.intersection(record.turn.recalled)]
    preview = shapes.ForgetOut(
        forgotten=False,
        count=len(gone),
        turns=[
            shapes.Affected(
                id=record.id,
                seq=record.seq,
                time=record.time.isoformat(),
                start=shapes.title_of(record),
            )
            for record in gone[:SHOWN]
        ],
        reread=len([record for record in later if record.id not in ids]),
        answers=len(answers),
        confirm=token,
    )
    if args.confirm is None:
        return _would_forget(gone, preview), preview
    if not hmac.compare_digest(args.confirm.encode(), token.encode()):
        raise InputError(
            "the token does not fit these turns: they have changed since the preview, or it was for "
            "others, or by another server; nothing was forgotten. Call forget without confirm, and "
            "look at the preview again"
        )
    if args.id is not None:
        receipt = await call.memory.apurge(args.id)
    else:
        receipt = await call.memory.aexpire(session=args.session)
    done = preview.model_copy(
        update={
            "forgotten": True,
            "count": receipt.turns,
            "turns": [turn.model_copy(update={"start": ""}) for turn in preview.turns],
            "reread": receipt.reread,
            "confirm": None,
        }
    )
    message = f"Forgot {receipt.turns} turns for good; {receipt.reread} later ones were read again."
    return message, done


async def status(call: Call, args: shapes.Nothing) -> Answer:
    """Describe the memory."""
    count = await asyncio.to_thread(len, call.memory)
    first = await call.memory.ahistory(limit=1)
    last = await asyncio.to_thread(newest, call.memory, 1)
    status = shapes.StatusOut(
        memory="/".join(call.memory.namespace),
        turns=count,
        first=first[0].time.isoformat() if first else None,
        last=last[-1].time.isoformat() if last else None,
        encoder=call.memory._engine.store.spec.name,
        version=evomem.__version__,
    )
    span = f", from {status.first} to {status.last}" if first else ""
    return f"The memory {status.memory} holds {count} turns{span}.", status


async def search(call: Call, args: shapes.Search) -> Answer:
    """Return results for `fetch`."""
    hits = await call.memory.asearch(args.query, 10, rerank=_reranks(call.memory))
    results = [
        shapes.Result(
            id=hit.record.id, title=shapes.title_of(hit.record), url=_url(call.memory, hit.record)
        )
        for hit in hits
    ]
    return _as_json(shapes.SearchOut(results=results))


async def fetch(call: Call, args: shapes.Get) -> Answer:
    """Return one turn in the format of connectors."""
    record = await call.memory.aget(args.id)
    fetched = shapes.FetchOut(
        id=record.id,
        title=shapes.title_of(record),
        text=quote([record]),
        url=_url(call.memory, record),
        metadata={"time": record.time.isoformat(), "session": record.turn.session, "note": NOTE},
    )
    return _as_json(fetched)


def _reranks(memory: MemoryView) -> bool:
    """Say whether hits are re-ranked: always if the database has a re-ranker, of which no model knows."""
    return memory._engine.reranker is not None


def _explained(turn: shapes.TurnOut) -> str:
    """Return a turn's score as the sum of its parts, and the re-ranker's score, which is not one."""
    parts = dict(turn.parts or {})
    again = parts.pop("rerank", None)
    line = f"{one_line(turn.id)}: {turn.score} = {parts}"
    return line if again is None else f"{line}, re-ranked by {again}"


def _turns(records: Sequence[Record]) -> Answer:
    """Return turns as a quotation and as a list."""
    return quote(records), shapes.TurnsOut(turns=[shapes.turn_out(record) for record in records])


def _as_json(value: BaseModel) -> Answer:
    """Return the same JSON as text and as the structured result, for connectors."""
    return value.model_dump_json(), value


def _url(memory: Memory, record: Record) -> str:
    """Return a URI to cite a turn by; it cannot be opened."""
    return "evomem:/" + "".join(
        f"/{percent(part, safe='')}" for part in (*memory.namespace, record.id)
    )


async def _as_of(memory: Memory, point: int | str) -> MemoryView:
    """Return a memory as it was at a turn or a time."""
    if isinstance(point, str) and not point.strip().isdecimal():
        return await asyncio.to_thread(memory.at, time=point)
    return await asyncio.to_thread(memory.at, seq=int(point))


async def _records(memory: MemoryView, ids: Sequence[str]) -> list[Record]:
    """Return turns by their ids, without those that were forgotten meanwhile."""
    records = []
    for id in ids:
        try:
            records.append(await memory.aget(id))
        except NotFound:
            continue
    return records


async def _named(memory: Memory, args: shapes.Forget) -> list[Record]:
    """Return the turns that `forget` is about, in their order; at least one."""
    if (args.id is None) == (args.session is None):
        raise InputError("forget takes either an id or a session")
    if args.id is not None:
        return [await memory.aget(args.id)]
    records = await memory.ahistory(session=args.session)
    if not records:
        raise NotFound(f"{memory!r} has no turns of the session {args.session!r}")
    return records


def _token(call: Call, gone: Sequence[Record]) -> str:
    """Return the token by which exactly these turns are forgotten, of this memory alone."""
    seqs = [(record.seq, record.id) for record in gone]
    about = json.dumps([call.memory.namespace, seqs]).encode()
    return hmac.new(call.secret, about, hashlib.sha256).hexdigest()[:32]


def _would_forget(gone: Sequence[Record], preview: shapes.ForgetOut) -> str:
    more = f"\n... and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
    return (
        f"Nothing is forgotten yet. This would forget {len(gone)} turns for good, with the turns that "
        f"they replaced; {preview.reread} later turns would be read again without them, and "
        f"{preview.answers} answers were written with them in the prompt.\n"
        f"{quote(shortened(record, SIDE // 10) for record in gone[:SHOWN])}{more}\n"
        f"If the user wants this, call forget again with the same arguments and confirm="
        f'"{preview.confirm}".'
    )
