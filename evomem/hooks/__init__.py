"""Hooks of coding agents: their sessions are stored, and recalled in the next one.

`agents` says where an agent keeps its settings and its sessions, `settings` edits the former and
`sessions` imports the latter; `events` is what an agent calls.
"""
