"""The service: memories over HTTP, for many users at once (docs/service.md).

request ─► guard (host, key, limits, body) ─► one endpoint ─► `Memory` on a thread ─► JSON
"""
