"""A-MEM's retrievers (`agentic_memory.retrievers`), on a memory instead of a Chroma collection.

Every retriever is a collection of its own: two memory systems in one process don't meet.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from evomem import Encoder, Record
from evomem.adapter import clean, clean_json, note_cleaned
from evomem.checks import check_zone
from evomem.errors import InputError, NotFound
from evomem.state import State, Vectors
from evomem_integrations.documents import Documents, InMemory, key_of, text_of

TEXTS = frozenset({"id", "content", "context", "category"})
"""Metadata that is text whatever it looks like: a note "42" is not a number."""
TIMESTAMP = "%Y%m%d%H%M"
NAME = "amem"
FILE = "notes.db"


class ChromaRetriever:
    """Notes in memory, gone with the process. `model_name` is accepted and not used."""

    encoder: str | Encoder | None = None
    """What reads notes if the constructor is not given an encoder; `install` sets it."""
    purge = False
    """Whether deleted notes are purged, if the constructor is not given `purge`."""
    zone: str | None = None
    """The user's time zone, UTC for None; `install` sets it."""

    def __init__(
        self,
        collection_name: str = "memories",
        model_name: str | None = None,
        *,
        encoder: str | Encoder | None = None,
        purge: bool | None = None,
        **unused: Any,
    ) -> None:
        """Open the collection.

        Args:
            collection_name: Kept as `collection_name`; every retriever is a collection of its own.
            model_name: Not used.
            encoder: What reads the notes; the default encoder if not given.
            purge: Whether deleted notes are purged; otherwise they are only hidden.
            **unused: What forks of A-MEM pass for Chroma's embedding function.
        """
        self._open(collection_name, InMemory, encoder, purge)

    def _open(
        self,
        name: str,
        location: str,
        encoder: str | Encoder | None,
        purge: bool | None,
        *owner: str,
    ) -> None:
        self.collection_name = name
        self._location = location
        self.purge = self.purge if purge is None else purge
        self._documents = Documents(
            location, encoder or self.encoder, NAME, *owner, purge=self.purge, zone=self.zone
        )
        self.client = Client(self)
        self.collection = Collection(self)

    def add_document(self, document: str, metadata: Mapping[str, Any], doc_id: str) -> None:
        """Store a note. An id that is there gets the new metadata, and is read if its text is new.

        A text that the log cannot hold is changed (`evomem.adapter.clean`): the log says how.
        """
        text, changes = clean(document)
        self._documents.put(
            doc_id, text, clean_json(_stored(metadata, document)), time=self._time(metadata)
        )
        note_cleaned({"cleaned_user": changes})

    def delete_document(self, doc_id: str) -> None:
        """Hide a note; an unknown id is ignored.

        Its text and its influence on later notes stay. With `purge`, both are removed.
        """
        self._documents.delete(doc_id)

    def search(
        self, query: str, k: int = 5, *, now: datetime | str | None = None
    ) -> dict[str, Any]:
        """Return the best notes as Chroma does: one inner list for the one query.

        `now` is when the question is asked, as in `evomem.Memory.search`.
        `distances` are squared L2 distances of unit vectors, 2 - 2 x cosine, ascending.
        """
        hits = self._documents.search(query, k, now=now)
        columns = _columns([hit.record for hit in hits])
        return {
            **{name: [column] for name, column in columns.items()},
            "distances": [[max(0.0, 2 - 2 * hit.score) for hit in hits]],
            "embeddings": None,
            "uris": None,
            "data": None,
            "included": ["metadatas", "documents", "distances"],
        }

    def _time(self, metadata: Mapping[str, Any]) -> datetime | None:
        """Return when a note was written, from A-MEM's timestamp; None where it has another form."""
        try:
            written = datetime.strptime(str(metadata.get("timestamp")), TIMESTAMP)
        except ValueError:
            return None
        # A-MEM writes the system's time
        return written.replace(tzinfo=check_zone(self.zone)) if self.zone else written.astimezone()

    def embedding_function(self, input: Sequence[str]) -> Vectors:
        """Return embeddings of texts, made without a memory: (N, D) float32."""
        encoder = self._documents.encoder
        return encoder.embed_queries(State.empty(encoder.spec), list(input))

    def close(self) -> None:
        """Release the database; harmless when repeated."""
        self._documents.close()


