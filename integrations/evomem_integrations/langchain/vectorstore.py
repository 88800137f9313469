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

    A document is a session of the log. The turns of the session are its versions, and the newest one
    is its content: adding an id again with different content writes a new turn, which replaces the old
    one. Use a separate memory for documents, not one that conversations are written to.
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
            embedding: The model that reads them: `EvoMemEmbeddings(encoder)` for an encoder of evomem
                with its memory, or any other embedding model.
            metadatas: The metadata of each text.
            ids: The id of each text.
            location: The database, as in `evomem.open`.
            namespace: The memory's namespace.
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
        """The database's encoder as LangChain embeddings: the model that it wraps, or without memory.

        None if the database is a service's, whose encoder a client cannot use.
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

        A document that is already stored with the same content is left as it is; one with different
        content is replaced. A document without text, such as a blank page, is not stored, and a stored
        document with its id is deleted; a warning is logged.

        Args:
            texts: The documents' texts.
            metadatas: The metadata of each text: JSON values, dates, UUIDs and sets.
            ids: The id of each text; generated where None.
            **kwargs: Other arguments of LangChain's callers, such as `batch_size`; ignored.

        Raises:
            ValueError: The lists differ in length.
            TurnError: A document cannot be stored; nothing was written.
        """
        contents = list(texts)
        for name, values in (("metadatas", metadatas), ("ids", ids)):
            if values is not None and len(values) != len(contents):
                raise ValueError(
                    f"{len(contents)} texts but {len(values)} {name}: give one for each"
                )
        all_ids = [(ids[n] if ids else None) or uuid.uuid4().hex for n in range(len(contents))]
        newest = {
            id: Turn(user=text, session=id, metadata=_metadata(metadatas[n] if metadatas else {}))
            for n, (id, text) in enumerate(zip(all_ids, contents, strict=True))
            if text.strip()
        }
        stored_ids = list(newest)
        for start in range(0, len(stored_ids), BATCH):
            batch = stored_ids[start : start + BATCH]
            self.memory.replace_sessions(batch, partial(_changed, newest, batch))
        blank = [id for id, text in zip(all_ids, contents, strict=True) if not text.strip()]
        if blank:
            logger.warning("%d documents without text are left out", len(blank))
            self.delete([id for id in blank if id not in newest])
        return all_ids

    def delete(
        self, ids: list[str] | None = None, *, purge: bool | None = None, **kwargs: Any
    ) -> bool:
        """Delete documents, all of them if `ids` is None; missing ones are no error.

        They are hidden from searches and lists, but their text stays on disk (`Memory.delete`). With
        `purge`, they are removed with every replaced version and their influence on later documents.

        Args:
            ids: The ids of the documents.
            purge: Whether to purge them; the store's setting if None.
            **kwargs: Other arguments of LangChain's callers; ignored.
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
            filter: Conditions on metadata, or a function that tests a document.
            **kwargs: `mode`, `at`, `since`, `until`, `now` and `zone` as in `MemoryView.search`.
        """
        return [document for document, _ in self._search(query, k, filter, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Do as `similarity_search`, with scores: cosines by default, otherwise the scores of `mode`."""
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

        The memory finds `fetch_k` candidates. Their similarity to each other is computed with
        `embeddings`, which embeds them and the query again, without the memory.

        Args:
            query: The question.
            k: How many at most.
            fetch_k: How many candidates.
            lambda_mult: 1 for relevance alone, 0 for diversity alone.
            filter: As in `similarity_search`.
            **kwargs: As in `similarity_search`.

        Raises:
            ServiceError: The database is a service's, whose encoder a client cannot use.
        """
        candidates = self.similarity_search(query, fetch_k, filter, **kwargs)
        if not candidates:
            return []
        model = self._model()
        vectors = model.embed_documents([document.page_content for document in candidates])
        query_vector = np.array(model.embed_query(query))
        places = maximal_marginal_relevance(query_vector, vectors, lambda_mult=lambda_mult, k=k)
        return [candidates[place] for place in places]

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
        """Return the `k` best documents that pass the filter, with scores."""
        options = {"mode": "evolvable", **options}  # the mode whose scores are cosines
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
            with contextlib.suppress(NotFound):  # the memory is empty
                self.memory.drop()

    def _delete(self, records: Iterable[Record]) -> None:
        for record in records:
            try:
                self.memory.delete(record.id)
            except NotFound:  # already deleted by someone else
                continue


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as JSON; raise `TurnError` if JSON cannot hold it."""
    try:
        return dict(plain_json(metadata))
    except (TypeError, ValueError) as error:
        raise TurnError(f"metadata must be plain JSON: {error}") from error


def _changed(turns: Mapping[str, Turn], ids: Sequence[str], stored: Sequence[Record]) -> list[Turn]:
    """Return the turns that differ from the stored turns of the same ids."""
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
            f"relevance scores are computed from cosines, which mode={options['mode']!r} does not "
            "return: use similarity_search_with_score"
        )
