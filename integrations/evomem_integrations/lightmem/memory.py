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

USES = {"user_only": ("user",), "assistant_only": ("assistant",), "hybrid": ("user", "assistant")}
STEP = timedelta(milliseconds=500)  # between messages of one session, as LightMem spaces them
SESSION = re.compile(r"(\d{4}[/-]\d{1,2}[/-]\d{1,2})\s*\(([^)]+)\)\s*(\d{1,2}:\d{2}(?::\d{2})?)")
Message = Mapping[str, Any]


class LightMemory:
    """LightMem's class with the same calls and results; writes with no LLM, Qdrant or LLMLingua.

    Every message that `messages_use` asks for is one memory, in the order of the messages.
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
                `configs` `collection_name`, `path` and `on_disk` are used; the rest is not.
            encoder: What reads the messages; the one that wrote the collection, or the default.
            purge: Whether `embedding_retriever.delete` forgets a memory truly; it only hides it if
                not.
            zone: The user's time zone, in which days in queries are counted; UTC if not given.

        Raises:
            InputError: `messages_use` is none of LightMem's, or a Qdrant server is named.
        """
        self.config: dict[str, Any] = dict(config or {})
        use = self.config.get("messages_use") or "user_only"
        if use not in USES:
            raise InputError(f"messages_use must be one of {', '.join(USES)}, got {use!r}")
        self._roles = USES[use]
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
        """Store messages at once; nothing waits in a buffer.

        Args:
            messages: With `role`, `content`, `time_stamp` (`2023/05/20 (Sat) 00:44` or ISO 8601; no
                zone means UTC), and `speaker_id`, `speaker_name` if people talk to each other.
            METADATA_GENERATE_PROMPT: Not used: there is no LLM.
            force_segment: Not used.
            force_extract: Not used.
            boundmem_tags: Kept with the memories, to be retrieved by.

        Returns:
            The result of LightMem where it asked no LLM.

        Raises:
            InputError: A message is not of this form; nothing was written.
        """
        memories = [
            memory
            for memory in _timed(messages)
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
            limit: How many at most, before tags are looked at.
            filters: On the payload: values, or ranges of `gte`, `lte`, `gt`, `lt`.
            boundmem_tags: Keep memories with one of these tags.
            boundmem_drop_untagged: Drop memories without any tag as well.
            now: When the question is asked, as in `evomem.Memory.search`.
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
        """Do nothing, as LightMem."""

    def offline_update(self, memory_list: Sequence[Any], *args: Any, **kwargs: Any) -> None:
        """Store LightMem's memory entries (objects with `memory`, `time_stamp` and so on)."""
        for entry in memory_list:
            payload = {"bam_tags": [], **vars(entry)}
            self.embedding_retriever.insert(
                [self.text_embedder.embed(entry.memory)], [payload], [str(payload.pop("id"))]
            )

    def construct_update_queue_all_entries(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: queues are for the LLM that merges memories."""

    def offline_update_all_entries(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there is no LLM that could merge memories."""

    def summarize(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Raise `InputError`: a summary needs an LLM."""
        raise InputError("summaries need an LLM: use LightMem's own class, with install()")

    def get_token_statistics(self) -> dict[str, Any]:
        """Return LightMem's counters: no LLM was called, and what was embedded."""
        stats = self.text_embedder.get_stats()
        calls, tokens = stats["total_calls"], stats["total_tokens"]
        none = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return {
            "summary": {
                "total_llm_calls": 0,
                "total_llm_tokens": 0,
                "total_embedding_calls": calls,
                "total_embedding_tokens": tokens,
            },
            "llm": {task: dict(none) for task in ("add_memory", "update", "summarize")},
            "embedding": {"total_calls": calls, "total_tokens": tokens},
        }

    def close(self) -> None:
        """Release the database; harmless when repeated."""
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


def _timed(messages: Message | Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages with their times, checked; later ones of a session are `STEP` apart."""
    if not isinstance(messages, Mapping | list | tuple):
        raise InputError(
            f"messages are dictionaries with role, content and time_stamp, got {messages!r:.60}"
        )
    counts: Counter[str] = Counter()
    timed = []
    for place, message in enumerate([messages] if isinstance(messages, Mapping) else messages):
        where = f"message {place}"
        if not isinstance(message, Mapping):
            raise InputError(f"{where} is a {type(message).__name__}, not a dictionary")
        if message.get("role") not in USES["hybrid"]:
            raise InputError(f"{where} has the role {message.get('role')!r}, not user or assistant")
        if not isinstance(message.get("content"), str):
            raise InputError(f"{where} has no text as its content: {message.get('content')!r:.60}")
        stamp = message.get("time_stamp")
        time, weekday = _parsed(stamp, where)
        text, changes = clean(message["content"])
        timed.append(
            {
                "role": message["role"],
                "text": text.strip(),
                "changes": changes,
                "speaker_id": str(message.get("speaker_id", "unknown")),
                "speaker_name": str(message.get("speaker_name", "Unknown")),
                "time": time + STEP * counts[str(stamp)],
                "weekday": weekday,
            }
        )
        counts[str(stamp)] += 1
    return timed


def _parsed(stamp: object, where: str) -> tuple[datetime, str]:
    try:
        if not isinstance(stamp, str):
            raise ValueError("there is none")
        match = SESSION.search(stamp)
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
    """Return tags, however nested, as lower-case text."""
    if tags is None:
        return set()
    if isinstance(tags, Mapping) and ("tags" in tags or "tag" in tags):
        return _tags(tags.get("tags", tags.get("tag")))
    if isinstance(tags, list | tuple | set):
        return set().union(*map(_tags, tags))
    text = tags if isinstance(tags, str) else json.dumps(tags, sort_keys=True)
    return {text.strip().lower()} - {""}
