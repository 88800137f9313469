"""AutoGen: messages of its agents and model contexts, and the saved state of agents and teams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomem.chats.parts import CALL, REASONING, RESULT
from evomem.chats.shapes.base import (
    Context,
    ParsedMessage,
    Raw,
    Shape,
    Talk,
    chat_message,
    has,
    placed,
)

_LEFT_OUT = {
    "SystemMessage": "system",
    "FunctionExecutionResultMessage": RESULT,
    "ToolCallRequestEvent": CALL,
    "ToolCallExecutionEvent": RESULT,
    "ToolCallSummaryMessage": RESULT,
    "ThoughtEvent": REASONING,
    "ModelClientStreamingChunkEvent": "stream chunk",
    "MemoryQueryEvent": "memory query",
    "CodeGenerationEvent": CALL,
    "CodeExecutionEvent": RESULT,
    "SelectSpeakerEvent": "event",
    "SelectorEvent": "event",
    "UserInputRequestedEvent": "event",
    "StopMessage": "event",
    "HandoffMessage": "event",
}
_SAID = ("TextMessage", "MultiModalMessage", "UserMessage", "AssistantMessage")


def _is_message(raw: Raw) -> bool:
    kind = raw.get("type")
    return "role" not in raw and (
        (kind in _SAID and "content" in raw) or (kind in _LEFT_OUT and "content" in raw)
    )


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    kind, content, thought = raw["type"], raw.get("content"), raw.get("thought")
    held, context.held = context.held, None
    if held is not None:
        # a thought before a tool call is text for the user, any other is reasoning
        if kind == "ToolCallRequestEvent":
            yield held
        else:
            context.left_out[REASONING] += 1
    if kind == "ThoughtEvent":
        context.held = next(chat_message(raw, where, context, role="assistant"), None)
        return
    if kind in _LEFT_OUT:
        context.left_out[_LEFT_OUT[kind]] += 1
        return
    if kind == "AssistantMessage" and isinstance(content, list):
        # the thought of a message with tool calls is text for the user, too
        context.left_out[CALL] += len(content)
        if not isinstance(thought, str) or not thought.strip():
            return
        content, thought = thought, None
    if thought:
        context.left_out[REASONING] += 1
    if isinstance(content, list):  # images are objects without a type
        content = [_part(part) for part in content]
    role = "user" if kind == "UserMessage" or raw.get("source") == "user" else "assistant"
    yield from chat_message(raw, where, context, role=role, content=content)


def _part(part: Any) -> Any:
    return part if isinstance(part, str) else {"type": "image"}


def _is_record(raw: Raw) -> bool:
    if raw.get("type") == "TeamState" and isinstance(raw.get("agent_states"), Mapping):
        return True
    return _thread(raw) is not None


def _thread(state: object) -> list[Any] | None:
    """Return the messages in the state of an agent or of a team's manager."""
    if not isinstance(state, Mapping):
        return None
    if isinstance(state.get("message_thread"), list):
        return list(state["message_thread"])
    if has(state.get("llm_context"), "messages"):
        return list(state["llm_context"]["messages"])
    return _thread(state.get("agent_state")) or None


def _talks(raw: Raw, where: str) -> Iterator[Talk]:
    if raw.get("type") != "TeamState":
        yield Talk(where, placed(_thread(raw), where), ordered=True)
        return
    states = raw["agent_states"]
    managers = {name: state for name, state in states.items() if has(state, "message_thread")}
    for name, state in (managers or states).items():  # a manager has what all agents have
        messages = _thread(state)
        if messages:
            place = f"{where}, {name}"
            yield Talk(place, placed(messages, place), ordered=True)


SHAPE = Shape(
    name="autogen",
    about="AutoGen messages, or the saved state of an agent or a team",
    marks=("source", "content", "type", "llm_context"),
    is_message=_is_message,
    read_messages=_read_messages,
    is_record=_is_record,
    talks=_talks,
)
