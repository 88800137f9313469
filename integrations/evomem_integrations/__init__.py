"""evomem in other frameworks: LangChain, LangGraph, LlamaIndex, A-MEM, LightMem, MemoryOS, Mem0."""
