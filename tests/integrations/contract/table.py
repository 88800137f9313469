"""The table of docs/guides/adapters.md; `python -m tests.integrations.contract.table` writes it anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evomem.adapter.contract import CASES
from tests.integrations.contract import reasons

PAGE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "adapters.md"
BEGIN, END = "<!-- contract -->\n", "<!-- end of contract -->"

ADAPTERS: Mapping[str, Mapping[str, str]] = {
    "LangChain middleware": reasons.MIDDLEWARE,
    "LangChain history": reasons.HISTORY,
    "LlamaIndex memory": reasons.LLAMAINDEX,
    "Pydantic AI": reasons.PYDANTIC_AI,
    "OpenAI Agents SDK": reasons.OPENAI_AGENTS,
    "Google ADK": reasons.GOOGLE_ADK,
    "Strands": reasons.STRANDS,
    "Agent Framework": reasons.AGENT_FRAMEWORK,
    "Mem0": reasons.MEM0,
    "LightMem": reasons.LIGHTMEM,
    "A-MEM": reasons.AMEM,
    "MemoryOS": reasons.MEMORYOS,
    "Anthropic's memory tool": reasons.ANTHROPIC,
}
"""What each adapter cannot meet with; all other cases are tested, and pass."""


def table() -> str:
    """Return the table, with a note for each reason."""
    notes: dict[str, int] = {}
    lines = ["| | " + " | ".join(ADAPTERS) + " |", "|---|" + ":-:|" * len(ADAPTERS)]
    for case, title in CASES.items():
        cells = []
        for missing in ADAPTERS.values():
            reason = missing.get(case)
            note = notes.setdefault(reason, len(notes) + 1) if reason else 0
            cells.append(f"– ({note})" if note else "yes")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    listed = [f"{note}. Not applicable: {reason}." for reason, note in notes.items()]
    return "\n".join([*lines, "", *listed, ""])


def page(text: str) -> str:
    """Return the page with the table as it is now."""
    before, _, after = text.partition(BEGIN)
    return before + BEGIN + table() + END + after.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
