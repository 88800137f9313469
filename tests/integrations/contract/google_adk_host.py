"""A program with Google's ADK: an agent with `preload_memory`, the memory service and its plugin."""

from __future__ import annotations

import asyncio
from typing import Any

from google.adk.agents import LlmAgent, RunConfig
from google.adk.agents.run_config import StreamingMode
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools import FunctionTool
from google.adk.tools.preload_memory_tool import PreloadMemoryTool
from google.genai.types import Content, FunctionCall, FunctionResponse, Part

from evomem.adapter.contract import Call, Host
from evomem_integrations.google_adk import EvoMemMemoryService


class Model(BaseLlm):
    """Gives the replies of a script; keeps what it was shown."""

    model: str = "scripted"
    replies: list[Any] = []
    shown: list[Any] = []

    async def generate_content_async(self, llm_request, stream=False):
        self.shown.append(llm_request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Call):
            parts = [Part(text=reply.says)] if reply.says else []
            call = FunctionCall(name="look", args={"result": reply.result})
            yield answer(*parts, Part(function_call=call))
            return
        if stream:
            for word in reply.split(" "):
                yield answer(Part(text=f"{word} "), partial=True)
        yield answer(Part(text="I think.", thought=True), Part(text=reply))

    def prompt(self):
        request = self.shown[-1]
        parts = [part for content in request.contents for part in content.parts]
        return "\n".join([str(request.config.system_instruction), *(p.text or "" for p in parts)])


def answer(*parts, partial=False):
    return LlmResponse(content=Content(role="model", parts=list(parts)), partial=partial)


def look(result: str) -> str:
    """Look something up."""
    return result


def words(text):
    return Content(role="user", parts=[Part(text=text)])


class Program(Host):
    """Keeps its sessions in the process, which a restart of the runner leaves alone."""

    def __init__(self, location, sessions=None):
        super().__init__(location)
        self.sessions = sessions or InMemorySessionService()
        self.service = EvoMemMemoryService(lambda app, user: self.memory(user))

    def runner(self, model, tool: Any = look, **options):
        agent = LlmAgent(
            name="assistant", model=model, tools=[tool, PreloadMemoryTool()], **options
        )
        return Runner(
            app=App(name="program", root_agent=agent, plugins=[self.service.plugin]),
            session_service=self.sessions,
            memory_service=self.service,
            auto_create_session=True,
        )

    def run(self, runner, given, user="alice", thread="one", stream=False) -> list[Any]:
        mode = StreamingMode.SSE if stream else StreamingMode.NONE

        async def events():
            run = runner.run_async(
                user_id=user,
                session_id=thread,
                new_message=given,
                run_config=RunConfig(streaming_mode=mode),
            )
            return [event async for event in run]

        return asyncio.run(events())

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        model = Model(replies=list(replies), shown=[])
        self.run(self.runner(model), words(text), user, thread, stream)
        return model.prompt()

    def retry(self, text, failure, answered):
        def again(callback_context, llm_request, error):
            return answer(Part(text=answered))

        model = Model(replies=[failure], shown=[])
        self.run(self.runner(model, on_model_error_callback=again), words(text))

    def regenerate(self, answer):
        self.again(None, answer)

    def edit(self, text, answer):
        self.again(text, answer)

    def again(self, text, reply):
        runner = self.runner(Model(replies=[reply], shown=[]))

        async def rewound():
            place = {"user_id": "alice", "session_id": "one"}
            session = await self.sessions.get_session(app_name="program", **place)
            asked = [e for e in session.events if e.author == "user" and e.content]
            await runner.rewind_async(rewind_before_invocation_id=asked[-1].invocation_id, **place)
            return asked[-1].content.parts[0].text

        last = asyncio.run(rewound())
        self.run(runner, words(text or last))

    def pause(self, text, call, answer):
        runner = self.runner(
            Model(replies=[call, answer], shown=[]), FunctionTool(look, require_confirmation=True)
        )
        events = self.run(runner, words(text))
        [asked] = [
            call
            for event in events
            for call in event.get_function_calls()
            if call.name == "adk_request_confirmation"
        ]
        response = FunctionResponse(id=asked.id, name=asked.name, response={"confirmed": True})
        events = self.run(runner, Content(role="user", parts=[Part(function_response=response)]))
        assert events[-1].content.parts[-1].text == answer

    def restart(self):
        self.close()
        return type(self)(self.location, self.sessions)
