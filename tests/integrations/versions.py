"""The hosts' releases that the tests ran with: `newest.json`, and the table of docs/guides/adapters.md.

`make test-newest` installs the newest releases, runs tests/integrations, and then this module.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "adapters.md"
LOCK = Path(__file__).with_name("newest.json")
BEGIN, END = "<!-- versions -->\n", "<!-- end of versions -->"

PACKAGES = {
    "langchain": "langchain",
    "langgraph": "langgraph",
    "llama-index-core": "llamaindex",
    "pydantic-ai-slim": "pydantic-ai",
    "openai-agents": "openai-agents",
    "google-adk": "google-adk",
    "strands-agents": "strands",
    "agent-framework-core": "agent-framework",
    "anthropic": "anthropic",
    "mem0ai": "mem0",
}
"""Each package, and the extra that brings it."""


def table(versions: dict[str, str]) -> str:
    """Return the table."""
    lines = ["| package | tested with | extra |", "|---|---|---|"]
    lines += [f"| {name} | {versions[name]} | `{extra}` |" for name, extra in PACKAGES.items()]
    return "\n".join([*lines, ""])


def page(text: str, versions: dict[str, str]) -> str:
    """Return the page with the table as it is now."""
    before, _, after = text.partition(BEGIN)
    return before + BEGIN + table(versions) + END + after.partition(END)[2]


if __name__ == "__main__":
    installed = {name: version(name) for name in PACKAGES}
    LOCK.write_text(json.dumps(installed, indent=2) + "\n", "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8"), installed), "utf-8")
