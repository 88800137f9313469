"""`open` and `Database`: the memories of one store, and the encoder that reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timezone, tzinfo
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from evomem.bulk import Done, add_side_by_side
from evomem.checks import check_labels, check_whole, check_zone
from evomem.encoder import Encoder
from evomem.engine import Engine
from evomem.errors import EncoderError, FingerprintMismatch, NotFound, StoreError, shown
from evomem.forgetting import Receipt, drop
from evomem.integrity import find_key, read_anchor
from evomem.memory import Memory
from evomem.pairing import Message
from evomem.plugins import DEFAULT_ENCODER, load_encoder, store_opener
from evomem.records import Turn
from evomem.rows import Form
from evomem.state import Spec
from evomem.store import Namespace
from evomem.together import Together, TogetherCache

if TYPE_CHECKING:
    from evomem.chats import Conversation
    from evomem.importing import Imported
    from evomem.reranking import Reranker


def open(
    location: str | Path,
    encoder: str | Encoder | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    create: bool = True,
    zone: str | tzinfo = timezone.utc,
    embeddings: Form = "int8",
    reranker: str | Reranker | None = None,
    **options: Any,
) -> Database:
    """Open a database; create it if it does not exist.

    Args:
        location: A file such as `"agent.db"`, `":memory:"`, or a URL whose scheme names a store;
            or the address of a service, for `evomem.connect` without a key or with `$EVOMEM_KEY`.
        encoder: An encoder, or what `load_encoder` takes: `"static:all-MiniLM-L6-v2"`, a model's
            folder, a hub id such as `"MiG-NJU/EvoEmbedding-4B"`. By default the encoder that wrote
            the database, or `mini` for a new one.
        device: The device on which the encoder runs, such as `"cuda"`.
        dtype: The precision it computes in: `"float32"`, `"bfloat16"`, `"float16"`.
        create: Whether to create the database if there is none.
        zone: The time zone of queries, such as `"Europe/Berlin"`: days in queries refer to it, and
            contexts show times in it. A search may name another. It is not stored.
        embeddings: How a new database stores embeddings: with 8 bits per number, or exactly as
            `"float32"`. An existing database keeps its form (`Database.compact` changes it).
        reranker: Scores the best turns again in searches with `rerank=True`: a re-ranker, or what
            `evomem.reranking.load_reranker` takes, such as a cross-encoder's folder or hub id. It is
            not stored.
        **options: For the store, such as `synchronous="NORMAL"`, or `integrity_key=`: 32 bytes, or
            a file that holds them (docs/operations/integrity.md).

    Raises:
        KeyMismatch: The database is sealed with another integrity key, or with none.
        NotFound: There is no database and `create` is false.
        QueryError: There is no such time zone.
        FingerprintMismatch: The database was written by another encoder.
        EncoderError: The encoder or the re-ranker cannot be loaded.
        DatabaseDamaged: The file is not an evomem database, or cannot be read.
    """
    if not isinstance(location, str | Path):
        raise StoreError(f"a location is a path or a URL, got {shown(location)}")
    location = str(location)
    zone = check_zone(zone)
    if location.startswith(("http://", "https://")):
        return _connect(location, encoder, zone, reranker, options)
    options["embeddings"] = embeddings
    second = None if reranker is None else _reranker(reranker, device)
    opener = store_opener(location)
    loading = {
        name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None
    }
    ready = load_encoder(encoder, **loading) if isinstance(encoder, str) else encoder
    try:
        store, index = opener(location, ready.spec if ready and create else None, **options)
    except NotFound:
        if not create:
            raise
        ready = load_encoder(DEFAULT_ENCODER, **loading)
        try:
            store, index = opener(location, ready.spec, **options)
        except FingerprintMismatch:  # another process has just created it with another encoder
            ready = None
            store, index = opener(location, None, **options)
    try:
        return Database(Engine(store, index, ready, zone, second, **loading))
    except FingerprintMismatch:
        store.close()
        raise


def _connect(
    url: str, encoder: object, zone: tzinfo, reranker: object, options: Mapping[str, Any]
) -> Database:
    from evomem.client import connect

    if encoder is not None or reranker is not None or options:
        raise StoreError(
            f"{url} is a service, which has its own encoder, re-ranker and options: omit encoder=, "
            "reranker= and store options"
        )
    return connect(url, zone=zone)


def _reranker(reranker: object, device: str | None) -> Reranker:
    from evomem.reranking import Reranker, load_reranker

    if isinstance(reranker, str):
        return load_reranker(reranker, device=device)
    if not isinstance(reranker, Reranker):
        raise EncoderError(
            f"reranker must be a name or have a method scores(query, texts), got {shown(reranker)}; "
            "wrap a cross-encoder in evomem.reranking.CrossEncoderReranker"
        )
    return reranker


def restore(backup: str | Path, location: str | Path) -> None:
    """Create a database from a backup, after checking the backup.

    Raises:
        NotFound: There is no backup.
        StoreError: The backup has faults, or `location` exists already.
    """
    with open(str(backup), create=False) as db:
        if faults := db.verify():
            raise StoreError(f"the backup {backup} has faults, so it is not used: {faults[0]}")
        db.backup(location)


class Database:
    """Memories in one store, read by one encoder. Close it, or use it as a context manager."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._together = TogetherCache(engine)

    def memory(self, *labels: str, zone: str | tzinfo | None = None) -> Memory:
        """Return the memory at this namespace, such as `db.memory("acme", "alice")`.

        It is created with its first turn.

        Args:
            *labels: The namespace.
            zone: The time zone for searches and contexts of the returned object, such as the user's;
                it is not stored. None for the database's.

        Raises:
            NamespaceError: A label is empty or cannot be stored.
            QueryError: There is no such time zone.
        """
        check_labels(labels)
        return Memory(self._engine, labels, zone=None if zone is None else check_zone(zone))

    def add_many(
        self,
        histories: Iterable[tuple[Namespace, Iterable[Turn | Message]]],
        *,
        workers: int = 32,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Read and store the histories of many memories at once; return the number of turns.

        Texts of different memories share forward passes, in order within each memory, while other
        threads tokenise and write. Turns are committed in batches (`Memory.add_many`).
        An error stops all of them, each after its current batch. After an error or a crash,
        turns with ids can simply be added again.

        Args:
            histories: Namespaces with turns or messages, consumed lazily: about `workers` of them
                are in memory at a time.
            workers: The number of memories that are read at the same time.
            progress: Called from time to time with the number of finished turns.

        Raises:
            NamespaceError: A namespace is not valid.
            TurnError: As in `Memory.add_many`; other memories' turns may have been written.
            QueryError: `workers` is not a whole number of at least 1.
        """
        check_whole(workers, "workers", least=1)
        done = Done(progress)
        add_side_by_side(self.memory, histories, _add_history, done, workers)
        return done.total

    def import_chats(
        self,
        histories: Iterable[tuple[Namespace, Iterable[Conversation]]],
        *,
        include_forgotten: bool = False,
        dry_run: bool = False,
        turn_source: str | None = None,
        workers: int = 32,
        progress: Callable[[int], None] | None = None,
    ) -> Imported:
        """Import conversations into many memories at once (see `Memory.import_chats`).

        Args:
            histories: Namespaces with conversations that can be iterated twice, such as
                `evomem.chats.read(path).conversations`.
            include_forgotten: Whether to import purged turns again.
            dry_run: Whether to only report what would be written.
            turn_source: As in `Memory.import_chats`.
            workers: The number of memories that are read at the same time.
            progress: Called from time to time with the number of finished messages.

        Raises:
            NamespaceError: A namespace is not valid.
            InputError: As in `Memory.import_chats`; other memories may have been written.
            QueryError: `workers` is not a whole number of at least 1.
        """
        check_whole(workers, "workers", least=1)
        from evomem.importing import Imported, import_conversations

        total = Imported()
        guard = threading.Lock()

        def add(memory: Memory, talks: Iterable[Conversation], done: Done) -> None:
            nonlocal total
            imported = import_conversations(
                memory,
                talks,
                include_forgotten=include_forgotten,
                dry_run=dry_run,
                turn_source=turn_source,
                progress=done.of_one(),
            )
            with guard:
                total += imported

        add_side_by_side(self.memory, histories, add, Done(progress), workers)
        return total

    def memories(self, *prefix: str) -> list[Namespace]:
        """Return the namespaces of all memories that begin with `prefix`, sorted."""
        return self._engine.store.memories(prefix)

    def sizes(self, *prefix: str) -> Mapping[Namespace, int]:
        """Return the number of turns, without deleted ones, of each memory below a prefix."""
        return self._together.sizes(prefix)

    def together(self, *prefix: str, query: str | None = None) -> Together:
        """Return the current turns of all memories whose names begin with `prefix`.

        For searching many small memories at once. The first call reads and caches the turns; later
        calls only read changes.

        Args:
            *prefix: The first labels of their namespaces; empty for all memories.
            query: The query of the next search. A service computes its cosines in the same request; it
                has no effect on a local database.
        """
        return self._together.read(prefix)

    def drop(self, *prefix: str) -> Receipt:
        """Remove all memories whose names begin with `prefix`, such as a tenant's.

        Raises:
            NamespaceError: There is no prefix, or it is not valid.
            NotFound: There are no such memories.
        """
        check_labels(prefix)
        return drop(self._engine, prefix, below=True)

    @property
    def spec(self) -> Spec:
        """The encoder that wrote this database."""
        return self._engine.store.spec

    @property
    def encoder(self) -> Encoder:
        """The encoder; loaded on first use unless it was passed to `open`."""
        return self._engine.encoder

    def stats(self) -> dict[str, Any]:
        """Return counts and sizes, and the encoder's name.

        `read_in_vain` counts wasted reads: turns that this process read but could not write, because
        another one had written first. With leases (docs/operations/fleet.md) it stays 0 as long as no
        worker fails.
        """
        return {
            "encoder": self.spec.name,
            "read_in_vain": self._engine.read_in_vain,
            **self._engine.store.stats(),
            **self._engine.index.stats(),
        }

    def verify(self, anchor: str | Path | Mapping[str, Any] | None = None) -> list[str]:
        """Check the log, its seals and the index files; return one sentence for each fault.

        Args:
            anchor: The result of `Database.anchor`, or the file that contains it: the database must be
                in that state or a later one. Without it, replacement by an older copy of the
                database, or removal of its newest turns, is not detected.

        Raises:
            InputError: The file contains no anchor.
        """
        values = read_anchor(anchor) if isinstance(anchor, str | Path) else anchor
        return [*self._engine.store.verify(values), *self._engine.index.verify()]

    @property
    def key_id(self) -> str:
        """The id of the database's integrity key; "" for none (docs/operations/integrity.md)."""
        return self._engine.store.key_id

    def anchor(self) -> dict[str, Any]:
        """Return a record that identifies this state of the database, as JSON values.

        Keep it where nobody with write access to the database can change it, and pass it to
        `verify`. It holds counters and digests, neither names nor texts.

        Raises:
            IntegrityError: The database was edited.
        """
        return self._engine.store.anchor()

    def seal(self, integrity_key: bytes | str | Path) -> int:
        """Seal the database with an integrity key; it replaces any other key.

        Processes that have the database open must open it again, with this key.

        Args:
            integrity_key: 32 bytes, or a file that holds them (`evomem.integrity.make_key`).

        Returns:
            The number of sealed turns.

        Raises:
            IntegrityError: `verify` reports a fault; nothing was sealed.
        """
        return self._engine.store.seal(find_key(integrity_key))

    def repair(self) -> list[str]:
        """Rebuild from the log what can be rebuilt (`verify` lists faults); return what was repaired.

        Index files need no repair: a damaged one is replaced on the next use.
        """
        return [*self._engine.store.repair(), *self._engine.index.repair()]

    def compact(self, embeddings: Form | None = None) -> tuple[int, int]:
        """Return unused space to the file system; return the bytes before and after.

        Args:
            embeddings: The form in which to store all embeddings, including those of later turns:
                `"int8"` takes a quarter of the space; `"float32"` keeps the current values, so values
                rounded to 8 bits stay rounded (docs/measurements/storage.md).

        Raises:
            IntegrityError: An embedding or latents were edited; nothing was changed.
        """
        return self._engine.store.compact(embeddings)

    def backup(self, path: str | Path) -> None:
        """Copy the database's current state, while others read and write.

        The copy is a regular database.

        Raises:
            StoreError: `path` exists already, or cannot be written.
        """
        self._engine.store.backup(Path(path).expanduser().absolute())

    def export(self, folder: str | Path) -> int:
        """Write everything to a new folder, as JSON lines and safetensors (docs/operations/upkeep.md).

        Returns the number of turns.
        """
        return self._engine.store.export(Path(folder).expanduser().absolute())

    def load(self, folder: str | Path, *, integrity_key: bytes | str | Path | None = None) -> int:
        """Add the memories of an export, atomically; return the number of turns.

        Args:
            folder: A folder that `export` wrote.
            integrity_key: The key of the exported database, if it differs from this database's: the
                export must be sealed with it.

        Warns:
            UserWarning: The export cannot be verified: it has no key, or a key other than this
                database's.

        Raises:
            FingerprintMismatch: The export was made with another encoder.
            NamespaceError: A memory of that name exists already.
            StoreError: The export is incomplete or was changed.
        """
        key = None if integrity_key is None else find_key(integrity_key)
        return self._engine.store.load(Path(folder).expanduser().absolute(), key)

    def drop_generations(self) -> list[str]:
        """Remove the embeddings and latents of encoders that are not in use (`evomem.reencode`)."""
        return self._engine.store.drop_generations()

    def check_writable(self) -> None:
        """Raise `StoreError` if the database cannot be written, as on a read-only file system."""
        self._engine.store.check_writable()

    def close(self) -> None:
        """Release everything; harmless when repeated."""
        self._engine.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _add_history(memory: Memory, turns: Iterable[Turn | Message], done: Done) -> None:
    report = done.of_one()
    memory.add_many(turns, progress=lambda count, _: report(count))
