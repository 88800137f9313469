"""Question answering in stages: ingest, retrieve, read, judge, report. Each stage can be resumed.

ingest ─► retrieve ─► retrieve-….jsonl ─► read ─► read-….jsonl ─► judge ─► judge-….jsonl ─► report
(a system reads and ranks turns)          (a language model answers)      (another one judges)
"""

from benchmarks.qa.command import main

__all__ = ["main"]
