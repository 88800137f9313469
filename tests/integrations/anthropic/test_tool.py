"""The memory tool of Anthropic's API: commands as its SDK dispatches them, beside the SDK's own files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

import evomem
from evomem.adapter import counts
from evomem_integrations import anthropic as adapter  # the SDK is imported at its first use

pytestmark = pytest.mark.skipif(
    find_spec("anthropic") is None, reason="the extra [anthropic] is not installed"
)

A, B = "/memories/a.md", "/memories/notes/b.md"


@pytest.fixture
def memory(db):
    return db.memory("acme", "alice")


@pytest.fixture
def own(tmp_path):
    """The SDK's own tool, on files."""
    from anthropic.tools import BetaLocalFilesystemMemoryTool

    return BetaLocalFilesystemMemoryTool(str(tmp_path))


@pytest.fixture
def tool(memory):
    return adapter.EvoMemMemoryTool(memory)


def do(tool, command, path=None, **fields):
    """Return what a command answers, or the error that the model is told."""
    from anthropic.lib.tools import ToolError

    place = {} if path is None else {"path": path}
    try:
        return tool.call({"command": command, **place, **fields})
    except ToolError as error:
        return f"error: {error}"


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("view", {"path": A}),
    ("create", {"path": A, "file_text": "one\ntwo\nthree\n"}),
    ("create", {"path": A, "file_text": "again"}),
    ("view", {"path": A}),
    ("view", {"path": A, "view_range": [2, 3]}),
    ("view", {"path": A, "view_range": [2, -1]}),
    ("str_replace", {"path": A, "old_str": "two", "new_str": "2\nzwei"}),
    ("str_replace", {"path": A, "old_str": "absent", "new_str": ""}),
    ("str_replace", {"path": A, "old_str": "e", "new_str": ""}),
    ("str_replace", {"path": B, "old_str": "e", "new_str": ""}),
    ("insert", {"path": A, "insert_line": 0, "insert_text": "zero\n"}),
    ("insert", {"path": A, "insert_line": 5, "insert_text": "last"}),
    ("insert", {"path": A, "insert_line": 99, "insert_text": "far"}),
    ("insert", {"path": B, "insert_line": 0, "insert_text": "far"}),
    ("view", {"path": A}),
    ("create", {"path": B, "file_text": "no line break"}),
    ("insert", {"path": B, "insert_line": 1, "insert_text": "second"}),
    ("view", {"path": B}),
    ("create", {"path": "/memories/blank.md", "file_text": ""}),
    ("view", {"path": "/memories/blank.md"}),
    ("insert", {"path": "/memories/blank.md", "insert_line": 0, "insert_text": "now"}),
    ("str_replace", {"path": "/memories/notes", "old_str": "e", "new_str": ""}),
    ("rename", {"old_path": A, "new_path": B}),
    ("rename", {"old_path": "/memories/none", "new_path": "/memories/x"}),
    ("rename", {"old_path": "/memories/notes", "new_path": "/memories/deep/er/notes"}),
    ("view", {"path": "/memories/deep/er/notes/b.md"}),
    ("view", {"path": B}),
    ("rename", {"old_path": "/memories", "new_path": "/memories/x"}),
    ("delete", {"path": "/memories/none"}),
    ("delete", {"path": "/memories"}),
    ("delete", {"path": "/memories/deep"}),
    ("view", {"path": "/memories/deep"}),
    ("delete", {"path": A}),
    ("view", {"path": A}),
    ("view", {"path": "/etc/passwd"}),
    ("view", {"path": "/memories/../etc/passwd"}),
    ("create", {"path": "/memories/../../x", "file_text": "x"}),
    ("rename", {"old_path": "/memories/blank.md", "new_path": "/memories/../x"}),
    ("delete", {"path": "/memories/deep/../.."}),
]


def test_commands_are_answered_as_the_sdk_answers_them(tool, own):
    for command, fields in COMMANDS:
        assert do(tool, command, **fields) == do(own, command, **fields), (command, fields)


