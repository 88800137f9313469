"""Which cases of the contract an adapter cannot meet with, and why: what the docs' table shows."""

from __future__ import annotations

from collections.abc import Mapping

from evomem.adapter.contract import CASES

FINISHED = "it is given messages when they are finished"
RAISES = "your program calls it, and gets the error"
RECALLS_NOTHING = "it puts nothing into prompts"

MIDDLEWARE: Mapping[str, str] = {}

HISTORY = {
    "tools": "a chain calls no tools",
    "retry": "a model's retries end before the history is called",
    "regeneration": "a chat history can only be added to and cleared",
    "edit": "a chat history can only be added to and cleared",
    "pause": "a chain cannot wait for a person",
    "fence": "it shows a session's own messages, and recalls nothing",
}

LLAMAINDEX = {
    "retry": "agents do not call a model again that failed",
}

PYDANTIC_AI: Mapping[str, str] = {}

OPENAI_AGENTS: Mapping[str, str] = {}

GOOGLE_ADK: Mapping[str, str] = {}

STRANDS: Mapping[str, str] = {}

AGENT_FRAMEWORK: Mapping[str, str] = {}

MEM0 = {
    "streaming": FINISHED,
    "failure": FINISHED,
    "retry": FINISHED,
    "regeneration": "every call of add() adds; update() and delete() change a memory by its id",
    "edit": "every call of add() adds; update() and delete() change a memory by its id",
    "pause": FINISHED,
    "fence": RECALLS_NOTHING,
    "outage": RAISES,
}

LIGHTMEM = {
    **MEM0,
    "tools": "messages of other roles than user and assistant are refused, as it does",
    "regeneration": "every call of add_memory() adds",
    "edit": "every call of add_memory() adds",
}

AMEM = {
    **MEM0,
    "tools": "notes are texts that your program chooses",
    "regeneration": "every call of add_note() adds; update() changes a note by its id",
    "edit": "every call of add_note() adds; update() changes a note by its id",
}

MEMORYOS = dict.fromkeys(CASES, "it embeds for MemoryOS, which keeps the conversation itself")

ANTHROPIC = dict.fromkeys(CASES, "it keeps files that the model writes, not what was said")
