"""`EvoMemStore`: LangGraph's long-term memory on evomem: namespaces are memories, items are turns."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from itertools import islice
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
from evomem.errors import HeadMoved
from evomem.lru_cache import LruCache
from evomem.memory import Memory
from evomem.memory_view import Mode
from evomem.records import Hit, Turn
from evomem.times.when import names_time
from evomem_integrations.langgraph.async_embeddings import AsyncEmbeddings, is_async
from evomem_integrations.langgraph.catalogue import Catalogue, Shelf
from evomem_integrations.langgraph.items import (
    Head,
    head_id,
    hide,
    is_piece,
    put,
    read,
    refresh,
    turns,
)
from evomem_integrations.langgraph.matching import Namespace, check_filter, meets_all, passes

SWEEP_MINUTES = 5.0
MAX_CACHE_BYTES = 2**29  # of cached catalogues; a larger one is read again for each search
MAX_RETRIES = 100  # attempts of a search that concurrent writes invalidate


class EvoMemStore(BaseStore):
    """A `BaseStore` whose namespaces are memories of one database. Safe for threads and processes.

    A put appends a turn to the namespace's log, embedded in the context of the items before it.
    Putting a key again appends a new turn and hides the old one. A search queries every namespace
    below the prefix with that namespace's state, and merges the results by score.
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
            index: `fields` lists the parts of a value that are read, by default the whole value
                (`["$"]`). The database's encoder reads them, so `embed` and `dims` are not used.
            ttl: As for LangGraph's other stores.
            root: The labels that precede every namespace in the database.
            mode: The mode of searches, as in `Memory.search`.
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
        self._catalogues: LruCache[Namespace, Catalogue] = LruCache(
            MAX_CACHE_BYTES, lambda catalogue: catalogue.together.nbytes
        )
        self._listed: tuple[Mapping[Namespace, int], list[Namespace]] = {}, []
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
        """Open a database, and close it at the end of the context.

        Args:
            conn_string: The database's location, as in `evomem.open`.
            encoder: The encoder that reads values, as in `evomem.open`.
            index: As in the constructor. Without an `encoder`, its `embed`, which may be
                asynchronous, is used as the encoder.
            ttl: As in the constructor.
            **options: `root`, `mode`, `purge` and `zone`, as in the constructor.
        """
        with ExitStack() as stack:
            if encoder is None and index and index.get("embed"):
                from evomem_integrations.langchain.encoder import EmbeddingsEncoder

                embed: Any = index["embed"]
                if is_async(embed):
                    embed = stack.enter_context(closing(AsyncEmbeddings(embed)))
                encoder = EmbeddingsEncoder(ensure_embeddings(embed), dim=index.get("dims"))
            database = stack.enter_context(evomem.open(conn_string, encoder))
            store = cls(database, index=index, ttl=ttl, **options)
            stack.callback(store.close)
            yield store

    def close(self) -> None:
        """Stop the sweeper and finish pending writes; the database stays open."""
        self.stop_ttl_sweeper()
        self._writer.shutdown()

    # operations ----------------------------------------------------------------------------

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run all operations; return one result for each.

        Reads see the store as it was before the batch. The last of several puts to one key is written.

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
        """Delete expired items; return how many.

        As with `delete`, they are hidden, or purged if the store was created with `purge=True`.
        """
        deleted = 0
        for namespace in self._namespaces(()):
            memory = self._memory(namespace)
            for record in memory.history(where={"expires": {"$lt": time.time()}}):
                head = read(memory, namespace, record.turn.session or "")
                if head and head.expired:  # not replaced or refreshed by someone else
                    self._remove(memory, head.key, head)
                    deleted += 1
        return deleted

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> None:
        """Start to delete expired items in the background; no effect if it is already running.

        Args:
            sweep_interval_minutes: The interval; by default that of the store's `ttl`, or 5 minutes.
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
        """Stop the sweeper; return whether it stopped within `timeout` seconds."""
        self._stop.set()
        if self._sweeper:
            self._sweeper.join(timeout)
        return not (self._sweeper and self._sweeper.is_alive())

    # ---------------------------------------------------------------------------------------

    def _make_threads(self) -> None:
        """Create the writer, in the constructor and in a forked child; the sweeper does not run yet."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="evomem-store")
        self._stop = threading.Event()
        self._sweeper = None

    def _sweep(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.sweep_ttl()

    def _memory(self, namespace: Namespace) -> Memory:
        return self.database.memory(*self._root, *namespace, zone=self._zone)

    def _namespaces(self, prefix: Namespace) -> list[Namespace]:
        """Return all namespaces below a prefix that were ever written to, sorted."""
        names = self.database.memories(*self._root, *prefix)
        return [labels[len(self._root) :] for labels in names if len(labels) > len(self._root)]

    def _is_visible(self, head: Head) -> bool:
        return not (self._omit_expired and head.expired)

    def _get(self, op: GetOp) -> Item | None:
        namespace = tuple(op.namespace)
        head = self._head(namespace, op.key)
        if head is None or not self._is_visible(head):
            return None
        if op.refresh_ttl:
            refresh(self._memory(namespace), head)
        return head.item()

    def _head(self, namespace: Namespace, key: str) -> Head | None:
        """Return an item, from the cached catalogue of its namespace if that is current."""
        cached = self._catalogues.get(namespace)
        if cached is not None and cached.together.is_current():
            return cached.by_key.get((namespace, key))
        return read(self._memory(namespace), namespace, key)

    def _search(self, op: SearchOp) -> list[SearchItem]:
        check_filter(op.filter)
        end = _check_page(op.offset, op.limit)
        query = op.query if op.query and op.query.strip() else None
        candidates = self._candidates(tuple(op.namespace_prefix), query, end, op)
        passing = (hit for hit in candidates if self._passes(hit[0], op))
        page = list(islice(passing, min(op.offset, sys.maxsize), min(end, sys.maxsize)))
        for head, _ in page if op.refresh_ttl else ():
            refresh(self._memory(head.namespace), head)
        return [head.search_item(score) for head, score in page]

    def _candidates(
        self, prefix: Namespace, query: str | None, count: int, op: SearchOp
    ) -> Iterator[tuple[Head, float | None]]:
        """Yield the items below a prefix: those that the query ranks, best first, then the others.

        The first `count` items that pass the filter are in order; later ones may be incomplete.
        """
        cosines_suffice = query is not None and self._mode == "evolvable" and not names_time(query)
        catalogue = self._catalogue(prefix, query if cosines_suffice else None)
        if query is None:
            yield from ((head, None) for head in catalogue.newest_first)
            return
        if cosines_suffice:
            for _ in range(MAX_RETRIES):
                try:
                    best, scores = catalogue.ranked(query)
                    break
                except HeadMoved:
                    catalogue = self._catalogue(prefix, query)
            else:
                raise HeadMoved(
                    f"concurrent writes invalidated {MAX_RETRIES} attempts of this search: retry it "
                    "when fewer writers are active"
                )
            for place, score in zip(best.tolist(), scores.tolist(), strict=True):
                yield catalogue.heads[place], score
        else:
            yield from self._searched_per_memory(catalogue, query, count, op)
        yield from ((head, None) for head in catalogue.newest_first if not head.indexed)

    def _searched_per_memory(
        self, catalogue: Catalogue, query: str, count: int, op: SearchOp
    ) -> Iterator[tuple[Head, float]]:
        """Search each memory for its `count` best items that pass the filter; merge by score."""
        ranked: list[tuple[Head, float]] = []
        for shelf in filter(lambda shelf: shelf.namespace, catalogue.shelves):
            memory = self._memory(shelf.namespace)
            size = max(1, len(shelf.items))
            for k in (max(1, min(count, size)), size):
                hits = memory.search(query, k, mode=self._mode)
                items = _items_of(shelf, hits)
                passing = sum(self._passes(head, op) for head, _ in items)
                if passing >= count or len(hits) < k:
                    break
            ranked += items
        yield from sorted(ranked, key=lambda hit: hit[1], reverse=True)

    def _catalogue(self, prefix: Namespace, query: str | None = None) -> Catalogue:
        """Return the current items below a prefix, to be ranked by `query`."""
        together = self.database.together(*self._root, *prefix, query=query)
        cached = self._catalogues.get(prefix)
        if cached is None or cached.together is not together:
            cached = Catalogue(together, len(self._root), cached)
            self._catalogues.put(prefix, cached)
        return cached

    def _passes(self, head: Head, op: SearchOp) -> bool:
        return self._is_visible(head) and passes(head.value, op.filter)

    def _list(self, op: ListNamespacesOp) -> list[Namespace]:
        _check_page(op.offset, op.limit)
        if self._omit_expired:
            heads = self._catalogue(()).heads
            listed = sorted({head.namespace for head in heads if not head.expired})
        else:
            listed = self._nonempty()
        if op.match_conditions or op.max_depth is not None:
            matching = (name for name in listed if meets_all(name, op.match_conditions))
            listed = sorted({name[: op.max_depth] for name in matching})
        return listed[op.offset : op.offset + op.limit]

    def _nonempty(self) -> list[Namespace]:
        """Return the namespaces that hold items, sorted; cached until a memory changes."""
        sizes = self.database.sizes(*self._root)
        listed_for, listed = self._listed
        if listed_for is not sizes:
            depth = len(self._root)
            listed = sorted(
                labels[depth:] for labels, size in sizes.items() if size and labels[depth:]
            )
            self._listed = sizes, listed
        return listed

    def _put(self, puts: dict[tuple[Namespace, str], PutOp]) -> None:
        """Write a batch's puts and deletes, the items of a namespace together and in order."""
        new: dict[Namespace, dict[str, list[Turn]]] = {}
        for (namespace, key), op in puts.items():  # check all before writing any
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
        end = None if head is None else head.updated + timedelta(microseconds=1)
        memory.expire(session=key, before=end)


def _items_of(shelf: Shelf, hits: Iterable[Hit]) -> list[tuple[Head, float]]:
    """Return the indexed items that the hits belong to, without duplicates."""
    items: dict[str, tuple[Head, float]] = {}
    for hit in hits:
        id = head_id(hit.record.id)
        head = shelf.by_id.get(id)
        if head and head.indexed and id not in items and not is_piece(hit.record.turn.metadata):
            items[id] = head, hit.score
    return list(items.values())


def _check_page(offset: int, limit: int) -> int:
    """Return the end of a page; raise `ValueError` unless both are integers of at least 0."""
    return check_whole(offset, "offset", least=0) + check_whole(limit, "limit", least=0)
