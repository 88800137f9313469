"""`MemoryView`: reading a memory, now or at one point of its log.

Every call reads a consistent snapshot of the log; `evomem.search.searching` explains how a search
does so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from evomem.async_methods import async_method
from evomem.checks import (
    Sources,
    check_filter,
    check_id,
    check_k,
    check_labels,
    check_min_relevance,
    check_mode,
    check_moment,
    check_point,
    check_query,
    check_rerank,
    check_trust,
    check_whole,
    check_zone,
)
from evomem.engine import TRIES, Engine
from evomem.errors import HeadMoved, NotFound, QueryError
from evomem.influence import Influence, find_influence
from evomem.records import Context, Hit, Record
from evomem.search.context_text import fit
from evomem.search.searching import Mode as Mode
from evomem.search.searching import Question, find_hits
from evomem.store import EMPTY_VIEW, Filter, Namespace, View

if TYPE_CHECKING:
    from evomem.answering import Answer, LanguageModel
    from evomem.memory import Memory


class Point(NamedTuple):
    """A point in the past; if several limits are given, all of them apply."""

    seq: int | None = None
    """The last visible turn of the log."""
    time: datetime | None = None
    """Turns said later are not visible."""
    added: datetime | None = None
    """Turns added later are not visible."""


class MemoryView:
    """A memory as it was at one point; read-only. Get one from `Memory.at`."""

    def __init__(
        self,
        engine: Engine,
        namespace: Namespace,
        point: Point | None = None,
        zone: tzinfo | None = None,
    ) -> None:
        self._engine = engine
        self._point = point
        self._own_zone = zone
        self.namespace = namespace

    def __repr__(self) -> str:
        limits = (self._point or Point())._asdict().items()
        at = "".join(f", {name}={limit}" for name, limit in limits if limit is not None)
        return f"{type(self).__name__}({'/'.join(self.namespace)!r}{at})"

    def __len__(self) -> int:
        """Return the number of turns, deleted ones not counted."""
        store = self._engine.store
        with store.snapshot():
            return store.count(self._view())

    def search(
        self,
        query: str,
        k: int = 5,
        *,
        mode: Mode = "hybrid",
        at: int | datetime | str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        session: str | None = None,
        role: str | None = None,
        where: Mapping[str, Any] | None = None,
        source: Sources | None = None,
        not_source: Sources | None = None,
        speaker: str | None = None,
        trust: Mapping[str | None, float] | None = None,
        min_relevance: float | None = None,
        rerank: bool = False,
        now: datetime | str | None = None,
        zone: str | tzinfo | None = None,
    ) -> list[Hit]:
        """Return the turns that answer `query` best, given the memory's state.

        Args:
            query: The question, as the user asked it. The vector of a very long one covers as much
                as the encoder reads at once (`mini`: the first 256 word pieces); lexical search
                uses all words.
            k: How many hits at most; at least 1.
            mode: `"hybrid"` (all signals: `evomem.search.ranking.fuse`), `"evolvable"` (only the
                encoder's vectors) or `"lexical"` (only BM25). In the first two, a question for
                nothing but a time returns only turns of that time (docs/guides/time.md).
            at: Search the memory as of that turn (seq), or the turns said by that time; see `at`.
            since: Only turns said at this time or later.
            until: Only turns said before this time.
            session: Only turns of this session.
            role: Only `"user"`, `"assistant"` or `"exchange"` turns.
            where: Only turns with this metadata, such as `{"topic": "travel"}` or
                `{"stars": {"$gte": 4}}`; docs/guides/filters.md has the operators.
            source: Only turns of this source, or of one of these; None in a list stands for turns
                without a source: `["user", None]`.
            not_source: No turns of this source, or of any of these.
            speaker: Only turns by the speaker of this name.
            trust: Weights of sources, such as `{"web": 0.5, None: 0.8}`, above 0 and at most 1; a
                source that is not named has 1. With a weight of 0.5, a turn loses half of its score
                (the part `"trust"`) before the best `k` are chosen.
            min_relevance: From 0 to 1; those of the best `k` with a lower `Hit.relevance` are left
                out, so that nothing is returned for a question that no turn answers
                (docs/guides/search.md). 0 leaves none out. Not for "lexical".
            rerank: Whether the best 30 hits are ordered by the database's re-ranker
                (`evomem.open(..., reranker=)`); `min_relevance` applies before.
            now: The time of the question, to which "yesterday" is relative. By default the current
                time or, in a view of the past, the time of its newest turn.
            zone: The time zone of the person who asks, such as `"Europe/Berlin"`, to which days
                refer; by default the database's (`evomem.open`).

        Raises:
            QueryError: An argument makes no sense; the message says which and why.
        """
        check_query(query)
        k = check_k(k)
        check_mode(mode)
        condition = check_filter(since, until, session, role, where, source, not_source, speaker)
        weights = check_trust(trust)
        least = check_min_relevance(min_relevance, mode)
        again = check_rerank(rerank)
        local = self._zone(zone)
        moment = check_moment(now, "now")
        if moment is None and at is None and self._point is None:
            moment = datetime.now(timezone.utc)
        question = Question(query, k, mode, condition, weights, moment, local, least, again)
        return find_hits(self._engine, lambda: self._view(at), question, self)

    def context(
        self,
        /,
        query: str,
        *,
        max_tokens: int = 2000,
        k: int = 50,
        mode: Mode = "hybrid",
        count_tokens: Callable[[str], int] | None = None,
        zone: str | tzinfo | None = None,
        **filters: Any,
    ) -> Context:
        """Return the best turns for `query` as text for a prompt: a line for each, oldest first.

        A line is `[2026-03-12 20:00 CET, session monday, id t17] User: …`. Lines are in the order
        in which the turns were said, whenever they were added. If the best turn does not fit, it is
        cut to the part that shares most words with the query, and "[…]" marks omissions; if there
        are other hits, it takes at most half of the budget. So the text is only empty if there are
        no hits. The ids of the turns are in the text's `ids`: store them with the answer, as
        `recalled`.

        Args:
            query: The question.
            max_tokens: The budget; the best turns that fit are taken, in order of rank.
            k: How many turns are considered.
            mode: As in `search`.
            count_tokens: Your model's token counter; the encoder's if not given.
            zone: As in `search`; the lines show times in it.
            **filters: As in `search`, including `trust`, `min_relevance`, `rerank` and `now`.

        Raises:
            QueryError: An argument makes no sense, or `max_tokens` is too small for any text.
        """
        check_whole(max_tokens, "max_tokens", least=1)
        count = count_tokens or self._token_counter()
        local = self._zone(zone)
        hits = self.search(query, k, mode=mode, zone=local, **filters)
        return fit(hits, query, max_tokens, count, local)

    def answer(
        self,
        /,
        question: str,
        llm: LanguageModel | Literal["encoder"] | None = None,
        **options: Any,
    ) -> Answer:
        """Answer a question with a language model that is shown the best turns as a quotation.

        Args:
            question: The question.
            llm: Takes messages and returns a text, such as `evomem.answering.ChatModel`. Without one,
                the answer only holds what a model would be asked. `"encoder"`: the encoder's own
                model answers from its latents of the newest turns, and is shown no text
                (docs/guides/answers.md).
            **options: As in `context`: `max_tokens`, `k`, `mode`, `count_tokens`, filters, `now`, `zone`.
                For `"encoder"`, of these `k` (turns named as support, 5 if not given), `mode`,
                `min_relevance`, `rerank`, `trust`, `now` and `zone`.

        Raises:
            QueryError: An argument makes no sense.
            EncoderError: `"encoder"` is asked, and the encoder cannot write.
            ModelError: The model gave no usable reply.
        """
        from evomem.answering import answer

        return answer(self, question, llm, **options)

    def get(self, id: str) -> Record:
        """Return the turn with this id. Raises `NotFound`, and `TurnError` if it is no string."""
        check_id(id)
        store = self._engine.store
        with store.snapshot():
            view = self._view()
            record = store.find(view, [id]).get(id)
            visible = store.records(view, [record.seq]) if record else {}
        if not visible:
            raise NotFound(f"{self!r} has no turn with the id {id!r}")
        return next(iter(visible.values()))

    def history(
        self,
        *,
        after: int = 0,
        limit: int | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        session: str | None = None,
        role: str | None = None,
        where: Mapping[str, Any] | None = None,
        source: Sources | None = None,
        not_source: Sources | None = None,
        all: bool = False,
        speaker: str | None = None,
    ) -> list[Record]:
        """Return the turns with a seq greater than `after`, oldest first, at most `limit`.

        The filters are those of `search`; `session` and `source` use an index. With `all`, replaced
        turns are included and marked (`Record.replaced_by`); deleted ones are not.

        Raises:
            QueryError: An argument makes no sense; the message says which and why.
        """
        after = check_whole(after, "after", least=0)
        limit = None if limit is None else check_k(limit, "limit")
        condition = check_filter(since, until, session, role, where, source, not_source, speaker)
        store = self._engine.store
        with store.snapshot():
            view = replace(self._view(), with_replaced=all)
            if condition == Filter():
                records = store.history(view, after=after, limit=limit)
            elif condition == Filter(session=session) and limit is None:
                records = store.of_sessions(view, [session or ""])
                records = [record for record in records if record.seq > after]
            else:
                seqs = store.select(view, condition).allowed
                chosen = [] if seqs is None else seqs[seqs > after][:limit].tolist()
                records = list(store.records(view, chosen).values())
            if not all:
                return records
            by = store.replacements(view)
            return [replace(record, replaced_by=by.get(record.seq)) for record in records]

    def influence(self, id: str) -> Influence:
        """Return which later turns and answers a turn has influenced, here and in forks.

        It is computed from the log; nothing is read again. For a purged turn, it returns the
        answers that name the turn as recalled.

        Raises:
            NotFound: There is no such turn, and none that names it.
        """
        with self._engine.store.snapshot():
            influence = find_influence(
                self._engine, self.namespace, self._view(), id, forks=self._point is None
            )
        if influence is None:
            raise NotFound(f"{self!r} has no turn with the id {id!r}, nor one that recalled it")
        return influence

    def at(
        self,
        *,
        seq: int | None = None,
        time: datetime | str | None = None,
        added: datetime | str | None = None,
    ) -> MemoryView:
        """Return the memory as it was at a point in the past; read-only.

        `time` and `added` differ if turns were added later than they were said. Queries are
        embedded with the state after the last visible turn (docs/guides/time.md).

        Args:
            seq: With the turns of the log up to this one.
            time: With the turns said by then, whenever they were added.
            added: With the turns added by then: what was known.

        Raises:
            QueryError: None or several are given, or `seq` is not a point of this log.
        """
        given = [point for point in (seq, time, added) if point is not None]
        if len(given) != 1:
            raise QueryError("at() takes one of seq=, time= and added=")
        with self._engine.store.snapshot():
            view = self._view(seq if time is None else time, check_moment(added, "added"))
        point = Point(view.seq, view.time, view.added)
        return MemoryView(self._engine, self.namespace, point, self._own_zone)

    def fork(self, *labels: str) -> Memory:
        """Create a memory that begins with this one's turns and is independent from then on.

        Its namespace is this one's followed by `labels`. The shared turns are not copied.

        Raises:
            NamespaceError: It exists already.
            QueryError: This is a view without some of the turns before its last one.
        """
        from evomem.memory import Memory  # which builds on this class

        check_labels(labels)
        namespace = (*self.namespace, *labels)
        for _ in range(TRIES):
            with self._engine.store.snapshot():
                view = self._view()
            if not view.memory:
                raise NotFound(f"{self!r} does not exist yet: add a turn before forking it")
            if view.time is not None or view.added is not None:
                raise QueryError(
                    f"{self!r} leaves out turns that the log holds before its last one, and a fork "
                    "shares the log: fork at(seq=), or reread() the memory in order of time first"
                )
            with suppress(HeadMoved):  # dropped meanwhile: look whether there is a new one
                self._engine.store.fork(view, namespace)
                return Memory(self._engine, namespace, zone=self._own_zone)
        raise HeadMoved(f"{self!r} keeps being dropped; try again later")

    asearch = async_method(search)
    acontext = async_method(context)
    aanswer = async_method(answer)
    aget = async_method(get)
    ahistory = async_method(history)
    ainfluence = async_method(influence)
    afork = async_method(fork, write=True)

    # ---------------------------------------------------------------------------------------

    def _view(self, at: int | datetime | str | None = None, added: datetime | None = None) -> View:
        """Return the view at a point; the newest one that this object may see if none is given."""
        seq, time, by = self._point_at(at, added)
        try:
            return self._engine.store.view(self.namespace, seq=seq, time=time, added=by)
        except HeadMoved as error:
            if isinstance(at, int) and at > 0:
                raise QueryError(f"{self!r} is empty: there is no turn {at}") from error
            return EMPTY_VIEW

    def _point_at(
        self, at: int | datetime | str | None = None, added: datetime | None = None
    ) -> Point:
        """Return a point in the past, no later than this object may see."""
        at = check_point(at)
        last, time, by = self._point or Point()
        if isinstance(at, int):
            if last is not None and at > last:
                raise QueryError(f"{self!r} ends at turn {last}: there is no turn {at}")
            last = at
        else:
            time = min(filter(None, (time, at)), default=None)
        return Point(last, time, min(filter(None, (by, added)), default=None))

    def _token_counter(self) -> Callable[[str], int]:
        return self._engine.encoder.count_tokens

    def _zone(self, zone: str | tzinfo | None) -> tzinfo:
        return (self._own_zone or self._engine.zone) if zone is None else check_zone(zone)
