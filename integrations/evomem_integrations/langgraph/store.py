"""`EvoMemStore`: LangGraph's long-term memory on evomem. A namespace is a memory, an item a turn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    ensure_embeddings,
    validate_op_namespace,
)

import evomem
from evomem._forking import reset_in_child
from evomem.checks import check_whole
from evomem.database import Database
from evomem.encoder import Encoder
from evomem.memory import Memory
from evomem.memory_view import Mode
from evomem.records import Hit, Turn
from evomem_integrations.langgraph.items import (
    Head,
    head_id,
    hide,
    is_head,
    put,
    read,
    read_all,
    read_head,
    refresh,
    turns,
)
from evomem_integrations.langgraph.matching import Namespace, check_filter, lies_in, passes

SWEEP_MINUTES = 5.0


class EvoMemStore(BaseStore):
    """A `BaseStore` whose namespaces are memories of one database. Safe for threads and processes.

    A put is a turn of the namespace's log, read in the light of the items before it; putting a key
    again is a new turn, and the old one is no longer found. A search queries every namespace below the
    prefix with that namespace's state and merges by score.
    """

    supports_ttl = True
    _sweeper: threading.Thread | None

    def __init__(
        self,
        database: Database,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        root: Sequence[str] = ("langgraph",),
        mode: Mode = "evolvable",
        purge: bool = False,
        zone: str | None = None,
    ) -> None:
        """Keep items in a database.

        Args:
            database: An open database; the caller closes it.
            index: `fields` says which parts of a value are read, the whole (`["$"]`) if not given.
                The database's encoder reads them, so `embed` and `dims` are not used.
            ttl: As for LangGraph's other stores.
            root: The labels before every namespace in the database.
            mode: How a query is answered, as in `Memory.search`.
            purge: Whether deleted and expired items are purged, with every replaced value; otherwise
                they are only hidden, and their text stays on disk.
            zone: The time zone in which days in queries are counted; the database's if not given.
        """
        self.database = database
        self.index_config = index
        self.ttl_config = ttl
        self._fields: Sequence[str] = (index or {}).get("fields") or ("$",)
        self._omit_expired = bool((ttl or {}).get("omit_expired"))
        self._root = tuple(root)
        self._mode = mode
        self._purge = purge
        self._zone = zone
        self._make_threads()
        reset_in_child(self._make_threads)

    @classmethod
    @contextmanager
    def from_conn_string(
        cls,
        conn_string: str,
        *,
        encoder: str | Encoder | None = None,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        **options: Any,
    ) -> Iterator[EvoMemStore]:
        """Open a database for as long as the context lasts.

        Args:
            conn_string: Its location, as in `evomem.open`.
            encoder: What reads values, as in `evomem.open`.
            index: As in the constructor; without an `encoder`, its `embed` becomes one.
            ttl: As in the constructor.
            **options: `root`, `mode`, `purge` and `zone`, as in the constructor.
        """
        if encoder is None and index and index.get("embed"):
            from evomem_integrations.langchain.encoder import EmbeddingsEncoder

            encoder = EmbeddingsEncoder(ensure_embeddings(index["embed"]), dim=index.get("dims"))
        with evomem.open(conn_string, encoder) as database:
            store = cls(database, index=index, ttl=ttl, **options)
            try:
                yield store
            finally:
                store.close()

    def close(self) -> None:
        """Stop the sweeper and finish what is being written; the database stays open."""
        self.stop_ttl_sweeper()
        self._writer.shutdown()

    # operations ----------------------------------------------------------------------------

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run all operations; return one result for each.

        Reads see the store as it was before the batch. Of several puts to one key the last counts.

        Raises:
            InvalidNamespaceError: A label of a namespace is not allowed.
            TurnError: A value cannot be stored; nothing was written.
            ValueError: An operation is unknown.
        """
        ops = list(ops)
        results: list[Result] = []
        puts: dict[tuple[Namespace, str], PutOp] = {}
        for op in ops:
            validate_op_namespace(op)
            result: Result = None
            if isinstance(op, GetOp):
                result = self._get(op)
            elif isinstance(op, SearchOp):
                result = self._search(op)
            elif isinstance(op, ListNamespacesOp):
                result = self._list(op)
            elif isinstance(op, PutOp):
                puts.pop((tuple(op.namespace), op.key), None)
                puts[tuple(op.namespace), op.key] = op
            else:
                raise ValueError(f"unknown operation {type(op).__name__}")
            results.append(result)
        self._put(puts)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do as `batch`, without blocking the event loop; writes happen in the order of the calls."""
        ops = list(ops)
        if any(isinstance(op, PutOp) for op in ops):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._writer, self.batch, ops)
        return await asyncio.to_thread(self.batch, ops)

    # time to live --------------------------------------------------------------------------

    def sweep_ttl(self) -> int:
        """Delete the items that have outlived their time; return how many.

        As with `delete`, they are hidden, or purged if the store was created with `purge=True`.
        """
        gone = 0
        for namespace in self._namespaces(()):
            memory = self._memory(namespace)
            for record in memory.history(where={"expires": {"$lt": time.time()}}):
                head = read(memory, namespace, record.turn.session or "")
                if head and head.expired:  # and not replaced or read meanwhile
                    self._remove(memory, head.key, head)
                    gone += 1
        return gone

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> None:
        """Delete expired items from now on in the background; harmless when repeated.

        Args:
            sweep_interval_minutes: How often; that of the store's `ttl`, or every 5 minutes.
        """
        if self._sweeper and self._sweeper.is_alive():
            return
        configured = (self.ttl_config or {}).get("sweep_interval_minutes")
        minutes = sweep_interval_minutes or configured or SWEEP_MINUTES
        self._stop.clear()
        self._sweeper = threading.Thread(
            target=self._sweep, args=(minutes * 60,), name="evomem-sweeper", daemon=True
        )
        self._sweeper.start()

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop the sweeper; say whether it has stopped within `timeout` seconds."""
        self._stop.set()
        if self._sweeper:
            self._sweeper.join(timeout)
        return not (self._sweeper and self._sweeper.is_alive())

    # ---------------------------------------------------------------------------------------

    def _make_threads(self) -> None:
        """Make the writer, when this is made and in a forked child; no sweeper runs yet."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="evomem-store")
        self._stop = threading.Event()
        self._sweeper = None

    def _sweep(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.sweep_ttl()

    def _memory(self, namespace: Namespace) -> Memory:
        return self.database.memory(*self._root, *namespace, zone=self._zone)

    def _namespaces(self, prefix: Namespace) -> list[Namespace]:
        """Return the namespaces below a prefix that were ever written to, sorted."""
        found = self.database.memories(*self._root, *prefix)
        return [names[len(self._root) :] for names in found if len(names) > len(self._root)]

    def _shows(self, head: Head) -> bool:
        return not (self._omit_expired and head.expired)

    def _get(self, op: GetOp) -> Item | None:
        namespace = tuple(op.namespace)
        memory = self._memory(namespace)
        head = read(memory, namespace, op.key)
        if head is None or not self._shows(head):
            return None
        if op.refresh_ttl:
            refresh(memory, head)
        return head.item()

    def _search(self, op: SearchOp) -> list[SearchItem]:
        check_filter(op.filter)
        wanted = _check_page(op.offset, op.limit)
        namespaces = self._namespaces(tuple(op.namespace_prefix))
        asks = bool(op.query and op.query.strip())
        found: list[tuple[Head, float | None]] = []
        if asks:
            ranked = [hit for namespace in namespaces for hit in self._rank(namespace, op, wanted)]
            ranked.sort(key=lambda hit: hit[1], reverse=True)
            found += ranked
        if len(found) < wanted:
            for namespace in namespaces:
                items = read_all(self._memory(namespace), namespace)
                rest = [head for head in items if not (asks and head.indexed)]
                found += [(head, None) for head in rest if self._passes(head, op)]
        page = found[op.offset : wanted]
        for head, _ in page if op.refresh_ttl else ():
            refresh(self._memory(head.namespace), head)
        return [head.found(score) for head, score in page]

    def _passes(self, head: Head, op: SearchOp) -> bool:
        return self._shows(head) and passes(head.value, op.filter)

    def _rank(self, namespace: Namespace, op: SearchOp, wanted: int) -> list[tuple[Head, float]]:
        """Return the best items of one namespace, at least `wanted` if so many pass."""
        memory = self._memory(namespace)
        query = op.query or ""
        if not op.filter:
            hits = memory.search(query, max(1, wanted), mode=self._mode)
            heads = {
                hit.record.id: Head(hit.record, namespace) for hit in hits if is_head(hit.record)
            }
            found = self._items(
                hits, lambda id: heads.get(id) or read_head(memory, namespace, id), op
            )
            if len(found) >= wanted or len(hits) < wanted:
                return found
        heads = {head.record.id: head for head in read_all(memory, namespace)}
        hits = memory.search(query, max(1, len(memory)), mode=self._mode)
        return self._items(hits, heads.get, op)

    def _items(
        self, hits: Iterable[Hit], find: Callable[[str], Head | None], op: SearchOp
    ) -> list[tuple[Head, float]]:
        """Return the items that hits belong to, each once, without those that do not pass."""
        found: dict[str, tuple[Head, float]] = {}
        for hit in hits:
            id = head_id(hit.record)
            head = None if id in found else find(id)
            if head and head.indexed and self._passes(head, op):
                found[id] = head, hit.score
        return list(found.values())

    def _list(self, op: ListNamespacesOp) -> list[Namespace]:
        _check_page(op.offset, op.limit)
        found: dict[Namespace, None] = {}
        for namespace in self._namespaces(()):
            short = namespace[: op.max_depth]
            if short in found or not lies_in(namespace, op.match_conditions):
                continue
            if self._lives(namespace):
                found[short] = None
        return sorted(found)[op.offset : op.offset + op.limit]

    def _lives(self, namespace: Namespace) -> bool:
        memory = self._memory(namespace)
        if not self._omit_expired:
            return len(memory) > 0
        return any(not head.expired for head in read_all(memory, namespace))

    def _put(self, puts: dict[tuple[Namespace, str], PutOp]) -> None:
        """Write what a batch puts and deletes, each namespace's items together and in order."""
        new: dict[Namespace, dict[str, list[Turn]]] = {}
        for (namespace, key), op in puts.items():  # all are checked before any is written
            if op.value is not None:
                new.setdefault(namespace, {})[key] = turns(op, self._fields)
        for namespace, items in new.items():
            put(self._memory(namespace), items)
        for (namespace, key), op in puts.items():
            if op.value is None:
                self._remove(self._memory(namespace), key)

    def _remove(self, memory: Memory, key: str, head: Head | None = None) -> None:
        """Hide or purge an item with all its versions, up to `head` if it is given."""
        if not self._purge:
            hide(memory, memory.history(session=key))
            return
        end = None if head is None else head.record.time + timedelta(microseconds=1)
        memory.expire(session=key, before=end)


def _check_page(offset: int, limit: int) -> int:
    """Return where a page ends; raise `ValueError` unless both are whole numbers of at least 0."""
    return check_whole(offset, "offset", least=0) + check_whole(limit, "limit", least=0)
