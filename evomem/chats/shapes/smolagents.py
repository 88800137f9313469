"""smolagents: the steps of an agent's memory, and the chat messages made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from evomem.chats.parts import CALL, REASONING, RESULT
from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, chat_message, has

_TASK = "New task:\n"


def _is_message(raw: Raw) -> bool:
    if "role" in raw:
        return has(raw, "content", "tool_calls", "raw") or raw["role"] in (
            "tool-call",
            "tool-response",
        )
    return (
        has(raw, "task", "task_images")
        or has(raw, "step_number", "model_output")
        or (has(raw, "plan", "model_output_message"))
        or (has(raw, "system_prompt") and len(raw) == 1)
    )


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    if "role" in raw:
        for piece in chat_message(raw, where, context):
            if piece.role == "user":
                piece.text = piece.text.removeprefix(_TASK)
            yield piece
    elif "task" in raw:
        if raw["task_images"]:
            context.left_out["image part"] += len(raw["task_images"])
        yield from chat_message(raw, where, context, role="user", content=raw["task"])
    elif "system_prompt" in raw:
        context.left_out["system"] += 1
    elif "plan" in raw:
        context.left_out[REASONING] += 1
    else:
        yield from _step(raw, where, context)


def _step(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    """Yield the answer of the final step; other steps are counted as calls, results and reasoning."""
    context.left_out[CALL] += len(raw.get("tool_calls") or ())
    context.left_out[RESULT] += bool(raw.get("observations"))
    if not raw.get("is_final_answer"):
        context.left_out[REASONING] += bool(raw.get("model_output"))
        return
    answer = raw.get("action_output")
    if answer is not None and not isinstance(answer, str):
        answer = json.dumps(answer, ensure_ascii=False, default=str)
    timing = raw.get("timing")
    time = timing.get("end_time") if isinstance(timing, Mapping) else None
    yield from chat_message({}, where, context, role="assistant", content=answer, time=time)


SHAPE = Shape(
    name="smolagents",
    about="smolagents memory (tasks and final answers of its steps), or its chat messages",
    marks=("task", "step_number", "model_output", "action_output"),
    is_message=_is_message,
    read_messages=_read_messages,
)
