"""What an agent calls: sessions of the true shape are captured, and recalled where they were held."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import time

import pytest

import evomem
from evomem.cli import main
from evomem.hooks import events
from evomem.hooks.agents import AGENTS
from evomem.hooks.sessions import Seen, capture, sweep
from evomem.importing import Imported
from evomem.quoting import CLOSE, OPEN, quote
from tests.processes import evomem_command

CLAUDE, CODEX = AGENTS["claude-code"], AGENTS["codex"]
FOLDER = "/home/ines/kiln"
ASKED, ANSWERED = "How hot does the kiln get?", "It gets to 1280 degrees."


def claude_line(uuid, role, content, *, session="s-1", folder=FOLDER, **more):
    """One line of `~/.claude/projects/<folder>/<session>.jsonl`."""
    return {
        "parentUuid": None,
        "isSidechain": False,
        "userType": "external",
        "cwd": folder,
        "sessionId": session,
        "version": "2.0.50",
        "gitBranch": "main",
        "type": role,
        "message": {"role": role, "content": content},
        "uuid": uuid,
        "timestamp": f"2026-05-01T12:00:{uuid[1:]:0>2}.000Z",
        **more,
    }


def claude_session(folder=FOLDER, session="s-1", asked=ASKED):
    call = {"type": "tool_use", "id": "t1", "name": "Read", "input": {"file_path": "kiln.py"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "MAX = 1280"}
    more = {"folder": folder, "session": session}
    return [
        {"type": "summary", "summary": "Kiln", "leafUuid": "u5"},
        {"type": "file-history-snapshot", "messageId": "u1", "snapshot": {}},
        claude_line("u1", "user", asked, **more),
        claude_line("u2", "assistant", [call], **more),
        claude_line("u3", "user", [result], toolUseResult={"file": {}}, **more),
        claude_line("u4", "user", "<system-reminder>be kind</system-reminder>", **more),
        claude_line("u5", "assistant", [{"type": "text", "text": ANSWERED}], **more),
        claude_line("u6", "user", "Search.", isSidechain=True, **more) | {"isSidechain": True},
    ]


def codex_session(folder=FOLDER, session="0199-abc", asked=ASKED):
    """The lines of `~/.codex/sessions/2026/05/01/rollout-<time>-<id>.jsonl`."""

    def line(second, kind, **payload):
        return {"timestamp": f"2026-05-01T12:00:{second:02}.000Z", "type": kind, "payload": payload}

    def message(second, role, kind, text):
        content = [{"type": kind, "text": text}]
        return line(second, "response_item", type="message", role=role, content=content)

    return [
        line(0, "session_meta", id=session, cwd=folder, originator="codex_cli_rs", cli_version="1"),
        line(0, "turn_context", cwd=folder, model="gpt-5"),
        message(0, "developer", "input_text", "<permissions instructions>ask</permissions>"),
        message(0, "user", "input_text", "<environment_context><cwd>/</cwd></environment_context>"),
        line(1, "event_msg", type="user_message", message=asked),
        message(1, "user", "input_text", asked),
        line(2, "response_item", type="reasoning", summary=[]),
        line(3, "response_item", type="function_call", name="shell", arguments="{}", call_id="c"),
        line(4, "response_item", type="function_call_output", call_id="c", output="1280"),
        message(5, "assistant", "output_text", ANSWERED),
        line(5, "event_msg", type="agent_message", message=ANSWERED),
    ]


SESSIONS = {"claude-code": claude_session, "codex": codex_session}
PLACES = {
    "claude-code": ".claude/projects/-home-ines-kiln/s-1.jsonl",
    "codex": ".codex/sessions/2026/05/01/rollout-2026-05-01T12-00-00-0199-abc.jsonl",
}


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "EVOMEM_DB"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(params=AGENTS)
def agent(request):
    return AGENTS[request.param]


@pytest.fixture
def session(home, agent):
    return write(home / PLACES[agent.name], SESSIONS[agent.name]())


@pytest.fixture
def memory(db):
    return db.memory("default")


@pytest.fixture
def happen(monkeypatch, capsys):
    """Let an agent call its hook with an event; return exit code, stdout and stderr."""

    def call(agent, event, *options):
        text = event if isinstance(event, str) else json.dumps(event)
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code = main(["hooks", "run", agent.name, "--encoder", "hash", *options])
        return code, *capsys.readouterr()

    return call


def call(agent, happened, *options):
    """Call a hook as an agent does, through the shell; it starts a process that outlives it."""
    arguments = ["hooks", "run", agent.name, "--encoder", "hash", *options]
    command = shlex.join([*evomem_command(), *arguments])
    done = subprocess.run(
        command, shell=True, input=json.dumps(happened), capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def event(name, path=None, **more):
    return {
        "session_id": "s-1",
        "transcript_path": None if path is None else str(path),
        "cwd": FOLDER,
        "hook_event_name": name,
        **more,
    }


def start(source="startup", **more):
    return event("SessionStart", source=source, **more)


def stored(home, least=1):
    """Return the turns of the users' database once there are enough: another process writes them."""
    path = home / ".evomem" / "evomem.db"
    for _ in range(600):
        if path.exists():
            with evomem.open(path) as db:
                turns = db.memory("default").history()
            if len(turns) >= least:
                return turns
        time.sleep(0.1)
    raise AssertionError((home / ".evomem" / "hooks.log").read_text())


