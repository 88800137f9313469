"""A small conversation in each shape, and what is right for it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Sample(NamedTuple):
    value: Any
    """A list is one conversation, of which JSONL has a line each; anything else is one document."""
    said: list[tuple[str, str]]
    left_out: dict[str, int] = {}
    id: str | None = None
    first_time: str | None = None


ASKED = ("user", "Is the kiln still hot?")
LOOK = ("assistant", "I will check the sensor.")
ANSWER = ("assistant", "It is at 480 degrees.")
ALL = [ASKED, LOOK, ANSWER]
TOOL = {"tool call": 1, "tool result": 1}


def node(key: str, parent: str | None, role: str | None, parts: list[Any], **message: Any) -> Any:
    content = {"content_type": "text", "parts": parts}
    content_of = {
        "id": key,
        "author": {"role": role},
        "content": content,
        "metadata": {},
        **message,
    }
    return {"id": key, "parent": parent, "children": [], "message": content_of if role else None}


def step(**fields: Any) -> Any:
    empty = dict.fromkeys(("tool_calls", "observations", "model_output", "action_output"))
    return {"step_number": 1, **empty, "is_final_answer": False, **fields}


CHATGPT = {
    "title": "Kiln",
    "create_time": 1700000000.0,
    "conversation_id": "conv-1",
    "current_node": "n5",
    "mapping": {
        node["id"]: node
        for node in (
            node("n0", None, None, []),
            node("n1", "n0", "user", ["Is the kiln hot?"], create_time=1700000001.0),
            node("n2", "n0", "user", [ASKED[1]], create_time=1700000002.0),
            node("n3", "n2", "assistant", [LOOK[1]], create_time=1700000003.0),
            node("n4", "n3", "tool", ["480"]),
            node("gone", "n3", "assistant", ["It is cold."]),
            node("n5", "n4", "assistant", [ANSWER[1]], create_time=None),
        )
    },
}
LINES = {"sessionId": "s-1", "isSidechain": False, "timestamp": "2025-02-03T04:05:06.7Z"}


def line(uuid: str, role: str, content: Any, **fields: Any) -> Any:
    message = {"role": role, "content": content}
    return {**LINES, "type": role, "uuid": uuid, "message": message, **fields}


def item(**payload: Any) -> Any:
    return {"timestamp": "2025-02-03T04:05:06Z", "type": "response_item", "payload": payload}


def event(author: str, role: str, *parts: Any, **fields: Any) -> Any:
    content = {"role": role, "parts": list(parts)}
    return {"author": author, "invocationId": "i", "content": content, "timestamp": 1.7e9, **fields}


SAMPLES: dict[str, Sample] = {
    "openai-chat": Sample(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": ASKED[1]},
            {
                "role": "assistant",
                "content": LOOK[1],
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "read"}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "480"},
            {"role": "assistant", "content": None, "refusal": ANSWER[1]},
        ],
        ALL,
        TOOL | {"developer": 1},
    ),
    "openai-responses": Sample(
        [
            {"role": "user", "content": [{"type": "input_text", "text": ASKED[1]}]},
            {"type": "reasoning", "id": "r", "summary": []},
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "I will check "},
                    {"type": "output_text", "text": "the sensor."},
                ],
            },
            {"type": "web_search_call", "id": "w", "status": "completed"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "480"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": ANSWER[1]}],
            },
        ],
        ALL,
        TOOL | {"reasoning": 1},
    ),
    "openai-agents": Sample(
        [
            {"role": "user", "content": ASKED[1]},
            {
                "type": "message",
                "id": "__fake_id__",
                "role": "assistant",
                "content": [{"type": "output_text", "text": LOOK[1]}],
            },
            {"type": "function_call", "id": "__fake_id__", "name": "read", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "480"},
            {
                "type": "message",
                "id": "__fake_id__",
                "role": "assistant",
                "content": [{"type": "output_text", "text": ANSWER[1]}],
            },
        ],
        ALL,
        TOOL,
    ),
    "anthropic": Sample(
        [
            {"role": "user", "content": [{"type": "text", "text": ASKED[1]}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "...", "signature": "x"},
                    {"type": "text", "text": LOOK[1]},
                    {"type": "tool_use", "id": "t", "name": "read", "input": {}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "It is at "},
                    {"type": "text", "text": "480", "citations": [{"cited_text": "480"}]},
                    {"type": "text", "text": " degrees."},
                ],
            },
        ],
        ALL,
        TOOL | {"reasoning": 1},
    ),
    "gemini": Sample(
        {
            "contents": [
                {"role": "user", "parts": [{"text": ASKED[1]}, {"inlineData": {"data": ""}}]},
                {
                    "role": "model",
                    "parts": [
                        {"text": "Hm.", "thought": True},
                        {"text": LOOK[1]},
                        {"functionCall": {}},
                    ],
                },
                {"role": "user", "parts": [{"functionResponse": {"name": "read"}}]},
                {"role": "model", "parts": [{"text": ANSWER[1], "function_call": None}]},
            ]
        },
        ALL,
        TOOL | {"reasoning": 1, "inlineData part": 1},
    ),
    "bedrock-converse": Sample(
        [
            {"role": "user", "content": [{"text": ASKED[1]}]},
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {}},
                    {"text": LOOK[1]},
                    {"toolUse": {"toolUseId": "t"}},
                ],
            },
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t"}}]},
            {"role": "assistant", "content": [{"text": ANSWER[1]}]},
        ],
        ALL,
        TOOL | {"reasoning": 1},
    ),
    "strands": Sample(
        [
            {
                "message": {"role": "user", "content": [{"text": ASKED[1]}]},
                "message_id": 0,
                "redact_message": None,
                "created_at": "2025-02-03T04:05:06+00:00",
            },
            {
                "message": {"role": "assistant", "content": [{"text": LOOK[1]}, {"toolUse": {}}]},
                "message_id": 1,
                "redact_message": None,
                "created_at": "2025-02-03T04:05:07+00:00",
            },
            {
                "message": {"role": "user", "content": [{"toolResult": {}}]},
                "message_id": 2,
                "redact_message": None,
                "created_at": "2025-02-03T04:05:08+00:00",
            },
            {
                "message": {"role": "assistant", "content": [{"text": "A secret."}]},
                "message_id": 3,
                "redact_message": {"role": "assistant", "content": [{"text": ANSWER[1]}]},
                "created_at": "2025-02-03T04:05:09+00:00",
            },
        ],
        ALL,
        TOOL,
        first_time="2025-02-03T04:05:06+00:00",
    ),
    "langchain": Sample(
        [
            {"type": "system", "data": {"content": "Be brief.", "type": "system"}},
            {"type": "human", "data": {"content": ASKED[1], "type": "human", "id": "h"}},
            {
                "lc": 1,
                "type": "constructor",
                "id": ["langchain", "schema", "messages", "AIMessage"],
                "kwargs": {"content": LOOK[1], "type": "ai", "tool_calls": [{"name": "read"}]},
            },
            {"type": "tool", "content": "480", "tool_call_id": "c"},
            {
                "type": "AIMessageChunk",
                "data": {
                    "type": "AIMessageChunk",
                    "content": ["It is at ", {"type": "text", "text": "480 degrees.", "index": 0}],
                },
            },
        ],
        ALL,
        TOOL | {"system": 1},
    ),
    "llamaindex": Sample(
        {
            "class_name": "SimpleChatStore",
            "store": {
                "ada": [
                    {
                        "role": "user",
                        "additional_kwargs": {},
                        "blocks": [
                            {"block_type": "image", "url": "x"},
                            {"block_type": "text", "text": ASKED[1]},
                        ],
                    },
                    {
                        "role": "assistant",
                        "additional_kwargs": {},
                        "blocks": [
                            {"block_type": "text", "text": LOOK[1]},
                            {"block_type": "tool_call"},
                        ],
                    },
                    {"role": "tool", "additional_kwargs": {}, "blocks": []},
                    {"role": "assistant", "additional_kwargs": {}, "content": ANSWER[1]},
                ]
            },
        },
        ALL,
        TOOL | {"image part": 1},
        id="ada",
    ),
    "pydantic-ai": Sample(
        [
            {
                "kind": "request",
                "conversation_id": "c",
                "parts": [
                    {"part_kind": "system-prompt", "content": "Be brief."},
                    {
                        "part_kind": "user-prompt",
                        "content": [
                            {"kind": "text-content", "content": ASKED[1]},
                            {"kind": "image-url"},
                        ],
                        "timestamp": "2025-02-03T04:05:06Z",
                    },
                ],
            },
            {
                "kind": "response",
                "conversation_id": "c",
                "timestamp": "2025-02-03T04:05:07Z",
                "parts": [
                    {"part_kind": "thinking", "content": "..."},
                    {"part_kind": "text", "content": LOOK[1]},
                    {"part_kind": "tool-call", "tool_name": "read"},
                ],
            },
            {
                "kind": "request",
                "conversation_id": "c",
                "parts": [{"part_kind": "tool-return", "content": "480"}],
            },
            {
                "kind": "response",
                "conversation_id": "c",
                "timestamp": "2025-02-03T04:05:08Z",
                "parts": [
                    {"part_kind": "text", "content": "It is at "},
                    {"part_kind": "text", "content": "480 degrees."},
                ],
            },
        ],
        ALL,
        TOOL | {"system": 1, "image part": 1, "reasoning": 1},
        id="c",
        first_time="2025-02-03T04:05:06+00:00",
    ),
    "haystack": Sample(
        [
            {"role": "user", "meta": {}, "name": None, "content": [{"text": ASKED[1]}]},
            {
                "role": "assistant",
                "meta": {},
                "name": None,
                "content": [
                    {"reasoning": {"reasoning_text": "..."}},
                    {"text": LOOK[1]},
                    {"tool_call": {}},
                ],
            },
            {"_role": "tool", "_meta": {}, "_name": None, "_content": [{"tool_call_result": {}}]},
            {"_role": "assistant", "_meta": {}, "_name": None, "_content": [{"text": ANSWER[1]}]},
        ],
        ALL,
        TOOL | {"reasoning": 1},
    ),
    "autogen": Sample(
        {
            "type": "AssistantAgentState",
            "version": "1.0.0",
            "llm_context": {
                "messages": [
                    {"type": "UserMessage", "source": "user", "content": ASKED[1]},
                    {
                        "type": "AssistantMessage",
                        "source": "potter",
                        "thought": LOOK[1],
                        "content": [{"id": "c", "name": "read", "arguments": "{}"}],
                    },
                    {"type": "FunctionExecutionResultMessage", "content": [{"content": "480"}]},
                    {
                        "type": "AssistantMessage",
                        "source": "potter",
                        "thought": "Warm.",
                        "content": ANSWER[1],
                    },
                ]
            },
        },
        ALL,
        TOOL | {"reasoning": 1},
    ),
    "semantic-kernel": Sample(
        {
            "messages": [
                {"role": "system", "content_type": "message", "items": []},
                {
                    "role": "user",
                    "content_type": "message",
                    "items": [{"content_type": "text", "text": ASKED[1]}],
                },
                {
                    "role": "assistant",
                    "content_type": "message",
                    "items": [
                        {"content_type": "text", "text": LOOK[1]},
                        {"content_type": "function_call"},
                    ],
                },
                {"role": "tool", "content_type": "message", "items": []},
                {
                    "Role": {"Label": "assistant"},
                    "Items": [{"$type": "TextContent", "Text": ANSWER[1]}],
                },
            ]
        },
        ALL,
        TOOL | {"system": 1},
    ),
    "google-adk": Sample(
        {
            "id": "s",
            "appName": "app",
            "userId": "u",
            "events": [
                event("user", "user", {"text": ASKED[1]}),
                event("potter", "model", {"text": "I will"}, partial=True),
                event("potter", "model", {"text": LOOK[1]}, {"functionCall": {"name": "read"}}),
                event("potter", "user", {"functionResponse": {"name": "read"}}),
                event("potter", "model", {"text": ANSWER[1]}),
                {"author": "potter", "invocationId": "i", "timestamp": 1.7e9, "actions": {}},
            ],
        },
        ALL,
        TOOL | {"stream chunk": 1, "event": 1},
        id="s",
        first_time="2023-11-14T22:13:20+00:00",
    ),
    "agno": Sample(
        {
            "session_id": "s",
            "runs": [
                {
                    "run_id": "1",
                    "session_id": "s",
                    "messages": [
                        {"id": "a", "role": "user", "from_history": False, "content": ASKED[1]},
                        {
                            "id": "b",
                            "role": "assistant",
                            "from_history": False,
                            "content": LOOK[1],
                            "tool_calls": [{"id": "t"}],
                        },
                        {"id": "c", "role": "tool", "from_history": False, "content": "480"},
                    ],
                },
                {
                    "run_id": "2",
                    "session_id": "s",
                    "messages": [
                        {"id": "a", "role": "user", "from_history": True, "content": ASKED[1]},
                        {
                            "id": "b",
                            "role": "assistant",
                            "from_history": True,
                            "content": LOOK[1],
                            "tool_calls": [{"id": "t"}],
                        },
                        {"id": "c", "role": "tool", "from_history": True, "content": "480"},
                        {
                            "id": "d",
                            "role": "assistant",
                            "from_history": False,
                            "content": ANSWER[1],
                        },
                    ],
                },
            ],
        },
        ALL,
        TOOL,
        id="s",
    ),
    "smolagents": Sample(
        [
            {"system_prompt": "Be brief."},
            {"task": ASKED[1], "task_images": None},
            step(model_output="Thought: look", tool_calls=[{"id": "t"}], observations="480"),
            step(action_output=ANSWER[1], is_final_answer=True, timing={"end_time": 1.7e9}),
        ],
        [ASKED, ANSWER],
        TOOL | {"system": 1, "reasoning": 1},
    ),
    "vercel-ai": Sample(
        [
            {"id": "1", "role": "user", "content": ASKED[1], "createdAt": "2025-02-03T04:05:06Z"},
            {
                "id": "2",
                "role": "assistant",
                "metadata": {"createdAt": 1738555507000},
                "parts": [
                    {"type": "step-start"},
                    {"type": "text", "text": LOOK[1], "state": "done"},
                    {"type": "tool-read", "state": "output-available"},
                    {"type": "step-start"},
                    {"type": "reasoning", "text": "..."},
                    {"type": "text", "text": ANSWER[1], "state": "done"},
                ],
            },
        ],
        ALL,
        {"tool call": 1, "reasoning": 1},
        first_time="2025-02-03T04:05:06+00:00",
    ),
    "mcp": Sample(
        {
            "description": None,
            "messages": [
                {"role": "user", "content": {"type": "text", "text": ASKED[1]}},
                {"role": "user", "content": {"type": "image", "data": "", "mimeType": "image/png"}},
                {"role": "assistant", "content": {"type": "text", "text": ANSWER[1]}},
            ],
        },
        [ASKED, ANSWER],
        {"image part": 1},
    ),
    "sharegpt": Sample(
        {
            "id": "s",
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": ASKED[1]},
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "480"},
                {"from": "gpt", "value": ANSWER[1]},
            ],
        },
        [ASKED, ANSWER],
        TOOL | {"system": 1},
        id="s",
    ),
    "chatgpt-export": Sample(
        CHATGPT, ALL, {"tool result": 1}, "conv-1", "2023-11-14T22:13:22+00:00"
    ),
    "claude-export": Sample(
        {
            "uuid": "c",
            "name": "Kiln",
            "created_at": "2025-02-03T04:05:00Z",
            "chat_messages": [
                {
                    "uuid": "1",
                    "sender": "human",
                    "text": ASKED[1],
                    "attachments": [{"file_name": "x"}],
                    "content": [{"type": "text", "text": ASKED[1]}],
                    "created_at": "2025-02-03T04:05:06Z",
                },
                {
                    "uuid": "2",
                    "sender": "assistant",
                    "text": "not supported",
                    "content": [
                        {"type": "text", "text": LOOK[1]},
                        {"type": "tool_use", "name": "read"},
                        {"type": "tool_result", "name": "read"},
                        {"type": "text", "text": ANSWER[1]},
                    ],
                    "created_at": "2025-02-03T04:05:07Z",
                },
            ],
        },
        ALL,
        TOOL | {"file part": 1},
        "c",
        "2025-02-03T04:05:06+00:00",
    ),
    "claude-code": Sample(
        [
            {"type": "summary", "summary": "Kiln", "leafUuid": "5"},
            line("0", "user", "<command-name>/model</command-name>"),
            line("1", "user", ASKED[1]),
            line("2", "assistant", [{"type": "text", "text": LOOK[1]}]),
            line("3", "assistant", [{"type": "tool_use", "name": "Read"}]),
            line("4", "user", [{"type": "tool_result", "content": "480"}]),
            line("x", "user", "Look into the logs.", isSidechain=True),
            line("y", "user", "This session is being continued ...", isCompactSummary=True),
            line("5", "assistant", [{"type": "text", "text": ANSWER[1]}]),
        ],
        ALL,
        TOOL | {"event": 1, "hidden": 2, "sidechain": 1},
        "s-1",
        "2025-02-03T04:05:06.700000+00:00",
    ),
    "codex": Sample(
        [
            {"timestamp": "2025-02-03T04:05:05Z", "type": "session_meta", "payload": {"id": "s"}},
            item(
                type="message",
                role="user",
                content=[{"type": "input_text", "text": "<environment_context>..."}],
            ),
            item(type="message", role="user", content=[{"type": "input_text", "text": ASKED[1]}]),
            {
                "timestamp": "2025-02-03T04:05:06Z",
                "type": "event_msg",
                "payload": {"type": "user_message", "message": ASKED[1]},
            },
            item(
                type="message", role="assistant", content=[{"type": "output_text", "text": LOOK[1]}]
            ),
            item(type="function_call", name="shell", arguments="{}"),
            item(type="function_call_output", output="480"),
            item(
                type="message",
                role="assistant",
                content=[{"type": "output_text", "text": ANSWER[1]}],
            ),
        ],
        ALL,
        TOOL | {"hidden": 1, "event": 1},
        "s",
        "2025-02-03T04:05:06+00:00",
    ),
    "letta": Sample(
        {
            "agents": [
                {
                    "id": "agent-0",
                    "name": "potter",
                    "messages": [
                        {
                            "role": "system",
                            "content": [{"type": "text", "text": "..."}],
                            "tool_returns": [],
                        },
                        {
                            "role": "user",
                            "tool_returns": [],
                            "created_at": "2025-02-03T04:05:06+00:00",
                            "content": [
                                {
                                    "type": "text",
                                    "text": f'{{"type": "user_message", "message": "{ASKED[1]}", "time": "noon"}}',
                                }
                            ],
                        },
                        {
                            "role": "user",
                            "tool_returns": [],
                            "content": [
                                {"type": "text", "text": '{"type": "heartbeat", "reason": "x"}'}
                            ],
                        },
                        {
                            "role": "assistant",
                            "tool_returns": [],
                            "content": [{"type": "text", "text": "Hm."}],
                            "tool_calls": [
                                {
                                    "function": {
                                        "name": "send_message",
                                        "arguments": f'{{"message": "{ANSWER[1]}"}}',
                                    }
                                }
                            ],
                        },
                        {
                            "role": "tool",
                            "content": [{"type": "text", "text": "OK"}],
                            "tool_returns": [{}],
                        },
                    ],
                }
            ]
        },
        [ASKED, ANSWER],
        {"system": 1, "event": 1, "reasoning": 1, "tool result": 1},
        None,
        "2025-02-03T04:05:06+00:00",
    ),
    "locomo": Sample(
        {
            "sample_id": "conv-1",
            "qa": [],
            "conversation": {
                "speaker_a": "Ana",
                "speaker_b": "Ben",
                "session_1_date_time": "1:56 pm on 8 May, 2023",
                "session_1": [
                    {"speaker": "Ana", "dia_id": "D1:1", "text": ASKED[1]},
                    {"speaker": "Ben", "dia_id": "D1:2", "text": "Look!", "blip_caption": "a kiln"},
                ],
                "session_2_date_time": "2:00 pm on 9 May, 2023",
            },
        },
        [ASKED, ("user", "Look! [shares: a kiln]")],
        {},
        "conv-1-session_1",
        "2023-05-08T13:56:00+00:00",
    ),
    "realtalk": Sample(
        {
            "name": {"speaker_1": "Ana", "speaker_2": "Ben"},
            "qa": [],
            "session_1_date_time": "29.12.2023, 22:42:04",
            "session_1": [
                {
                    "speaker": "Ana",
                    "dia_id": "D1:1",
                    "clean_text": ASKED[1],
                    "date_time": "29.12.2023, 22:42:04",
                },
                {
                    "speaker": "Ben",
                    "dia_id": "D1:2",
                    "clean_text": "No.",
                    "date_time": "29.12.2023, 22:43:00",
                },
            ],
        },
        [ASKED, ("user", "No.")],
        {},
        "Ana-Ben-session_1",
        "2023-12-29T22:42:04+00:00",
    ),
    "longmemeval": Sample(
        {
            "question_id": "q",
            "question": "How hot is it?",
            "answer": "480",
            "haystack_session_ids": ["s"],
            "haystack_dates": ["2023/05/20 (Sat) 02:21"],
            "haystack_sessions": [
                [
                    {"role": "user", "content": ASKED[1]},
                    {"role": "assistant", "content": ANSWER[1], "has_answer": True},
                ]
            ],
        },
        [ASKED, ANSWER],
        {},
        "s",
        "2023-05-20T02:21:00+00:00",
    ),
}
