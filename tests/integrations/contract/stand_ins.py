"""Programs that hand finished messages to a stand-in for Mem0, LightMem or A-MEM."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from evomem.adapter.contract import Call, Host
from evomem_integrations import amem, lightmem, mem0

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def finished(text: str, replies: Any) -> list[dict[str, Any]]:
    """Return the messages of a run, as programs keep them."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": text}]
    for reply in replies:
        if isinstance(reply, Call):
            messages.append({"role": "assistant", "content": reply.says, "tool_calls": [{}]})
            messages.append({"role": "tool", "content": reply.result})
        else:
            messages.append({"role": "assistant", "content": reply})
    return messages


class Mem0(Host):
    """`Memory.add` after each run."""

    def memory(self, user):
        return self.db.memory("mem0", "mem0", "user_id", user)

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        memory = mem0.Memory(database=self.db)
        memory.add(finished(text, replies), user_id=user, run_id=thread)
        return ""


class LightMem(Host):
    """`add_memory` after each run, with the messages of user and assistant."""

    paired = False

    def __init__(self, location):
        self.location, self.minute = location, 0
        self.light: dict[str, Any] = {}

    def of(self, user):
        if user not in self.light:
            place = {
                "collection_name": user,
                "path": str(Path(self.location).parent),
                "on_disk": True,
            }
            config = {"messages_use": "hybrid", "embedding_retriever": {"configs": place}}
            self.light[user] = lightmem.LightMemory(config, encoder="hash")
        return self.light[user]

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        self.minute += 1
        time = (START + timedelta(minutes=self.minute)).isoformat()
        texts = [m for m in finished(text, replies) if m["role"] != "tool"]
        self.of(user).add_memory([{**m, "time_stamp": time} for m in texts])
        return ""

    def close(self):
        for light in self.light.values():
            light.close()

    def log(self, user="alice"):
        records = self.of(user).embedding_retriever._documents.all()
        return [(r.turn.user, r.turn.assistant) for r in records]


class AMem(Host):
    """`add_note` with what the user said."""

    sides = ("user",)
    paired = False

    def __init__(self, location):
        self.location = location
        self.notes: dict[str, Any] = {}

    def of(self, user):
        if user not in self.notes:
            self.notes[user] = amem.AgenticMemorySystem(
                location=self.location, encoder="hash", user_id=user
            )
        return self.notes[user]

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        self.of(user).add_note(text)
        return ""

    def close(self):
        for notes in self.notes.values():
            notes.close()

    def log(self, user="alice"):
        return [(note.content, "") for note in self.of(user).retriever.notes()]