# capture and sweep -----------------------------------------------------------------------------


def test_a_session_is_captured_without_texts_of_the_program(memory, agent, session):
    done = capture(memory, agent, session)
    assert done.new == 1
    (record,) = memory.history()
    assert (record.turn.user, record.turn.assistant) == (ASKED, ANSWERED)
    assert record.turn.source == agent.name
    assert record.turn.metadata == {"project": FOLDER}
    assert record.turn.session in ("s-1", "0199-abc")


def test_a_session_that_continues_is_captured_as_one(memory, agent, session):
    content = session.read_text().splitlines(keepends=True)
    for end in range(1, len(content) + 1):
        session.write_text("".join(content[:end]))
        capture(memory, agent, session)
    session.write_text("".join(content) + '{"type": "user", "mess')  # the agent is writing it
    capture(memory, agent, session)
    assert [record.turn.assistant for record in memory.history()] == [ANSWERED]


@pytest.mark.parametrize(
    "text", ["", "\n", "{", "null\n[]\n1\n", "\x00\xff", '{"type": "summary", "summary": "x"}\n']
)
def test_a_file_without_a_message_adds_nothing(memory, agent, session, text):
    session.write_bytes(text.encode("latin-1"))
    assert capture(memory, agent, session).new == 0
    session.unlink()
    assert capture(memory, agent, session).new == 0


def test_quotations_in_a_session_are_not_captured(memory, agent, home):
    memory.add("My kiln is in Lund.", id="lund")
    quoted = quote(memory.history())
    text = f"{quoted}\n{ASKED}"
    path = write(home / PLACES[agent.name], SESSIONS[agent.name](asked=text))
    capture(memory, agent, path)
    assert memory.history()[-1].turn.user.strip() == ASKED


def test_a_sweep_reads_every_session_once_and_changed_ones_again(memory, agent, session, home):
    seen = Seen(home, "db", ["default"])
    later = session.with_name(session.name.replace("s-1", "s-2").replace("abc", "def"))
    write(later, SESSIONS[agent.name](session="other", asked="Where is the clay?"))
    assert sweep(memory, agent, seen).new == 2
    assert sweep(memory, agent, seen) == Imported()
    size, stamp = later.stat().st_size, later.stat().st_mtime_ns
    later.write_text("x" * size)
    os.utime(later, ns=(stamp, stamp))  # a file that did not change is not read
    assert sweep(memory, agent, seen) == Imported()
    write(later, SESSIONS[agent.name](session="other", asked="Where is the clay?")[:-1])
    assert sweep(memory, agent, seen).known == 1
    assert sweep(memory, agent, Seen(home, "another", ["default"])).known == 2


def test_a_damaged_note_of_what_was_swept_costs_only_time(memory, agent, session, home):
    seen = Seen(home, "db", ["default"])
    sweep(memory, agent, seen)
    (note,) = home.glob("swept-*.json")
    note.write_text("{ oops")
    assert sweep(memory, agent, seen).known == 1