def test_a_directory_shows_two_levels_without_hidden_names(tool, own):
    for path in ("b.md", "a/x.md", "a/b/c.md", "a/b/d/e.md", ".hidden", "a/.hidden", "a.md"):
        for item in (tool, own):
            do(item, "create", f"/memories/{path}", file_text="x" * 1536)
    for path in ("/memories", "/memories/a"):
        [mine, theirs] = [do(item, "view", path).splitlines() for item in (tool, own)]
        assert [line.split("\t")[-1] for line in mine] == [line.split("\t")[-1] for line in theirs]
        assert [line for line in mine if line.endswith(".md")] == [
            line for line in theirs if line.endswith(".md")
        ]
    assert do(tool, "view", "/memories").splitlines()[1] == "10.5K\t/memories"


@pytest.mark.parametrize(
    "path",
    [
        "memories/a", "/memoriesX/a", "/memories/%2e%2e/%2e%2e/etc", "/memories/..%2f..%2fx",
        "/memories/..\\..\\x", "/memories/a\x00b", "/memories/" + "x" * 600, "", "/",
    ],
)  # fmt: skip
def test_a_path_that_leaves_the_directory_or_the_log_cannot_hold_is_refused(tool, memory, path):
    assert do(tool, "create", path, file_text="x").startswith("error: Path")
    assert len(memory) == 0


def test_a_file_is_no_directory_and_a_directory_no_file(tool):
    do(tool, "create", A, file_text="x")
    assert "is a file" in do(tool, "create", f"{A}/b", file_text="x")
    assert "into itself" in do(tool, "rename", old_path=A, new_path=f"{A}/b")
    do(tool, "create", B, file_text="x")
    assert "already exists" in do(tool, "create", "/memories/notes", file_text="x")


def test_each_file_is_one_turn_and_its_versions_stay_visible(tool, memory):
    do(tool, "create", A, file_text="I like tea.")
    do(tool, "str_replace", A, old_str="tea", new_str="coffee")
    do(tool, "rename", old_path=A, new_path=B)
    do(tool, "insert", B, insert_line=1, insert_text="And cake.")
    assert [record.turn.user for record in memory.history()] == ["I like coffee.\nAnd cake.\n"]
    assert [(r.turn.speaker, r.turn.user) for r in tool.versions(B)] == [
        (A, "I like tea."),
        (A, "I like coffee."),
        (B, "I like coffee."),
        (B, "I like coffee.\nAnd cake.\n"),
    ]
    assert tool.versions(A) == []
    [hit] = memory.search("coffee?")
    assert hit.record.turn.speaker == B


def test_a_command_without_effect_writes_nothing(tool, memory):
    do(tool, "create", A, file_text="I like tea.")
    do(tool, "str_replace", A, old_str="tea", new_str="tea")
    assert len(memory.history(all=True)) == 1


def test_turns_that_are_no_files_are_left_alone(tool, memory):
    memory.add("Hello.", session=A)
    do(tool, "create", A, file_text="x")
    do(tool, "delete", A)
    assert tool.clear_all_memory() == "All memory cleared"
    assert [record.turn.user for record in memory.history()] == ["Hello."]
    assert do(tool, "view", "/memories").splitlines()[1:] == ["0B\t/memories"]


def test_a_deleted_file_can_leave_nothing_behind(memory, db, tmp_path):
    tool = adapter.EvoMemMemoryTool(memory, purge=True)
    do(tool, "create", A, file_text="zqsecret")
    do(tool, "rename", old_path=A, new_path=B)
    do(tool, "str_replace", B, old_str="zqsecret", new_str="public")
    do(tool, "delete", B)
    assert memory.history(all=True) == []
    db.close()
    assert b"zqsecret" not in b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())


