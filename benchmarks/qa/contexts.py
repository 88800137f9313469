"""The context in a reader's prompt: the best turns within a limit, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import evomem.mini
from benchmarks.datasets.base import Conversation
from benchmarks.systems.base import Hit


@dataclass(frozen=True, slots=True)
class Context:
    """The limit of a context: `k` turns, or a budget of `tokens`; without both, there is no limit."""

    k: int | None = None
    tokens: int | None = None

    @property
    def name(self) -> str:
        """The name in results, such as "k8" or "2000 tokens"."""
        if self.k is not None:
            return f"k{self.k}"
        return "all" if self.tokens is None else f"{self.tokens} tokens"

    def text(self, conversation: Conversation, hits: Sequence[Hit]) -> str:
        """Return the context for `hits`, which are sorted best first.

        With a budget, hits are taken in order of rank as long as they fit; if the first hit alone exceeds
        the budget, its beginning is taken.
        """
        lines: dict[Hit, str] = {}
        remaining = self.tokens
        for hit in hits[: self.k]:
            line = _line(conversation, hit)
            if remaining is not None:
                cost = count_tokens(line) + 1
                if cost > remaining:
                    continue
                remaining -= cost
            lines[hit] = line
        if not lines and hits and self.tokens is not None:
            return cut(_line(conversation, hits[0]), self.tokens)
        texts: list[Hit] = [hit for hit in lines if isinstance(hit, str)]
        turns: list[Hit] = [*sorted(hit for hit in lines if isinstance(hit, int))]
        return "\n".join(lines[hit] for hit in texts + turns)


def count_tokens(text: str) -> int:
    """Return the number of word pieces of `text`, by evomem's bundled tokenizer.

    They are the same for every reader; a reader's own tokens are reported by its endpoint.
    """
    return len(_tokenizer().encode(text, add_special_tokens=False).ids)


def cut(text: str, tokens: int) -> str:
    """Return the beginning of `text`, at most `tokens` tokens."""
    offsets = _tokenizer().encode(text, add_special_tokens=False).offsets
    return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]


def _line(conversation: Conversation, hit: Hit) -> str:
    if isinstance(hit, str):
        return hit
    turn = conversation.turns[hit]
    return f"[{turn.time:%Y-%m-%d %a %H:%M}] {turn.text}" if turn.time else turn.text


@cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(evomem.mini.__file__).parent / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
