"""What a reader gets to see: the best turns, as many as allowed, oldest first."""

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
    """How much is shown: `k` turns, or what fits into `tokens`; neither means everything."""

    k: int | None = None
    tokens: int | None = None

    @property
    def name(self) -> str:
        """Such as "k8" or "2000 tokens"."""
        if self.k is not None:
            return f"k{self.k}"
        return "all" if self.tokens is None else f"{self.tokens} tokens"

    def text(self, conversation: Conversation, hits: Sequence[Hit]) -> str:
        """Return the prompt's part for `hits`, which come best first.

        With a budget, the best that fit are taken in order of rank; if even the first does not fit,
        its beginning is.
        """
        chosen: dict[Hit, str] = {}
        left = self.tokens
        for hit in hits[: self.k]:
            line = _line(conversation, hit)
            if left is not None:
                cost = count_tokens(line) + 1
                if cost > left:
                    continue
                left -= cost
            chosen[hit] = line
        if not chosen and hits and self.tokens is not None:
            return cut(_line(conversation, hits[0]), self.tokens)
        told: list[Hit] = [hit for hit in chosen if isinstance(hit, str)]
        turns: list[Hit] = [*sorted(hit for hit in chosen if isinstance(hit, int))]
        return "\n".join(chosen[hit] for hit in told + turns)


def count_tokens(text: str) -> int:
    """Return the word pieces of `text`, by the tokenizer that comes with evomem.

    A reader's own tokens are what its endpoint reports; these are the same for every reader.
    """
    return len(_tokenizer().encode(text, add_special_tokens=False).ids)


def cut(text: str, tokens: int) -> str:
    """Return the beginning of `text`, at most so many tokens long."""
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