def test_texts_that_no_log_can_hold_are_refused_or_cleaned(tool, caplog):
    assert "262,144" in do(tool, "create", A, file_text="x" * 262_145)
    assert do(tool, "view", A).startswith("error")
    before = counts.cleaned
    do(tool, "create", A, file_text="a\x00b \ud83d")
    assert do(tool, "view", A).endswith("\tab \ufffd")
    assert counts.cleaned == before + 1


def test_a_memory_that_cannot_be_reached_ends_no_run(tool, memory, db):
    do(tool, "create", A, file_text="x")
    db.close()
    before = counts.to_json()
    assert "Continue without it" in do(tool, "view", A)
    assert "Continue without it" in do(tool, "delete", A)
    assert counts.failed_reads == before["failed_reads"] + 1
    assert counts.failed_writes == before["failed_writes"] + 1
    with pytest.raises(Exception, match="closed"):
        do(adapter.EvoMemMemoryTool(memory, strict=True), "view", A)


def test_files_outlive_the_process_and_users_share_none(tmp_path):
    place = str(tmp_path / "agent.db")
    for user in ("alice", "bob"):
        with evomem.open(place, encoder="hash") as db:
            do(adapter.EvoMemMemoryTool(db.memory("acme", user)), "create", A, file_text=user)
    with evomem.open(place, encoder="hash") as db:
        for user in ("alice", "bob"):
            assert do(adapter.EvoMemMemoryTool(db.memory("acme", user)), "view", A).endswith(
                f"\t{user}"
            )


async def test_the_asynchronous_tool_does_the_same(memory):
    tool = adapter.EvoMemAsyncMemoryTool(memory)
    await tool.call({"command": "create", "path": A, "file_text": "x"})
    await tool.call({"command": "str_replace", "path": A, "old_str": "x", "new_str": "y"})
    await tool.call({"command": "insert", "path": A, "insert_line": 1, "insert_text": "z"})
    await tool.call({"command": "rename", "old_path": A, "new_path": B})
    assert str(await tool.call({"command": "view", "path": B})).splitlines()[1:3] == [
        "     1\ty",
        "     2\tz",
    ]
    assert len(await tool.versions(B)) == 4
    await tool.call({"command": "delete", "path": B})
    assert await tool.clear_all_memory() == "All memory cleared"


def test_the_sdks_runner_calls_the_tool_and_tells_the_model(tool, memory):
    import httpx2
    from anthropic import Anthropic

    asked: list[dict[str, Any]] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content))
        create = {"command": "create", "path": A, "file_text": "The user likes tea."}
        outside = {"command": "view", "path": "/etc/passwd"}
        steps: list[Any] = [
            [{"type": "tool_use", "id": "1", "name": "memory", "input": create}],
            [{"type": "tool_use", "id": "2", "name": "memory", "input": outside}],
            [{"type": "text", "text": "Noted."}],
        ]
        content = steps[len(asked) - 1]
        return httpx2.Response(
            200,
            json={
                "id": "m", "type": "message", "role": "assistant", "model": "claude",
                "content": content, "stop_sequence": None,
                "stop_reason": "tool_use" if content[0]["type"] == "tool_use" else "end_turn",
                "usage": {"input_tokens": 1, "output_tokens": 1},
            },
        )  # fmt: skip

    with httpx2.Client(transport=httpx2.MockTransport(reply)) as http:
        client = Anthropic(api_key="none", http_client=http)
        runner = client.beta.messages.tool_runner(
            model="claude",
            max_tokens=100,
            messages=[{"role": "user", "content": "I like tea."}],
            tools=[tool],
        )
        last = runner.until_done()
    assert last.to_dict()["content"] == [{"type": "text", "text": "Noted."}]
    assert asked[0]["tools"] == [{"type": "memory_20250818", "name": "memory"}]
    results = [request["messages"][-1]["content"][0] for request in asked[1:]]
    assert results[0]["content"] == f"File created successfully at: {A}"
    assert results[1]["is_error"]
    assert [record.turn.user for record in memory.history()] == ["The user likes tea."]
