"""All known shapes, the most specific first."""

from __future__ import annotations

from evomem.chats.shapes import (
    agno,
    anthropic,
    autogen,
    bedrock,
    chatgpt,
    claude,
    claude_code,
    codex,
    gemini,
    google_adk,
    haystack,
    langchain,
    letta,
    llamaindex,
    locomo,
    longmemeval,
    mcp,
    openai_agents,
    openai_chat,
    openai_responses,
    pydantic_ai,
    realtalk,
    semantic_kernel,
    sharegpt,
    smolagents,
    strands,
    vercel,
)
from evomem.chats.shapes.base import Shape

SHAPES: dict[str, Shape] = {
    module.SHAPE.name: module.SHAPE
    for module in (
        chatgpt,
        claude,
        codex,
        claude_code,
        locomo,
        realtalk,
        longmemeval,
        google_adk,
        agno,
        letta,
        strands,
        langchain,
        llamaindex,
        pydantic_ai,
        openai_agents,
        haystack,
        autogen,
        semantic_kernel,
        smolagents,
        sharegpt,
        vercel,
        gemini,
        bedrock,
        mcp,
        anthropic,
        openai_responses,
        openai_chat,
    )
}
"""By name. The first shape that recognises a value reads it."""
