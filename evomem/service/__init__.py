"""evomem for other languages and processes: over HTTP, and as tools (`mcp`).

request ─► guard (host, key, limits, body) ─► one endpoint ─► `Memory` on a thread ─► JSON
"""