def test_the_command_sweeps_all_sessions_or_those_that_are_named(agent, session, home, capsys):
    assert main(["hooks", "sweep", agent.name, str(session), "--encoder", "hash", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 1
    assert main(["hooks", "sweep", agent.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "agent": agent.name,
        "new": 0,
        "replaced": 0,
        "known": 1,
    }


# events ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PreCompact", "SessionEnd"])
def test_before_a_compaction_and_at_its_end_a_session_is_captured(home, agent, session, name):
    assert call(agent, event(name, session)) == (0, "", "")
    (record,) = stored(home)
    assert (record.turn.user, record.turn.source) == (ASKED, agent.name)
    assert (home / ".evomem" / "hooks.log").read_text() == ""


def test_the_start_of_a_session_sweeps_what_was_not_captured(home, agent, session):
    assert call(agent, start()) == (0, "", "")
    assert [record.turn.user for record in stored(home)] == [ASKED]


def test_the_start_of_a_session_recalls_what_was_said_last_in_its_folder(
    home, agent, session, happen
):
    elsewhere = SESSIONS[agent.name](folder="/home/ines/loom", session="x", asked="Is it wool?")
    other = write(
        session.with_name(session.name.replace("s-1", "s-2").replace("abc", "x")), elsewhere
    )
    assert main(["hooks", "sweep", agent.name, str(session), str(other), "--encoder", "hash"]) == 0
    code, out, _ = happen(agent, start("compact"))
    assert code == 0
    output = json.loads(out.splitlines()[-1])["hookSpecificOutput"]
    assert output["hookEventName"] == "SessionStart"
    recalled = output["additionalContext"]
    assert f"> User: {ASKED}" in recalled
    assert "wool" not in recalled
    assert recalled.count(OPEN) == recalled.count(CLOSE) == 1


def test_the_recalled_context_is_bounded_and_ends_with_the_newest_turn(memory):
    for number in range(40):
        memory.add(f"Note {number} " + "x" * 5_000, metadata={"project": FOLDER})
    told = json.loads(events.context(memory, start()))["hookSpecificOutput"]["additionalContext"]
    assert len(told) < events.MAX_TOTAL + 200
    numbers = [int(line.split()[3]) for line in told.splitlines() if "Note" in line]
    assert numbers == list(range(numbers[0], 40))
    assert len(numbers) > 3


@pytest.mark.parametrize("folder", ["/somewhere/else", None, 7, ""])
def test_where_nothing_was_said_nothing_is_recalled(memory, folder):
    memory.add("A note.", metadata={"project": FOLDER})
    assert events.context(memory, start(cwd=folder)) == ""


@pytest.mark.parametrize(
    "text", ["", "not JSON", "[]", "{}", '{"hook_event_name": 7}', "[" * 100_000]
)
def test_an_event_that_is_none_is_an_error_that_does_not_stop_the_agent(home, agent, happen, text):
    code, out, error = happen(agent, text)
    assert code == 1  # 2 would
    assert out == ""
    assert error.startswith("evomem: ")


def test_a_database_that_cannot_be_read_does_not_stop_the_agent(home, agent, happen):
    damaged = home / "damaged.db"
    damaged.write_text("not a database " * 100)
    code, out, error = happen(agent, start("clear"), "--db", str(damaged))
    assert (code, out) == (1, "")
    assert "damaged.db" in error


def test_why_a_capture_failed_is_in_the_log(home, agent, session):
    damaged = home / "damaged.db"
    damaged.write_text("not a database " * 100)
    assert call(agent, event("SessionEnd", session), "--db", str(damaged))[0] == 0
    log = home / ".evomem" / "hooks.log"
    for _ in range(600):
        if "damaged.db" in log.read_text():
            break
        time.sleep(0.1)
    assert "damaged.db" in log.read_text()
    assert ASKED not in log.read_text()


def test_an_event_without_a_transcript_is_passed_over(home, agent, happen):
    assert happen(agent, event("SessionEnd")) == (0, "", "")
    assert happen(agent, event("SomethingNew")) == (0, "", "")
