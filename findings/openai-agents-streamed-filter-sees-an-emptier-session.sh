#!/usr/bin/env bash
# openai-agents 0.24.0: at the first `call_model_input_filter`, the session holds the user's message with
# `Runner.run`, and does not yet with `Runner.run_streamed`.
#
# A filter that reads the session to see what the conversation holds (to leave out what the prompt shows
# anyway, or to tell a repeated question) gets two answers for one question, depending on how the run was
# started. The documentation of sessions tells no difference between the two.
#
# Seen on 2026-11-29 with Python 3.11:
#   run: items in the session at the first filter: 1
#   run_streamed: items in the session at the first filter: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openai-agents==0.24.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import asyncio

from agents import Agent, Model, ModelResponse, RunConfig, Runner, SQLiteSession, Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputMessage,
    ResponseOutputText,
)


def message():
    text = ResponseOutputText(text="Hello.", type="output_text", annotations=[])
    return ResponseOutputMessage(
        id="m1", type="message", role="assistant", status="completed", content=[text]
    )


class Scripted(Model):
    """Says one thing."""

    async def get_response(self, *args, **kwargs):
        return ModelResponse(output=[message()], usage=Usage(), response_id="r1")

    async def stream_response(self, *args, **kwargs):
        response = Response(
            id="r1",
            created_at=0,
            model="scripted",
            object="response",
            output=[message()],
            tool_choice="none",
            tools=[],
            parallel_tool_calls=False,
        )
        yield ResponseCompletedEvent(response=response, type="response.completed", sequence_number=0)


async def items_at_the_filter(streamed):
    session, counts = SQLiteSession("s"), []

    async def look(data):
        counts.append(len(await session.get_items()))
        return data.model_data

    options = {
        "session": session,
        "run_config": RunConfig(tracing_disabled=True, call_model_input_filter=look),
    }
    agent = Agent(name="a", model=Scripted())
    if streamed:
        async for _ in Runner.run_streamed(agent, "Hello?", **options).stream_events():
            pass
    else:
        await Runner.run(agent, "Hello?", **options)
    return counts[0]


plain = asyncio.run(items_at_the_filter(streamed=False))
streamed = asyncio.run(items_at_the_filter(streamed=True))
print("run: items in the session at the first filter:", plain)
print("run_streamed: items in the session at the first filter:", streamed)
assert (plain, streamed) == (1, 0)
PYTHON
