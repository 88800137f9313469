"""Hooks of coding agents: what is said in their sessions is remembered, and recalled in the next.

`agents` says where an agent keeps its settings and its sessions, `settings` edits the former and
`sessions` imports the latter; `events` is what an agent calls.
"""
