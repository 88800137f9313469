"""`Adapter`: reads and writes a memory for an agent framework.

host's messages ─► cleaned ─► paired into exchanges ─► log ─► search ─► quoted ─► prompt

A memory that cannot be read or written does not end the agent's run (see `Adapter`).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomem.adapter.counting import counts
from evomem.adapter.messages import label, spoken
from evomem.adapter.shown import Quoted, Shown
from evomem.adapter.texts import clean
from evomem.adapter.writing import MESSAGE, as_turn, held_by, write_exchange
from evomem.checks import (
    check_filter,
    check_k,
    check_min_relevance,
    check_mode,
    check_rerank,
    check_trust,
    check_whole,
)
from evomem.errors import QueryError
from evomem.memory import Memory
from evomem.memory_view import MemoryView
from evomem.pairing import Message, exchanges
from evomem.quoting import HEADER, block, quoted, without_quotes
from evomem.records import Context, Hit, Turn

logger = logging.getLogger(__name__)


class Adapter:
    """Writes conversations to a memory, and reads from it for a prompt.

    Unless `strict` is set, no method raises because of the memory: failures are logged and counted
    (`evomem.adapter.counts`), a failed read returns nothing, and a turn that cannot be written is
    missing in the log.
    """

    def __init__(
        self,
        memory: Memory | Callable[[], Memory],
        *,
        strict: bool = False,
        header: str = HEADER,
        turn_source: str | None = None,
        **options: Any,
    ) -> None:
        """Choose the memory and its search options.

        Args:
            memory: The memory, or a function that opens it.
            strict: Whether errors of the memory are raised.
            header: The text before the recalled turns.
            turn_source: The source of written turns (`Turn.source`).
            **options: For `MemoryView.context`: `max_tokens`, `k`, `mode`, `count_tokens`, filters,
                `trust`, `rerank`.

        Raises:
            QueryError: An option is invalid.
        """
        check_options(options)
        self._memory = memory
        self.strict = strict
        self.header = header
        self.turn_source = turn_source
        self._options = options

    # reading -------------------------------------------------------------------------------

    def recall(
        self, query: str, *, session: str | None = None, shown: Iterable[Message] = ()
    ) -> Context:
        """Return the best turns for `query` as a block for the prompt.

        The block is quoted data between `<memory>` fences; it is empty if there are no hits. Its
        `ids` name the turns in it: pass them to `capture`.

        Args:
            query: What the user said last.
            session: The conversation that asks.
            shown: The messages that the prompt already contains. Turns made of them are left out.
        """
        return self._fenced(self.context(query, session=session, shown=shown))

    async def arecall(
        self, query: str, *, session: str | None = None, shown: Iterable[Message] = ()
    ) -> Context:
        """Do as `recall`, without blocking the event loop."""
        return self._fenced(await self.acontext(query, session=session, shown=shown))

    def context(
        self, query: str, *, session: str | None = None, shown: Iterable[Message] = ()
    ) -> Context:
        """Like `recall`, without fences and header, for a host that has its own."""
        with self.degrading("failed_reads"):
            if text := self._query(query):
                view = self._view(session, shown)
                context = view.context(text, **self._options)
                return Context(str(context), map(view.original, context.ids))
        return _NOTHING

    async def acontext(
        self, query: str, *, session: str | None = None, shown: Iterable[Message] = ()
    ) -> Context:
        """Do as `context`, without blocking the event loop."""
        with self.degrading("failed_reads"):
            if text := self._query(query):
                view = await asyncio.to_thread(self._view, session, shown)
                context = await view.acontext(text, **self._options)
                return Context(str(context), map(view.original, context.ids))
        return _NOTHING

    def search(
        self,
        query: str,
        k: int,
        *,
        session: str | None = None,
        shown: Iterable[Message] = (),
        quote: bool = True,
    ) -> list[Hit]:
        """Return the hits of `context`, best first, for a host that lists results.

        Args:
            query: What the user said last.
            k: How many turns at most.
            session: The conversation that asks.
            shown: The messages that the prompt already contains.
            quote: Whether texts are quoted; False only if the host quotes them.
        """
        with self.degrading("failed_reads"):
            if text := self._query(query):
                view = self._view(session, shown, quoted if quote else _unquoted)
                options = {n: v for n, v in self._options.items() if n in _SEARCH and n != "k"}
                hits = view.search(text, k, **options)
                return [replace(h, record=replace(h.record, turn=_named(h, view))) for h in hits]
        return []

    async def asearch(
        self,
        query: str,
        k: int,
        *,
        session: str | None = None,
        shown: Iterable[Message] = (),
        quote: bool = True,
    ) -> list[Hit]:
        """Do as `search`, without blocking the event loop."""
        prompt = list(shown)
        return await asyncio.to_thread(
            lambda: self.search(query, k, session=session, shown=prompt, quote=quote)
        )

    # writing -------------------------------------------------------------------------------

    def capture(
        self,
        messages: Iterable[Message],
        *,
        session: str | None = None,
        recalled: Sequence[str] = (),
    ) -> bool:
        """Write the messages of the user and the assistant, one turn per exchange.

        With a session and message ids, an exchange that is captured several times is written once, and
        an exchange with another answer, or another text under the same id, replaces the old one
        (`Memory.add(supersedes=)`). Without them, every call adds a turn.

        Args:
            messages: Dictionaries with `role`, `content` and optionally `id`, `name`, `time`, oldest
                first (`evomem.pairing`). Roles other than `user` and `assistant` are left out, and so
                are blocks that `recall` returned.
            session: The conversation.
            recalled: The `ids` of the blocks in the model's prompt.

        Returns:
            Whether all exchanges are in the log.
        """
        place = None if session is None else label(session)
        groups = exchanges(enumerate(spoken(messages, self.header)))
        written = 0
        stored: dict[str, bytes] | None = None
        for exchange in groups:
            with self.degrading("failed_writes"):
                turn = as_turn(exchange, place, recalled, self.turn_source)
                if stored is None:
                    stored = held_by(self.memory, place) if len(groups) > 1 else {}
                first_message = turn.metadata.get(MESSAGE)
                if not first_message or stored.get(first_message) != turn.content:
                    write_exchange(self.memory, turn)
                written += 1
        return written == len(groups)

    async def acapture(
        self,
        messages: Iterable[Message],
        *,
        session: str | None = None,
        recalled: Sequence[str] = (),
    ) -> bool:
        """Do as `capture`, without blocking the event loop."""
        listed = list(messages)
        return await asyncio.to_thread(self.capture, listed, session=session, recalled=recalled)

    # ---------------------------------------------------------------------------------------

    @property
    def memory(self) -> Memory:
        """The memory. Raises the errors of opening it."""
        return self._memory() if callable(self._memory) else self._memory

    @contextlib.contextmanager
    def degrading(self, count: str) -> Iterator[None]:
        """Log and count an error instead of raising it, unless `strict` is set."""
        try:
            yield
        except Exception as error:
            if self.strict:
                raise
            counts.add(count)
            failure = (
                "read: the prompt does not contain it" if count == "failed_reads" else "written"
            )
            logger.warning("The memory could not be %s (%s)", failure, error, exc_info=error)

    def _query(self, query: str) -> str:
        return clean(without_quotes(query, self.header)).text.strip()

    def _view(
        self,
        session: str | None,
        shown: Iterable[Message],
        quote: Callable[[Turn], Turn] = quoted,
    ) -> Quoted:
        place = None if session is None else label(session)
        return Quoted(self.memory, Shown(spoken(shown, self.header), place), quote)

    def _fenced(self, context: Context) -> Context:
        return Context(block(context, self.header), context.ids)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `QueryError` unless these are options of `MemoryView.context`."""
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise QueryError(
            f"{unknown[0]!r} is not an option of context(); the options are {', '.join(_OPTIONS)}"
        )
    check_whole(options.get("max_tokens", 1), "max_tokens", least=1)
    check_k(options.get("k", 1))
    mode = options.get("mode", "hybrid")
    check_mode(mode)
    check_min_relevance(options.get("min_relevance"), mode)
    check_rerank(options.get("rerank", False))
    check_trust(options.get("trust"))
    check_filter(*(options.get(name) for name in _FILTERS))


def _unquoted(turn: Turn) -> Turn:
    return turn


def _named(hit: Hit, view: Quoted) -> Turn:
    return replace(hit.record.turn, id=view.original(hit.record.id))


_FILTERS = ("since", "until", "session", "role", "where", "source", "not_source")


def _names(method: Callable[..., Any]) -> list[str]:
    return [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if name not in ("self", "query") and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]


_SEARCH = _names(MemoryView.search)
_OPTIONS = tuple(dict.fromkeys([*_names(MemoryView.context), *_SEARCH]))
_NOTHING = Context("", ())
