"""Pydantic AI: requests and responses, each with parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evomem.chats.fields import label
from evomem.chats.parts import CALL, REASONING, RESULT
from evomem.chats.shapes.base import Context, ParsedMessage, Raw, Shape, placed
from evomem.errors import InputError

_OTHERS = {
    "system-prompt": "system",
    "instruction": "system",
    "tool-call": CALL,
    "builtin-tool-call": CALL,
    "native-tool-call": CALL,
    "tool-return": RESULT,
    "builtin-tool-return": RESULT,
    "native-tool-return": RESULT,
    "retry-prompt": RESULT,
    "retry-feedback": RESULT,
    "thinking": REASONING,
}


def _is_message(raw: Raw) -> bool:
    return raw.get("kind") in ("request", "response") and isinstance(raw.get("parts"), list | tuple)


def _read_messages(raw: Raw, where: str, context: Context) -> Iterator[ParsedMessage]:
    session = label(where, raw, ("conversation_id",))
    texts: list[str] = []
    time: object = raw.get("timestamp")
    id = label(where, raw, ("provider_response_id",))
    for place, part in placed(raw["parts"], where, "parts", "part"):
        if not isinstance(part, Mapping):
            raise InputError(f"{place} must be an object")
        kind = part.get("part_kind")
        if kind == "user-prompt":
            text = _prompt(part.get("content"), context)
            if text.strip():
                yield ParsedMessage(
                    "user", text, place, time=part.get("timestamp") or time, session=session
                )
            continue
        if kind == "text" and isinstance(part.get("content"), str):
            texts.append(part["content"])
            continue
        context.left_out[_OTHERS.get(str(kind), f"{kind} part")] += 1
        if "".join(texts).strip():
            yield ParsedMessage(
                "assistant", "".join(texts), where, id=id, time=time, session=session
            )
            id = None
        texts = []
    if "".join(texts).strip():
        yield ParsedMessage("assistant", "".join(texts), where, id=id, time=time, session=session)


def _prompt(content: object, context: Context) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list | tuple) else ():
        if isinstance(part, str):
            texts.append(part)
        elif (
            isinstance(part, Mapping)
            and isinstance(part.get("content"), str)
            and part.get("kind") == "text-content"
        ):
            texts.append(part["content"])
        elif isinstance(part, Mapping):
            kind = str(part.get("kind", "unknown"))
            context.left_out["image part" if kind == "image-url" else f"{kind} part"] += 1
    return "\n".join(texts)


SHAPE = Shape(
    name="pydantic-ai",
    about="message history of Pydantic AI: requests and responses with parts",
    marks=("kind", "parts", "part_kind"),
    is_message=_is_message,
    read_messages=_read_messages,
)
