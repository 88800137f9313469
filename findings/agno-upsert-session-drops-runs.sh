#!/usr/bin/env bash
# agno 3.1.10: `upsert_session` takes a session with runs, says nothing, and stores it without them.
#
# `SqliteDb.upsert_session(AgentSession(runs=[...]))` returns the session; what `get_session` returns
# afterwards has no runs. They live in a table of their own, which only `upsert_run` writes. Code that
# restores or imports sessions by `upsert_session` loses the conversation without an error.
#
# Seen on 2026-11-29 with Python 3.11:
#   runs given: 1
#   runs stored by upsert_session: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check agno==3.1.10 'sqlalchemy[asyncio]==2.0.44'
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import time

from agno.db.base import SessionType
from agno.db.sqlite import SqliteDb
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.session.agent import AgentSession

now = int(time.time())
run = RunOutput(
    run_id="r1",
    agent_id="a1",
    session_id="s1",
    messages=[Message(role="user", content="I live in Bergen.")],
    content="Noted.",
)
session = AgentSession(
    session_id="s1", agent_id="a1", user_id="u1", runs=[run], created_at=now, updated_at=now
)
db = SqliteDb(db_file="agno.db")
db.upsert_session(session)
stored = db.get_session("s1", SessionType.AGENT)
seen = len(session.runs or []), len(stored.runs or [])
print(f"runs given: {seen[0]}")
print(f"runs stored by upsert_session: {seen[1]}")
assert seen == (1, 0), "this has changed: expected one run given and none stored"
PYTHON
