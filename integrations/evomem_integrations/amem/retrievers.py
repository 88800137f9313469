"""A-MEM's retrievers (`agentic_memory.retrievers`), on a memory instead of a Chroma collection.

Every retriever has a separate collection, so memory systems in one process share nothing.
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
"""Metadata keys whose values are always text: a note "42" is not a number."""
TIMESTAMP = "%Y%m%d%H%M"
NAME = "amem"
FILE = "notes.db"


class ChromaRetriever:
    """Notes in memory, which are lost with the process. `model_name` is accepted and ignored."""

    encoder: str | Encoder | None = None
    """The encoder to use if the constructor gets none; `install` sets it."""
    purge = False
    """Whether deleted notes are purged, unless the constructor gets `purge`."""
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
            collection_name: Kept as an attribute; every retriever has a separate collection.
            model_name: Not used.
            encoder: The encoder that reads the notes; the default encoder if not given.
            purge: Whether deleted notes are purged; otherwise they are only hidden.
            **unused: Arguments that forks of A-MEM pass for Chroma's embedding function.
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
        """Store a note. An existing id gets the new metadata, and is read again if its text changed.

        A text that the log cannot hold is cleaned (`evomem.adapter.clean`), which is logged.
        """
        text, changes = clean(document)
        self._documents.put(
            doc_id, text, clean_json(_stored(metadata, document)), time=self._time(metadata)
        )
        note_cleaned({"cleaned_user": changes})

    def delete_document(self, doc_id: str) -> None:
        """Hide a note; an unknown id is ignored.

        Its text and its influence on later notes remain. With `purge`, both are removed.
        """
        self._documents.delete(doc_id)

    def search(
        self, query: str, k: int = 5, *, now: datetime | str | None = None
    ) -> dict[str, Any]:
        """Return the best notes in Chroma's form: lists with one inner list, for the one query.

        `now` is the time of the question, as in `evomem.Memory.search`.
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
        """Return the time of a note's timestamp, None if it is not in A-MEM's format."""
        try:
            local = datetime.strptime(str(metadata.get("timestamp")), TIMESTAMP)
        except ValueError:
            return None
        # Without a zone, it is the system's local time, as A-MEM writes it.
        return local.replace(tzinfo=check_zone(self.zone)) if self.zone else local.astimezone()

    def embedding_function(self, input: Sequence[str]) -> Vectors:
        """Return the embeddings of texts with an empty memory: (N, D) float32."""
        encoder = self._documents.encoder
        return encoder.embed_queries(State.empty(encoder.spec), list(input))

    def close(self) -> None:
        """Release the database; calling it again has no effect."""
        self._documents.close()


class PersistentChromaRetriever(ChromaRetriever):
    """Notes on disk, one folder per collection: `<directory>/<collection_name>.evomem`."""

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
            directory: Created if it does not exist; `~/.chromadb` if not given.
            collection_name: Letters, digits, `.`, `_` and `-`.
            model_name: Not used.
            extend: Whether to add to an existing collection.
            encoder: The encoder that reads the notes; by default the one that wrote the collection.
            purge: Whether deleted notes are purged; otherwise they are only hidden.

        Raises:
            InputError: The collection exists and `extend` is false, or its name is not valid.
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
    """A copy in memory of a persistent collection, made by reading its notes again."""

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
    """The part of `chromadb.Client` that A-MEM uses, for deletions."""

    def __init__(self, retriever: ChromaRetriever) -> None:
        self._retriever = retriever

    def reset(self) -> None:
        """Purge every note of this retriever; other retrievers are not affected."""
        self._retriever._documents.clear()

    def delete_collection(self, name: str) -> None:
        """Purge every note and remove the collection's files.

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
        """Return notes by id, or all of them in the order they were read; unknown ids are left out."""
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
        """Store notes; embeddings in `unused`, which another model made, are ignored."""
        for key, document, metadata in zip(ids, documents, metadatas, strict=True):
            self._retriever.add_document(document, metadata, key)


def stored_metadata(record: Record) -> dict[str, Any]:
    """Return a note's metadata, with null replaced by the note's text."""
    return {
        key: text_of(record) if value is None else value
        for key, value in record.turn.metadata.items()
    }


def restored(record: Record) -> dict[str, Any]:
    """Return a note's metadata as A-MEM expects it: strings that are Python literals are parsed."""
    return {key: _value(key, value) for key, value in stored_metadata(record).items()}


def _stored(metadata: Mapping[str, Any], document: str) -> dict[str, Any]:
    """Return metadata as JSON; null stands for the document's text, so that it is not stored twice."""
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
        raise InputError(
            f"the collection name {name!r} is not valid: use letters, digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )
    folder = Path.home() / ".chromadb" if directory is None else Path(directory)
    return folder.expanduser() / f"{name}.evomem" / FILE
