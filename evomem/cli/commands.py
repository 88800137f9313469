"""The commands: arguments in, one call to the engine, a result on the screen."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import Any, Literal

from rich.text import Text

from evomem.cli.opening import memory_of, moment_of, open_database, past_of, zone_of
from evomem.cli.screen import Screen, facts, hits_table, influence_table, plain, timeline
from evomem.database import Database
from evomem.errors import InputError
from evomem.memory import Memory

STDIN = "-"


def add(args: Namespace, screen: Screen) -> int:
    """Store one turn."""
    text = _stdin("the text").strip() if args.text == STDIN else args.text
    with open_database(args, screen, create=True) as db:
        memory = memory_of(db, args)
        record = memory.add(
            text,
            role=args.role,
            reply=args.reply,
            speaker=args.speaker,
            id=args.id,
            time=args.time,
            session=args.session,
            metadata=dict(args.metadata),
            source=args.source,
            recalled=args.recalled,
        )
    line = f"turn {record.seq} of {_name(memory)}, id {record.id}"
    screen.result(record.to_json(), Text(plain(line)))
    return 0


def correct(args: Namespace, screen: Screen) -> int:
    """Replace a turn with a corrected one."""
    text = _stdin("the text").strip() if args.text == STDIN else args.text
    with open_database(args, screen) as db:
        memory = memory_of(db, args)
        record = memory.correct(args.id, text, reply=args.reply, time=args.time, source=args.source)
    line = f"turn {record.seq} of {_name(memory)}, id {record.id}, holds in the place of {args.id}"
    screen.result(record.to_json(), Text(plain(line)))
    return 0


def search(args: Namespace, screen: Screen) -> int:
    """Show the turns that best answer a question."""
    with open_database(args, screen, reranker=args.reranker) as db:
        memory = memory_of(db, args)
        hits = past_of(memory, args).search(args.query, args.k, **_asked(args))
        if not hits:
            _say_nothing_found(db, memory, screen)
    value = {"query": args.query, "mode": args.mode, "hits": [hit.to_json() for hit in hits]}
    screen.result(value, *([hits_table(hits, zone_of(args))] if hits else []))
    return 0 if hits else 1


def context(args: Namespace, screen: Screen) -> int:
    """Print the turns for a question as text for a prompt."""
    with open_database(args, screen, reranker=args.reranker) as db:
        memory = memory_of(db, args)
        text = past_of(memory, args).context(
            args.query, k=args.k, max_tokens=args.max_tokens, **_asked(args)
        )
        if not text:
            _say_nothing_found(db, memory, screen)
    value = {"query": args.query, "mode": args.mode, "text": str(text), "ids": list(text.ids)}
    screen.result(value, *([Text(plain(text))] if text else []))
    return 0 if text else 1


def ask(args: Namespace, screen: Screen) -> int:
    """Print the answer of a language model or of the encoder, or the prompt for a model."""
    from evomem.answering import ENCODER, OPENAI, ChatModel, LanguageModel

    llm: LanguageModel | Literal["encoder"] | None = None
    if args.model == ENCODER:
        llm = ENCODER
    elif args.model:
        url = args.url or OPENAI
        llm = ChatModel(args.model, url=url, key=os.environ.get("OPENAI_API_KEY"))
    options = {"k": args.k, "max_tokens": args.max_tokens, **_asked(args)}
    options = {name: value for name, value in options.items() if value is not None and value != {}}
    with open_database(args, screen, reranker=args.reranker) as db:
        memory = memory_of(db, args)
        answer = past_of(memory, args).answer(args.query, llm, **options)
        cited = [memory.get(id) for id in answer.cited]
    value = {
        "question": args.query,
        "answer": answer.text,
        "cited": [record.to_json() for record in cited],
        "ids": list(answer.ids),
        "messages": list(answer.messages),
    }
    if llm is None:
        screen.note("no --model is given; this is what a model would be asked")
        texts = [f"{message['role']}: {message['content']}" for message in answer.messages]
        screen.result(value, *[Text(plain(text)) for text in texts])
    else:
        screen.result(
            value, Text(plain(answer.text)), *([timeline(cited, zone_of(args))] if cited else [])
        )
    return 0


def _asked(args: Namespace) -> dict[str, Any]:
    """Return the options of a question, named like the arguments of `search`."""
    return {
        "mode": args.mode,
        "since": args.since,
        "until": args.until,
        "session": args.session,
        "role": args.role,
        "where": dict(args.where),
        "source": args.source,
        "not_source": args.not_source,
        "speaker": args.speaker,
        "trust": dict(args.trust),
        "min_relevance": args.min_relevance,
        "rerank": args.rerank or args.reranker is not None,
        "now": moment_of(args, "now"),
        "zone": zone_of(args),
    }


def show(args: Namespace, screen: Screen) -> int:
    """Show the timeline."""
    with open_database(args, screen) as db:
        memory = memory_of(db, args)
        records = past_of(memory, args).history(
            after=args.after,
            limit=args.limit,
            session=args.session,
            source=args.source,
            not_source=args.not_source,
            all=args.all,
            speaker=args.speaker,
        )
        if not records:
            _say_nothing_found(db, memory, screen)
    value = {"turns": [record.to_json() for record in records]}
    screen.result(value, *([timeline(records, zone_of(args))] if records else []))
    return 0 if records else 1


def influence(args: Namespace, screen: Screen) -> int:
    """Show the turns and answers that a turn has influenced."""
    with open_database(args, screen) as db:
        result = memory_of(db, args).influence(args.id)
    screen.result(result.to_json(), influence_table(result))
    return 0


def stats(args: Namespace, screen: Screen) -> int:
    """Show counts and sizes."""
    with open_database(args, screen) as db:
        values = {"database": args.db, **db.stats()}
        counts = [(namespace, len(db.memory(*namespace))) for namespace in db.memories()]
    by_memory = [{"memory": list(namespace), "turns": count} for namespace, count in counts]
    table = facts(values, [("/".join(namespace), count) for namespace, count in counts])
    screen.result({**values, "by_memory": by_memory}, table)
    return 0


def verify(args: Namespace, screen: Screen) -> int:
    """Print each fault."""
    with open_database(args, screen) as db:
        repaired = db.repair() if args.repair else []
        faults = db.verify(args.anchor)
    values = {
        "database": args.db,
        "faults": faults,
        **({"repaired": repaired} if args.repair else {}),
    }
    lines = [*repaired, *(faults or [f"{args.db} is sound"])]
    screen.result(values, *(Text(plain(line)) for line in lines))
    return 1 if faults else 0


def _name(memory: Memory) -> str:
    return "/".join(memory.namespace)


def _say_nothing_found(db: Database, memory: Memory, screen: Screen) -> None:
    names = db.memories()
    if memory.namespace in names:
        screen.note(f"nothing found in {_name(memory)}")
        return
    shown = ", ".join("/".join(name) for name in names[:10]) or "none"
    more = ", ..." if len(names) > 10 else ""
    screen.note(f"there is no memory {_name(memory)}; the database holds: {shown}{more}")


def _stdin(what: str) -> str:
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what} on stdin is not UTF-8 (byte 0x{data[error.start]:02x} at {error.start})"
        ) from error
