"""A-MEM's `AgenticMemorySystem` without an LLM: notes are stored unchanged."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from evomem import Encoder
from evomem_integrations.amem.retrievers import ChromaRetriever, stored_metadata
from evomem_integrations.documents import InMemory, key_of

Note = dict[str, Any]


class MemoryNote:
    """A note with the attributes of A-MEM's; missing and empty ones get A-MEM's defaults."""

    def __init__(
        self,
        content: str,
        id: str | None = None,
        keywords: list[str] | None = None,
        links: list[str] | None = None,
        retrieval_count: int | None = None,
        timestamp: str | None = None,
        last_accessed: str | None = None,
        context: str | None = None,
        evolution_history: list[Any] | None = None,
        category: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        now = datetime.now().strftime("%Y%m%d%H%M")
        self.content = content
        self.id = id or str(uuid.uuid4())
        self.keywords = keywords or []
        self.links = links or []
        self.context = context or "General"
        self.category = category or "Uncategorized"
        self.tags = tags or []
        self.timestamp = timestamp or now
        self.last_accessed = last_accessed or now
        self.retrieval_count = retrieval_count or 0
        self.evolution_history = evolution_history or []

    def line(self, start: str = "") -> str:
        """Return the note as A-MEM writes it into prompts."""
        return (
            f"{start}talk start time:{self.timestamp}\tmemory content: {self.content}\t"
            f"memory context: {self.context}\tmemory keywords: {self.keywords}\t"
            f"memory tags: {self.tags}\n"
        )


class AgenticMemorySystem:
    """A-MEM's memory system, with the same methods and results, without an LLM and Chroma.

    `memories` maps ids to notes in the order they were added. `process_memory` returns notes
    unchanged: keywords, context and tags are those that the caller gave.
    """

    def __init__(
        self,
        model_name: str = "all-MiniLM-L6-v2",
        llm_backend: str = "openai",
        llm_model: str = "gpt-4o-mini",
        evo_threshold: int = 100,
        api_key: str | None = None,
        *,
        location: str = InMemory,
        encoder: str | Encoder | None = None,
        purge: bool = False,
        user_id: str | None = None,
        zone: str | None = None,
        **unused: Any,
    ) -> None:
        """Open the notes at `location`.

        Args:
            model_name: Kept as an attribute, not used.
            llm_backend: Not used.
            llm_model: Not used.
            evo_threshold: Kept as an attribute, not used.
            api_key: Not used.
            location: A file, or `":memory:"`; notes of an existing file are loaded into `memories`.
            encoder: The encoder that reads the notes; by default the one that wrote the file.
            purge: Whether `delete` purges a note; otherwise it only hides it.
            user_id: The owner of the notes. Users of one file do not see each other's notes, nor
                those that were stored without a user.
            zone: The user's time zone, for notes' timestamps (the system's if not given) and for
                days in queries (UTC if not given).
            **unused: Arguments of forks of A-MEM, such as `api_base` and `embedder_provider`.

        Raises:
            NamespaceError: `user_id` is empty.
        """
        self.model_name = model_name
        self.evo_cnt = 0
        self.evo_threshold = evo_threshold
        self.llm_controller: Any = None
        self.retriever = NoteRetriever(location, encoder, purge, user_id, zone)
        self.memories: dict[str, MemoryNote] = {note.id: note for note in self.retriever.notes()}

    def add_note(self, content: str, time: str | None = None, **kwargs: Any) -> str:
        """Read a note and store it; return its id.

        Args:
            content: The text.
            time: The note's timestamp, as text; the current time if not given.
            **kwargs: Other attributes of `MemoryNote`.
        """
        if time is not None:
            kwargs["timestamp"] = time
        _, note = self.process_memory(MemoryNote(content, **kwargs))
        self._store(note)
        self.memories[note.id] = note
        return note.id

    def read(self, memory_id: str) -> MemoryNote | None:
        """Return a note, or None if there is no note with this id."""
        return self.memories.get(memory_id)

    def update(self, memory_id: str, **kwargs: Any) -> bool:
        """Change attributes of a note; return False if there is no such note.

        A note with new content is read again as the newest note; its id does not change.
        """
        note = self.memories.get(memory_id)
        if note is None:
            return False
        known = {key: value for key, value in kwargs.items() if key in vars(note) and key != "id"}
        changed = MemoryNote(**{**vars(note), **known})
        self._store(changed)  # may fail, so before the note in `memories` changes
        vars(note).update(vars(changed))
        return True

    def delete(self, memory_id: str) -> bool:
        """Hide a note; return False if there is no such note. Links to it remain.

        Its text and its influence on later notes remain. With `purge`, both are removed.
        """
        if memory_id not in self.memories:
            return False
        self.retriever.delete_document(memory_id)
        del self.memories[memory_id]
        return True

    def search(self, query: str, k: int = 5, *, now: datetime | str | None = None) -> list[Note]:
        """Return the best notes as `id, content, context, keywords, score`; a lower score is better.

        `now` is the time of the question, as in `evomem.Memory.search`.
        """
        return [
            {
                "id": note.id,
                "content": note.content,
                "context": note.context,
                "keywords": note.keywords,
                "score": score,
            }
            for note, score in self._best_notes(query, k, now)
        ]

    def search_agentic(self, query: str, k: int = 5) -> list[Note]:
        """Return the best notes followed by the notes that they link to, `k` in total."""
        if not self.memories:
            return []
        notes = [{**_plain(note), "score": score} for note, score in self._best_notes(query, k)]
        seen = {note["id"] for note in notes}
        for note in list(notes):
            for neighbour in self._linked(self.memories[note["id"]], k):
                if neighbour.id not in seen:
                    seen.add(neighbour.id)
                    notes.append({**_plain(neighbour), "is_neighbor": True})
        return notes[:k]

    def find_related_memories(self, query: str, k: int = 5) -> tuple[str, list[int]]:
        """Return the best notes as text for a prompt, and their ranks."""
        notes = [note for note, _ in self._best_notes(query, k)]
        lines = [note.line(f"memory index:{rank}\t") for rank, note in enumerate(notes)]
        return "".join(lines), list(range(len(notes)))

    def find_related_memories_raw(self, query: str, k: int = 5) -> str:
        """Return the best notes as text for a prompt, each with the notes it links to."""
        notes = [note for note, _ in self._best_notes(query, k)]
        return "".join(
            related.line() for note in notes for related in (note, *self._linked(note, k))
        )

    def consolidate_memories(self) -> None:
        """Store the current attributes of every note; unchanged texts are not read again."""
        for note in self.memories.values():
            self._store(note)

    def process_memory(self, note: MemoryNote) -> tuple[bool, MemoryNote]:
        """Return the note unchanged: there is no LLM to evolve it."""
        return False, note

    def analyze_content(self, content: str) -> Note:
        """Return what A-MEM returns without an answer of an LLM."""
        return {"keywords": [], "context": "General", "tags": []}

    def close(self) -> None:
        """Release the database; calling it again has no effect."""
        self.retriever.close()

    # ---------------------------------------------------------------------------------------

    def _store(self, note: MemoryNote) -> None:
        self.retriever.add_document(note.content, vars(note), note.id)

    def _best_notes(
        self, query: str, k: int, now: datetime | str | None = None
    ) -> list[tuple[MemoryNote, float]]:
        if not self.memories:
            return []
        columns = self.retriever.search(query, k, now=now)
        pairs = zip(columns["ids"][0], columns["distances"][0], strict=True)
        return [(self.memories[id], score) for id, score in pairs if id in self.memories]

    def _linked(self, note: MemoryNote, k: int) -> Sequence[MemoryNote]:
        return [self.memories[link] for link in note.links if link in self.memories][:k]


class NoteRetriever(ChromaRetriever):
    """The retriever of `AgenticMemorySystem`, for any location; it returns notes as objects."""

    def __init__(
        self,
        location: str,
        encoder: str | Encoder | None,
        purge: bool,
        user_id: str | None,
        zone: str | None,
    ) -> None:
        self.zone = zone
        owner = () if user_id is None else (user_id,)
        self._open("memories", location, encoder, purge, *owner)

    def notes(self) -> Iterator[MemoryNote]:
        """Yield the stored notes in the order they were read."""
        for record in self._documents.all():
            metadata = {**stored_metadata(record), "id": key_of(record)}
            metadata["retrieval_count"] = int(metadata["retrieval_count"])
            yield MemoryNote(**metadata)


def _plain(note: MemoryNote) -> Note:
    return {
        "id": note.id,
        "content": note.content,
        "context": note.context,
        "keywords": note.keywords,
        "tags": note.tags,
        "timestamp": note.timestamp,
        "category": note.category,
        "is_neighbor": False,
    }
