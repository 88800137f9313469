"""evomem in other frameworks.

LangChain, LangGraph, LlamaIndex, Pydantic AI, OpenAI Agents SDK, A-MEM, LightMem, MemoryOS, Mem0.
"""
