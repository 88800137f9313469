"""`EvoMemVectorStore`: documents in a memory, as LangChain's `VectorStore`."""

from __future__ import annotations

import contextlib
import logging
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

import evomem
from evomem.adapter import plain_json
from evomem.database import Database
from evomem.encoder import Encoder
from evomem.errors import NotFound, ServiceError, TurnError
from evomem.memory import BATCH, Memory
from evomem.records import Record, Turn
from evomem_integrations.langchain.embeddings import EvoMemEmbeddings
from evomem_integrations.langchain.encoder import EmbeddingsEncoder

logger = logging.getLogger(__name__)

Filter = Mapping[str, Any] | Callable[[Document], bool]
"""Conditions on metadata as in `MemoryView.search`, or a test that a document must pass."""


class EvoMemVectorStore(VectorStore):
    """Documents as turns of one memory, read in the order they are added.

    A document is a session of the log: its turns are its versions, the newest is its content. So
    adding an id again with other content is a new turn, which replaces the old one. Use a
    memory of its own for documents, not one that conversations are written to.
    """

    def __init__(self, database: Database, *namespace: str, purge: bool = False) -> None:
        """Keep documents in the memory at `namespace`.

        Args:
            database: An open database; the caller closes it.
            *namespace: Labels, `"documents"` if none are given.
            purge: Whether `delete` purges documents; otherwise it only hides them.
        """
        self.purge = purge
        self.database = database
        self.memory: Memory = database.memory(*(namespace or ("documents",)))

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        location: str = ":memory:",
        namespace: Sequence[str] = ("documents",),
        purge: bool = False,
        **kwargs: Any,
    ) -> EvoMemVectorStore:
        """Open a database and add documents to it; it is closed with the store's last reference.

        Args:
            texts: The documents' texts.
            embedding: What reads them; `EvoMemEmbeddings(encoder)` for an encoder of evomem with its
                memory, any other model as it is.
            metadatas: One for each text.
            ids: One for each text.
            location: Of the database, as in `evomem.open`.
            namespace: Of the memory.
            purge: As in the constructor.
            **kwargs: Further options of `evomem.open`.
        """
        encoder: Encoder = (
            embedding.encoder
            if isinstance(embedding, EvoMemEmbeddings)
            else EmbeddingsEncoder(embedding)
        )
        database = evomem.open(location, encoder, **kwargs)
        store = cls(database, *namespace, purge=purge)
        weakref.finalize(store, database.close)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @property
    def embeddings(self) -> Embeddings | None:
        """The database's encoder as LangChain sees it: the model it wraps, or without its memory.

        None with the database of a service, which has the encoder to itself.
        """
        try:
            return self._model()
        except ServiceError:
            return None

    def _model(self) -> Embeddings:
        encoder = self.database.encoder
        if isinstance(encoder, EmbeddingsEncoder):
            return encoder.embeddings
        return EvoMemEmbeddings(encoder)

    # writing -------------------------------------------------------------------------------

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add documents in order; return their ids.

        A document that is already stored with the same content is not changed; one with other content
        is replaced. One without text, such as a blank page, is not stored, and what was stored under
        its id is deleted; a warning is logged.

        Args:
            texts: Their texts.
            metadatas: One for each text; anything JSON can hold, and dates, UUIDs and sets.
            ids: One for each text; made up where None.
            **kwargs: What LangChain's callers also give, such as `batch_size`; changes nothing.

        Raises:
            ValueError: The lists differ in length.
            TurnError: A document cannot be stored; nothing was written.
        """
        contents = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(contents):
                raise ValueError(
                    f"{len(contents)} texts but {len(given)} {name}: give one for each"
                )
        chosen = [(ids[n] if ids else None) or uuid.uuid4().hex for n in range(len(contents))]
        newest = {
            id: Turn(user=text, session=id, metadata=_metadata(metadatas[n] if metadatas else {}))
            for n, (id, text) in enumerate(zip(chosen, contents, strict=True))
            if text.strip()
        }
        names = list(newest)
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            self.memory.replace_sessions(batch, partial(_changed, newest, batch))
        blank = [id for id, text in zip(chosen, contents, strict=True) if not text.strip()]
        if blank:
            logger.warning("%d documents without text are left out", len(blank))
            self.delete([id for id in blank if id not in newest])
        return chosen

    def delete(
        self, ids: list[str] | None = None, *, purge: bool | None = None, **kwargs: Any
    ) -> bool:
        """Delete documents, all of them if `ids` is None; missing ones are no error.

        They are no longer found or listed, but their text stays on disk (`Memory.delete`). With
        `purge`, they are removed with every replaced version and their influence on later documents.

        Args:
            ids: Which.
            purge: Whether to purge them; the store's setting if None.
            **kwargs: What LangChain's callers also give; changes nothing.
        """
        if self.purge if purge is None else purge:
            self._purge(ids)
            return True
        if ids is None:
            self._delete(self.memory.history())
        for id in ids or ():
            self._delete(self.memory.history(session=id))
        return True

    # reading -------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in that order; missing ones are left out."""
        histories = (self.memory.history(session=id) for id in ids)
        return [_document(versions[-1]) for versions in histories if versions]

    def similarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Return the documents that answer `query` best.

        Args:
            query: The question.
            k: How many at most.
            filter: Conditions on metadata, or a test.
            **kwargs: `mode`, `at`, `since`, `until`, `now` and `zone` as in `MemoryView.search`.
        """
        return [document for document, _ in self._search(query, k, filter, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Do as `similarity_search`, with scores: cosines, higher is better, unless `mode` differs."""
        return self._search(query, k, filter, **kwargs)

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return documents that answer `query` and differ from each other.

        The memory finds `fetch_k` candidates; how alike they are is then judged by `embeddings`,
        which embeds them and the query again, without the memory.

        Args:
            query: The question.
            k: How many at most.
            fetch_k: How many candidates.
            lambda_mult: 1 for relevance alone, 0 for variety alone.
            filter: As in `similarity_search`.
            **kwargs: As in `similarity_search`.

        Raises:
            ServiceError: The database is that of a service, which has the encoder to itself.
        """
        candidates = self.similarity_search(query, fetch_k, filter, **kwargs)
        if not candidates:
            return []
        model = self._model()
        vectors = model.embed_documents([document.page_content for document in candidates])
        asked = np.array(model.embed_query(query))
        chosen = maximal_marginal_relevance(asked, vectors, lambda_mult=lambda_mult, k=k)
        return [candidates[place] for place in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: min(1.0, max(0.0, (1 + cosine) / 2))

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        _check_cosine(kwargs)
        return super()._similarity_search_with_relevance_scores(query, k, **kwargs)

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        _check_cosine(kwargs)
        return await super()._asimilarity_search_with_relevance_scores(query, k, **kwargs)

    # ---------------------------------------------------------------------------------------

    def _search(
        self, query: str, k: int, filter: Filter | None, **options: Any
    ) -> list[tuple[Document, float]]:
        """Return the `k` best that pass the filter."""
        options = {"mode": "evolvable", **options}  # whose scores are cosines
        test, where = (filter, None) if callable(filter) else (None, filter)
        if test is not None:
            hits = self.memory.search(query, max(k, len(self.memory)), **options)
        else:
            hits = self.memory.search(query, k, where=where, **options)
        pairs = [(_document(hit.record), hit.score) for hit in hits]
        return [pair for pair in pairs if test is None or test(pair[0])][:k]

    def _purge(self, ids: Sequence[str] | None) -> None:
        for id in ids or ():
            self.memory.expire(session=id)
        if ids is None:
            with contextlib.suppress(NotFound):  # there is nothing yet
                self.memory.drop()

    def _delete(self, records: Iterable[Record]) -> None:
        for record in records:
            try:
                self.memory.delete(record.id)
            except NotFound:  # somebody else was quicker
                continue


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as JSON. Raises `TurnError` if it cannot be."""
    try:
        return dict(plain_json(metadata))
    except (TypeError, ValueError) as error:
        raise TurnError(f"metadata must be plain JSON: {error}") from error


def _changed(turns: Mapping[str, Turn], ids: Sequence[str], stored: Sequence[Record]) -> list[Turn]:
    """Return those turns that differ from the stored ones of the same ids."""
    old = {record.turn.session: (record.turn.content, record.turn.metadata) for record in stored}
    return [turns[id] for id in ids if old.get(id) != (turns[id].content, turns[id].metadata)]


def _document(record: Record) -> Document:
    turn = record.turn
    return Document(
        page_content=turn.user or turn.text, id=turn.session, metadata=dict(turn.metadata)
    )


def _check_cosine(options: Mapping[str, Any]) -> None:
    if options.get("mode", "evolvable") != "evolvable":
        raise ValueError(
            f"relevance scores are made of cosines, and mode={options['mode']!r} has none: use "
            "similarity_search_with_score"
        )
