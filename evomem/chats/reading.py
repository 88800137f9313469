"""Reads a source into `Chats`: detects the shape of each value, and converts it to plain messages."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import datetime, timezone, tzinfo
from pathlib import Path
from typing import Any

from evomem.chats import objects, sqlite
from evomem.chats.building import Building, divided
from evomem.chats.detecting import DAMAGE, Detector, shape_named
from evomem.chats.fields import brief, conversation_id, time
from evomem.chats.model import Chats, FileRead, Problem
from evomem.chats.shapes import SHAPES
from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, Talk, header, placed
from evomem.chats.sources import Source, from_bytes, sources
from evomem.chats.spool import Spool
from evomem.chats.stream import parse, values
from evomem.chats.unknown import UnknownShape, unknown
from evomem.errors import InputError, TurnError
from evomem.pairing import as_turns
from evomem.quoting import without_quotes
from evomem.records import MAX_CHARS, as_utc

MAX_WAITING = 20_000
"""Single messages kept in memory while more messages of their conversations may follow."""

_DIVIDED = f"messages of more than {MAX_CHARS:,} characters were divided into several turns"


def formats() -> dict[str, str]:
    """Return the formats that `read` supports: names with descriptions."""
    return {name: SHAPES[name].about for name in sorted(SHAPES)}


def read(
    source: object,
    *,
    format: str | None = None,
    zone: tzinfo | None = None,
    skip_bad: bool = False,
    since: datetime | None = None,
    name: str | None = None,
) -> Chats:
    """Read the conversations in `source`.

    Everything is read and checked before this returns. Memory is bounded by the largest value of
    a file (one conversation, or one line), because conversations are kept on disk.

    Args:
        source: A path (file, folder, zip, gzip, SQLite), the bytes of a file, or objects: messages
            or conversations as dictionaries, or as the classes of OpenAI, Anthropic, LangChain,
            LlamaIndex, Pydantic AI and others.
        format: The name of a format (`formats`); None to detect it from the content.
        zone: The time zone of times without one; None to refuse such times.
        skip_bad: Whether to list unreadable parts in `Chats.problems` instead of raising.
        since: Leave out earlier messages. A message without a time counts with the message before it,
            and is kept if there is none.
        name: The name of the source in errors and places.

    Raises:
        InputError: The source cannot be read, or has no messages; the error names place and reason.

    Examples:
        >>> chats = read([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])
        >>> [message["content"] for talk in chats.conversations for message in talk.messages]
        ['Hi', 'Hello']
    """
    reader = _Reader(shape_named(format), zone, skip_bad, as_utc(since))
    if isinstance(source, str | os.PathLike):
        name = name or Path(source).name or str(source)
        reader.files(sources(Path(source), name))
    elif isinstance(source, bytes | bytearray | memoryview):
        name = name or "the file"
        reader.files(from_bytes(bytes(source), name))
    else:
        name = name or "the source"
        reader.objects(source, name)
    return reader.chats(name)


class _Reader:
    def __init__(
        self, shape: Shape | None, zone: tzinfo | None, skip_bad: bool, since: datetime | None
    ) -> None:
        self._detector = Detector(shape)
        self._zone, self._skip_bad, self._since = zone, skip_bad, since
        self._spool = Spool()
        self._files: list[FileRead] = []
        self._left_out: Counter[str] = Counter()
        self._problems: list[Problem] = []
        self._notes: dict[str, None] = {}
        self._context = Context()
        self._loose: dict[str | None, Building] = {}
        self._name: str | None = None
        self._group: str | None = None
        self._single = True
        self._shapes: Counter[str] = Counter()  # of the file's conversations
        self._count = 0
        self._waiting = 0
        self._before = 0, 0

    def chats(self, name: str) -> Chats:
        """Return the chats that were read.

        Raises:
            InputError: There were no messages.
        """
        if not len(self._spool) and not self._problems:
            left = ", ".join(f"{count} {kind}" for kind, count in self._left_out.items())
            raise InputError(
                f"{name} holds no message of a user or an assistant that has text"
                + (f" (left out: {left})" if left else "")
            )
        left_out = {kind: count for kind, count in self._left_out.items() if count > 0}
        return Chats(self._spool, self._files, left_out, self._problems, list(self._notes))

    def files(self, all_sources: Iterable[Source]) -> None:
        """Read files; several files of one conversation count as one."""
        iterator = iter(all_sources)
        while True:
            try:
                source = next(iterator, None)
                if source is None:
                    break
                self._file(source)
            except InputError as error:
                self._report(error, "the source")
        self._finish()

    def objects(self, source: object, name: str) -> None:
        """Read Python objects."""
        items = objects.items(source)
        self._begin(name)
        for number, item in enumerate([source] if items is None else items, 1):
            where = name if items is None else f"{name}, item {number}"
            self._guarded(self._object, item, where)
        self._finish()

    def _object(self, item: object, where: str) -> None:
        self._value(objects.plain(item, where), where)

    def _begin(self, name: str, group: str | None = None, *, single: bool = True) -> None:
        self._finish()
        self._name, self._group, self._single = name, group, single
        self._before = len(self._spool), self._count
        self._context = Context(left_out=self._left_out, session=group)
        self._shapes = Counter()

    def _finish(self) -> None:
        """Close the conversations of single messages, and record the file."""
        self._close()
        self._loose.clear()
        if self._name is not None:
            shapes = tuple(name for name, _ in self._shapes.most_common())
            conversations, messages = self._before
            self._files.append(
                FileRead(
                    self._name, shapes, len(self._spool) - conversations, self._count - messages
                )
            )
            self._name = None

    def _file(self, source: Source) -> None:
        if source.group is None or source.group != self._group:
            self._begin(source.name, source.group, single=source.single)
        try:
            with source.open() as file:
                start = file.read(len(sqlite.MAGIC))
            if start == sqlite.MAGIC:
                self._database(source)
            else:
                self._json(source)
        except UnknownShape as error:
            if source.single or self._count > self._before[1]:
                self._report(error, source.name)
        except InputError as error:
            self._report(error, source.name)

    def _json(self, source: Source) -> None:
        with source.open() as file:
            for part in values(file, source.name, self._report):
                value = part.value
                if part.line:
                    where = f"{source.name}, line {part.number}"
                elif part.alone:
                    where = source.name
                    if isinstance(value, str):  # some stores encode twice
                        value = parse(value, where)
                else:
                    word = "message" if self._detector.is_message(value) else "conversation"
                    where = f"{source.name}, {word} {part.number}"
                self._guarded(self._value, value, where)

    def _database(self, source: Source) -> None:
        with source.path_on_disk() as path, sqlite.opened(path, source.name) as file:
            tables = sqlite.tables(file)
            shape = next(
                (
                    shape
                    for shape in self._detector.candidates()
                    if any(
                        columns <= table for columns in shape.tables for table in tables.values()
                    )
                ),
                None,
            )
            if shape is None or shape.rows is None:
                raise UnknownShape(
                    f"{source.name} is a SQLite file with the tables "
                    f"{', '.join(sorted(tables)) or 'none'}, of which none is known to hold chats; "
                    "export the conversations as JSON, or read the rows and pass them to "
                    "evomem.chats.read as a list of messages with 'role' and 'content'"
                )
            for talk in shape.rows(file, source.name):
                self._guarded(self._talk, talk, talk.where, shape)

    def _guarded(self, method: Any, value: Any, where: str, *more: Any) -> None:
        """Call a method; raise errors caused by damaged values as evomem's."""
        try:
            method(value, where, *more)
        except UnknownShape as error:
            if not self._single and self._count == self._before[1]:
                raise  # not a chat at all
            self._report(error, where)
        except InputError as error:
            self._report(error, where)
        except DAMAGE as error:
            self._report(InputError(f"{where} is damaged: {type(error).__name__}: {error}"), where)

    def _report(self, error: InputError, where: str) -> None:
        if not self._skip_bad:
            raise error
        reason = str(error)
        for prefix in (f"{where}: ", f"{where} "):
            reason = reason.removeprefix(prefix)
        self._problems.append(Problem(where, reason))

    def _value(self, value: object, where: str) -> None:
        """Read a message, a conversation, or an object that contains some."""
        if isinstance(value, list):
            self._talk(Talk(where, placed(value, where)), where)
            return
        if not isinstance(value, Mapping):
            raise unknown(value, where, self._detector.forced)
        record = self._detector.record_shape(value)
        if record is not None and record.talks is not None:
            for talk in record.talks(value, where):
                self._guarded(self._talk, talk, talk.where, record)
            return
        if self._detector.message_shape(value, loose=True) is not None:
            self._message(value, where, None)
            return
        wrapped = list(self._wrapped(value, where))
        if not wrapped:
            raise unknown(value, where, self._detector.forced)
        for place, inner in wrapped:
            method = self._talk if isinstance(inner, Talk) else self._value
            self._guarded(method, inner, place)

    def _wrapped(self, value: Raw, where: str) -> Iterator[tuple[str, object]]:
        """Yield the conversations and message lists in an object with unknown keys."""
        for key, inner in value.items():
            first = inner[0] if isinstance(inner, list) and inner else None
            if not isinstance(first, Mapping):
                continue
            place = f"{where}, {key!r}"
            if self._detector.record_shape(first) is not None:
                yield from placed(inner, place, key, "conversation")
            elif self._detector.message_shape(first, loose=True) is not None:
                fields = header(value, where)
                fields["id"] = fields["id"] or key
                yield place, Talk(place, placed(inner, place, key), **fields)

    def _talk(self, talk: Talk, where: str, shape: Shape | None = None) -> None:
        zone = timezone.utc if talk.utc and self._zone is None else self._zone
        if talk.utc and self._zone is None:
            self._notes["times that name no zone were read as UTC"] = None
        id = conversation_id(where, talk.id)
        title = talk.title if isinstance(talk.title, str) else None
        building = Building(where, id, time(where, talk.time, zone), title, ordered=talk.ordered)
        if shape is not None and not shape.plain:
            building.shape = shape.name
        if talk.repeats:
            building.seen = set()
            building = self._loose.setdefault(id, building)
        for place, raw in talk.messages:
            if not isinstance(raw, Mapping):
                self._report(InputError(f"{place} must be an object, got {brief(raw)}"), place)
                continue
            if building.seen is not None and isinstance(key := raw.get("id"), str):
                if key in building.seen:
                    continue
                building.seen.add(key)
            self._guarded(self._message, raw, place, building, zone)
        if not talk.repeats:
            self._keep(building)

    def _message(
        self,
        raw: Raw,
        where: str,
        building: Building | None,
        zone: tzinfo | None = None,
    ) -> None:
        """Read a message into its conversation; without one, into the conversation of its session."""
        shape = self._detector.message_shape(raw)
        if shape is None or shape.read_messages is None:
            raise unknown(raw, where, self._detector.forced)
        context = self._context
        context.left_out = self._left_out
        for message in shape.read_messages(raw, where, context):
            if context.machine and message.role == "user":
                if message.text.lstrip().startswith(context.machine):
                    self._left_out["hidden"] += 1
                    continue
            text = without_quotes(message.text)
            if text != message.text and not text.strip():
                self._left_out["recalled memory"] += 1
                continue
            message.text = text
            self._add_message(message, shape, building, zone or self._zone)

    def _add_message(
        self, parsed: ParsedMessage, shape: Shape, building: Building | None, zone: tzinfo | None
    ) -> None:
        moment = time(parsed.where, parsed.time, zone)
        loose = building is None
        if building is None:
            key = parsed.session or conversation_id(parsed.where, self._context.session)
            building = self._loose.setdefault(key, Building(parsed.where, key))
        building.latest = moment or building.latest
        if self._since and building.latest and building.latest < self._since:
            self._left_out["earlier"] += 1
            return
        message = {
            "role": parsed.role,
            "content": parsed.text,
            "name": parsed.name,
            "id": None if parsed.id is None else str(parsed.id),
            "time": moment,
            "session": parsed.session,
            "metadata": parsed.metadata or {},
        }
        parts = divided(message)
        try:
            for part in parts:
                as_turns([part])  # alone, so that an error names this message
        except TurnError as error:
            reason = str(error).removeprefix("message 0: ")
            raise InputError(f"{parsed.where}: {reason}") from error
        if len(parts) > 1:
            self._notes[_DIVIDED] = None
        self._waiting += loose
        building.title = building.title or parsed.title
        building.messages.append(message)
        building.places.append(parsed.where)
        building.shapes[shape.name] += 1
        self._count += len(parts)
        if self._waiting >= MAX_WAITING:
            self._close()

    def _close(self) -> None:
        """Write the conversations of single messages to the spool; more messages may follow."""
        for key, building in self._loose.items():
            self._keep(building, (len(self._files), key))
            building.messages, building.places = [], []
        self._waiting = 0

    def _keep(self, building: Building, key: Hashable = None) -> None:
        if not building.messages:
            return
        conversation = building.conversation()
        self._shapes[conversation.shape] += 1
        self._spool.add(conversation, key)
