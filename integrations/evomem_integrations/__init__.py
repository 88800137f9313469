"""evomem in other frameworks.

LangChain, LangGraph, LlamaIndex, Pydantic AI, A-MEM, LightMem, MemoryOS, Mem0.
"""
