"""The text of a message, whose content is a string, or parts of many kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from evomem.chats.fields import brief
from evomem.errors import InputError

TEXT = frozenset(
    {"text", "input_text", "output_text", "TextContent", "markdown", "audio_transcription"}
)
KIND_FIELDS = ("type", "block_type", "content_type", "part_kind", "$type", "class_name")
REASONING, CALL, RESULT = "reasoning", "tool call", "tool result"
_KINDS = {
    "thinking": REASONING,
    "redacted_thinking": REASONING,
    "reasoning": REASONING,
    "redacted-reasoning": REASONING,
    "redacted_reasoning": REASONING,
    "omitted_reasoning": REASONING,
    "summarized_reasoning": REASONING,
    "reasoningContent": REASONING,
    "thought": REASONING,
    "tool_use": CALL,
    "server_tool_use": CALL,
    "mcp_tool_use": CALL,
    "tool_call": CALL,
    "tool-call": CALL,
    "tool_call_chunk": CALL,
    "server_tool_call": CALL,
    "invalid_tool_call": CALL,
    "function_call": CALL,
    "functionCall": CALL,
    "tool-invocation": CALL,
    "toolUse": CALL,
    "dynamic-tool": CALL,
    "executableCode": CALL,
    "executable_code": CALL,
    "FunctionCallContent": CALL,
    "tool_result": RESULT,
    "tool-result": RESULT,
    "tool_return": RESULT,
    "server_tool_result": RESULT,
    "web_search_tool_result": RESULT,
    "mcp_tool_result": RESULT,
    "tool_call_result": RESULT,
    "toolResult": RESULT,
    "function_result": RESULT,
    "function_response": RESULT,
    "functionResponse": RESULT,
    "codeExecutionResult": RESULT,
    "code_execution_result": RESULT,
    "FunctionResultContent": RESULT,
}
"""The names under which parts without text are counted; other kinds are counted by their own name."""
_UNTYPED = (
    *("toolUse", "toolResult", "functionCall", "functionResponse", "function_call"),
    *("function_response", "tool_call", "tool_call_result", "reasoningContent", "reasoning"),
    *("executableCode", "codeExecutionResult", "executable_code", "code_execution_result"),
    *("inlineData", "inline_data", "fileData", "file_data", "image", "document", "video", "audio"),
    *("file", "cachePoint", "guardContent", "image_url"),
)
"""Keys that identify the kind of a part without a type (Bedrock, Gemini, Haystack)."""
_QUIET = frozenset({"step-start", "cachePoint", "cache_point", "placeholder"})
"""Parts that are ignored and not counted."""


def pieces(content: object, role: str, where: str, left_out: Counter[str]) -> list[str]:
    """Return the text of one message in pieces, which are separated by parts without text.

    An assistant's consecutive text parts are joined without a break, because models and streams cut
    inside sentences. A user's parts are separate texts, and are joined with line breaks.

    Args:
        content: A string, a part, or a list of parts; None for no content.
        role: "user" or "assistant".
        where: The place of the message, for errors.
        left_out: Counter for the parts without text.

    Raises:
        InputError: The content has another type, or a text part has no text.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list | tuple):
        raise InputError(f"{where}: content must be text or a list of parts, got {brief(content)}")
    groups: list[list[str]] = [[]]
    for part in content:
        text = _text(part, where, left_out)
        if text is not None:
            groups[-1].append(text)
        elif role == "assistant":
            groups.append([])
    separator = "" if role == "assistant" else "\n"
    return [separator.join(texts) for texts in groups if texts]


def _text(part: object, where: str, left_out: Counter[str]) -> str | None:
    """Return the text of a part; if it has none, count the part and return None."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise InputError(f"{where}: a part must be text or an object, got {brief(part)}")
    kind = kind_of(part)
    if part.get("thought") is True:
        left_out[REASONING] += 1
        return None
    if kind == "refusal":
        kind, part = "text", {"text": part.get("refusal") or part.get("text")}
    if "audio" in kind and isinstance(part.get("transcript"), str):
        return str(part["transcript"])
    if kind not in TEXT:
        if kind not in _QUIET:
            left_out[part_name(kind)] += 1
        return None
    text = part.get("text", part.get("Text", part.get("content")))
    if isinstance(text, Mapping):  # OpenAI's assistants: {"value": "...", "annotations": []}
        text = text.get("value")
    if not isinstance(text, str):
        raise InputError(f"{where}: a part of type {kind!r} has no text, but {brief(text)}")
    return text


def kind_of(part: Mapping[str, Any]) -> str:
    """Return the kind of a part, "text" for a part with only text."""
    for name in KIND_FIELDS:
        if isinstance(part.get(name), str):
            return str(part[name])
    if isinstance(part.get("text"), str):
        return "text"
    return next((key for key in _UNTYPED if key in part), next(iter(part), "empty"))


def part_name(kind: str) -> str:
    """Return the name under which parts of this kind are counted.

    >>> part_name("tool_use"), part_name("tool-weather"), part_name("image_url")
    ('tool call', 'tool call', 'image part')
    """
    if kind in _KINDS:
        return _KINDS[kind]
    if kind.startswith("tool-"):
        return CALL
    if kind.endswith("_tool_result"):
        return RESULT
    return "image part" if "image" in kind else f"{kind} part"


def kinds(parts: object) -> Iterable[str]:
    """Yield the kinds of the parts of a message's content."""
    if isinstance(parts, Mapping):
        parts = [parts]
    if isinstance(parts, list | tuple):
        for part in parts:
            if isinstance(part, Mapping):
                yield kind_of(part)
