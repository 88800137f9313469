"""How programs in other languages and other processes use evomem: over HTTP, and as tools (`mcp`).

request ─► guard (host, key, limits, body) ─► one endpoint ─► `Memory` on a thread ─► JSON
"""
