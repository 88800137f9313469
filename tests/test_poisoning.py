"""The memory-specific attacks of the suite `agent-memory-integrity`, and what labels do against them.

The table in docs/operations/poisoning.md is what `python -m tests.test_poisoning` prints.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import pytest

import evomem
from tests.conftest import ROOT

pytest.importorskip("agmi", reason="needs the package agent-memory-integrity")
from agmi.adapters.semantic_base import (
    MemoryItem,
    Retrieved,
    SemanticMemoryAdapter,
)
from agmi.attacks.memory_specific import ALL_MEMORY_ATTACKS
from agmi.signing import KEYRING

CHANNELS = ("external", "laundered", "agent-laundered")


class EvoMem(SemanticMemoryAdapter):  # type: ignore[misc]
    """A memory for each user; the suite's channel is the source."""

    name = "evomem"

    def __init__(self, db: evomem.Database, *, checked: bool = False, **options: Any) -> None:
        """Choose how a host labels and searches.

        Args:
            db: Where the memories are.
            checked: Label a text "user" only if its signature is the user's, as a host does that
                does not believe what a writer says of itself.
            **options: For `search`.
        """
        self._db = db
        self._checked = checked
        self._options = options
        self._fresh = 0

    def reset(self) -> None:
        self._fresh = len(self._db.memories())

    def add_memory(self, item: MemoryItem) -> None:
        source = item.source
        if self._checked and not KEYRING.verify(item.user_id, source, item.text, item.signature):
            source = "unverified"
        self._memory(item.user_id).add(item.text, source=source, metadata=item.metadata)

    def retrieve(self, query: str, user_id: str, k: int = 5) -> list[Retrieved]:
        return self.retrieve_where(query, user_id, {}, k)

    def retrieve_where(
        self, query: str, user_id: str, where: dict[str, Any], k: int = 5
    ) -> list[Retrieved]:
        hits = self._memory(user_id).search(query, k, where=where, **self._options)
        return [Retrieved(hit.text, user_id, hit.score) for hit in hits]

    def _memory(self, user: str) -> evomem.Memory:
        return self._db.memory(str(self._fresh), user)


ROWS: dict[str, dict[str, Any]] = {
    "no labels used": {},
    '`trust={"external": 0.5}`': {"trust": {"external": 0.5}},
    '`source="user"`, the writer labels': {"source": "user"},
    '`source="user"`, the host checks who wrote': {"source": "user", "checked": True},
}


def surfaced(db: evomem.Database, **options: Any) -> dict[str, dict[str, int]]:
    """Return for each attack and channel how many of its five scenarios came through."""
    outcomes = {}
    for attack in ALL_MEMORY_ATTACKS:
        result = attack().run(EvoMem(db, **options))
        assert result.error is None, result
        outcomes[attack.name] = {name: item.count(True) for name, item in result.channels.items()}
        assert all(len(item) == 5 and None not in item for item in result.channels.values())
    return outcomes


def markdown(row: str, outcomes: dict[str, dict[str, int]]) -> str:
    """Return a row of the table: scenarios that came through, by channel."""
    cells = ["/".join(str(count) for count in item.values()) for item in outcomes.values()]
    return f"| {row} | {' | '.join(cells)} |"


def table(db: evomem.Database) -> str:
    """Return the table."""
    names = [attack.name for attack in ALL_MEMORY_ATTACKS]
    head = [f"| search | {' | '.join(names)} |", f"|---|{':-:|' * len(names)}"]
    rows = [markdown(row, surfaced(db, **options)) for row, options in ROWS.items()]
    return "\n".join([*head, *rows])


@pytest.fixture(scope="module")
def memories():
    with evomem.open(":memory:", encoder="hash") as db:
        yield db


@pytest.mark.parametrize("row", [row for row in ROWS if "trust" not in row])
def test_labels_keep_out_what_the_documentation_says(memories, row):
    """What filters keep out does not depend on the encoder; the table was made with `mini`."""
    page = (ROOT / "docs/operations/poisoning.md").read_text()
    [line] = [line for line in page.splitlines() if line.startswith(f"| {row} |")]
    assert line == markdown(row, surfaced(memories, **ROWS[row]))


def test_weights_alone_keep_no_planted_fact_out_but_cost_it_its_rank(memories):
    outcomes = surfaced(memories, **ROWS['`trust={"external": 0.5}`'])
    assert outcomes["memory_injection"] == dict.fromkeys(CHANNELS, 5)
    assert outcomes["retrieval_hijack"]["external"] < 5


if __name__ == "__main__":
    with evomem.open(":memory:", encoder="mini") as database:
        sys.stdout.write(
            f"evomem {evomem.__version__} (mini, hybrid), agent-memory-integrity "
            f"{version('agent-memory-integrity')}\n\n{table(database)}\n"
        )
