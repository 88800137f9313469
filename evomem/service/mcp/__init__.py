"""evomem as a server of the Model Context Protocol; needs the extra `mcp`.

`server.make_server` creates the server of a memory for any transport; `stdio.serve` runs one on
stdin and stdout (`evomem mcp`).
"""
