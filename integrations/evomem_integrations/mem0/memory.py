"""`Memory`: Mem0's class on an evomem database, without a language model or an API key."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import datetime, timezone, tzinfo
from pathlib import Path
from types import TracebackType
from typing import Any

from evomem.adapter import note_cleaned
from evomem.database import Database
from evomem.errors import NotFound, QueryError
from evomem.memory_view import Mode
from evomem_integrations._databases import Handle, share
from evomem_integrations.mem0 import arguments, results
from evomem_integrations.mem0.collection import Collection, Item

logger = logging.getLogger(__name__)

UNSET: Any = object()


class MemoryNotFound(NotFound, ValueError):
    """There is no memory with this id. It is a `ValueError`, as in Mem0, and a `NotFound`."""


class Memory:
    """Replaces `mem0.Memory`: only the import changes.

    Messages are read by the encoder, not sent to a language model. They are stored verbatim; a user's
    message and its answer are one memory. The calling conventions of both Mem0 1.x and 2.x are
    supported.
    """

    def __init__(
        self,
        config: Any = None,
        *,
        database: Database | None = None,
        collection: str = "mem0",
        mode: Mode = "evolvable",
    ) -> None:
        """Open the database of a configuration, or use one that is open.

        Args:
            config: A mapping or a `MemoryConfig`, as in Mem0, with `{"vector_store": {"provider":
                "evomem", "config": {"location": "agent.db"}}}`; the inner config also takes
                `collection_name`, `encoder` and the other options of `evomem.open`. Without it, the
                database is `~/.mem0/evomem.db`. The configuration of language model, embedder and
                reranker is ignored.
            database: An open database to use instead; the caller closes it.
            collection: The collection's name in `database`.
            mode: The search mode, `"evolvable"` or `"hybrid"`.

        Raises:
            QueryError: The configuration names another vector store.
        """
        if mode not in ("evolvable", "hybrid"):
            raise QueryError(f"mode must be 'evolvable' or 'hybrid', got {mode!r}")
        self._mode: Mode = mode
        self._handle: Handle | None = None
        if database is None:
            options = _store_options(arguments.configuration(config))
            collection = options.pop("collection_name", collection)
            self._handle = share(**options)
            database = self._handle.database
        self._rows = Collection(database, collection)

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> Memory:
        """Open the database of a configuration."""
        return cls(config_dict)

    # writing -------------------------------------------------------------------------------

    def add(
        self,
        messages: str | Mapping[str, Any] | list[Any],
        *,
        user_id: Any = None,
        agent_id: Any = None,
        run_id: Any = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        expiration_date: Any = None,
        infer: bool = True,
        memory_type: str | None = None,
        prompt: str | None = None,
    ) -> dict[str, Any]:
        """Read messages and store them verbatim.

        Args:
            messages: A text, a message, or a list of messages; system messages are left out.
            user_id: The id of the user; at least one of the three ids is required.
            agent_id: The id of the agent.
            run_id: The id of the conversation.
            metadata: JSON values, for filters.
            timestamp: The time of the messages: seconds since 1970, or ISO 8601 with a time zone.
            expiration_date: The last day on which searches return the memory.
            infer: If true, a user's message and its answer are one memory, the form that evomem reads
                best; if false, every message is one memory. Nothing is extracted or dropped either way.
            memory_type: Rejected: Mem0's procedural memories are written by a language model.
            prompt: Ignored: there is no language model.

        Raises:
            QueryError: No id is given, or a memory type is given.
            TurnError: A message cannot be stored; nothing was written.
        """
        owner = arguments.owner({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
        if not owner:
            raise QueryError("At least one of 'user_id', 'agent_id', or 'run_id' must be provided.")
        if memory_type is not None:
            raise QueryError(
                f"memory_type {memory_type!r} needs a language model, which evomem does not use: write "
                "the procedure yourself and add it as text"
            )
        time = arguments.moment(timestamp)
        shared = {**arguments.user_metadata(metadata, "add()"), **owner}
        until = arguments.expiry(expiration_date)
        if until is not None:
            shared["expiration_date"] = until
        payloads = [
            results.stamped({**shared, **payload}, time)
            for payload in arguments.turns(messages, infer)
        ]
        if not payloads:
            return {"results": []}
        ids = self._rows.add(payloads, [time] * len(payloads))
        for payload in payloads:
            note_cleaned(payload)
        return {
            "results": [results.event(*pair, infer) for pair in zip(ids, payloads, strict=True)]
        }

    def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: Any = UNSET,
        data: str | None = None,
    ) -> dict[str, str]:
        """Change a memory's text, metadata or expiration date; `data` is Mem0 1.x's name for `text`.

        A new text is read as the newest turn, and the old text is hidden from searches. As in Mem0, it
        stays in `history` and in the database until the memory is deleted.

        Raises:
            MemoryNotFound: There is no such memory.
            QueryError: There is nothing to change.
        """
        text = data if text is None else text
        if text is None and metadata is None and expiration_date is UNSET:
            raise QueryError("At least one of text, metadata, or expiration_date must be provided.")
        row = self._existing(memory_id)
        payload = {**row.payload, **arguments.user_metadata(metadata, "update()")}
        if expiration_date is not UNSET:
            payload["expiration_date"] = arguments.expiry(expiration_date)
        payload["updated_at"] = datetime.now(timezone.utc).isoformat()
        if text is not None and text != row.payload["data"]:
            payload.update(data=text, hash=results.text_hash(text))
            if "role" not in payload:  # the old text was an exchange; the new one has one side
                payload["role"] = "user"
            previous = {"memory": row.payload["data"], "at": row.payload["updated_at"]}
            versions = [*payload.get(results.EARLIER, []), previous]
            payload[results.EARLIER] = results.truncated(versions)
        else:
            payload["data"] = row.payload["data"]
        self._rows.replace(memory_id, payload)
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id: str) -> dict[str, str]:
        """Purge a memory: its texts, its history, and its influence on later memories.

        This is `evomem.Memory.purge`: all later turns of the user are read again without it.

        Raises:
            MemoryNotFound: There is no such memory.
        """
        self._existing(memory_id)
        self._rows.forget(memory_id)
        return {"message": "Memory deleted successfully!"}

    def delete_all(
        self, user_id: Any = None, agent_id: Any = None, run_id: Any = None
    ) -> dict[str, str]:
        """Purge all memories that have these ids, as `delete` does.

        Raises:
            QueryError: No id is given.
        """
        owner = arguments.owner({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
        if not owner:
            raise QueryError(
                "At least one filter is required to delete all memories. If you want to delete "
                "all memories, use the `reset()` method."
            )
        self._rows.forget_all(owner)
        return {"message": "Memories deleted successfully!"}

    def reset(self) -> None:
        """Purge every memory of the collection, as `delete` does."""
        self._rows.forget_all({})

    # reading -------------------------------------------------------------------------------

    def search(
        self,
        query: str,
        *,
        top_k: int = 20,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = 0.1,
        rerank: bool = False,
        explain: bool = False,
        reference_date: Any = None,
        show_expired: bool = False,
        user_id: Any = None,
        agent_id: Any = None,
        run_id: Any = None,
        limit: int | None = None,
        now: datetime | str | None = None,
        zone: str | tzinfo | None = None,
        **ignored: Any,
    ) -> dict[str, Any]:
        """Return the memories that answer `query` best.

        Args:
            query: The question.
            top_k: The maximum number of results.
            filters: Owner ids and conditions on metadata, see `filters.py`.
            threshold: The minimum score of results.
            rerank: Ignored: there is no reranker.
            explain: Whether to return the components of each score.
            reference_date: Not supported, as in the open-source Mem0.
            show_expired: Whether to return memories past their expiration date.
            user_id: The id of the user, as in Mem0 1.x.
            agent_id: The id of the agent, as in Mem0 1.x.
            run_id: The id of the conversation, as in Mem0 1.x.
            limit: Mem0 1.x's name for `top_k`.
            now: The time of the question, as in `evomem.Memory.search`; Mem0 has no such argument.
            zone: The time zone of the person who asks; the database's if not given.
            **ignored: Other arguments, such as `output_format`; logged and ignored, as in Mem0.

        Raises:
            QueryError: An argument is not valid, or no id is given.
        """
        arguments.note_ignored("search()", ignored)
        if reference_date is not None:
            raise QueryError("reference_date is not supported: use now= or filter by metadata")
        ids = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        scope = arguments.scope(filters, ids)
        count, least = arguments.limit(top_k, limit), arguments.threshold(threshold)
        if not isinstance(query, str) or not query.strip():
            raise QueryError(f"Invalid query: must be a non-empty string, got {query!r}")
        if not count:
            return {"results": []}
        alive = None if show_expired else _today()
        rows = self._rows.search(
            query.strip(), scope, count, mode=self._mode, alive=alive, now=now, zone=zone
        )
        scored = [(row, max(0.0, row.score or 0.0)) for row in rows]
        return {
            "results": [
                {
                    **results.item(row),
                    "score": score,
                    **(results.details(score, least) if explain else {}),
                }
                for row, score in scored
                if score >= least
            ]
        }

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """Return a memory, or None if there is no memory with this id."""
        row = self._rows.get(memory_id)
        return None if row is None else results.item(row)

    def get_all(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        top_k: int = 20,
        show_expired: bool = False,
        user_id: Any = None,
        agent_id: Any = None,
        run_id: Any = None,
        limit: int | None = None,
        **ignored: Any,
    ) -> dict[str, Any]:
        """Return memories in the order they were added; the arguments are those of `search`.

        Raises:
            QueryError: An argument is not valid, or no id is given.
        """
        arguments.note_ignored("get_all()", ignored)
        ids = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        scope = arguments.scope(filters, ids)
        count = arguments.limit(top_k, limit)
        alive = None if show_expired else _today()
        rows = self._rows.rows(scope, count, alive=alive) if count else []
        items = [results.item(row) for row in rows]
        return {"results": [{k: v for k, v in item.items() if k != "score"} for item in items]}

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        """Return the versions of a memory's text, oldest first; empty after its deletion."""
        row = self._rows.get(memory_id)
        if row is None:
            return []
        return results.events(row)

    def chat(self, query: str) -> None:
        """Not implemented, as in Mem0."""
        raise NotImplementedError("Chat function not implemented yet.")

    # ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the database if this object opened it."""
        self._handle = None

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _existing(self, memory_id: str) -> Item:
        row = self._rows.get(memory_id)
        if row is None:
            raise MemoryNotFound(
                f"Memory with id {memory_id} not found. Please provide a valid 'memory_id'"
            )
        return row


def _store_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `share`, and `collection_name`, from a configuration of Mem0."""
    store = config.get("vector_store") or {}
    provider, options = store.get("provider", "evomem"), dict(store.get("config") or {})
    if provider != "evomem":
        raise QueryError(
            f"this Memory stores its memories in evomem, not in {provider!r}: configure "
            '{"vector_store": {"provider": "evomem", "config": {"location": "agent.db"}}}'
        )
    unused = sorted(
        {"llm", "embedder", "reranker", "graph_store"} & {k for k in config if config[k]}
    )
    if unused:
        logger.info("evomem needs no %s: ignored", ", no ".join(unused))
    options.pop("embedding_model_dims", None)
    if "location" not in options:
        home = Path(os.environ.get("MEM0_DIR") or Path.home() / ".mem0")
        home.mkdir(parents=True, exist_ok=True)
        options["location"] = str(home / "evomem.db")
    return options


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()