class PersistentChromaRetriever(ChromaRetriever):
    """Notes on disk, in one folder a collection: `<directory>/<collection_name>.evomem`."""

    def __init__(
        self,
        directory: str | Path | None = None,
        collection_name: str = "memories",
        model_name: str | None = None,
        extend: bool = False,
        *,
        encoder: str | Encoder | None = None,
        purge: bool | None = None,
    ) -> None:
        """Open the collection.

        Args:
            directory: Made if absent; `~/.chromadb` if not given.
            collection_name: Letters, digits, `.`, `_` and `-`.
            model_name: Not used.
            extend: Continue a collection that exists.
            encoder: What reads the notes; the one that wrote the collection, or the default.
            purge: Whether deleted notes are purged; otherwise they are only hidden.

        Raises:
            InputError: The collection exists and `extend` is false, or its name is no file name.
        """
        file = _file(directory, collection_name)
        if file.exists() and not extend:
            raise InputError(
                f"Collection {collection_name!r} already exists: {file.parent}. "
                "Use extend=True to add to it."
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        self._open(collection_name, str(file), encoder, purge)


class CopiedChromaRetriever(ChromaRetriever):
    """A copy in memory of a persistent collection, which stays as it is; notes are read again."""

    def __init__(
        self,
        directory: str | Path | None = None,
        collection_name: str = "memories",
        model_name: str | None = None,
        _dest_collection_name: str | None = None,
        _copy_batch_size: int = 10,
        *,
        encoder: str | Encoder | None = None,
        purge: bool | None = None,
    ) -> None:
        """Copy the collection; arguments as for `PersistentChromaRetriever`.

        Raises:
            NotFound: There is no such collection.
        """
        file = _file(directory, collection_name)
        if not file.exists():
            raise NotFound(f"Collection {collection_name!r} to be copied does not exist in {file}")
        source = Documents(str(file), encoder or self.encoder, NAME)
        try:
            copy = _dest_collection_name or f"{collection_name}__clone"
            self._open(copy, InMemory, source.encoder, purge)
            self._documents.memory.add_many(record.turn for record in source.all())
        finally:
            source.close()


class Client:
    """The part of `chromadb.Client` that A-MEM uses: to forget."""

    def __init__(self, retriever: ChromaRetriever) -> None:
        self._retriever = retriever

    def reset(self) -> None:
        """Forget every note of this retriever, and of no other."""
        self._retriever._documents.clear()

    def delete_collection(self, name: str) -> None:
        """Forget every note and remove the collection's files.

        Raises:
            NotFound: This retriever's collection has another name.
        """
        retriever = self._retriever
        if name != retriever.collection_name:
            raise NotFound(f"this is the collection {retriever.collection_name!r}, not {name!r}")
        self.reset()
        retriever.close()
        if retriever._location != InMemory:
            shutil.rmtree(Path(retriever._location).parent)


class Collection:
    """The part of a Chroma collection that A-MEM and its tests use."""

    def __init__(self, retriever: ChromaRetriever) -> None:
        self._retriever = retriever

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._retriever.collection_name

    def count(self) -> int:
        """Return the number of notes."""
        return len(self._retriever._documents.memory)

    def get(self, ids: Sequence[str] | None = None, **unused: Any) -> dict[str, Any]:
        """Return notes by id, or all of them in the order they were read; absent ids are left out."""
        documents = self._retriever._documents
        if ids is None:
            return _columns(documents.all())
        records = (documents.get(id) for id in ids)
        return _columns([record for record in records if record])

    def add(
        self,
        ids: Sequence[str],
        documents: Sequence[str],
        metadatas: Sequence[Mapping[str, Any]],
        **unused: Any,
    ) -> None:
        """Store notes; embeddings that come with them are another encoder's and not used."""
        for key, document, metadata in zip(ids, documents, metadatas, strict=True):
            self._retriever.add_document(document, metadata, key)


def written(record: Record) -> dict[str, Any]:
    """Return a note's metadata as it was stored."""
    return {
        key: text_of(record) if value is None else value
        for key, value in record.turn.metadata.items()
    }


def restored(record: Record) -> dict[str, Any]:
    """Return a note's metadata as A-MEM expects it: strings that look like numbers are numbers."""
    return {key: _value(key, value) for key, value in written(record).items()}


def _stored(metadata: Mapping[str, Any], document: str) -> dict[str, Any]:
    """Return metadata as JSON can hold it; null is "what the document says", however long that is."""
    values = {
        key: value if isinstance(value, list | dict) else str(value)
        for key, value in metadata.items()
    }
    return {key: None if value == document else value for key, value in values.items()}


def _columns(records: Sequence[Record]) -> dict[str, Any]:
    return {
        "ids": [key_of(record) for record in records],
        "documents": [text_of(record) for record in records],
        "metadatas": [restored(record) for record in records],
    }


def _value(key: str, value: Any) -> Any:
    if key in TEXTS or not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _file(directory: str | Path | None, name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"a collection's name is letters, digits, '.', '_' and '-', got {name!r}")
    folder = Path.home() / ".chromadb" if directory is None else Path(directory)
    return folder.expanduser() / f"{name}.evomem" / FILE
