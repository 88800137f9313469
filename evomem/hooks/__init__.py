"""Hooks for coding agents: store their sessions, and recall them in later sessions.

`agents` has the locations of an agent's settings and sessions, `settings` edits the settings, `sessions`
imports the sessions, and `events` implements the command that an agent calls.
"""
