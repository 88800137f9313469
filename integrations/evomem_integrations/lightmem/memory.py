"""`LightMemory` without an LLM: messages are stored unchanged."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

from evomem import Encoder
from evomem.adapter import clean, note_cleaned
from evomem.errors import InputError
from evomem_integrations.lightmem.embedder import TextEmbedder
from evomem_integrations.lightmem.retriever import EmbeddingRetriever

ROLES_BY_USE = {
    "user_only": ("user",),
    "assistant_only": ("assistant",),
    "hybrid": ("user", "assistant"),
}
MESSAGE_INTERVAL = timedelta(milliseconds=500)  # between messages of a session, as in LightMem
SESSION_TIME = re.compile(
    r"(\d{4}[/-]\d{1,2}[/-]\d{1,2})\s*\(([^)]+)\)\s*(\d{1,2}:\d{2}(?::\d{2})?)"
)
Message = Mapping[str, Any]


class LightMemory:
    """LightMem's class with the same calls and results, without an LLM, Qdrant and LLMLingua.

    Every message of the roles that `messages_use` selects is one memory, in the order of the messages.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        encoder: str | Encoder | None = None,
        purge: bool = False,
        zone: str | None = None,
    ) -> None:
        """Open the collection that the configuration names.

        Args:
            config: LightMem's dictionary. `messages_use` and, under `embedding_retriever`, the
                `configs` `collection_name`, `path` and `on_disk` are used; the rest is ignored.
            encoder: The encoder that reads the messages; by default the one that wrote the
                collection.
            purge: Whether `embedding_retriever.delete` purges a memory; otherwise it only hides it.
            zone: The user's time zone, in which days in queries are counted; UTC if not given.

        Raises:
            InputError: `messages_use` is not valid, or the configuration names a Qdrant server.
        """
        self.config: dict[str, Any] = dict(config or {})
        use = self.config.get("messages_use") or "user_only"
        if use not in ROLES_BY_USE:
            raise InputError(f"messages_use must be one of {', '.join(ROLES_BY_USE)}, got {use!r}")
        self._roles = ROLES_BY_USE[use]
        store = {"collection_name": "lightmem", "path": "/tmp/qdrant", "on_disk": False}
        store.update((self.config.get("embedding_retriever") or {}).get("configs") or {})
        self.embedding_retriever = _Retriever(SimpleNamespace(**store), encoder, purge, zone)
        self.text_embedder = _Embedder(self.embedding_retriever)
        self.retrieve_strategy = self.config.get("retrieve_strategy") or "embedding"

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        encoder: str | Encoder | None = None,
        purge: bool = False,
        zone: str | None = None,
    ) -> LightMemory:
        """Return a memory for LightMem's configuration; see the constructor."""
        return cls(config, encoder=encoder, purge=purge, zone=zone)

    def add_memory(
        self,
        messages: Message | Sequence[Message],
        METADATA_GENERATE_PROMPT: Any = None,
        *,
        force_segment: bool = False,
        force_extract: bool = False,
        boundmem_tags: Any = None,
    ) -> dict[str, Any]:
        """Store messages immediately; nothing is buffered.

        Args:
            messages: With `role`, `content`, `time_stamp` (`2023/05/20 (Sat) 00:44` or ISO 8601, in
                UTC unless it names a zone), and optionally `speaker_id` and `speaker_name`.
            METADATA_GENERATE_PROMPT: Not used: there is no LLM.
            force_segment: Not used.
            force_extract: Not used.
            boundmem_tags: Stored with the memories, as filters for `retrieve`.

        Returns:
            The result of LightMem for a call without an LLM.

        Raises:
            InputError: A message does not have this form; nothing was written.
        """
        memories = [
            memory
            for memory in _checked(messages)
            if memory["role"] in self._roles and memory["text"]
        ]
        for memory in memories:
            note_cleaned({f"cleaned_{memory['role']}": memory["changes"]})
            payload = _payload(memory, sorted(_tags(boundmem_tags)))
            vector = self.text_embedder.embed(payload["memory"])
            self.embedding_retriever.insert([vector], [payload], [str(uuid.uuid4())])
        return {"add_input_prompt": [], "add_output_prompt": [], "api_call_nums": 0}

    def retrieve(
        self,
        query: str,
        limit: int = 10,
        filters: Mapping[str, Any] | None = None,
        *,
        boundmem_tags: Any = None,
        boundmem_drop_untagged: bool = False,
        now: datetime | str | None = None,
    ) -> list[str]:
        """Return the best memories as `"<time_stamp> <weekday> <memory>"`, best first.

        Args:
            query: The question.
            limit: The maximum number, before memories are filtered by tags.
            filters: Conditions on the payload: values, or ranges of `gte`, `lte`, `gt`, `lt`.
            boundmem_tags: Keep memories with one of these tags.
            boundmem_drop_untagged: Drop memories without any tag as well.
            now: The time of the question, as in `evomem.Memory.search`.
        """
        vector = self.text_embedder.embed(query)
        hits = self.embedding_retriever.search(vector, limit, filters, return_full=True, now=now)
        tags = _tags(boundmem_tags)
        payloads = [hit["payload"] for hit in hits]
        if tags:
            payloads = [
                payload
                for payload in payloads
                if tags & set(payload["bam_tags"])
                or not (payload["bam_tags"] or boundmem_drop_untagged)
            ]
        return [f"{row['time_stamp']} {row['weekday']} {row['memory']}" for row in payloads]

    def online_update(self, memory_list: Sequence[Any]) -> None:
        """Do nothing, like LightMem."""

    def offline_update(self, memory_list: Sequence[Any], *args: Any, **kwargs: Any) -> None:
        """Store LightMem's memory entries (objects with `memory`, `time_stamp` and so on)."""
        for entry in memory_list:
            payload = {"bam_tags": [], **vars(entry)}
            self.embedding_retriever.insert(
                [self.text_embedder.embed(entry.memory)], [payload], [str(payload.pop("id"))]
            )

    def construct_update_queue_all_entries(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the queues are for an LLM that merges memories."""

    def offline_update_all_entries(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there is no LLM to merge memories."""

    def summarize(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Raise `InputError`: a summary needs an LLM."""
        raise InputError("summarize needs an LLM: use LightMem's own class, with install()")

    def get_token_statistics(self) -> dict[str, Any]:
        """Return LightMem's counters: none for the LLM, calls and tokens for embeddings."""
        stats = self.text_embedder.get_stats()
        calls, tokens = stats["total_calls"], stats["total_tokens"]
        no_calls = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return {
            "summary": {
                "total_llm_calls": 0,
                "total_llm_tokens": 0,
                "total_embedding_calls": calls,
                "total_embedding_tokens": tokens,
            },
            "llm": {task: dict(no_calls) for task in ("add_memory", "update", "summarize")},
            "embedding": {"total_calls": calls, "total_tokens": tokens},
        }

    def close(self) -> None:
        """Release the database; calling it again has no effect."""
        self.embedding_retriever.close()


class _Retriever(EmbeddingRetriever):
    def __init__(
        self, config: Any, encoder: str | Encoder | None, purge: bool, zone: str | None
    ) -> None:
        self.encoder = encoder
        self.purge = purge
        self.zone = zone
        super().__init__(config)


class _Embedder(TextEmbedder):
    def __init__(self, retriever: EmbeddingRetriever) -> None:
        self.encoder = retriever.loaded
        super().__init__()


def _checked(messages: Message | Sequence[Message]) -> list[dict[str, Any]]:
    """Check messages; return them with times, which in a session are `MESSAGE_INTERVAL` apart."""
    if not isinstance(messages, Mapping | list | tuple):
        raise InputError(
            f"messages must be dictionaries with role, content and time_stamp, got {messages!r:.60}"
        )
    counts: Counter[str] = Counter()
    checked = []
    for place, message in enumerate([messages] if isinstance(messages, Mapping) else messages):
        where = f"message {place}"
        if not isinstance(message, Mapping):
            raise InputError(f"{where} is a {type(message).__name__}, not a dictionary")
        if message.get("role") not in ROLES_BY_USE["hybrid"]:
            raise InputError(f"{where} has the role {message.get('role')!r}, not user or assistant")
        if not isinstance(message.get("content"), str):
            raise InputError(f"{where} has no text as its content: {message.get('content')!r:.60}")
        stamp = message.get("time_stamp")
        time, weekday = _parsed(stamp, where)
        text, changes = clean(message["content"])
        checked.append(
            {
                "role": message["role"],
                "text": text.strip(),
                "changes": changes,
                "speaker_id": str(message.get("speaker_id", "unknown")),
                "speaker_name": str(message.get("speaker_name", "Unknown")),
                "time": time + MESSAGE_INTERVAL * counts[str(stamp)],
                "weekday": weekday,
            }
        )
        counts[str(stamp)] += 1
    return checked


def _parsed(stamp: object, where: str) -> tuple[datetime, str]:
    try:
        if not isinstance(stamp, str):
            raise ValueError("not a text")
        match = SESSION_TIME.search(stamp)
        if not match:
            time = datetime.fromisoformat(stamp)
            return time, f"{time:%a}"
        date, weekday, clock = match.groups()
        layout = "%Y/%m/%d %H:%M:%S" if clock.count(":") == 2 else "%Y/%m/%d %H:%M"
        return datetime.strptime(f"{date.replace('-', '/')} {clock}", layout), weekday
    except ValueError as error:
        raise InputError(
            f"{where} has the time_stamp {stamp!r:.60} ({error}); write it like 2023/05/20 (Sat) 00:44"
        ) from error


def _payload(memory: Mapping[str, Any], tags: list[str]) -> dict[str, Any]:
    """Return a memory as LightMem stores it."""
    time: datetime = memory["time"]
    name = memory["speaker_name"]
    utc = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return {
        "time_stamp": time.isoformat(timespec="milliseconds"),
        "float_time_stamp": utc.timestamp(),
        "weekday": memory["weekday"],
        "topic_id": None,
        "topic_summary": "",
        "category": "",
        "subcategory": "",
        "memory_class": "",
        "memory": memory["text"] if name == "Unknown" else f"{name}: {memory['text']}",
        "original_memory": "",
        "compressed_memory": "",
        "speaker_id": memory["speaker_id"],
        "speaker_name": name,
        "role": memory["role"],
        "consolidated": False,
        "bam_tags": tags,
    }


def _tags(tags: Any) -> set[str]:
    """Return tags, flattened, as lower-case text."""
    if tags is None:
        return set()
    if isinstance(tags, Mapping) and ("tags" in tags or "tag" in tags):
        return _tags(tags.get("tags", tags.get("tag")))
    if isinstance(tags, list | tuple | set):
        return set().union(*map(_tags, tags))
    text = tags if isinstance(tags, str) else json.dumps(tags, sort_keys=True)
    return {text.strip().lower()} - {""}
