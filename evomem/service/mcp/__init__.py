"""evomem as a server of the Model Context Protocol; needs the extra `mcp`.

`server.make_server` makes the server of a memory, whatever it is reached by; `stdio.serve` runs one on
stdin and stdout (`evomem mcp`).
"""
