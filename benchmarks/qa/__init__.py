"""Are questions answered? Ingest, retrieve, read, judge, report: each stage resumes where it was.

ingest ─► retrieve ─► retrieve-….jsonl ─► read ─► read-….jsonl ─► judge ─► judge-….jsonl ─► report
(a system reads a history and is asked)   (a language model answers)      (another compares)
"""

from benchmarks.qa.command import main

__all__ = ["main"]
