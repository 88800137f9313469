"""LightMem's vector store, on a memory instead of a Qdrant collection."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evomem import Encoder, Record
from evomem.errors import InputError
from evomem_integrations.documents import Documents, InMemory, key_of, text_of
from evomem_integrations.lightmem.embedder import TextVector

FILE = "evomem.db"
NAME = "lightmem"
RANGE_OPERATORS = {"gte": "$gte", "lte": "$lte", "gt": "$gt", "lt": "$lt"}
SERVER_OPTIONS = ("url", "host", "client")

LONG_TEXT = 4_096  # characters above which a text is not stored twice


class EmbeddingRetriever:
    """LightMem's vector store: the methods of its class `Qdrant`, on a memory."""

    encoder: str | Encoder | None = None
    """The encoder that reads memories; `install` sets it."""
    purge = False
    """Whether a deleted memory is purged; `install` sets it."""
    zone: str | None = None
    """The user's time zone, UTC for None; `install` sets it."""

    def __init__(self, config: Any) -> None:
        """Open the collection that LightMem's configuration of Qdrant names.

        With `on_disk` it is the memory `lightmem/<collection_name>` in `<path>/evomem.db`, otherwise
        it is in RAM. Existing memories are kept. `embedding_model_dims` is not used.

        Raises:
            InputError: The configuration names a server.
        """
        for option in SERVER_OPTIONS:
            if getattr(config, option, None):
                raise InputError(
                    f"the configuration names a Qdrant server ({option}=), but evomem stores memories in "
                    "a file: give path= and on_disk=True instead"
                )
        self.collection_name: str = config.collection_name
        location = InMemory
        if config.on_disk:
            folder = Path(config.path)
            folder.mkdir(parents=True, exist_ok=True)
            location = str(folder / FILE)
        self._documents = Documents(
            location,
            self.encoder,
            NAME,
            self.collection_name,
            purge=self.purge,
            zone=self.zone,
        )

    @property
    def loaded(self) -> Encoder:
        """The encoder that reads the memories."""
        return self._documents.encoder

    def insert(
        self,
        vectors: Sequence[Sequence[float]],
        payloads: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Read memories as turns, in order; the text comes from the vector, see `TextVector`.

        Raises:
            InputError: A vector was not made by `TextEmbedder`.
        """
        texts = [_text(vector) for vector in vectors]
        for place, text in enumerate(texts):
            payload = payloads[place] if payloads else {}
            key = str(ids[place]) if ids else str(uuid.uuid4())
            role = payload.get("role", "user")
            metadata = _metadata(payload, text)
            self._documents.put(key, text, metadata, role=role, time=_time(payload))

    def search(
        self,
        query_vector: Sequence[float],
        limit: int = 5,
        filters: Mapping[str, Any] | None = None,
        exclude_ids: Sequence[str] | None = None,
        return_full: bool = False,
        now: datetime | str | None = None,
    ) -> list[dict[str, Any]]:
        """Return the best memories as `id`, `score` (cosine) and, if `return_full`, `payload`.

        `now` is the time of the question, as in `evomem.Memory.search`.

        Raises:
            InputError: The vector was not made by `TextEmbedder`, or a filter is not valid.
        """
        if limit < 1:
            return []
        excluded = set(exclude_ids or ())
        hits = self._documents.search(
            _text(query_vector), limit + len(excluded), where=_where(filters), now=now
        )
        scored = [
            {
                "id": key_of(hit.record),
                "score": hit.score,
                **({"payload": _payload(hit.record)} if return_full else {}),
            }
            for hit in hits
            if key_of(hit.record) not in excluded
        ]
        return scored[:limit]

    def update(
        self,
        vector_id: str,
        vector: Sequence[float] | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> None:
        """Update entries of a memory's payload; with a vector, replace the whole payload.

        The text is read again only if `vector` has a different one. Without a vector, an unknown id
        is ignored.
        """
        if vector is not None:
            old = self._documents.get(vector_id)
            stored = _payload(old) if old else {}
            self.insert([vector], [stored if payload is None else payload], [vector_id])
        elif payload is not None:
            self._documents.merge(vector_id, payload)

    def delete(self, vector_id: str) -> None:
        """Hide a memory; an unknown id is ignored.

        Its text stays on disk, and so does its influence on later memories. With `purge`, both are
        removed.
        """
        self._documents.delete(vector_id)

    def exists(self, vector_id: str) -> bool:
        """Return whether there is a memory with this id."""
        return self._documents.get(vector_id) is not None

    def get(self, vector_id: str) -> SimpleNamespace | None:
        """Return a memory, or None if there is no memory with this id."""
        record = self._documents.get(vector_id)
        return self._point(record) if record else None

    def get_all(self, with_vectors: bool = True, with_payload: bool = True) -> list[dict[str, Any]]:
        """Return all memories in the order they were read, as `id`, `payload`, `vector`."""
        return [
            vars(self._point(record, with_payload, with_vectors))
            for record in self._documents.all()
        ]

    def list(self, filters: Mapping[str, Any] | None = None, limit: int = 100) -> tuple[Any, Any]:
        """Return the first memories, as `scroll` does."""
        return self.scroll(filters, limit)

    def scroll(
        self,
        scroll_filter: Mapping[str, Any] | None = None,
        limit: int = 100,
        offset: int | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
    ) -> tuple[Sequence[SimpleNamespace], int | None]:
        """Return memories in the order they were read, and where to continue (None at the end)."""
        records = self._documents.all(
            after=offset or 0, where=_where(scroll_filter), limit=limit + 1
        )
        points = [self._point(record, with_payload, with_vectors) for record in records[:limit]]
        return points, records[limit - 1].seq if len(records) > limit else None

    def create_col(self, vector_size: int, on_disk: bool, distance: Any = None) -> None:
        """Do nothing: a memory is created with its first turn."""

    def list_cols(self) -> SimpleNamespace:
        """Return the one collection of this retriever."""
        return SimpleNamespace(collections=[SimpleNamespace(name=self.collection_name)])

    def col_info(self) -> dict[str, Any]:
        """Return the collection's name and how many memories it holds."""
        return {"name": self.collection_name, "points_count": len(self._documents.memory)}

    def delete_col(self) -> None:
        """Purge every memory, including hidden ones."""
        self._documents.clear()

    def reset(self) -> None:
        """Purge every memory, including hidden ones."""
        self._documents.clear()

    def close(self) -> None:
        """Release the database; calling it again has no effect."""
        self._documents.close()

    def _point(self, record: Record, payload: bool = True, vector: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            id=key_of(record),
            payload=_payload(record) if payload else None,
            vector=TextVector(text_of(record), self._documents.encoder) if vector else None,
        )


def _metadata(payload: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return a payload without a long text that the turn also holds: metadata is limited to 64 KiB."""
    is_long = len(text) > LONG_TEXT and payload.get("memory") == text
    return {**payload, "memory": None} if is_long else dict(payload)


def _payload(record: Record) -> dict[str, Any]:
    """Return the payload of a memory."""
    payload = dict(record.turn.metadata)
    if "memory" in payload and payload["memory"] is None:
        payload["memory"] = text_of(record)
    return payload


def _text(vector: object) -> str:
    if not isinstance(vector, TextVector):
        raise InputError(
            f"evomem computes its own embeddings and does not accept a {type(vector).__name__} as a "
            "vector: pass a vector that TextEmbedder.embed or get_all returned"
        )
    return vector.text


def _time(payload: Mapping[str, Any]) -> datetime | None:
    seconds = payload.get("float_time_stamp")
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def _where(filters: object) -> dict[str, Any]:
    """Return LightMem's filters, values and ranges, as evomem's."""
    if not isinstance(filters, Mapping | None):
        raise InputError(f"filters must be a dictionary, got {type(filters).__name__}")
    where: dict[str, Any] = {}
    for key, test in (filters or {}).items():
        if isinstance(test, Mapping):
            unknown = [name for name in test if name not in RANGE_OPERATORS]
            if unknown or not test:
                raise InputError(
                    f"filters[{key!r}] is {dict(test)!r}: a range needs one or more of "
                    f"{', '.join(RANGE_OPERATORS)}"
                )
            where[key] = {RANGE_OPERATORS[name]: value for name, value in test.items()}
        else:
            where[key] = test
    return where
